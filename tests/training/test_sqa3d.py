"""ClipBERT's training: three steps of the reference, two passes equal one, starts, a whole run."""

import csv
import json
import logging
import os
import shutil
import signal
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import get_worker_info

from tests.models.clipbert_golden import (
    ARCH,
    BLOCK,
    CLIPS,
    CONFIG,
    FRAMES,
    GOLDEN,
    SIZE,
    inputs,
    outputs,
)  # fmt: skip
from vireo.errors import VireoError
from vireo.fetch import receipt
from vireo.media import lmdb, pool
from vireo.media.clips import fixed
from vireo.media.decode import opened
from vireo.models import clipbert
from vireo.training import Step, loop, optim, schedule, sqa3d_samples
from vireo.training.tasks.sqa3d import Task

OPTIONS = CONFIG["train"]
HERE = Step(0, 0, 0)


def recipe(**others: Any) -> dict[str, Any]:
    block: dict[str, Any] = {
        "task": "sqa3d",
        "family": "clipbert",
        "arch": ARCH,
        "sources": {"questions": "questions", "videos": "videos"},
        "vocab": BLOCK["vocab"],
        "answers": BLOCK["answers"],
        "data": {"size": SIZE, "clips": CLIPS, "frames": FRAMES, "tokens": 28},
        "optim": {
            "kind": "adamw_hf",
            "lr": OPTIONS["learning_rate"],
            "cnn_lr": OPTIONS["cnn_learning_rate"],
            "weight_decay": OPTIONS["weight_decay"],
            "betas": OPTIONS["betas"],
            "clip": OPTIONS["grad_norm"],
        },
        "schedule": {"kind": "linear", "warmup_steps": 2},
        "steps": OPTIONS["total_steps"],
        "batch_size": 3,
        "version": 1,
    }
    return {**block, **others}


def model() -> clipbert.ClipBERT:
    """The golden weights, trainable as in the reference, dropout off."""
    module = clipbert.build(ARCH)
    clipbert.start_from(module, GOLDEN / "weights.safetensors")
    module.freeze()
    return module.eval()


def batch() -> dict[str, Any]:
    given = inputs()
    frames = given["frames_raw_u8"].permute(0, 1, 3, 4, 2)
    return {
        "frames": frames.repeat_interleave(given["n_examples_list"], 0),
        "ids": given["text_input_ids"],
        "mask": given["text_input_mask"],
        "label": given["labels"],
    }


def test_three_steps_are_the_references() -> None:
    expected, task, module = outputs(), Task(recipe(), {}), model()
    plan = schedule.plan(task.recipe, 3)
    update = optim.optimizer(task.param_groups(module), task.recipe["optim"])
    for step in range(OPTIONS["steps"]):
        lr = OPTIONS["learning_rate"] * plan.factor(step)
        optim.set_lr(update, lr)
        rates = sorted({g["lr"] for g in update.param_groups}, reverse=True)
        torch.testing.assert_close(torch.tensor(rates), expected["train_lrs"][step])
        value, _ = task.loss(module, batch(), HERE)
        value.backward()
        assert value.item() == pytest.approx(expected["train_losses"][step].item(), abs=1e-3)
        norm = optim.grad_norm(module)
        assert norm.item() == pytest.approx(expected["train_grad_norms"][step].item(), rel=1e-3)
        if step == 0:
            for name, parameter in module.named_parameters():
                if (wanted := expected.get(f"grad1.{name}")) is not None:
                    grad = torch.zeros_like(wanted) if parameter.grad is None else parameter.grad
                    torch.testing.assert_close(grad, wanted, atol=1e-4, rtol=1e-3)
        torch.nn.utils.clip_grads_with_norm_(module.parameters(), 5.0, norm)
        update.step()
        update.zero_grad()
    state = module.state_dict()
    for name, wanted in expected.items():
        if name.startswith("after."):
            found = state[name.removeprefix("after.")]
            torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-3)
    given = batch()
    with torch.no_grad():
        grids = module.encode(task.input_clips(given["frames"]))
        logits = module(given["ids"], given["mask"], grids).transpose(0, 1)
    torch.testing.assert_close(logits, expected["logits_after_training"], atol=1e-3, rtol=0)


class Plain:
    """As much of `Accelerator` as `backward` asks for."""

    gradient_accumulation_steps = 1

    @staticmethod
    def autocast() -> Any:
        return torch.autocast("cpu", enabled=False)


def gradients(module: torch.nn.Module) -> dict[str, Tensor]:
    return {n: p.grad.clone() for n, p in module.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("dropout", [False, True])
@pytest.mark.parametrize("how", ["lse", "mean", "max"])
def test_two_passes_give_the_gradients_of_one(dropout: bool, how: str) -> None:
    options = {"model": {"two_pass": True, "aggregate": how}}
    task, module, given = Task(recipe(**options), {}), model(), batch()
    module.train(dropout)
    torch.manual_seed(5)
    clips = task.input_clips(given["frames"])
    logits = [task.logits(module, given, clips[:, n : n + 1]) for n in range(CLIPS)]
    value, _ = task.loss_of_logits(torch.cat(logits, 1), given["label"])
    value.backward()
    wanted = gradients(module)
    drawn = torch.rand(3)
    module.zero_grad()
    torch.manual_seed(5)
    done = task.backward(module, given, HERE, Plain())  # type: ignore[arg-type]
    assert done is not None and done[0].item() == pytest.approx(value.item(), abs=1e-6)
    assert torch.equal(torch.rand(3), drawn), "the stream of random numbers goes on as with one"
    found = gradients(module)
    assert found.keys() == wanted.keys()
    for name in wanted:
        torch.testing.assert_close(found[name], wanted[name], atol=1e-4, rtol=1e-4)


def test_groups_are_the_recipes() -> None:
    groups = Task(recipe(), {}).param_groups(model())
    assert [g["weight_decay"] for g in groups] == [0.01, 0.0, 0.01]
    assert [g["lr_scale"] for g in groups] == pytest.approx([1, 1, 0.4])
    assert all("LayerNorm" in n or "bias" in n for n in groups[1]["names"])
    assert not any(".stem." in n or ".res2." in n for n in groups[2]["names"])


def test_start_from_the_image_text_file(tmp_path: Path) -> None:
    named = load_file(GOLDEN / "weights.safetensors")
    kept = {k: v for k, v in named.items() if not k.startswith("transformer.classifier.")}
    kept["transformer.cls.predictions.bias"] = torch.zeros(4)
    torch.save(kept, tmp_path / "pretrained.pt")
    module = clipbert.build(ARCH, torch.Generator().manual_seed(0))
    before = module.transformer.classifier[2].weight.clone()
    clipbert.start_from(module, tmp_path / "pretrained.pt")
    assert torch.equal(module.transformer.classifier[2].weight, before)
    assert torch.equal(module.cnn.grid_encoder[0].weight, named["cnn.grid_encoder.0.weight"])


def test_start_from_grid_features_and_bert(tmp_path: Path) -> None:
    named = load_file(GOLDEN / "weights.safetensors")
    grid = {
        k.removeprefix("cnn.feature."): v.numpy()
        for k, v in named.items()
        if k.startswith("cnn.feature.")
    }
    torch.save({"model": {k: torch.from_numpy(v) for k, v in grid.items()}}, tmp_path / "R-50.pth")
    bert = {"bert.embeddings.position_ids": torch.arange(3), "cls.predictions.bias": torch.ones(2)}
    for name, value in named.items():
        if name.startswith("transformer.bert.") and "visual" not in name:
            old = name.removeprefix("transformer.").replace("LayerNorm.weight", "LayerNorm.gamma")
            bert[old.replace("LayerNorm.bias", "LayerNorm.beta")] = value
    save_file(bert, tmp_path / "bert.safetensors")
    module = clipbert.build(ARCH, torch.Generator().manual_seed(0))
    fresh = {k: v.clone() for k, v in module.state_dict().items()}
    clipbert.start_from_parts(module, tmp_path / "R-50.pth", tmp_path / "bert.safetensors")
    kept = ("visual_embeddings", "grid_encoder", "classifier")
    for name, value in module.state_dict().items():
        source = fresh if any(part in name for part in kept) else named
        assert torch.equal(value, source[name]), name
    del bert["bert.pooler.dense.weight"]
    save_file(bert, tmp_path / "bert.safetensors")
    with pytest.raises(VireoError, match=r"pooler\.dense\.weight"):
        clipbert.start_from_parts(module, tmp_path / "R-50.pth", tmp_path / "bert.safetensors")


@pytest.fixture
def world(empty: Path) -> Path:
    """Receipts of the golden questions and videos in an empty working directory."""
    for name, root in (("questions", GOLDEN / "sqa3d"), ("videos", GOLDEN / "video")):
        receipt.write(f"data/receipts/{name}.json", name, root, {}, "test")
    return empty


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_training_from_an_lmdb_equals_training_from_files(empty: Path, workers: int) -> None:
    """Calibration, training and validation read the folder in this process and in its workers."""
    files = sorted((GOLDEN / "video").glob("*.mp4"))
    lmdb.write("database", [(file.stem, file) for file in files])
    receipt.write("data/receipts/questions.json", "questions", GOLDEN / "sqa3d", {}, "test")
    made = {}
    for name, root in (("files", GOLDEN / "video"), ("database", Path("database").absolute())):
        receipt.write("data/receipts/videos.json", "videos", root, {}, "test")
        block = recipe(steps=2, workers=workers if name == "database" else 0)
        made[name] = load_file(loop.train(name, block, {"device": "cpu", "decode": {}}))
    for key, tensor in made["files"].items():
        torch.testing.assert_close(made["database"][key], tensor, rtol=0, atol=0)


def test_samples(world: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        samples = Task(recipe(), {}).dataset("train")
    assert "left out" in caplog.text
    one = samples.sample(0, 3)
    assert one["frames"].shape == (CLIPS * FRAMES, 64, 64, 3) and one["labels"][0] >= 0
    np.testing.assert_array_equal(one["frames"], samples.sample(0, 3)["frames"])
    cached = Task(recipe(data={**recipe()["data"], "cache_decoded": True}), {}).dataset("train")
    np.testing.assert_array_equal(one["frames"], cached.sample(0, 3)["frames"])
    epochs = [[samples.sample(epoch, i)["frames"] for i in range(12)] for epoch in (0, 1)]
    same = [np.array_equal(a, b) for a, b in zip(*epochs, strict=True)]
    assert not all(same), "another epoch draws other clips"
    samples.exclude(one["scene"], "it killed its reader")
    again = samples.sample(0, 3)
    assert again["scene"] != one["scene"]
    assert again["failures"][0] == {"video": one["scene"], "error": "it killed its reader"}


def test_a_whole_run_and_its_resumption(world: Path) -> None:
    more = {"steps": 4, "save_steps": 2, "validate_epochs": 0.05}
    block = recipe(**more, model={"calibrate": 2, "two_pass": True})
    config = {"device": "cpu", "decode": {}}
    path = loop.train("tiny", block, config)
    trained = load_file(path)
    again = clipbert.load({**BLOCK, "arch": ARCH}, path)
    assert set(again.module.state_dict()) == set(trained)
    told = json.loads((path.parent / "recipe.json").read_text())
    assert told["best"]["metric"] == "em1"
    lines = (path.parent / "metrics.csv").read_text().splitlines()
    assert len(lines) == 5 and "val_em1" in lines[0]
    # Killed after step 2: the rest again gives the same weights to the last bit.
    state = next((world / "cache/training/tiny").iterdir())
    shutil.rmtree(state / "step-000000004")
    shutil.rmtree(world / "results")
    resumed = load_file(loop.train("tiny", block, config))
    assert all(torch.equal(resumed[name], trained[name]) for name in trained)


def test_other_initial_weights_are_another_run(world: Path) -> None:
    block = recipe(steps=1, init={"recipe": "first"})
    with pytest.raises(VireoError, match=r"first is not here yet .*weights\.safetensors"):
        Task(block, {}).fingerprint()
    first = world / "results/training/first/weights.safetensors"
    first.parent.mkdir(parents=True)
    shutil.copy(GOLDEN / "weights.safetensors", first)
    before = load_file(loop.train("second", block, {"device": "cpu"}))
    changed = {name: 1.01 * value for name, value in load_file(first).items()}
    save_file(changed, first)
    after = load_file(loop.train("second", block, {"device": "cpu"}))
    assert len(list((world / "cache/training/second").iterdir())) == 2
    assert not all(torch.equal(after[name], before[name]) for name in after)


@pytest.mark.parametrize("stop", ["SIGKILL", "SIGSTOP"])
def test_a_scene_that_kills_or_hangs_its_reader_costs_one_scene(
    world: Path, monkeypatch: pytest.MonkeyPatch, stop: str
) -> None:
    real, bad = sqa3d_samples.opened, "scene9002_00"

    def opened(request: Any, limit: int) -> Any:
        if request.video == bad and get_worker_info() is not None:
            os.kill(os.getpid(), getattr(signal, stop))
        return real(request, limit)

    monkeypatch.setattr(sqa3d_samples, "opened", opened)
    config = {"device": "cpu", "max_failed": 0.9, "decode": {"timeout_s": 3}}
    path = loop.train("tiny", recipe(steps=4, workers=1), config)
    told = json.loads((path.parent / "recipe.json").read_text())
    reason = "its reader was killed" if stop == "SIGKILL" else "no answer in 3 s"
    assert told["failed"]["videos"] == [{"video": bad, "error": reason}]


KILLER = """
import os, signal
from dataclasses import replace
from vireo.media import decode as decoding

def take(request, max_pixels):
    with open("asked", "a") as out:
        out.write(request.video + "\\n")
    if request.video == "scene9001_00":
        os.kill(os.getpid(), signal.SIGSEGV)
    broken = request.video == "scene9003_00"
    return decoding.decode_one(replace(request, path=__file__) if broken else request, max_pixels)
"""


@pytest.mark.parametrize("cache", [False, True])
def test_validation_goes_on_without_what_it_cannot_read(
    world: Path, monkeypatch: pytest.MonkeyPatch, cache: bool
) -> None:
    """Two of four scenes are named in recipe.json; max_failed is about training videos."""
    (world / "killer.py").write_text(KILLER)
    monkeypatch.setenv("PYTHONPATH", str(world))
    monkeypatch.setattr(sqa3d_samples, "decode", partial(pool.decode, target="killer:take"))
    data = {**recipe()["data"], "cache_decoded": cache}
    block = recipe(steps=2, validate_epochs=0.05, data=data)
    path = loop.train("tiny", block, {"device": "cpu", "max_failed": 0, "decode": {"workers": 1}})
    told = json.loads((path.parent / "recipe.json").read_text())["failed"]
    assert [(f["video"], f["split"]) for f in told["videos"]] == [
        ("scene9001_00", "val"),
        ("scene9003_00", "val"),
    ]
    assert "SIGSEGV" in told["videos"][0]["error"] and "cannot open" in told["videos"][1]["error"]
    rows = list(csv.DictReader((path.parent / "metrics.csv").open()))
    assert all(0 <= float(row["val_em1"]) <= 100 for row in rows) and len(rows) == 2
    # What failed is not tried again; what is kept is not read again.
    asked = Counter((world / "asked").read_text().split())
    again = 1 if cache else 2
    assert asked == {"scene9001_00": 2, "scene9003_00": 1, "scene9002_00": again,
                     "scene9004_00": again}  # fmt: skip


def test_validation_shows_what_inference_shows(world: Path) -> None:
    task = Task(recipe(), {})
    found = {asked[0].video: frames for asked, frames in sqa3d_samples.Validation(task)}
    assert len(found) == 4
    for scene, frames in found.items():
        with opened(task.tables("val")[1][scene]) as video:
            wanted = fixed(video.index.F, video.index.fps, FRAMES, 1, 2.0)[0]
            np.testing.assert_array_equal(frames, np.stack(video.read(wanted).frames))


def test_missing_and_broken_videos_cost_their_questions(world: Path) -> None:
    folder = world / "some"
    folder.mkdir()
    for name in ("scene9001_00", "scene9003_00", "scene9004_00"):
        shutil.copy(GOLDEN / f"video/{name}.mp4", folder)
    (folder / "scene9003_00.mp4").write_bytes(b"no video")
    receipt.write("data/receipts/videos.json", "videos", folder, {}, "test")
    samples, failed = Task(recipe(), {}).dataset("train"), {}
    for index in range(len(samples)):
        one = samples.sample(0, index)
        assert one["scene"] not in ("scene9002_00", "scene9003_00")
        failed |= {f["video"]: f["error"] for f in one["failures"]}
    assert failed["scene9002_00"] == "no video of scene9002_00"
    assert "cannot open" in failed["scene9003_00"]


def test_the_blind_model_sees_nothing(world: Path) -> None:
    task, module = Task(recipe(), {}), clipbert.build({**ARCH, "blind": True})
    module.eval()
    given = batch()
    first = task.loss(module, given, HERE)[0]
    given["frames"] = 255 - given["frames"]
    assert torch.equal(task.loss(module, given, HERE)[0], first)
    first.backward()
    assert all(p.grad is None for p in module.cnn.parameters())
