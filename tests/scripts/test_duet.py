"""The terminal demo: an untrained toy model on a short clip, and a video that is not there."""

import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import save_file

from vireo import config as cfg
from vireo import toy
from vireo.models import mmduet
from vireo.toy import mmduet as world

HOME = Path(__file__).resolve().parents[2]


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(HOME / "scripts/duet.py"), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("duet")
    world.write_video(folder / "clip.mp4", toy.rng(0, "demo"), range(2))
    block = cfg.load()["models"]["toy_mmduet"]
    module = mmduet.load({**block, "seed": 0}, None).module
    state = {mmduet.original(k): v.clone() for k, v in module.state_dict().items()}
    save_file(state, folder / "w.safetensors")
    return folder


def test_questions_answers_and_scores(place: Path) -> None:
    done = run(
        place, "--video", "clip.mp4", "--weights", "w.safetensors", "--device", "cpu",
        "--ask", "What is shown?", "--ask", "2:And now?", "--prob", "0.0", "--scores",
        "--fps", "0.5", "--max-frames", "3",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert any("0.0 s] user: What is shown?" in line for line in lines)
    assert any("2.0 s] user: And now?" in line for line in lines)
    assert any("assistant:" in line for line in lines)


def test_a_missing_video_is_named(place: Path) -> None:
    done = run(place, "--video", "no.mp4", "--weights", "w.safetensors", "--device", "cpu")
    assert done.returncode and "no.mp4" in done.stderr
