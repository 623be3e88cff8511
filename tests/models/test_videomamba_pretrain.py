"""Masked pre-training: student, teacher, masks and losses against the authors' numbers."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from vireo.errors import VireoError
from vireo.models import videomamba
from vireo.nn import clip_teacher
from vireo.training import masking
from vireo.training import videomamba_student as student

GOLDEN = Path(__file__).parents[1] / "golden" / "videomamba"


def golden(k: int, **more):
    path = GOLDEN / f"pretrain_k{k}.safetensors"
    gold = load_file(path)
    with safe_open(str(path), "pt") as file:
        frozen = set(file.metadata()["no_grad_params"].split(","))
    model = student.build(
        {"width": 48, "depth": 3, "image_size": 64, "output_dim": 24, "return_layers": k, **more}
    ).eval()
    model.load_state_dict({n[8:]: v for n, v in gold.items() if n.startswith("student.")})
    teacher = clip_teacher.Teacher(
        {**clip_teacher.B16, "width": 32, "layers": 2, "heads": 2, "output_dim": 24,
         "image_size": 64, "return_layers": k}
    ).eval()  # fmt: skip
    teacher.load_state_dict({n[8:]: v for n, v in gold.items() if n.startswith("teacher.")})
    return model, teacher, gold, frozen


@pytest.mark.parametrize("k", [1, 2])
def test_the_authors_numbers(k: int) -> None:
    model, teacher, gold, frozen = golden(k)
    close = {"atol": 1e-5, "rtol": 1e-5}
    clips, mask = gold["video"].transpose(1, 2), gold["mask"].bool()
    targets, looks = teacher(clips)
    torch.testing.assert_close(targets, gold["teacher_norm_clip"], **close)
    torch.testing.assert_close(looks.flatten(0, 1), gold["attn"], **close)
    targets = targets[:, ~mask].unflatten(1, (len(mask), -1))
    torch.testing.assert_close(targets, gold["targets_vis"], **close)
    torch.testing.assert_close(student.sincos(129, 48)[None], gold["clip_pos_embed"], **close)
    features = model.visible(clips, mask)
    torch.testing.assert_close(features, gold["student_x_clip_vis"], **close)
    made = model(clips, mask)
    torch.testing.assert_close(made, gold["student_out"], **close)
    for kind in student.LOSSES:
        value = student.loss(made, targets, kind).detach()
        torch.testing.assert_close(value, gold[f"loss_{kind}"][0], **close)
    student.loss(made, targets, "l2").backward()
    named = dict(model.named_parameters())
    assert {name for name, p in named.items() if p.grad is None} == frozen
    for name in (n for n in gold if n.startswith("grad.")):
        grad = named[name[5:]].grad
        assert grad is not None
        assert (grad - gold[name]).abs().max() <= 1e-4 * gold[name].abs().max(), name


def test_the_drawn_order_is_what_stays_visible() -> None:
    """The reference draws a permutation and keeps its head; noise that gives it gives its mask."""
    _, _, gold, _ = golden(1)
    weights = gold["attn"].unflatten(0, (2, 8))
    rank = gold["importance"].argsort(-1).unflatten(0, (2, 8)).float()
    mask = masking.attention(weights, 0.8, weights * torch.exp(rank))
    assert torch.equal(mask.flatten(1), gold["mask"][:, 1:].bool())


def test_with_the_last_mixer_everything_is_trained() -> None:
    model, _, gold, _ = golden(1, last_mixer=True)
    made = model(gold["video"].transpose(1, 2), gold["mask"].bool())
    value = student.loss(made, gold["targets_vis"], "l2")
    assert abs(value.item() - gold["loss_l2"].item()) > 1e-3
    value.backward()
    assert all(p.grad is not None for p in model.parameters())


def test_names_of_the_released_files() -> None:
    told = json.loads((GOLDEN / "keys_videomamba_m_pretrain.json").read_text())
    with torch.device("meta"):
        model = student.build({**videomamba.SIZES["M"]})
    ours = {name: list(value.shape) for name, value in model.state_dict().items()}
    assert ours == {name: shape for name, (shape, _) in told["tensors"].items()}
    told = json.loads((GOLDEN / "keys_clip_b16_teacher.json").read_text())
    with torch.device("meta"):
        teacher = clip_teacher.Teacher(clip_teacher.B16)
    ours = {name: list(value.shape) for name, value in teacher.state_dict().items()}
    assert ours == {name: shape for name, (shape, _) in told["tensors"].items()}


def test_a_pretrained_file_starts_a_classifier(tmp_path: Path) -> None:
    size = {"width": 32, "depth": 3, "image_size": 32, "num_frames": 4}
    source = student.build(size)
    save_file(source.state_dict(), tmp_path / "pt.safetensors")
    model = videomamba.build({**size, "num_classes": 5})
    kept = videomamba.start_from(model, tmp_path / "pt.safetensors", "pretrain")
    assert kept == ["norm_f.weight", "head.weight", "head.bias"]
    assert torch.equal(model.layers[1].mixer.A_log, source.layers[1].mixer.A_log)


TEACHER = {"width": 16, "layers": 2, "heads": 2, "output_dim": 12, "image_size": 32,
           "patch_size": 8}  # fmt: skip


def test_the_teacher_comes_from_files_of_three_origins_and_from_viclip(tmp_path: Path) -> None:
    pytest.importorskip("open_clip")
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    from vireo.models import viclip

    torch.manual_seed(0)
    vision = CLIPVisionCfg(layers=2, width=16, head_width=8, patch_size=8, image_size=32)
    text = CLIPTextCfg(context_length=77, width=8, heads=2, layers=2)
    state = CLIP(12, vision, text, quick_gelu=True).state_dict()
    torch.save({"state_dict": state}, tmp_path / "open_clip.pt")
    torch.save(state, tmp_path / "openai.pt")
    hugging_face = CLIPVisionModelWithProjection(
        CLIPVisionConfig(hidden_size=16, intermediate_size=64, num_hidden_layers=2,
                         num_attention_heads=2, image_size=32, patch_size=8, projection_dim=12)
    ).state_dict()  # fmt: skip
    save_file(hugging_face, tmp_path / "hugging_face.safetensors")
    whole = viclip.build(
        {"image_size": 32, "patch_size": 8, "width": 16, "layers": 2, "heads": 2, "embed_dim": 12,
         "num_frames": 4, "text_width": 8, "text_layers": 1, "text_heads": 1}
    )  # fmt: skip
    save_file(whole.state_dict(), tmp_path / "viclip.safetensors")
    convs = {
        "open_clip.pt": state["visual.conv1.weight"],
        "openai.pt": state["visual.conv1.weight"],
        "hugging_face.safetensors": hugging_face["vision_model.embeddings.patch_embedding.weight"],
        "viclip.safetensors": whole.vision_encoder.conv1.weight.squeeze(2),
    }
    for name, conv in convs.items():
        teacher = clip_teacher.load(tmp_path / name, TEACHER)
        assert torch.equal(teacher.conv1.weight.squeeze(2), conv), name
        assert not any(p.requires_grad for p in teacher.parameters())
        targets, looks = teacher(torch.randn(2, 3, 3, 40, 40))  # another size is resampled
        assert targets.shape == (1, 2, 49, 12) and looks.shape == (2, 3, 16)
    with pytest.raises(VireoError, match="did you mean 'layers'"):
        clip_teacher.load(tmp_path / "openai.pt", {"layer": 2})
    with pytest.raises(VireoError, match="does not fit the model"):
        clip_teacher.load(tmp_path / "openai.pt", {**TEACHER, "layers": 3})


@pytest.mark.parametrize("kind", ["attention", *masking.KINDS])
def test_masks_have_their_shape_and_do_not_depend_on_the_cut(kind: str) -> None:
    weights = torch.rand(6, 4, 25, generator=torch.Generator().manual_seed(3))

    def draw(part: slice, first: int = 0):
        return masking.draw(kind, weights[part], 0.7, torch.Generator().manual_seed(1), first)

    mask = draw(slice(0, 6))
    assert mask.shape == (6, 101) and not mask[:, 0].any()
    assert torch.equal(torch.cat([draw(slice(0, 2)), draw(slice(2, 6), 2)]), mask)
    frames = mask[:, 1:].unflatten(1, (4, 5, 5))
    masked = frames.flatten(2).sum(-1)
    if kind in ("attention", "tube"):
        assert (masked == int(0.7 * 25)).all()
    if kind == "tube":
        assert (frames == frames[:, :1]).all()
    if kind == "random":
        assert (masked.sum(1) == int(0.7 * 100)).all()
    if kind in ("tube_row", "random_row"):
        assert (frames == frames[..., :1]).all() and (masked.sum(1) == 4 * 3 * 5).all()
    if kind == "tube_row":
        assert (masked == 15).all() and not (frames == frames[:, :1]).all()
    with pytest.raises(VireoError, match="did you mean 'tube'"):
        masking.draw("tub", weights, 0.5, torch.Generator())


def test_attention_masks_follow_the_weights() -> None:
    weights = torch.tensor([8.0, 4.0, 2.0, 1.0]).expand(4000, 1, 4)
    mask = masking.draw("attention", weights, 0.75, torch.Generator().manual_seed(0))[:, 1:]
    seen = (~mask).float().mean(0)
    torch.testing.assert_close(seen, torch.tensor([8, 4, 2, 1]) / 15, atol=0.025, rtol=0)
