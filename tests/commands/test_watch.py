"""A model that watches: an untrained toy model on a short clip, and a video that is not there."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import save_file

from vireo import config as cfg
from vireo import toy
from vireo.models import mmduet
from vireo.toy import mmduet as world


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("duet")
    world.write_video(folder / "clip.mp4", toy.rng(0, "demo"), range(2))
    block = cfg.load()["models"]["toy_mmduet"]
    module = mmduet.load({**block, "seed": 0}, None).module
    state = {mmduet.original(k): v.clone() for k, v in module.state_dict().items()}
    save_file(state, folder / "w.safetensors")
    return folder


ASKED = ("--ask", "What is shown?", "--ask", "2:And now?", "--prob", "0.0", "--scores")
FRAMES = ("--fps", "0.5", "--max-frames", "3")
MODEL = ("--weights", "w.safetensors", "--device", "cpu")


def test_questions_answers_and_scores(place: Path, vireo, monkeypatch) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv("VIREO_TRUST_DEVICES", "1")
    call = ["predict", "toy_mmduet", "--video", "clip.mp4", *MODEL, *ASKED, *FRAMES]
    done = vireo(*call)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert any("0.0 s] user: What is shown?" in line for line in lines)
    assert any("2.0 s] user: And now?" in line for line in lines)
    assert any("assistant:" in line for line in lines)
    done = vireo(*call, "--json")
    (row,) = (json.loads(line) for line in done.stdout.splitlines())
    asked = [(e["time"], e["content"]) for e in row["events"] if e["role"] == "user"]
    assert asked == [(0.0, "What is shown?"), (2.0, "And now?")]
    assert len(row["frames"]) == 3 and set(row["frames"][0]) >= {"time", "informative_score"}


def test_the_older_name(place: Path) -> None:
    command = [sys.executable, str(cfg.HOME / "scripts/duet.py"), "--video", "clip.mp4"]
    done = subprocess.run(
        [*command, *MODEL, *ASKED, *FRAMES], cwd=place, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "assistant:" in done.stdout and "2.0 s] user: And now?" in done.stdout


def test_what_is_not_there(place: Path, vireo, monkeypatch) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv("VIREO_TRUST_DEVICES", "1")
    done = vireo("predict", "toy_mmduet", "--video", "no.mp4", *MODEL)
    assert done.returncode == 1 and "no video at no.mp4" in done.stderr
    done = vireo("predict", "toy_mmduet", "--video", "clip.mp4")
    path = "results/training/toy_mmduet/weights.safetensors"
    assert done.returncode == 1 and f"snakemake --cores 2 {path} -s " in done.stderr
    done = vireo("serve", "toy_viclip")
    assert done.returncode == 1 and "cannot watch a video as it plays" in done.stderr
    assert vireo("serve", "--port", "70000").returncode == 2
    done = vireo("serve", "--video", "no.mp4")
    assert done.returncode == 1 and "no video at no.mp4" in done.stderr
