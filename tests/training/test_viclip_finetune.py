"""Fine-tuning: layer-wise rates, strong augmentation, and a small run whose weights carry names."""

import json
import random

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from vireo.errors import VireoError
from vireo.fetch import receipt
from vireo.models import viclip, viclip_classifier
from vireo.nn import checkpoint
from vireo.training import Step, loop, optim, rand_augment, schedule
from vireo.training.tasks import viclip_finetune

ARCH = {
    "image_size": 32, "patch_size": 16, "width": 32, "layers": 2, "heads": 2, "num_frames": 4,
    "num_classes": 16, "drop_path": 0.0,
}  # fmt: skip
FRAMES = {"rule": "sparse_random", "n": 4}


def recipe(**changed):
    return {
        "task": "viclip_finetune",
        "family": "viclip_classifier",
        "arch": ARCH,
        "sources": {"annotations": "toy_kinetics", "videos": "toy_kinetics"},
        "data": {
            "classes": 16, "frames": FRAMES, "cache_decoded": True, "flip": 0, "scale": [0.6, 1],
            "val_frames": {"rule": "sparse_views", "n": 4, "segments": 1},
        },
        "model": {"layer_decay": 0.5},
        "optim": {"lr": 1e-3, "weight_decay": 0.05},
        "schedule": {"kind": "cosine_from_to", "warmup_steps": 2, "start": 0.1, "end": 0.01},
        "steps": 6,
        "batch_size": 8,
        "seed": 0,
        "version": 1,
        **changed,
    }  # fmt: skip


def test_a_run_leaves_weights_that_name_their_classes(kinetics) -> None:
    path = loop.train("ft", recipe(), {"device": "cpu"})
    names = checkpoint.labels(path)
    assert names is not None and len(names) == 16 and names == sorted(names)
    cfg = {"arch": ARCH, "mean": [0.5] * 3, "std": [0.5] * 3, "size": 32}
    assert viclip_classifier.load(cfg, path).labels == names
    table = (path.parent / "metrics.csv").read_text().splitlines()
    assert "val_top1" in table[0] and len(table) >= 7
    # A second stage takes the head over by name.
    second = recipe(init={"recipe": "ft"})
    second["arch"] = {**ARCH, "num_frames": 8}
    second["data"] = {**second["data"], "frames": {**FRAMES, "n": 8}}
    import os

    os.rename("results/training/ft", "results/training/first")
    second["init"] = {"recipe": "first"}
    model = viclip_finetune.Task(second, {}).build()
    trained = viclip_classifier.load(cfg, kinetics / "results/training/first/weights.safetensors")
    assert torch.equal(model.head.weight, trained.module.head.weight)  # type: ignore[union-attr]


def test_loss_is_a_function_of_the_step_and_learns(kinetics) -> None:
    task = viclip_finetune.Task(recipe(), {})
    samples = task.dataset("train")
    assert len(samples) == 16
    first = samples.sample(0, 3)
    assert len(first) == 2 and not torch.equal(first[0]["clip"], first[1]["clip"])
    assert torch.equal(first[1]["clip"], samples.sample(0, 3)[1]["clip"])
    batch = task.collate([samples.sample(0, i) for i in range(4)])
    assert batch["clip"].shape == (8, 4, 3, 32, 32) and batch["label"].shape == (8,)
    model = task.build()
    here = [task.loss(model, batch, Step(0, 5, 0))[0].item() for _ in range(2)]
    assert here[0] == here[1]
    assert here[0] == pytest.approx(np.log(16), abs=0.05)  # the head starts near zero
    groups = optim.optimizer(task.param_groups(model), {"lr": 5e-3})
    for _ in range(12):
        value, _ = task.loss(model, batch, Step(0, 5, 0))
        value.backward()
        groups.step()
        groups.zero_grad()
    assert task.loss(model, batch, Step(0, 5, 0))[0].item() < here[0] - 0.3
    assert task.validate(model.eval())["top1"] >= 0


def test_starts_from_a_contrastive_model(kinetics) -> None:
    tower = {k: v for k, v in ARCH.items() if k not in ("num_classes", "drop_path")}
    whole = viclip.build(
        {**tower, "embed_dim": 8, "text_width": 8, "text_layers": 1, "text_heads": 1}
    )
    save_file(whole.state_dict(), kinetics / "viclip.safetensors")
    listed = {"viclip.safetensors": {"size": 1, "sha256": None}}
    receipt.write("data/receipts/w.json", "w", kinetics, listed, "test")
    task = viclip_finetune.Task(recipe(init={"artifact": "w"}), {})
    model = task.build()
    conv = whole.vision_encoder.conv1.weight
    assert torch.equal(model.vision_encoder.conv1.weight, conv)  # type: ignore[union-attr]
    assert task.fingerprint().keys() == {"list", "init"}


def test_rates_fall_layer_by_layer() -> None:
    model = viclip_classifier.build(ARCH)
    rates = {}
    task = viclip_finetune.Task.__new__(viclip_finetune.Task)
    task.recipe, task.options = recipe(), {"layer_decay": 0.5}
    for group in task.param_groups(model):
        for name in group["names"]:
            rates[name] = group["lr_scale"], group["weight_decay"]
    assert len(rates) == len(list(model.parameters()))
    assert rates["head.weight"] == (1, 0.05) and rates["head.bias"] == (1, 0)
    assert rates["vision_encoder.ln_post.weight"] == (1, 0)
    assert rates["vision_encoder.transformer.resblocks.1.mlp.c_fc.weight"] == (0.5, 0.05)
    assert rates["vision_encoder.transformer.resblocks.0.ln_1.bias"] == (0.25, 0)
    assert rates["vision_encoder.conv1.weight"] == (0.125, 0.05)
    assert rates["vision_encoder.positional_embedding"] == (0.125, 0)
    assert rates["vision_encoder.ln_pre.weight"][0] == 0.125


def test_wrong_recipes_are_explained(kinetics) -> None:
    with pytest.raises(VireoError, match=r"16 classes, arch.num_classes is 4"):
        viclip_finetune.Task(recipe(arch={**ARCH, "num_classes": 4}), {})
    with pytest.raises(VireoError, match="did you mean 'mixup'"):
        viclip_finetune.Task(recipe(data={"mixupp": 1}), {})


def test_rand_augment_draws_once_per_clip_and_leaves_the_global_state() -> None:
    frame = np.random.default_rng(0).integers(0, 255, (32, 40, 3), dtype=np.uint8)
    frames = np.stack([frame] * 3)
    before = random.getstate(), np.random.get_state()[1].copy()
    made = rand_augment.rand_augment(
        frames, "rand-m7-n4-mstd0.5-inc1", [0.5] * 3, np.random.default_rng(1)
    )
    assert (made[0] == made[1]).all() and (made[1] == made[2]).all()
    assert not (made[0] == frame).all() and made.shape == frames.shape
    assert random.getstate() == before[0] and (np.random.get_state()[1] == before[1]).all()


def test_erasing_takes_one_box_of_all_frames() -> None:
    clip = torch.zeros(4, 3, 64, 64)
    rand_augment.erase(clip, 1.0, np.random.default_rng(0))
    boxes = clip.abs().sum(1) > 0
    assert (boxes[0] == boxes[3]).all()
    assert 0.01 < boxes[0].float().mean() < 0.4
    untouched = rand_augment.erase(torch.zeros(1, 3, 8, 8), 0.0, np.random.default_rng(0))
    assert not untouched.any()


@pytest.mark.parametrize("seed", range(4))
def test_mixing_is_timms_on_every_frame(seed) -> None:
    from timm.data.mixup import Mixup

    options = {"mixup": 0.8, "cutmix": 1.0, "smoothing": 0.1}
    clips = torch.randn(4, 2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 2, 3])
    made, soft = rand_augment.mix(clips.clone(), labels, 5, seed, options)
    with rand_augment.seeded(seed):
        frame, wanted = Mixup(0.8, 1.0, label_smoothing=0.1, num_classes=5)(
            clips[:, 1].clone(), labels
        )
    torch.testing.assert_close(made[:, 1], frame)
    torch.testing.assert_close(soft, wanted)
    with pytest.raises(VireoError, match="3 is odd"):
        rand_augment.mix(clips[:3], labels[:3], 5, seed, options)
    same, hard = rand_augment.mix(clips, labels, 5, seed, {**options, "mixup": 0, "cutmix": 0})
    assert torch.equal(same, clips) and json.dumps(hard.argmax(1).tolist()) == "[0, 1, 2, 3]"


def test_schedule_from_and_to_given_rates() -> None:
    rates = [schedule.cosine_from_to(s, 100, 11, start=0.1, end=0.01) for s in range(101)]
    assert rates[0] == pytest.approx(0.1) and rates[10] == pytest.approx(1)
    assert rates[11] == pytest.approx(1) and rates[-1] == pytest.approx(0.01)
    assert rates[5] == pytest.approx(0.55)
