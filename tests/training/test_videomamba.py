"""VideoMamba's training: rates and decay of the reference, small runs of every kind of recipe."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from vireo.errors import VireoError
from vireo.fetch import receipt
from vireo.models import videomamba
from vireo.nn import checkpoint
from vireo.training import Step, augment, loop, schedule
from vireo.training.tasks import videomamba_finetune, videomamba_pretrain

GOLDEN = json.loads(
    (Path(__file__).parents[1] / "golden" / "videomamba" / "optim.json").read_text()
)
ARCH = {"width": 32, "depth": 3, "image_size": 32, "num_frames": 4}
FRAMES = {"rule": "sparse_random", "n": 4}


def recipe(**changed):
    return {
        "task": "videomamba_finetune",
        "family": "videomamba",
        "arch": {**ARCH, "num_classes": 16},
        "sources": {"annotations": "toy_kinetics", "videos": "toy_kinetics"},
        "data": {
            "classes": 16, "frames": FRAMES, "cache_decoded": True, "flip": 0, "scale": [0.6, 1],
            "val_frames": {"rule": "sparse_views", "n": 4, "segments": 1},
        },
        "optim": {"lr": 1e-2, "weight_decay": 0.05},
        "schedule": {"kind": "cosine_from_to", "warmup_steps": 2, "start": 0.1, "end": 0.01},
        "steps": 3,
        "batch_size": 4,
        "seed": 0,
        "version": 1,
        **changed,
    }  # fmt: skip


def known(artifact: str, root: Path, *files: str) -> None:
    listed: dict[str, Any] = {name: {"size": 1, "sha256": None} for name in files}
    receipt.write(f"data/receipts/{artifact}.json", artifact, root, listed, "test")


# -- rates ------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", ["1.0", "0.8", "0.75"])
def test_decay_and_rates_of_every_parameter_are_the_references(factor: str) -> None:
    with torch.device("meta"):
        model = videomamba.build({"width": 48, "depth": 3, "num_classes": 5})
    task = videomamba_finetune.Task.__new__(videomamba_finetune.Task)
    task.recipe = recipe(arch={"depth": 3})
    task.options = {**videomamba_finetune.MODEL, "layer_decay": float(factor)}
    ours = {
        name: [group["weight_decay"], group["lr_scale"]]
        for group in task.param_groups(model)
        for name in group["names"]
    }
    wanted = GOLDEN["param_groups_weight_decay_and_lr_scale"][factor]
    assert ours.keys() == wanted.keys()
    for name, pair in ours.items():
        assert pair == pytest.approx(wanted[name]), name


def test_corrected_rates_fall_block_by_block() -> None:
    rate = videomamba_finetune.corrected
    assert rate("head.weight", 24, 0.75) == rate("norm_f.weight", 24, 0.75) == 1
    assert rate("layers.23.norm.weight", 24, 0.75) == 0.75
    assert rate("layers.0.mixer.A_log", 24, 0.75) == 0.75**24
    assert rate("temporal_pos_embedding", 24, 0.75) == rate("cls_token", 24, 0.75) == 0.75**25


@pytest.mark.parametrize("kind", ["finetune", "pretrain"])
def test_learning_rates_are_the_references(kind: str) -> None:
    told = GOLDEN["schedules"][kind]
    args = told["args"]
    steps, warmup = args["epochs"] * args["niter"], args["warmup_epochs"] * args["niter"]
    ends = {"start": args["start"] / args["base"], "end": args["final"] / args["base"]}
    ours = [
        args["base"] * schedule.cosine_from_to(step, steps, warmup, **ends) for step in range(steps)
    ]
    assert ours == pytest.approx(told["values"])


def test_the_rate_is_scaled_by_the_clips_of_a_step() -> None:
    # K400, VideoMamba-Ti: 8 GPUs x 64, each clip twice, 2e-4 becomes 8e-4.
    assert 2e-4 * videomamba_finetune.lr_factor({"batch_size": 512}, 256, 2) == pytest.approx(8e-4)
    assert videomamba_finetune.lr_factor({"batch_size": 512}, None, 2) == 1.0


# -- fine-tuning ------------------------------------------------------------------------------


def test_a_run_and_its_second_stage(kinetics) -> None:
    path = loop.train("first", recipe(), {"device": "cpu"})
    names = checkpoint.labels(path)
    assert names is not None and len(names) == 16
    table = (path.parent / "metrics.csv").read_text().splitlines()
    assert "val_top1" in table[0] and len(table) == 4
    # 4 clips, each twice: 8/256 of the rate at the top of the schedule
    assert float(table[2].split(",")[2]) == pytest.approx(1e-2 * 8 / 256)
    cfg = {"arch": recipe()["arch"], "mean": [0.5] * 3, "std": [0.5] * 3}
    trained = videomamba.load(cfg, path)
    assert trained.labels == names
    # More frames and pixels; the head's rows are found by their names.
    second = recipe(init={"recipe": "first"})
    second["arch"] = {**second["arch"], "num_frames": 8, "image_size": 48}
    second["data"] = {**second["data"], "frames": {**FRAMES, "n": 8}}
    task = videomamba_finetune.Task(second, {})
    task.labels = names[::-1]
    model = task.build()
    assert torch.equal(model.head.weight, trained.module.head.weight.flip(0))
    assert task.fingerprint().keys() == {"list", "init"}


def test_starts_are_the_recipes_business(kinetics) -> None:
    image = videomamba.build({**ARCH, "image": True, "num_classes": 9})
    folder = kinetics / "data/in1k"
    folder.mkdir(parents=True)
    torch.save({"model": image.state_dict()}, folder / "in1k.pth")
    known("in1k", folder, "in1k.pth")
    task = videomamba_finetune.Task(recipe(init={"artifact": "in1k"}, model={"start": "image"}), {})
    model = task.build()
    assert torch.equal(model.layers[0].mixer.in_proj.weight, image.layers[0].mixer.in_proj.weight)
    plain = videomamba_finetune.Task(recipe(init={"artifact": "in1k"}), {})
    with pytest.raises(VireoError, match="does not fit the model"):
        plain.build()
    with pytest.raises(VireoError, match="did you mean 'faithful'"):
        videomamba_finetune.Task(recipe(model={"decay_rule": "faithfull"}), {})
    with pytest.raises(VireoError, match="did you mean 'layer_decay'"):
        videomamba_finetune.Task(recipe(model={"layers_decay": 1}), {})


def test_regression_learns_numbers_of_windows(kinetics) -> None:
    videos = sorted(p.name for p in (kinetics / "data/toy_kinetics/clips").iterdir())
    folder = kinetics / "data/numbers"
    folder.mkdir(parents=True)
    for split, chosen in (("train", videos[:6]), ("val", videos[6:8])):
        lines = [f"{name},{place - 2.5},{2}" for place, name in enumerate(chosen)]
        (folder / f"{split}.csv").write_text("\n".join(lines) + "\n")
    known("numbers", folder)
    data = {
        **recipe()["data"], "format": "list", "columns": ["path", "label", "duration"],
        "classes": None, "regression": True, "windows": {"length": 1, "stride": 1}, "repeats": 1,
        "rand_augment": None, "erase": 0, "scale": [1, 1],
    }  # fmt: skip
    made = recipe(
        arch={**ARCH, "num_classes": 1},
        data=data,
        sources={"annotations": "numbers", "videos": "toy_kinetics"},
        steps=2,
    )
    path = loop.train("numbers", made, {"device": "cpu"})
    assert checkpoint.labels(path) is None
    assert "val_mse" in (path.parent / "metrics.csv").read_text()
    task = videomamba_finetune.Task(made, {})
    assert task.best == ("mse", "min") and len(task.dataset("train")) == 12
    samples = task.dataset("train")
    batch = task.collate([samples.sample(0, i) for i in range(12)])
    assert sorted(set(batch["label"].tolist())) == [-2.5, -1.5, -0.5, 0.5, 1.5, 2.5]
    assert not torch.equal(samples.sample(0, 0)[0]["clip"], samples.sample(0, 1)[0]["clip"])
    model = task.build()
    value, _ = task.loss(model, batch, Step(0, 0, 0))
    assert value.item() == pytest.approx(np.var([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5]), rel=0.2)
    with pytest.raises(VireoError, match="num_classes: 1"):
        videomamba_finetune.Task({**made, "arch": {**ARCH, "num_classes": 3}}, {})


# -- masked pre-training ----------------------------------------------------------------------


def pretraining(**changed):
    made = recipe(
        task="videomamba_pretrain",
        arch=ARCH,
        data={"frames": {"rule": "halves_random", "n": 4}, "cache_decoded": True, "classes": 16},
        init={"artifact": "teacher"},
        model={
            "mask_ratio": 0.5,
            "teacher": {"width": 16, "layers": 2, "heads": 2, "output_dim": 12, "image_size": 32,
                        "patch_size": 16},
        },
        steps=2,
        batch_size=4,
    )  # fmt: skip
    return {**made, **changed}


@pytest.fixture()
def teacher(kinetics):
    from safetensors.torch import save_file

    from vireo.models import viclip

    whole = viclip.build(
        {"image_size": 32, "patch_size": 16, "width": 16, "layers": 2, "heads": 2, "embed_dim": 12,
         "num_frames": 4, "text_width": 8, "text_layers": 1, "text_heads": 1},
        torch.Generator().manual_seed(0),
    )  # fmt: skip
    folder = kinetics / "data/teacher"
    folder.mkdir(parents=True)
    save_file(whole.state_dict(), folder / "viclip.safetensors")
    known("teacher", folder, "viclip.safetensors")
    return whole


def test_masked_pretraining_then_a_classifier(teacher, kinetics) -> None:
    path = loop.train("pretrain", pretraining(), {"device": "cpu"})
    named = load_file(path)
    assert "clip_decoder.0.head.weight" in named and "norm.weight" in named
    assert not any(name.startswith(("teacher", "student")) for name in named)
    assert "cosine" in (path.parent / "metrics.csv").read_text().splitlines()[0]
    fine = videomamba_finetune.Task(
        recipe(init={"recipe": "pretrain"}, model={"start": "pretrain"}), {}
    )
    model = fine.build()
    assert torch.equal(model.layers[1].mixer.D, named["layers.1.mixer.D"])


def test_the_loss_falls_and_does_not_depend_on_micro_batches(teacher, kinetics) -> None:
    task = videomamba_pretrain.Task(pretraining(), {})
    samples = task.dataset("train")
    batch = task.collate([samples.sample(0, i) for i in range(4)])
    assert batch["clip"].shape == (4, 4, 3, 32, 32) and batch["clip"].dtype == torch.uint8
    torch.manual_seed(0)
    model = task.build().eval()
    whole, _ = task.loss(model, batch, Step(0, 3, 0))
    halves = [
        task.loss(model, {"clip": batch["clip"][i : i + 2]}, Step(0, 3, 0, first=i))[0]
        for i in (0, 2)
    ]
    assert whole.item() == pytest.approx(sum(half.item() for half in halves) / 2, abs=1e-5)
    groups = task.param_groups(model)
    assert all(p.requires_grad for group in groups for p in group["params"])
    optimizer = torch.optim.AdamW(groups, lr=2e-3)
    for _ in range(10):
        value, _ = task.loss(model, batch, Step(0, 3, 0))
        value.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert task.loss(model, batch, Step(0, 3, 0))[0].item() < whole.item() - 0.2


def test_wrong_pretraining_recipes_are_explained(teacher, kinetics) -> None:
    with pytest.raises(VireoError, match="did you mean 'tube'"):
        videomamba_pretrain.Task(pretraining(model={"mask": "tubes"}), {})
    with pytest.raises(VireoError, match="needs `init`"):
        videomamba_pretrain.Task(pretraining(init=None), {}).build()
    bigger = pretraining(arch={**ARCH, "image_size": 64})
    with pytest.raises(VireoError, match="another number"):
        videomamba_pretrain.Task(bigger, {}).build()


def test_crops_of_several_sizes() -> None:
    scales = (1, 0.875, 0.75, 0.66)
    rng = np.random.default_rng(0)
    boxes = [augment.multi_scale_box(rng, 240, 320, 224, scales) for _ in range(2000)]
    sides = [240, 210, 180, 158]
    assert {(h, w) for _, _, h, w in boxes} == {
        (h, w) for i, h in enumerate(sides) for j, w in enumerate(sides) if abs(i - j) <= 1
    }
    places = {(top, left) for top, left, h, w in boxes if (h, w) == (180, 180)}
    assert len(places) == 13 and (60, 140) in places and (15, 105) in places
    # A side within two pixels of the wanted one is that one.
    assert 224 in {h for _, _, h, _ in (augment.multi_scale_box(rng, 226, 300, 224, scales)
                                        for _ in range(50))}  # fmt: skip
    frames = rng.integers(0, 256, (3, 50, 70, 3), np.uint8)
    clip = augment.multi_scale(frames, rng, 32, scales, 0.5)
    assert clip.shape == (3, 3, 32, 32) and clip.dtype == torch.uint8
