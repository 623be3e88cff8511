"""Schedule, optimiser groups, loss, masking, cleaning and augmentation against the vectors."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from vireo.errors import VireoError
from vireo.models import viclip
from vireo.nn.text_clean import clean_caption
from vireo.training import Step, augment, contrastive, optim, schedule, seeds
from vireo.training.tasks import viclip_pretrain

GOLDEN = Path(__file__).parent.parent / "golden/viclip"
META = json.loads((GOLDEN / "meta.json").read_text())
MISC = json.loads((GOLDEN / "misc.json").read_text())
TAGS = ["p16", "p14"]


def arch(tag: str) -> dict[str, int]:
    c = META[tag]["cfg"]
    return {
        "image_size": c["res"], "patch_size": c["patch"], "width": c["width"],
        "layers": c["layers"], "heads": c["heads"], "embed_dim": c["out"],
        "num_frames": c["frames"], "text_width": c["tw"], "text_layers": c["tl"],
        "text_heads": c["th"],
    }  # fmt: skip


def recipe(tag: str, **options: object) -> dict[str, object]:
    return {
        "task": "viclip_pretrain", "family": "viclip", "arch": arch(tag), "model": options,
        "sources": {"train": "none"}, "optim": {"lr": 4e-4, "betas": [0.9, 0.98]}, "batch_size": 3,
    }  # fmt: skip


def golden_model(tag: str) -> tuple[viclip.ViCLIP, dict[str, torch.Tensor]]:
    io = load_file(GOLDEN / f"io_{tag}.safetensors")
    model = viclip.build(arch(tag))
    model.load_state_dict(load_file(GOLDEN / f"weights_{tag}.safetensors"), strict=False)
    with torch.no_grad():
        table = model.text_encoder.token_embedding.weight.zero_()
        table[io["text.used_token_ids"]] = io["text.used_token_rows"]
    return model.eval(), io


@pytest.mark.parametrize("case", sorted(MISC["lr_schedule"]))
def test_learning_rates(case):
    told = MISC["lr_schedule"][case]
    options = {"warmup_steps": told["num_warmup_steps"], "floor": told["min_lr_multi"]}
    block = {"steps": told["num_training_steps"], "batch_size": 1, "schedule": options}
    plan = schedule.plan(block, 10)
    for step, lr in told["lr_at"].items():
        assert told["lr"] * plan.factor(int(step)) == pytest.approx(lr, rel=1e-12)


def test_length_of_a_run():
    block = {"epochs": 10, "batch_size": 4, "schedule": {"warmup_epochs": 0.5}}
    plan = schedule.plan(block, 43)
    assert (plan.steps, plan.steps_per_epoch, plan.warmup, plan.epoch(10)) == (100, 10, 5, 1)
    # Half an epoch: the list is halved before (43 -> 21), one epoch, warm-up 0.1/0.5 of it.
    half = {"epochs": 0.5, "batch_size": 4, "schedule": {"warmup_epochs": 0.1}}
    assert schedule.data_share(half) == 0.5
    assert (schedule.plan(half, 21).steps, schedule.plan(half, 21).warmup) == (5, 1)
    with pytest.raises(VireoError, match="either"):
        schedule.plan({"steps": 3, "epochs": 1, "batch_size": 1}, 3)


@pytest.mark.parametrize("tag", TAGS)
def test_parameter_groups(tag):
    task = viclip_pretrain.Task(recipe(tag), {})
    groups = task.param_groups(task.build())
    told = META[tag]["param_groups"]
    assert [(g["weight_decay"], g["names"]) for g in groups] == [
        (g["weight_decay"], g["names"]) for g in told
    ]


def test_token_table_decays_when_text_is_trained():
    task = viclip_pretrain.Task(recipe("p16", freeze_text=False), {})
    without, decay = task.param_groups(task.build())
    assert "text_encoder.token_embedding.weight" in decay["names"]
    assert "text_encoder.text_projection" in decay["names"]
    assert "text_encoder.positional_embedding" in without["names"]


@pytest.mark.parametrize("tag", TAGS)
def test_masked_loss_gradients_and_one_step(tag):
    model, io = golden_model(tag)
    task = viclip_pretrain.Task(recipe(tag), {})
    model.text_encoder.requires_grad_(False)
    video = io["mask.video_batch_int8_div50"].float() / 50
    torch.manual_seed(META[tag]["mask"]["seed_for_torch_rand"])  # the reference's generator
    features = model.encode_vision(video, 0.9)
    torch.testing.assert_close(features, io["mask.features_raw"], atol=2e-5, rtol=0)
    text = model.encode_text(io["mask.text_ids"])
    torch.testing.assert_close(text, io["mask.text_features_raw"], atol=2e-5, rtol=0)
    with torch.no_grad():
        model.temp.fill_(0.01)
    alone, _ = contrastive.loss(features, text, model.temp)
    torch.testing.assert_close(alone.view(1), io["mask.loss_vtc_no_idx"], rtol=1e-4, atol=1e-6)
    optimizer = optim.optimizer(task.param_groups(model), {"lr": 4e-4, "betas": [0.9, 0.98]})
    loss, _ = contrastive.loss(features, text, model.temp, io["mask.idx"])
    torch.testing.assert_close(loss.view(1), io["mask.loss_vtc"], rtol=1e-4, atol=1e-6)
    loss.backward()
    named = dict(model.named_parameters())
    for key, value in io.items():
        if key.startswith("mask.grad."):
            grad = named[key.removeprefix("mask.grad.")].grad.view_as(value)
            scale = float(value.abs().max())  # tiny entries of a large gradient carry its rounding
            torch.testing.assert_close(grad, value, rtol=1e-4, atol=max(1e-6, 1e-5 * scale))
    optimizer.step()
    for key, value in io.items():
        if key.startswith("step."):
            got = named[key.removeprefix("step.")].detach().view_as(value)
            torch.testing.assert_close(got, value, rtol=1e-4, atol=1e-6)


def test_mask_of_a_part_is_the_part_of_the_mask():
    """Two micro-batches see the clips' own masks, whoever computes them."""
    model, _ = golden_model("p14")
    task = viclip_pretrain.Task(recipe("p14"), {})
    clip = torch.randint(0, 255, (4, 8, 3, 56, 56), dtype=torch.uint8)
    tokens = torch.stack([task.tokens(text) for text in ("a b", "c d", "e f", "g h")])
    seen: list[torch.Tensor] = []
    original = model.encode_vision
    model.encode_vision = lambda *a: seen.append(original(*a)) or seen[-1]  # type: ignore
    batch = {"clip": clip, "tokens": tokens, "id": torch.arange(4)}
    task.loss(model, batch, Step(0, 5, 0))
    for first in (0, 2):
        part = {k: v[first : first + 2] for k, v in batch.items()}
        task.loss(model, part, Step(0, 5, 0, first))
    torch.testing.assert_close(torch.cat(seen[1:]), seen[0], atol=1e-5, rtol=0)
    task.loss(model, batch, Step(0, 6, 0))
    assert not torch.allclose(seen[-1], seen[0], atol=1e-3)


def test_temperature_floor():
    model, _ = golden_model("p14")
    with torch.no_grad():
        model.temp.fill_(0.001)
    task = viclip_pretrain.Task(recipe("p14"), {})
    clip = torch.zeros((2, 8, 3, 56, 56), dtype=torch.uint8)
    tokens = torch.stack([task.tokens("a b")] * 2)
    _, told = task.loss(
        model, {"clip": clip, "tokens": tokens, "id": torch.arange(2)}, Step(0, 0, 0)
    )
    assert float(told["temp"]) == pytest.approx(0.01)


def _two_ranks(rank: int, port: int, way: str, folder: str) -> None:
    torch.set_num_threads(1)
    url = f"tcp://127.0.0.1:{port}"
    torch.distributed.init_process_group("gloo", init_method=url, rank=rank, world_size=2)
    v = load_file(GOLDEN / "allgather_2rank.safetensors")
    weight = torch.nn.Linear(16, 16, bias=False)
    temp = torch.nn.Parameter(v["temp"][0].clone())
    weight.weight.data.copy_(v["W"])
    rows = slice(3 * rank, 3 * rank + 3)
    loss, _ = contrastive.loss(weight(v["v"][rows]), v["t"][rows], temp, v["idx"][rows], way)
    loss.backward()
    grads = torch.cat([weight.weight.grad.flatten(), temp.grad.view(1), loss.detach().view(1)])
    torch.distributed.all_reduce(grads)
    if rank == 0:
        torch.save(grads / 2, f"{folder}/{way}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("way", contrastive.GATHERS)
def test_gather_over_two_processes(tmp_path, way):
    import socket

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    context = torch.multiprocessing.get_context("fork")
    ranks = [context.Process(target=_two_ranks, args=(r, port, way, str(tmp_path))) for r in (0, 1)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join(60)
        assert process.exitcode == 0
    got = torch.load(tmp_path / f"{way}.pt")
    v = load_file(GOLDEN / "allgather_2rank.safetensors")
    told = "ddp" if way == "reference" else "single"
    close = {"rtol": 1e-4, "atol": 1e-6}
    torch.testing.assert_close(got[:-2].view(16, 16), v[f"{told}.grad_W"], **close)
    torch.testing.assert_close(got[-2:-1], v[f"{told}.grad_temp"], **close)
    torch.testing.assert_close(got[-1:], v[f"{told}.loss"], **close)
    if way == "reference":
        torch.testing.assert_close(2 * got[:-2].view(16, 16), v["single.grad_W"], **close)


@pytest.mark.parametrize("given,whole,five", MISC["pre_text"])
def test_cleaning(given, whole, five):
    assert clean_caption(given) == whole
    assert clean_caption(given, 5) == five


def test_resize_is_that_of_tensors_without_antialiasing():
    v = load_file(GOLDEN / "misc.safetensors")
    got = augment.resize(v["transform.input_uint8_TCHW"], 40)
    assert torch.equal(got, v["transform.resized_uint8_antialias_false"])


@given(st.integers(1, 300), st.integers(1, 300), st.integers(0, 2**32))
def test_crops_lie_inside_and_keep_scale_and_ratio(height, width, seed):
    box = augment.crop_box(np.random.default_rng(seed), height, width, (0.5, 1.0))
    top, left, h, w = box
    assert top >= 0 and left >= 0 and h >= 1 and w >= 1
    assert top + h <= height and left + w <= width
    if 0.8 < height / width < 1.25 and height > 30 and width > 30:
        assert 0.45 < h * w / (height * width) <= 1 and 0.7 < w / h < 1.4


def test_one_draw_for_all_frames_of_a_clip():
    frame = np.random.default_rng(0).integers(0, 255, (1, 50, 60, 3), dtype=np.uint8)
    frames = np.repeat(frame, 4, axis=0)
    flips = 0
    for seed in range(20):
        rng = seeds.numpy_generator(seed)
        clip = augment.augment(frames, rng, 32, (0.5, 1.0), 0.5)
        assert clip.shape == (4, 3, 32, 32) and all(torch.equal(c, clip[0]) for c in clip)
        unflipped = augment.augment(frames, seeds.numpy_generator(seed), 32, (0.5, 1.0), 0.0)
        flips += not torch.equal(clip, unflipped)
    assert 4 < flips < 16
    whole = augment.augment(frames, seeds.numpy_generator(1), 32, (1, 1), 0.0)
    assert torch.equal(whole, augment.resize(torch.from_numpy(frames).permute(0, 3, 1, 2), 32))
