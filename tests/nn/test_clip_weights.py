"""CLIP files of every origin give the features that their own library computes."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from vireo.errors import VireoError
from vireo.models import viclip
from vireo.nn import clip_weights

ARCH = {
    "image_size": 32, "patch_size": 8, "width": 16, "layers": 2, "heads": 2, "embed_dim": 12,
    "num_frames": 8, "text_width": 8, "text_layers": 2, "text_heads": 2,
}  # fmt: skip
CFG = {"arch": ARCH, "mean": [0.5] * 3, "std": [0.5] * 3}
TEXTS = ["a dog runs", "B. Gray.", "a photo of a person doing abseiling"]


@pytest.fixture(scope="module")
def images():
    return torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def open_clip_model():
    """open_clip's CLIP of the size of ARCH, with OpenAI's activation."""
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

    torch.manual_seed(0)
    vision = CLIPVisionCfg(layers=2, width=16, head_width=8, patch_size=8, image_size=32)
    text = CLIPTextCfg(context_length=77, width=8, heads=2, layers=2)
    return CLIP(12, vision, text, quick_gelu=True).eval()


@pytest.fixture(scope="module")
def hugging_face_model():
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(0)
    config = CLIPConfig(
        vision_config={
            "hidden_size": 16, "intermediate_size": 64, "num_hidden_layers": 2,
            "num_attention_heads": 2, "image_size": 32, "patch_size": 8,
        },
        text_config={
            "hidden_size": 8, "intermediate_size": 32, "num_hidden_layers": 2,
            "num_attention_heads": 2, "eos_token_id": 49407,
        },
        projection_dim=12,
    )  # fmt: skip
    return CLIPModel(config).eval()


def expect(path, images, vision, text):
    """ViCLIP with the file's weights, one frame and 32 tokens, against the library's features."""
    model = viclip.load(CFG, path)
    torch.testing.assert_close(
        model.embed_video(images), F.normalize(vision, dim=-1), atol=2e-5, rtol=0
    )
    torch.testing.assert_close(
        model.embed_text(TEXTS), F.normalize(text, dim=-1), atol=2e-5, rtol=0
    )


@pytest.fixture(scope="module")
def ids():
    """Padded to 77: the end-of-text token comes early, so the context length does not matter."""
    from vireo.nn.tokenizer import Tokenizer

    return Tokenizer(77)(TEXTS)


def test_open_clip(open_clip_model, images, ids, tmp_path):
    path = tmp_path / "open_clip.pt"
    state = {f"module.{k}": v for k, v in open_clip_model.state_dict().items()}
    torch.save({"epoch": 1, "state_dict": state}, path)
    with torch.no_grad():
        vision, text = open_clip_model.encode_image(images), open_clip_model.encode_text(ids)
    expect(path, images, vision, text)


def test_open_clip_with_its_text_tower_apart(open_clip_model, images, ids, tmp_path):
    state = open_clip_model.state_dict()
    renamed = {
        k if k.startswith(("visual.", "logit_")) else f"text.{k}": v for k, v in state.items()
    }
    save_file(renamed, tmp_path / "custom.safetensors")
    with torch.no_grad():
        vision, text = open_clip_model.encode_image(images), open_clip_model.encode_text(ids)
    expect(tmp_path / "custom.safetensors", images, vision, text)


@pytest.mark.filterwarnings("ignore")  # tracing is deprecated, files made by it are not
def test_openai_torchscript_archive(open_clip_model, images, ids, tmp_path):
    path = tmp_path / "ViT-tiny.pt"
    traced = torch.jit.trace(open_clip_model, (images, ids), check_trace=False)
    traced.save(str(path))
    with torch.no_grad():
        vision, text = open_clip_model.encode_image(images), open_clip_model.encode_text(ids)
    expect(path, images, vision, text)


def test_hugging_face(hugging_face_model, images, ids, tmp_path):
    hugging_face_model.save_pretrained(tmp_path)
    with torch.no_grad():
        out = hugging_face_model(input_ids=ids, pixel_values=images)
    expect(tmp_path / "model.safetensors", images, out.image_embeds, out.text_embeds)


def test_half_precision_files_and_single_towers(open_clip_model, tmp_path):
    state = {k: v.half() for k, v in open_clip_model.state_dict().items()}
    visual = {k.removeprefix("visual."): v for k, v in state.items() if k.startswith("visual.")}
    text = {k: v for k, v in state.items() if not k.startswith("visual.") and k != "logit_scale"}
    torch.save(visual, tmp_path / "vision.pth")
    torch.save(text, tmp_path / "text.pth")
    torch.save(state, tmp_path / "both.pth")
    parts = clip_weights.read(tmp_path / "vision.pth") | clip_weights.read(tmp_path / "text.pth")
    whole = clip_weights.read(tmp_path / "both.pth")
    assert parts.keys() == whole.keys()
    assert all(torch.equal(parts[k], whole[k]) for k in whole)
    assert whole["vision_encoder.conv1.weight"].shape == (16, 3, 1, 8, 8)
    assert whole["vision_encoder.proj"].dtype == torch.float16


@pytest.mark.parametrize("origin", ["openai", "hugging_face"])
def test_towers_have_the_keys_of_the_authors_files(
    open_clip_model, hugging_face_model, images, ids, tmp_path, origin
):
    """What the authors' notebook cuts out of OpenAI's archive: names, shapes, values."""
    state = open_clip_model.state_dict()
    if origin == "openai":
        path = tmp_path / "ViT-tiny.pt"
        torch.jit.trace(open_clip_model, (images, ids), check_trace=False).save(str(path))
    else:
        hugging_face_model.save_pretrained(tmp_path)
        path = tmp_path / "model.safetensors"
    files = {tower: tmp_path / f"{tower}.pth" for tower in ("vision", "text")}
    command = [sys.executable, "scripts/clip_towers.py", str(path)]
    command += ["--vision", str(files["vision"]), "--text", str(files["text"])]
    subprocess.run(command, cwd=Path(__file__).parents[2], check=True)
    found = {tower: torch.load(file, weights_only=True) for tower, file in files.items()}
    visual = {k.removeprefix("visual."): v for k, v in state.items() if k.startswith("visual.")}
    text = {k: v for k, v in state.items() if not k.startswith("visual.") and k != "logit_scale"}
    for tower, wanted in (("vision", visual), ("text", text)):
        wanted = {k: v for k, v in wanted.items() if k != "attn_mask"}
        assert {k: v.shape for k, v in found[tower].items()} == {
            k: v.shape for k, v in wanted.items()
        }
        if origin == "openai":
            assert all(torch.equal(found[tower][k], v) for k, v in wanted.items())
    parts = clip_weights.read(files["vision"]) | clip_weights.read(files["text"])
    whole = clip_weights.read(path)
    assert all(torch.equal(parts[k], whole[k]) for k in whole)


def test_start_of_training_keeps_what_clip_lacks(open_clip_model, tmp_path):
    torch.save(open_clip_model.state_dict(), tmp_path / "clip.pt")
    model = viclip.build(ARCH)
    with torch.no_grad():
        model.temp.fill_(0.07)
        model.vision_encoder.temporal_positional_embedding.fill_(0.5)
    viclip.start_from(model, tmp_path / "clip.pt")
    assert model.temp.item() == pytest.approx(0.07)
    assert model.vision_encoder.temporal_positional_embedding.eq(0.5).all()
    table = open_clip_model.state_dict()["positional_embedding"]
    assert torch.equal(model.text_encoder.positional_embedding, table[:32])
    assert torch.equal(model.vision_encoder.proj, open_clip_model.visual.proj)


def test_files_that_are_no_clip(tmp_path):
    save_file({"fc.weight": torch.ones(2)}, tmp_path / "other.safetensors")
    with pytest.raises(VireoError, match="holds no CLIP"):
        clip_weights.read(tmp_path / "other.safetensors")


def test_plain_gelu_where_the_weights_were_trained_so(images, ids, tmp_path):
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg

    torch.manual_seed(0)
    vision = CLIPVisionCfg(layers=2, width=16, head_width=8, patch_size=8, image_size=32)
    text = CLIPTextCfg(context_length=77, width=8, heads=2, layers=2)
    native = CLIP(12, vision, text, quick_gelu=False).eval()
    torch.save(native.state_dict(), tmp_path / "datacomp.pt")
    with torch.no_grad():
        wanted = F.normalize(native.encode_image(images), dim=-1)
    model = viclip.load({**CFG, "arch": {**ARCH, "act": "gelu"}}, tmp_path / "datacomp.pt")
    torch.testing.assert_close(model.embed_video(images), wanted, atol=2e-5, rtol=0)
    quick = viclip.load(CFG, tmp_path / "datacomp.pt")
    assert (quick.embed_video(images) - wanted).abs().max() > 1e-4
    with pytest.raises(VireoError, match="did you mean 'gelu'"):
        viclip.build({**ARCH, "act": "gleu"})


@pytest.mark.parametrize("alpha", [0.0, 0.25, 1.0])
def test_averaging_with_clip_leaves_frame_positions_and_temperature(
    open_clip_model, alpha, tmp_path
):
    trained = viclip.build(ARCH, torch.Generator().manual_seed(3))
    with torch.no_grad():
        trained.vision_encoder.temporal_positional_embedding.fill_(0.5)
        trained.temp.fill_(0.03)
    save_file(trained.state_dict(), tmp_path / "trained.safetensors")
    half = {k: v.half() for k, v in open_clip_model.state_dict().items()}
    torch.save(half, tmp_path / "clip.pt")
    cfg = {**CFG, "wiseft": {"alpha": alpha, "path": tmp_path / "clip.pt"}}
    found = viclip.load(cfg, tmp_path / "trained.safetensors").module.state_dict()
    assert found["vision_encoder.temporal_positional_embedding"].eq(0.5).all()
    assert found["temp"] == pytest.approx(0.03)
    clip = viclip.fit(clip_weights.read(tmp_path / "clip.pt"), trained)
    for name, theirs in clip.items():
        wanted = alpha * trained.state_dict()[name] + (1 - alpha) * theirs.float()
        torch.testing.assert_close(found[name], wanted, atol=1e-6, rtol=0)
    assert len(clip) == len(found) - 2


def test_averaging_with_another_size_is_refused(open_clip_model, tmp_path):
    torch.save(open_clip_model.state_dict(), tmp_path / "clip.pt")
    other = viclip.build({**ARCH, "width": 32})
    save_file(other.state_dict(), tmp_path / "other.safetensors")
    wiseft = {"alpha": 0.5, "path": tmp_path / "clip.pt"}
    cfg = {**CFG, "arch": {**ARCH, "width": 32}, "wiseft": wiseft}
    with pytest.raises(VireoError, match="the two must be of one size"):
        viclip.load(cfg, tmp_path / "other.safetensors")
