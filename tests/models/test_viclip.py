"""ViCLIP against numbers recorded from the authors' code (tests/golden/viclip)."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from vireo.models import viclip

GOLDEN = Path(__file__).parents[1] / "golden" / "viclip"
META = json.loads((GOLDEN / "meta.json").read_text())
TAGS = sorted(META)
ATOL = 2e-5
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def arch_of(tag):
    cfg = META[tag]["cfg"]
    return {
        "image_size": cfg["res"], "patch_size": cfg["patch"], "width": cfg["width"],
        "layers": cfg["layers"], "heads": cfg["heads"], "embed_dim": cfg["out"],
        "num_frames": cfg["frames"], "text_width": cfg["tw"], "text_layers": cfg["tl"],
        "text_heads": cfg["th"],
    }  # fmt: skip


def weights_of(tag):
    io = load_file(GOLDEN / f"io_{tag}.safetensors")
    state = load_file(GOLDEN / f"weights_{tag}.safetensors")
    table = torch.zeros(49408, META[tag]["cfg"]["tw"])
    table[io["text.used_token_ids"]] = io["text.used_token_rows"]
    state["text_encoder.token_embedding.weight"] = table
    return state, io


@pytest.fixture(scope="module", params=TAGS)
def golden(request, tmp_path_factory):
    """(tag, loaded Model, recorded tensors): the weights go through a file and `load`."""
    state, io = weights_of(request.param)
    path = tmp_path_factory.mktemp("viclip") / "tiny.safetensors"
    save_file(state, path)
    cfg = {"arch": arch_of(request.param), "mean": MEAN, "std": STD}
    return request.param, viclip.load(cfg, path), io


@pytest.fixture()
def clips(golden):
    """[2,8,3,H,W]: the preprocessed frames and the recorded int8 clip."""
    tag, model, io = golden
    rgb = io["frames_bgr_uint8"].numpy()[META[tag]["pick"]][..., ::-1]
    first = model.transform(rgb, {"resize": {"library": "cv2", "kernel": "bilinear"}})
    return torch.stack([first, io["clip1_int8_div50"].float() / 50])


def recorded(module, names):
    """Forward hooks that keep the outputs of named submodules."""
    kept = {}
    for name in names:
        module.get_submodule(name).register_forward_hook(
            lambda _, inputs, output, name=name: kept.update({name: (inputs[0], output)})
        )
    return kept


def close(got, expected):
    torch.testing.assert_close(got, expected, atol=ATOL, rtol=0)


def test_the_transform_is_bit_exact(golden, clips):
    tag, model, io = golden
    assert torch.equal(clips[0, 0], io["video_tensor_frame0"])
    sized = model.transform(io["resized_rgb_uint8"].numpy(), {})
    assert torch.equal(sized, clips[0])
    rgb = io["frames_bgr_uint8"].numpy()[META[tag]["pick"]][..., ::-1]
    assert np.array_equal(model.transform.resize(rgb, "cv2", {}), io["resized_rgb_uint8"].numpy())


def test_video_features_layer_by_layer(golden, clips):
    _, model, io = golden
    vision = model.module.vision_encoder
    layers = [f"transformer.resblocks.{i}" for i in range(len(vision.transformer.resblocks))]
    kept = recorded(vision, ["conv1", "ln_pre", *layers, "ln_post"])
    with torch.inference_mode():
        raw = model.module.encode_vision(clips)
    close(kept["conv1"][1][:1, :, :2], io["vision.conv1_out"])
    close(kept["ln_pre"][0][:1], io["vision.before_ln_pre"])
    close(kept["ln_pre"][1][:1], io["vision.after_ln_pre"])
    for i, name in enumerate(layers):
        close(kept[name][1][:1].transpose(0, 1), io[f"vision.block{i}_out_LND"])
    close(kept["ln_post"][1][:1].transpose(0, 1), io["vision.ln_post_out_LND"])
    close(raw, io["vision.features_raw"])
    close(model.embed_video(clips), io["vision.features_norm"])


def test_an_image_gets_the_mean_temporal_position(golden, clips):
    _, model, io = golden
    with torch.inference_mode():
        close(model.module.encode_vision(clips[:, 0]), io["vision.image_4d_features_raw"])
        close(model.module.encode_vision(clips[:, :1]), io["vision.image_4d_features_raw"])


def test_text_features_layer_by_layer(golden):
    tag, model, io = golden
    text = model.module.text_encoder
    layers = [f"transformer.resblocks.{i}" for i in range(len(text.transformer.resblocks))]
    kept = recorded(text, [*layers, "ln_final"])
    ids = model.tokenizer(META[tag]["options"])
    assert torch.equal(ids.int(), io["text.token_ids"])
    with torch.inference_mode():
        raw = model.module.encode_text(ids)
    for i, name in enumerate(layers):
        close(kept[name][1].transpose(0, 1), io[f"text.block{i}_out_LND"])
    close(kept["ln_final"][1], io["text.ln_final_out"])
    close(raw, io["text.features_raw"])
    close(model.embed_text(META[tag]["options"]), io["text.features_norm"])


def test_scores_and_the_order_of_the_options(golden, clips):
    tag, model, io = golden
    options = META[tag]["options"]
    logits = model.logit_scale * model.embed_video(clips) @ model.embed_text(options).T
    torch.testing.assert_close(logits, io["scores.logits"], atol=1e-3, rtol=0)
    probs, order = logits.softmax(-1).topk(len(options))
    close(probs, io["scores.top_probs"])
    assert torch.equal(order, io["scores.top_idx"])
    names, values = META[tag]["retrieve_text_topk4"]
    assert [options[i] for i in order[0]] == names
    close(probs[0], torch.tensor(values))


def test_masked_forward(golden):
    tag, model, io = golden
    module, mask = model.module, META[tag]["mask"]
    video = io["mask.video_batch_int8_div50"].float() / 50
    seed = mask["seed_for_torch_rand"]
    keep = viclip.visible(3, mask["L"], 0.9, torch.Generator().manual_seed(seed))
    assert keep.shape[1] == mask["n_visible"]
    flags = torch.zeros(3, mask["L"], dtype=torch.uint8).scatter_(1, keep, 1)
    assert torch.equal(flags, io["mask.keep"])
    kept = recorded(module.vision_encoder, ["ln_pre"])
    with torch.inference_mode():
        raw = module.encode_vision(video, 0.9, torch.Generator().manual_seed(seed))
        close(kept["ln_pre"][0][:1, 1:], io["mask.visible_tokens"])
        close(raw, io["mask.features_raw"])
        torch.manual_seed(seed)  # the global generator, as the authors draw
        close(module.encode_vision(video, 0.9), raw)
        ids = model.tokenizer(mask["captions"])
        assert torch.equal(ids.int(), io["mask.text_ids"])
        close(module.encode_text(ids), io["mask.text_features_raw"])


@pytest.mark.parametrize(("size", "count"), [("B/16", 149_603_841), ("L/14", 427_590_145)])
def test_full_size_names_and_shapes(size, count):
    name = "keys_vit_" + size.replace("/", "").lower() + ".json"
    expected = json.loads((GOLDEN / name).read_text())
    with torch.device("meta"):
        state = viclip.build(viclip.SIZES[size]).state_dict()
    got = {k: [list(v.shape), str(v.dtype).removeprefix("torch.")] for k, v in state.items()}
    assert list(got) == list(expected)
    assert got == expected
    assert sum(v.numel() for v in state.values()) == count
