"""The task on real files: lists, clips, failures, equal samples and weights however it is run."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from vireo.errors import VireoError
from vireo.fetch import receipt
from vireo.models import viclip
from vireo.toy import video
from vireo.training import clips, lists, loop
from vireo.training.tasks import viclip_pretrain

HOME = Path(__file__).resolve().parents[2]
ARCH = {
    "image_size": 32, "patch_size": 16, "width": 16, "layers": 2, "heads": 2, "embed_dim": 8,
    "num_frames": 8, "text_width": 16, "text_layers": 1, "text_heads": 2, "vocab_size": 49408,
}  # fmt: skip
COUNT = 14


def recipe(**changes):
    block = {
        "task": "viclip_pretrain", "family": "viclip", "arch": ARCH, "version": 1,
        "sources": {"train": "pairs"}, "data": {"list": "train.json"},
        "model": {"mask_ratio": 0.5}, "optim": {"lr": 1e-3, "betas": [0.9, 0.98]},
        "schedule": {"warmup_steps": 1}, "steps": 5, "batch_size": 4, "seed": 1, "save_steps": 2,
    }  # fmt: skip
    return block | changes


def make_pairs(root: Path) -> None:
    """Small clips whose grey level tells number and frame, and their list; the last is broken."""
    entries = []
    for n in range(COUNT):
        length = 12 + n
        frames = (np.full((32, 48, 3), 5 * n + 4 * t, np.uint8) for t in range(length))
        video.write(root / f"{n:02d}.mp4", frames, video.Encoding(fps=Fraction(8)))
        entries.append({"video": f"{n:02d}.mp4", "caption": f"Clip, number {n}!"})
    (root / "13.mp4").write_bytes(b"not a video")
    entries.append({"video": "00.mp4", "caption": "Word!"})
    (root / "train.json").write_text(json.dumps(entries))


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    root = tmp_path_factory.mktemp("pairs")
    make_pairs(root)
    return root


@pytest.fixture
def here(pairs, empty):
    receipt.write("data/receipts/pairs.json", "pairs", pairs, {}, "test")
    return empty


def train(name: str = "a", **changes) -> dict[str, torch.Tensor]:
    return load_file(loop.train(name, recipe(**changes), {"device": "cpu", "max_failed": 0.5}))


def equal(a, b) -> bool:
    return set(a) == set(b) and all(torch.equal(a[k], b[k]) for k in a)


def test_training_writes_released_names_and_counts_failures(here):
    weights = train(steps=8)
    strict = viclip.build(ARCH)
    strict.load_state_dict(weights)
    told = json.loads((here / "results/training/a/recipe.json").read_text())
    assert told["samples"] == COUNT  # the one-word caption is dropped
    assert [f["video"] for f in told["failed"]["videos"]] == ["13.mp4"]
    fresh = viclip_pretrain.Task(recipe(), {}).build().state_dict()
    changed = {k for k in weights if not torch.equal(weights[k], fresh[k])}
    assert changed and not any(k.startswith("text_encoder") for k in changed)
    state = next((here / "cache/training/a").iterdir())
    kept = load_file(state / "step-000000008/trainable.safetensors")
    assert not any(k.startswith("text_encoder") for k in kept)


def test_equal_weights_with_workers_and_with_a_cache(here):
    plain = train("a", workers=0)
    (here / "results/training/a/recipe.json").unlink()
    state = next((here / "cache/training/a").iterdir())
    for old in state.iterdir():
        old.rename(here / old.name)
    assert equal(plain, train("a", workers=2))
    cached = {"list": "train.json", "cache_decoded": True}
    assert equal(plain, train("b", data=cached))


def test_samples_are_functions_of_seed_epoch_and_index(here):
    one, two = (viclip_pretrain.Task(recipe(), {}).dataset("train") for _ in range(2))
    two.sample(0, 3)  # other samples drawn before change nothing
    a, b = one.sample(1, 5), two.sample(1, 5)
    assert torch.equal(a["clip"], b["clip"]) and a["id"] == b["id"] == 5
    assert a["clip"].shape == (8, 3, 32, 32) and a["clip"].dtype == torch.uint8
    # 17 frames leave little choice: the reference never draws an interval's last frame
    assert len({one.sample(epoch, 5)["clip"].numpy().tobytes() for epoch in range(8)}) > 1
    other = viclip_pretrain.Task(recipe(seed=2), {}).dataset("train")
    assert any(
        not torch.equal(one.sample(epoch, 5)["clip"], other.sample(epoch, 5)["clip"])
        for epoch in range(8)
    )


def test_broken_video_is_replaced_with_its_caption(here):
    task = viclip_pretrain.Task(recipe(), {})
    sample = task.dataset("train").sample(0, 13)
    assert sample["failures"][0]["video"] == "13.mp4" and sample["failures"][0]["error"]
    assert torch.equal(sample["tokens"], task.tokens(f"clip number {sample['id']}"))
    whole = {clips_id(task, epoch) for epoch in range(6)}
    assert len(whole) > 1  # other epochs, other replacements


def clips_id(task, epoch):
    return task.dataset("train").sample(epoch, 13)["id"]


def test_all_broken_ends_with_the_reason(here, tmp_path):
    bad = tmp_path / "bad"
    bad.mkdir()
    pairs = [{"video": f"{n}.mp4", "caption": "a b"} for n in range(4)]
    (bad / "train.json").write_text(json.dumps(pairs))
    receipt.write("data/receipts/pairs.json", "pairs", bad, {}, "test")
    with pytest.raises(VireoError, match=r"20 training videos in a row .*no video.*\.mp4"):
        train()


def test_too_many_failures_end_the_run(here):
    with pytest.raises(VireoError, match="cannot be read, more than max_failed"):
        loop.train("a", recipe(steps=9), {"device": "cpu", "max_failed": 0.01})


@pytest.mark.parametrize("stop", ["SIGKILL", "SIGSTOP"])
def test_a_video_that_kills_or_hangs_its_reader_costs_one_video(here, monkeypatch, stop):
    real = clips.decode_one

    def take(request, limits):
        if request.video == "03.mp4":
            os.kill(os.getpid(), getattr(signal, stop))
        return real(request, limits)

    monkeypatch.setattr(clips, "decode_one", take)
    wait = 3 if stop == "SIGSTOP" else 600  # a death is noticed long before
    config = {"device": "cpu", "max_failed": 0.5, "decode": {"timeout_s": wait}}
    first = load_file(loop.train("a", recipe(workers=1, steps=8), config))
    told = json.loads((here / "results/training/a/recipe.json").read_text())
    failed = {f["video"]: f["error"] for f in told["failed"]["videos"]}
    assert set(failed) == {"03.mp4", "13.mp4"}
    assert failed["03.mp4"] == (
        "its reader was killed" if stop == "SIGKILL" else "no answer in 3 s"
    )
    # Again from the start, with what the first run learnt: the same weights.
    state = next((here / "cache/training/a").iterdir())
    for old in [*state.glob("step-*"), state / "latest"]:
        old.rename(here / old.name)
    (here / "results/training/a/recipe.json").unlink()
    assert equal(first, load_file(loop.train("a", recipe(workers=1, steps=8), config)))


def test_validation_keeps_the_best_and_counts_failures(here, pairs):
    listed = json.loads((pairs / "train.json").read_text())
    (pairs / "val.json").write_text(json.dumps([*listed[:6], listed[13]]))
    receipt.write("data/receipts/val.json", "val", pairs, {}, "test")
    train(sources={"train": "pairs", "val": "val"}, steps=6)
    told = json.loads((here / "results/training/a/recipe.json").read_text())
    best = told["best"]
    assert best["metric"] == "r1" and 0 <= best["value"] <= 100 and best["step"] in (3, 6)
    assert ("13.mp4", "val") in [(f["video"], f.get("split")) for f in told["failed"]["videos"]]


def test_a_validation_video_that_kills_its_reader_costs_one_video(here, pairs, monkeypatch):
    real = clips.decode_one

    def take(request, limits):
        if request.video == "03.mp4" and request.rule["rule"] == "middle":
            os.kill(os.getpid(), signal.SIGKILL)
        return real(request, limits)

    monkeypatch.setattr(clips, "decode_one", take)
    listed = json.loads((pairs / "train.json").read_text())
    (pairs / "val.json").write_text(json.dumps(listed[:6]))
    receipt.write("data/receipts/val.json", "val", pairs, {}, "test")
    sources = {"train": "pairs", "val": "val"}
    block = recipe(sources=sources, steps=2, validate_epochs=0.1, workers=1)
    loop.train("a", block, {"device": "cpu", "max_failed": 0.5, "decode": {"timeout_s": 3}})
    told = json.loads((here / "results/training/a/recipe.json").read_text())["failed"]["videos"]
    assert {"video": "03.mp4", "error": "its reader was killed", "split": "val"} in told
    rows = (here / "results/training/a/metrics.csv").read_text().splitlines()
    assert "val_r1" in rows[0] and len(rows) == 3


def test_two_corpora_share_ids_unless_joint(here, pairs):
    receipt.write("data/receipts/more.json", "more", pairs, {}, "test")
    sources = {"train": "pairs", "train_more": "more"}
    own = viclip_pretrain.Task(recipe(sources=sources), {}).dataset("train")
    assert len(own) == 2 * COUNT and own.sample(0, COUNT + 2)["id"] == 2
    data = {"list": "train.json", "ids": "joint"}
    joint = viclip_pretrain.Task(recipe(sources=sources, data=data), {}).dataset("train")
    assert joint.sample(0, COUNT + 2)["id"] == COUNT + 2


def test_starts_from_weights_of_another_recipe(here):
    first = train("a", steps=1)
    task = viclip_pretrain.Task(recipe(init={"recipe": "a"}), {})
    assert equal(task.build().state_dict(), first)
    assert "init" in task.fingerprint()


def test_lists(tmp_path):
    path = tmp_path / "some.json"
    path.write_text(json.dumps([{"video": str(n), "caption": f"a b {n}"} for n in range(10)]))
    half = lists.read(path, share=0.5)
    assert len(half) == 5 and [half[i].video for i in range(5)] == [
        lists.read(path, share=0.5)[i].video for i in range(5)
    ]
    path.write_text('[{"video": "a.mp4"}]')
    with pytest.raises(VireoError, match="entry 0: needs `video` and `caption`"):
        lists.read(path)
    with pytest.raises(VireoError, match="not found"):
        lists.read(tmp_path / "none.json")


def test_sqlite_lists(tmp_path):
    path = tmp_path / "some.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("create table annos(id integer primary key, video text, caption text)")
        db.executemany(
            "insert into annos values(?,?,?)", [(n, f"{n}.mp4", "Word") for n in range(3)]
        )
    pairs = lists.read(path, share=0.5)
    assert len(pairs) == 3 and pairs[2] == lists.Pair("2.mp4", "word", 2)
    with sqlite3.connect(path) as db:
        db.execute("delete from annos where id=0")
    with pytest.raises(VireoError, match="ids must run from 0"):
        lists.read(path)
    (tmp_path / "empty.sqlite").write_bytes(b"")
    with pytest.raises(VireoError, match="no table annos"):
        lists.read(tmp_path / "empty.sqlite")


def test_paths_of_a_list_stay_in_their_folder(here, pairs):
    (pairs / "evil.json").write_text(json.dumps([{"video": "../../x.mp4", "caption": "a b"}]))
    data = {"list": "evil.json"}
    task = viclip_pretrain.Task(recipe(data=data, batch_size=1), {})
    with pytest.raises(VireoError, match="leaves"):
        task.dataset("train").sample(0, 0)


def test_mistakes_in_a_recipe(here):
    with pytest.raises(VireoError, match="did you mean 'mask_ratio'"):
        viclip_pretrain.Task(recipe(model={"mask_ration": 1}), {})
    with pytest.raises(VireoError, match="needs `sources"):
        viclip_pretrain.Task(recipe(sources={}), {})
    with pytest.raises(VireoError, match="nothing is not here yet"):
        viclip_pretrain.Task(recipe(sources={"train": "nothing"}), {}).fingerprint()


def test_two_processes_with_the_corrected_gather_are_one(here, tmp_path):
    """Whole training under torchrun and gloo, through scripts/train.py."""
    still = {**ARCH, "drop_path": 0.0}
    model = {"mask_ratio": 0.5, "gather": "corrected"}
    block = recipe(arch=still, model=model, steps=3)
    one = load_file(loop.train("one", block, {"device": "cpu"}))
    mine = {"recipes": {"two": block}, "artifacts": {"pairs": {"by_hand": "made by the test"}}}
    (tmp_path / "mine.yaml").write_text(json.dumps({**mine, "device": "cpu"}))
    command = [sys.executable, str(HOME / "scripts/train.py"), "two", "--processes", "2"]
    command += ["--config", "mine.yaml", "--threads", "1", "--log", "log.txt"]
    done = subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    two = load_file(here / "results/training/two/weights.safetensors")
    for key, value in one.items():
        if key.endswith("attn.in_proj_bias"):
            # A key's bias shifts all logits of a query alike: its gradient is rounding, its step
            # under Adam the sign of that.
            width = len(value) // 3
            for bias in (two[key], value):
                bias[width : 2 * width] = 0
        torch.testing.assert_close(two[key], value, rtol=1e-4, atol=1e-5)
