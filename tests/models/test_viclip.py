"""ViCLIP against numbers recorded from the authors' code (tests/golden/viclip)."""

import json
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from vireo.errors import VireoError
from vireo.models import DualEncoder, viclip
from vireo.nn import checkpoint

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
    first = model.transform(rgb, {"resize": {"library": "cv2", "interpolation": "bilinear"}})
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
    assert np.array_equal(
        model.transform.resize(rgb, {"library": "cv2"}), io["resized_rgb_uint8"].numpy()
    )


def test_video_features_layer_by_layer(golden, clips):
    _, model, io = golden
    vision = model.module.vision_encoder
    layers = [f"transformer.resblocks.{i}" for i in range(len(vision.transformer.resblocks))]
    kept = recorded(vision, ["conv1", "ln_pre", *layers, "ln_post"])
    with torch.inference_mode():
        raw = model.module.encode_vision(clips)
        # The model itself lets the last block compute the class token only.
        vision.ln_post(vision.transformer(kept["ln_pre"][1]))
    close(kept["conv1"][1][:1, :, :2], io["vision.conv1_out"])
    close(kept["ln_pre"][0][:1], io["vision.before_ln_pre"])
    close(kept["ln_pre"][1][:1], io["vision.after_ln_pre"])
    for i, name in enumerate(layers):
        close(kept[name][1][:1].transpose(0, 1), io[f"vision.block{i}_out_LND"])
    close(kept["ln_post"][1][:1].transpose(0, 1), io["vision.ln_post_out_LND"])
    close(raw, io["vision.features_raw"])
    close(model.embed_video(clips), io["vision.features_norm"])


def test_features_do_not_depend_on_the_batch(golden, clips):
    _, model, _ = golden
    texts = [f"a text of number {n}" for n in range(9)]
    with torch.inference_mode():
        for whole, alone in (
            (model.embed_video(clips), [model.embed_video(c[None]) for c in clips]),
            (model.embed_text(texts), [model.embed_text([t]) for t in texts]),
        ):
            torch.testing.assert_close(whole, torch.cat(alone), rtol=0, atol=2e-7)


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


# -- files and options ---------------------------------------------------------------------------

TINY = {
    "image_size": 16, "patch_size": 8, "width": 8, "layers": 2, "heads": 2, "embed_dim": 6,
    "num_frames": 8, "text_width": 8, "text_layers": 1, "text_heads": 2, "vocab_size": 49408,
}  # fmt: skip
CFG = {"arch": TINY, "mean": MEAN, "std": STD}
TEXTS = ["A. Black.", "a dog runs on the grass"]


@pytest.fixture(scope="module")
def tiny():
    return viclip.load({**CFG, "seed": 3}, None)


@pytest.fixture(scope="module")
def video():
    return torch.randn(2, 8, 3, 16, 16, generator=torch.Generator().manual_seed(0))


class EasyDict(dict):
    """Stands for the authors' own configuration class, which nobody else can import."""


def test_every_released_file_layout(tiny, video, tmp_path, monkeypatch):
    state = tiny.module.state_dict()
    trained = {n: p for n, p in tiny.module.named_parameters() if not n.startswith("text")}
    moments = {
        i: {"exp_avg": p.clone(), "exp_avg_sq": p.clone()} for i, p in enumerate(trained.values())
    }
    training = {
        "model": state, "optimizer": {"state": moments}, "scheduler": {}, "scaler": {},
        "config": EasyDict(lr=4e-4), "epoch": 9, "global_step": 100,
    }  # fmt: skip
    files = {
        "ViClip-InternVid-10M-FLT.pth": {"model": state},
        "ViCLIP-L_InternVid-FLT-10M.pth": training,
        "deepspeed.pth": {"module": {f"module.{k}": v for k, v in state.items()}},
        "bare.pth": state,
    }
    monkeypatch.setattr(EasyDict, "__module__", "utils.easydict")
    monkeypatch.setitem(sys.modules, "utils", types.ModuleType("utils"))
    easydict = types.ModuleType("utils.easydict")
    easydict.EasyDict = EasyDict
    monkeypatch.setitem(sys.modules, "utils.easydict", easydict)
    for name, value in files.items():
        torch.save(value, tmp_path / name)
        torch.save(value, tmp_path / f"old-{name}", _use_new_zipfile_serialization=False)
    save_file(state, tmp_path / "model.safetensors")
    monkeypatch.undo()
    expected = tiny.embed_video(video)
    for path in sorted(tmp_path.iterdir()):
        loaded = viclip.load(CFG, path)
        assert torch.equal(loaded.embed_video(video), expected), path.name
        assert torch.equal(loaded.embed_text(TEXTS), tiny.embed_text(TEXTS))


def test_the_wrong_size_is_guessed():
    with torch.device("meta"):
        state = viclip.build(viclip.SIZES["B/16"]).state_dict()
    with torch.device("meta"):
        large = viclip.build(viclip.SIZES["L/14"])
    hint = viclip.guess_size(viclip.SIZES["L/14"])
    with pytest.raises(VireoError, match="looks like the B/16 size, the model block asks for L/14"):
        checkpoint.load_into(large, state, "b.pth", hint=hint)


def test_tables_are_fitted_to_other_frames_and_sizes(tiny, video, tmp_path):
    path = tmp_path / "tiny.safetensors"
    save_file(tiny.module.state_dict(), path)
    arch = {**TINY, "num_frames": 12, "image_size": 24, "context_length": 20}
    model = viclip.load({**CFG, "arch": arch}, path)
    assert model.embed_video(torch.randn(1, 12, 3, 24, 24)).shape == (1, 6)
    short = viclip.load({**CFG, "arch": {**TINY, "num_frames": 4}}, path)
    assert short.embed_video(video[:, :4]).shape == (2, 6)
    assert torch.equal(
        model.module.text_encoder.positional_embedding,
        tiny.module.text_encoder.positional_embedding[:20],
    )
    torch.testing.assert_close(model.embed_text(TEXTS), tiny.embed_text(TEXTS))


def test_seeded_weights_without_a_file(tiny, video):
    again, other = viclip.load({**CFG, "seed": 3}, None), viclip.load(CFG, None)
    assert torch.equal(again.embed_video(video), tiny.embed_video(video))
    assert not torch.allclose(other.embed_video(video), tiny.embed_video(video))
    assert all(p.isfinite().all() for p in tiny.module.parameters())
    assert tiny.module.temp.item() == pytest.approx(0.01)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_agrees_and_answers_in_float32(tiny, video, dtype, tmp_path):
    path = tmp_path / "tiny.safetensors"
    save_file(tiny.module.state_dict(), path)
    model = viclip.load(CFG, path, "cpu", dtype)
    for got, expected in (
        (model.embed_video(video), tiny.embed_video(video)),
        (model.embed_text(TEXTS), tiny.embed_text(TEXTS)),
    ):
        assert got.dtype == torch.float32
        torch.testing.assert_close(got.norm(dim=-1), torch.ones(len(got)))
        assert (got * expected).sum(-1).min() > 0.999


def test_batching_does_not_change_features(tiny, video):
    single = torch.cat([tiny.embed_video(v[None]) for v in video])
    torch.testing.assert_close(single, tiny.embed_video(video), atol=1e-5, rtol=0)
    single = torch.cat([tiny.embed_text([t]) for t in TEXTS])
    torch.testing.assert_close(single, tiny.embed_text(TEXTS), atol=1e-5, rtol=0)


def test_it_is_a_dual_encoder_in_eval_mode(tiny):
    assert isinstance(tiny, DualEncoder)
    assert tiny.logit_scale == 100
    assert not any(m.training for m in tiny.module.modules())


@pytest.mark.parametrize(
    ("shape", "message"),
    [((1, 5, 3, 16, 16), "has 5 frames, the model was built for 8"), ((1, 8, 3, 24, 24), "3 x 3")],
)
def test_wrong_clips_are_explained(tiny, shape, message):
    with pytest.raises(VireoError, match=message):
        tiny.embed_video(torch.zeros(shape))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_frame": 8}, "did you mean 'num_frames'"),
        ({"heads": 3}, "width 8 is no multiple of heads"),
        ({"image_size": 20}, "image_size 20 is no multiple of patch_size"),
    ],
)
def test_wrong_architectures_are_explained(change, message):
    with pytest.raises(VireoError, match=message):
        viclip.build({**TINY, **change})
    with pytest.raises(VireoError, match="needs embed_dim"):
        viclip.build({k: v for k, v in TINY.items() if k != "embed_dim"})


def test_training_reaches_every_parameter(video):
    model = viclip.build({**TINY, "checkpoint_num": 1}, torch.Generator().manual_seed(0))
    ids = torch.zeros(2, 32, dtype=torch.int32)
    ids[:, :3] = torch.tensor([49406, 320, 49407])
    vision = model.encode_vision(video, 0.5, torch.Generator().manual_seed(1))
    loss = (vision * model.encode_text(ids)).sum() / model.temp
    loss.backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


SCRIPT = """
import sys, threading, time, torch
from vireo.errors import VireoError
from vireo.models import DualEncoder, viclip
from vireo.nn import checkpoint
from safetensors.torch import save_file
torch.set_num_threads(2)
peak = 0

def watch():  # own memory; pages of the mapped file are the kernel's to drop
    global peak
    while True:
        status = open("/proc/self/status").read().split("RssAnon:")[1]
        peak = max(peak, int(status.split()[0]))
        time.sleep(0.005)

threading.Thread(target=watch, daemon=True).start()
cfg = {"arch": viclip.SIZES["L/14"], "mean": [0.5] * 3, "std": [0.5] * 3}
if sys.argv[1] == "write":
    state = viclip.build(cfg["arch"]).state_dict()
    moments = {i: torch.zeros(303_974_401) for i in range(2)}
    torch.save({"model": state, "optimizer": moments}, sys.argv[2])
else:
    model = viclip.load(cfg, sys.argv[2])
    features = model.embed_video(torch.randn(1, 8, 3, 224, 224))
    texts = model.embed_text(["A. One.", "B. Two.", "C. Three.", "D. Four."])
    assert features.shape == (1, 768) and texts.shape == (4, 768)
    print(peak / 1024)
"""


@pytest.mark.slow  # writes a 4.1 GB file and runs the full-size model
def test_full_size_training_file_within_memory(tmp_path):
    path = tmp_path / "ViCLIP-L_InternVid-FLT-10M.pth"
    root = Path(__file__).parents[2]
    for step in ("write", "read"):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, step, path], cwd=root, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    megabytes = float(done.stdout.split()[-1])
    print(f"peak resident memory {megabytes:.0f} MB")
    assert path.stat().st_size > 4_140_000_000
    assert megabytes < 3000
