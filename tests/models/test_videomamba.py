"""VideoMamba: the authors' numbers, their names and files, and what loading changes.

Goldens are described in tests/golden/videomamba/README.md.
"""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from vireo import models
from vireo.errors import VireoError
from vireo.models import videomamba
from vireo.nn import compiled, interpolate
from vireo.nn.mamba import Mixer, causal_conv

GOLDEN = Path(__file__).parents[1] / "golden" / "videomamba"
TINY = {"width": 32, "depth": 3, "image_size": 32, "num_frames": 4, "num_classes": 5}
CFG = {"arch": TINY, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
# Of the released tensors: the classifier of 8 frames with 400 classes, images with 1000.
LISTINGS = {
    "ti": {**videomamba.SIZES["Ti"], "num_classes": 400},
    "s": {**videomamba.SIZES["S"], "num_classes": 400},
    "m": {**videomamba.SIZES["M"], "num_classes": 400},
    "ti_image_in1k": {**videomamba.SIZES["Ti"], "num_classes": 1000, "image": True},
    "b_image_in1k": {**videomamba.SIZES["B"], "num_classes": 1000, "image": True},
}


@pytest.fixture(params=["torch", "numba"])
def way(request, monkeypatch) -> str:
    """PyTorch's operations, and compiled kernels where this machine has them."""
    if request.param == "numba" and compiled.missing():
        pytest.skip(compiled.missing())
    monkeypatch.setenv("VIREO_SCAN", request.param)
    return request.param


def worst(got, want) -> float:
    return ((got - want).abs().max() / want.abs().max().clamp_min(1e-12)).item()


def golden(name: str, **more) -> tuple[videomamba.VideoMamba, dict]:
    gold = load_file(GOLDEN / f"{name}.safetensors")
    arch = {"width": 64, "depth": 3, "image_size": 48, "num_frames": 8, "num_classes": 7, **more}
    model = videomamba.build(arch).eval()
    model.load_state_dict({k[7:]: v for k, v in gold.items() if k.startswith("weight.")})
    return model, gold


def tiny(seed: int = 0, **more) -> videomamba.VideoMamba:
    return videomamba.build({**TINY, **more}, torch.Generator().manual_seed(seed))


# -- numbers ----------------------------------------------------------------------------------


def test_every_stage_and_gradient_is_the_authors(way) -> None:
    model, gold = golden("cls")
    video = gold["video"].transpose(1, 2)
    close = {"atol": 1e-5, "rtol": 1e-5}
    hidden, residual = model.embed(video), None
    torch.testing.assert_close(hidden, gold["embed"], **close)
    for i, block in enumerate(model.layers):
        hidden, residual = block(hidden, residual)
        torch.testing.assert_close(hidden, gold[f"block{i}.hidden"], **close)
        torch.testing.assert_close(residual, gold[f"block{i}.residual"], **close)
    torch.testing.assert_close(model.features(video), gold["cls_feature"], **close)
    logits = model(video)
    torch.testing.assert_close(logits, gold["logits"], **close)
    loss = torch.nn.functional.cross_entropy(logits, gold["labels"])
    torch.testing.assert_close(loss.detach(), gold["ce_loss"][0], **close)
    loss.backward()
    for name, parameter in model.named_parameters():
        assert worst(parameter.grad, gold[f"grad.{name}"]) < 1e-4, name


def test_tubelets_of_two_frames(way) -> None:
    model, gold = golden("cls_tubelet2", tubelet=2)
    with torch.no_grad():
        torch.testing.assert_close(
            model(gold["video"].transpose(1, 2)), gold["logits"], atol=1e-5, rtol=1e-5
        )


def test_the_mixer_alone_forward_and_backward(way) -> None:
    gold = load_file(GOLDEN / "mixer.safetensors")
    mixer = Mixer(64)
    mixer.load_state_dict({k[7:]: v for k, v in gold.items() if k.startswith("weight.")})
    hidden = gold["hidden"].requires_grad_()
    x = mixer.in_proj(hidden).chunk(2, dim=-1)[0]
    conv = causal_conv(x[None], mixer.conv1d.weight.squeeze(1)[None], mixer.conv1d.bias[None])
    torch.testing.assert_close(conv[0].mT, gold["conv_fwd"], atol=1e-5, rtol=1e-5)
    out = mixer(hidden)
    torch.testing.assert_close(out, gold["out"], atol=1e-5, rtol=1e-5)
    out.backward(gold["dout"])
    assert worst(hidden.grad, gold["dhidden"]) < 1e-4
    for name, parameter in mixer.named_parameters():
        assert worst(parameter.grad, gold[f"grad.{name}"]) < 1e-4, name


def test_the_first_token_alone_is_that_of_all_tokens(way) -> None:
    mixer = tiny().layers[0].mixer
    hidden = torch.randn(2, 17, 32, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(
        mixer(hidden, first_only=True), mixer(hidden)[:, :1], atol=1e-6, rtol=1e-5
    )


def test_a_batch_changes_nothing_and_recomputing_neither(way) -> None:
    model = tiny(drop_path=0.0)
    clips = torch.randn(3, 4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        together = model(clips)
        for i in range(3):
            torch.testing.assert_close(model(clips[i : i + 1])[0], together[i])
    again = tiny(drop_path=0.0, checkpoint_num=2)
    for net in (model, again):
        net(clips).square().sum().backward()
    for a, b in zip(model.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_bfloat16_keeps_the_residual_and_the_norms_in_float32(way) -> None:
    model = tiny().eval()
    clips = torch.randn(1, 4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        hidden, residual = model.layers[0](model.embed(clips), None)
        assert hidden.dtype == torch.bfloat16 and residual.dtype == torch.float32
        hidden, residual = model.layers[1](hidden, residual)
        assert residual.dtype == torch.float32 and model.features(clips).dtype == torch.float32


def test_drop_path_rates_are_shifted_by_one_block() -> None:
    model = videomamba.build({**TINY, "depth": 4, "drop_path": 0.3})
    rates = [block.drop_path.rate for block in model.layers]
    assert rates == pytest.approx([0.0, 0.0, 0.1, 0.2]) and model.drop_path.rate == 0.3


def test_the_start_is_the_authors() -> None:
    model = videomamba.build({**TINY, "width": 96, "depth": 4}, torch.Generator().manual_seed(0))
    named = dict(model.named_parameters())
    mixer = model.layers[2].mixer
    assert not named["cls_token"].any() and not named["temporal_pos_embedding"].any()
    assert not mixer.dt_proj.bias.any() and not mixer.dt_proj_b.bias.any()
    for weight in (mixer.dt_proj.weight, mixer.in_proj.weight, named["pos_embed"]):
        assert weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert torch.equal(mixer.A_log[5], torch.arange(1, 17).float().log())
    assert (mixer.D == 1).all() and (model.layers[0].norm.weight == 1).all()
    limit = 1 / math.sqrt(2 * 96) / math.sqrt(4)  # kaiming of a=sqrt 5 is uniform in 1/sqrt(fan)
    assert 0.98 * limit < mixer.out_proj.weight.abs().max() <= limit
    same = videomamba.build({**TINY, "width": 96, "depth": 4}, torch.Generator().manual_seed(0))
    assert all(torch.equal(a, b) for a, b in zip(named.values(), same.parameters(), strict=True))


def test_steps_may_start_as_in_mamba() -> None:
    model = tiny(steps="mamba", width=96)
    for mixer in (block.mixer for block in model.layers):
        steps = torch.nn.functional.softplus(mixer.dt_proj_b.bias)
        assert 9e-4 < steps.min() < 2e-3 and 0.05 < steps.max() < 0.101
    with pytest.raises(VireoError, match="did you mean 'mamba'"):
        tiny(steps="mambo")


# -- names and files --------------------------------------------------------------------------


@pytest.mark.parametrize("size", LISTINGS)
def test_names_and_shapes_of_the_released_sizes(size: str) -> None:
    told = json.loads((GOLDEN / f"keys_videomamba_{size}.json").read_text())
    with torch.device("meta"):
        model = videomamba.build(LISTINGS[size])
    ours = {name: list(value.shape) for name, value in model.state_dict().items()}
    assert ours == {name: shape for name, (shape, _) in told["tensors"].items()}
    assert sum(p.numel() for p in model.parameters()) == told["num_parameters"]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s,
        lambda s: {"model": s, "epoch": 3},
        lambda s: {"module": s},
        lambda s: {f"module.{k}": v for k, v in s.items()},
        lambda s: {f"backbone.{k}": v for k, v in s.items()},
        lambda s: {"model": {f"encoder.{k}": v for k, v in s.items()}},
    ],
)
def test_any_wrapping_is_loaded(wrap, tmp_path: Path) -> None:
    source = tiny(3)
    torch.save(wrap(source.state_dict()), tmp_path / "x.pth")
    model = videomamba.load(CFG, tmp_path / "x.pth")
    assert isinstance(model, models.Classifier) and model.labels is None
    clips = torch.randn(1, 4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(model.classify(clips), source.eval()(clips))


def test_stored_tables_are_fitted_as_the_authors_do() -> None:
    gold = load_file(GOLDEN / "load_time_transforms.safetensors")
    torch.testing.assert_close(
        interpolate.resize_spatial(gold["in.pos_embed"][0], 37)[None], gold["out.pos_embed"]
    )
    time = "temporal_pos_embedding"
    torch.testing.assert_close(videomamba.resample(gold[f"in.{time}"], 12), gold[f"out.{time}"])
    for how in ("center", "average"):
        for depth in (1, 2, 3):
            torch.testing.assert_close(
                interpolate.inflate_2d(gold["in.patch2d"], depth, how == "center"),
                gold[f"out.patch3d_{how}_t{depth}"],
            )


def test_loading_fits_space_time_and_the_head_of_k710(tmp_path: Path) -> None:
    path = tmp_path / "k710.safetensors"
    source = tiny(1, num_classes=710)
    torch.nn.init.normal_(source.temporal_pos_embedding)
    save_file(source.state_dict(), path)
    arch = {**TINY, "image_size": 64, "num_frames": 8, "num_classes": 400}
    module = videomamba.load({**CFG, "arch": arch}, path).module
    assert torch.equal(module.head.weight, source.head.weight[:400])
    assert module.pos_embed.shape == (1, 17, 32) and module.temporal_pos_embedding.shape[1] == 8
    assert torch.equal(module.pos_embed[:, 0], source.pos_embed[:, 0])
    want = videomamba.resample(source.temporal_pos_embedding.detach(), 8)
    torch.testing.assert_close(module.temporal_pos_embedding, want)


def test_what_does_not_fit_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_file(tiny(num_classes=9).state_dict(), path)
    with pytest.raises(VireoError, match=r"head\.weight \[9, 32\] where the model has \[5, 32\]"):
        videomamba.load(CFG, path)
    with torch.device("meta"):
        ti = videomamba.build({**videomamba.SIZES["Ti"], "num_classes": 4})
    hint = videomamba.hint(ti)
    assert "VideoMamba-S" in hint({"cls_token": (1, 1, 384), "layers.23.norm.weight": (384,)})
    with pytest.raises(VireoError, match="did you mean 'depth'"):
        videomamba.build({**TINY, "depht": 3})
    with pytest.raises(VireoError, match="needs width, depth, num_classes"):
        videomamba.build({})
    with pytest.raises(VireoError, match="image_size 30 is no multiple of patch_size"):
        videomamba.build({**TINY, "image_size": 30})
    with pytest.raises(VireoError, match=r"the model wants \[4, 3, 32, 32\]"):
        tiny()(torch.zeros(1, 8, 3, 32, 32))


def test_starts_of_training_say_what_stays_fresh(tmp_path: Path) -> None:
    image, video = tmp_path / "in1k.pth", tmp_path / "k400.pth"
    torch.save({"model": tiny(1, image=True, num_classes=9).state_dict()}, image)
    save_file(tiny(2, num_classes=9).state_dict(), video)
    model = tiny()
    kept = videomamba.start_from(model, image, "image")
    assert kept == ["temporal_pos_embedding", "head.weight", "head.bias"]
    stored = torch.load(image)["model"]["patch_embed.proj.weight"]
    assert torch.equal(model.patch_embed.proj.weight[:, :, 0], stored)
    head = tiny().head.weight.clone()
    model = tiny()
    assert videomamba.start_from(model, video, "new_head") == ["head.weight", "head.bias"]
    assert torch.equal(model.head.weight, head)
    # The reference skips what does not fit without a word; here it must be asked for.
    with pytest.raises(VireoError, match=r"head\.weight \[9, 32\]"):
        videomamba.start_from(tiny(), video, "same")
    with pytest.raises(VireoError, match="did you mean 'new_head'"):
        videomamba.start_from(tiny(), video, "newhead")
    longer = tiny(num_frames=8)
    assert not videomamba.start_from(longer, video, "new_head_and_time")[0].startswith("head")
    assert not longer.temporal_pos_embedding.any()


# -- classes and views ------------------------------------------------------------------------


def test_names_of_the_heads_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "weights.safetensors"
    names = ["e", "d", "c", "b", "a"]
    save_file(tiny().state_dict(), path, metadata={"labels": json.dumps(names)})
    assert videomamba.load(CFG, path).labels == names
    by_number = {**CFG, "options": {"labels": 5}}
    assert videomamba.load(by_number, path).labels == ["0", "1", "2", "3", "4"]
    listed = tmp_path / "labels.json"
    monkeypatch.setattr("vireo.fetch.receipt.named", lambda block, role: listed)
    listed.write_text('{"x": "1", "y": "0", "z": "2", "v": "4", "w": "3"}')
    assert videomamba.load(CFG, path).labels == ["y", "x", "z", "w", "v"]
    listed.write_text('{"x": "1", "y": "1"}')
    with pytest.raises(VireoError, match="not 0 to 1, each once"):
        videomamba.load(CFG, path)
    listed = tmp_path / "kinetics_class_index.py"
    listed.write_text('names = {\n "1": "b",\n "0": "massaging person\'s head", "2": "c"\n}')
    assert videomamba.labels(CFG, None) == ["massaging person's head", "b", "c"]
    listed = tmp_path / "labels.txt"
    listed.write_text("a\nb\n")
    with pytest.raises(VireoError, match="2 class names for a head of 5 rows"):
        videomamba.load(CFG, path)


def test_views_are_square_crops_of_the_short_side() -> None:
    transform = videomamba.Transform(CFG["mean"], CFG["std"], 32)
    frames = np.random.default_rng(0).integers(0, 256, (4, 40, 60, 3), np.uint8)
    assert transform(frames).shape == (4, 3, 32, 32)
    crops = [transform(frames, {"views": {"crops": 3}, "crop": c}) for c in range(3)]
    assert all(crop.shape == (4, 3, 32, 32) for crop in crops)
    assert not torch.equal(crops[0], crops[2])
