"""From a list of YouTube clips to a training list, and the shipped pre-training recipes."""

import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from vireo import config as cfg
from vireo.models import viclip
from vireo.nn import templates
from vireo.toy import video
from vireo.training import lists, schedule
from vireo.training.tasks.viclip_pretrain import Task
from vireo.workflow.plan import Plan

HOME = Path(__file__).resolve().parents[2]


def receipt(folder: Path, name: str, root: Path) -> str:
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"artifact": name, "root": str(root), "files": {}}))
    return str(path)


def test_rows_and_videos_become_a_corpus(tmp_path) -> None:
    """Good rows end in train.json, the others in failed.tsv with the reason."""
    for name in ("lists", "videos"):
        (tmp_path / name).mkdir()
    grey = (np.full((64, 80, 3), 8 * i, np.uint8) for i in range(20))
    video.write(tmp_path / "videos/abcdefghijk.mp4", grey, video.Encoding(fps=Fraction(10)))
    times = {"Start_timestamp": "00:00:00.000", "End_timestamp": "00:00:01.000"}
    entries = [
        {"YoutubeID": name, **times, "Caption": "A grey picture!", "UMT_Score": 0.4}
        for name in ("abcdefghijk", "gonegonegon")
    ]
    lines = "\n".join(json.dumps(entry) for entry in entries)
    (tmp_path / "lists/InternVid-10M-flt.jsonl").write_text(lines)
    command = [sys.executable, str(HOME / "scripts/clips.py"), "small", "--out", "made"]
    command += ["--list", receipt(tmp_path, "small_list", tmp_path / "lists")]
    command += ["--videos", receipt(tmp_path, "small_videos", tmp_path / "videos")]
    done = subprocess.run(
        [*command, "--receipt", "small_clips.json"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "1 of 2 clips, 1 failed" in done.stderr
    told = json.loads((tmp_path / "small_clips.json").read_text())
    assert told["root"] == "made"
    pairs = lists.read(tmp_path / "made/train.json")
    assert [pair.caption for pair in (pairs[i] for i in range(len(pairs)))] == ["a grey picture"]
    assert (tmp_path / "made" / pairs[0].video).is_file()
    failed = (tmp_path / "made/failed.tsv").read_text().splitlines()
    assert failed[1:] == ["clips/gonegonegon_0_1000.mp4\tno source video"]


def test_class_names_become_sentences(tmp_path) -> None:
    """Lists named after Kinetics hold labels; a sentence is drawn for each look at a clip."""
    entries = [{"video": "a.mp4", "caption": "Playing volleyball!"}]
    for name in ("kinetics400.json", "kinetics400_raw.json"):
        (tmp_path / name).write_text(json.dumps(entries))
    pair = lists.read(tmp_path / "kinetics400.json")[0]
    said = {pair.said(np.random.default_rng(seed)) for seed in range(400)}
    assert said == set(templates.expand("playing volleyball", "clip28")) and len(said) == 28
    raw = lists.read(tmp_path / "kinetics400_raw.json")[0]
    assert raw.said(np.random.default_rng(0)) == "playing volleyball"


def test_clips_of_ones_own_are_not_cut() -> None:
    config = cfg.load()
    assert Plan(config, HOME).cut_corpora() == "internvid_10m_flt"
    config["paths"]["internvid_10m_flt_clips"] = "somewhere"
    assert Plan(config, HOME).cut_corpora() == "(?!)"


STAGES = [
    ("viclip_l14_stage1", 0.9, 4e-4),
    ("viclip_l14_stage2", 0.0, 4e-6),
    ("viclip_b16_stage1", 0.9, 2e-4),
    ("viclip_b16_stage2", 0.0, 4e-6),
    ("viclip_l14_webvid_stage2", 0.0, 4e-6),
]


@pytest.mark.parametrize(("name", "mask", "rate"), STAGES)
def test_stages_are_the_authors(name, mask, rate) -> None:
    """Reference section 7.2: masking, rates, warm-up, frozen text, decay, initial weights."""
    config = cfg.load()
    recipe = cfg.recipe(config, name)
    task = Task(recipe, config)
    assert (task.options["mask_ratio"], recipe["optim"]["lr"]) == (mask, rate)
    assert task.options["freeze_text"] and task.options["gather"] == "reference"
    assert (task.data["scale"], task.data["flip"]) == ([0.5, 1.0], 0.5)
    assert task.data["frames"] == {"rule": "rand", "n": 8}
    optim = recipe["optim"]
    assert (optim["betas"], optim["eps"], optim["weight_decay"]) == ([0.9, 0.98], 1e-8, 0.2)
    samples = 1_000_000
    first = name.endswith("stage1")
    plan = schedule.plan(recipe, samples if first else samples // 2)
    per_epoch = samples // 32768 if first else samples // 2 // 2048
    assert plan.steps == (10 if first else 1) * per_epoch
    assert plan.warmup == int((0.5 if first else 0.2) * per_epoch)
    start = "recipe" if name.endswith("stage2") else "artifact"
    assert start in recipe["init"]
    if start == "recipe":
        before = cfg.recipe(config, recipe["init"]["recipe"])
        assert before["arch"] == recipe["arch"] and before["sources"] == recipe["sources"]
    with torch.device("meta"):
        model = viclip.build(recipe["arch"])
    checkpointed = recipe["arch"].get("checkpoint_num", 0)
    assert checkpointed == (24 if "l14" in name else 0)
    assert model.vision_encoder.transformer is not None


def test_models_of_the_recipes_have_their_sizes() -> None:
    config = cfg.load()
    for name in ("viclip_l14_ours", "viclip_b16_ours", "viclip_l14_webvid_ours"):
        block = cfg.model(config, name)
        arch = cfg.recipe(config, block["weights"]["recipe"])["arch"]
        same = set(viclip.SIZES["L/14"])
        assert {k: block["arch"][k] for k in same} == {k: arch[k] for k in same}
