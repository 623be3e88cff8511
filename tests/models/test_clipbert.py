"""ClipBERT against numbers of the authors' code, from pixels to losses; key names; loading."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.models.clipbert_golden import ARCH, BLOCK, CLIPS, FRAMES, GOLDEN, SIZE, inputs, outputs
from vireo.errors import VireoError
from vireo.models import Answerer, clipbert

WEIGHTS = GOLDEN / "weights.safetensors"


@pytest.fixture(scope="module")
def given() -> dict[str, Tensor]:
    return inputs()


@pytest.fixture(scope="module")
def expected() -> dict[str, Tensor]:
    return outputs()


@pytest.fixture(scope="module")
def model() -> clipbert.Model:
    return clipbert.load(BLOCK, WEIGHTS)


@pytest.fixture(scope="module")
def clips(model: clipbert.Model, given: dict[str, Tensor]) -> Tensor:
    """[B,n,T,3,S,S]"""
    raw = given["frames_raw_u8"]
    frames = [model.transform(video.permute(0, 2, 3, 1).numpy()) for video in raw]
    return torch.stack(frames).unflatten(1, (CLIPS, FRAMES))


def owner(given: dict[str, Tensor]) -> list[int]:
    return [n for n, count in enumerate(given["n_examples_list"].tolist()) for _ in range(count)]


def test_transform(model: clipbert.Model, given: dict[str, Tensor]) -> None:
    first = given["frames_raw_u8"][0, :1].float()
    fitted = model.transform.fit(first)
    torch.testing.assert_close(
        fitted, given["visual_inputs_resized_padded_first1"][0], atol=1e-4, rtol=0
    )
    torch.testing.assert_close(
        model.transform.normalise(fitted),
        given["visual_inputs_normalised_first1"][0],
        atol=1e-4,
        rtol=0,
    )


@torch.no_grad()
def test_backbone_stages(model: clipbert.Model, clips: Tensor, expected: dict[str, Tensor]) -> None:
    x = clips[:, 0].flatten(0, 1).flip(1)
    backbone = model.module.cnn.feature.backbone
    for name in ("stem", "res2", "res3", "res4", "res5"):
        x = getattr(backbone, name)(x)
        wanted = expected[name]
        torch.testing.assert_close(x[: len(wanted)], wanted, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_grid_and_sequence(
    model: clipbert.Model, clips: Tensor, given: dict[str, Tensor], expected: dict[str, Tensor]
) -> None:
    frames = model.module.cnn(clips[:, 0].flatten(0, 1))
    grid = expected["grid_clip0"]
    torch.testing.assert_close(frames.unflatten(0, grid.shape[:2]), grid, atol=1e-4, rtol=0)
    bert = model.module.transformer.bert
    mean = model.encode(clips)[owner(given), 0]
    ids, mask = given["text_input_ids"], given["text_input_mask"]
    close = {"atol": 1e-4, "rtol": 0}
    torch.testing.assert_close(bert.embeddings(ids), expected["text_embeddings"], **close)
    torch.testing.assert_close(
        bert.visual_embeddings(mean), expected["visual_embeddings_clip0"], **close
    )
    sequence = bert(ids, mask, mean)
    torch.testing.assert_close(sequence, expected["sequence_output_clip0"], **close)
    torch.testing.assert_close(bert.pooler(sequence), expected["pooled_clip0"], **close)


@torch.no_grad()
def test_logits_and_losses(
    model: clipbert.Model, clips: Tensor, given: dict[str, Tensor], expected: dict[str, Tensor]
) -> None:
    features = model.encode(clips)[owner(given)]
    logits = model.module(given["text_input_ids"], given["text_input_mask"], features)
    wanted = expected["logits_per_clip"].transpose(0, 1)
    torch.testing.assert_close(logits, wanted, atol=1e-4, rtol=0)
    for how in clipbert.AGGREGATIONS:
        found = clipbert.aggregate(logits, how)
        reference = expected[f"agg_{how}"]
        torch.testing.assert_close(found, reference, atol=1e-4, rtol=0)
        value = clipbert.loss(wanted, given["labels"], how)
        reference = expected[f"train_loss_{how}_per_example"]
        torch.testing.assert_close(value, reference, atol=1e-5, rtol=0)
    with pytest.raises(VireoError, match="unknown aggregation"):
        clipbert.aggregate(logits, "median")


def test_full_size_has_every_key_of_the_released_file() -> None:
    with torch.device("meta"):
        module = clipbert.build({})
    wanted = json.loads((GOLDEN / "keys.json").read_text())
    unused = ("cnn.feature.proposal_generator.", "cnn.feature.roi_heads.")
    wanted = {k: v for k, v in wanted.items() if not k.startswith(unused)}
    assert {k: list(v.shape) for k, v in module.state_dict().items()} == wanted
    assert sum(v.numel() for v in module.state_dict().values()) == 151_234_972


def test_wrapped_files_and_ignored_keys_load(tmp_path: Path, model: clipbert.Model) -> None:
    named = load_file(WEIGHTS)
    extra = {"transformer.bert.embeddings.position_ids": torch.arange(4)}
    torch.save({"model_state_dict": named | extra, "global_step": 7}, tmp_path / "a.pt")
    torch.save({f"module.{k}": v for k, v in named.items()}, tmp_path / "b.pt")
    for name in ("a.pt", "b.pt"):
        again = clipbert.load(BLOCK, tmp_path / name)
        for key, value in model.module.state_dict().items():
            assert torch.equal(again.module.state_dict()[key], value)


def test_anything_else_that_differs_is_an_error(tmp_path: Path) -> None:
    named = load_file(WEIGHTS)
    named["transformer.classifier.2.weight"] = torch.zeros(7, 64)
    named["cnn.feature.backbone.res6.weight"] = torch.zeros(1)
    del named["transformer.bert.pooler.dense.bias"]
    save_file(named, tmp_path / "a.safetensors")
    with pytest.raises(VireoError) as error:
        clipbert.load(BLOCK, tmp_path / "a.safetensors")
    for part in ("classifier.2.weight [7, 64]", "res6", "pooler.dense.bias"):
        assert part in str(error.value)
    with pytest.raises(VireoError, match="did you mean 'layers'"):
        clipbert.build({"layer": 2})


def test_tokens_are_the_references() -> None:
    folder = GOLDEN / "sqa3d"
    tokenizer = clipbert.Tokenizer(folder / "vocab.txt")
    case = json.loads((folder / "tokenize_truncation.json").read_text())
    ids, mask = tokenizer(case["strings"], case["max_length"])
    assert ids.tolist() == case["input_ids"] and mask.tolist() == case["attention_mask"]
    assert tokenizer.truncated == 1
    case = json.loads((folder / "first_batch_text.json").read_text())
    ids, mask = tokenizer(case["strings"], case["max_txt_len"])
    wanted = load_file(folder / "first_batch_text.safetensors")
    assert torch.equal(ids, wanted["text_input_ids"])
    assert torch.equal(mask, wanted["text_input_mask"])


def test_a_file_that_is_no_vocabulary_is_refused(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("a\nb\n")
    with pytest.raises(VireoError, match="no BERT vocabulary"):
        clipbert.Tokenizer(tmp_path / "vocab.txt")
    with pytest.raises(VireoError, match=r"files: \{vocab"):
        clipbert.load({k: v for k, v in BLOCK.items() if k != "vocab"}, WEIGHTS)


def test_answers_do_not_depend_on_batch_or_padding(model: clipbert.Model, clips: Tensor) -> None:
    questions = ["Is it open?", "How many doors are on my left?", "what's the desk"]
    features = model.encode(clips)
    together = model.answer(features, [0, 1, 1], questions, 30)
    assert together.shape == (3, CLIPS, ARCH["labels"])
    for n, (scene, question) in enumerate(zip([0, 1, 1], questions, strict=True)):
        alone = model.answer(features[scene : scene + 1], [0], [question], 30)
        torch.testing.assert_close(alone[0], together[n], atol=1e-5, rtol=0)
    assert isinstance(model, Answerer)


def test_frozen_stages_and_calibration(given: dict[str, Tensor]) -> None:
    module = clipbert.build(ARCH, torch.Generator().manual_seed(0))
    module.freeze()
    frozen = {name for name, p in module.named_parameters() if not p.requires_grad}
    assert {name.split(".")[3] for name in frozen} == {"stem", "res2"}
    backbone = module.cnn.feature.backbone
    pictures = given["frames_raw_u8"][0].float() - 100
    pictures = torch.nn.functional.interpolate(pictures, SIZE)
    backbone.calibrate(pictures)
    inside = backbone.res2[0].conv1(torch.relu(backbone.stem(pictures)))
    assert inside.mean((0, 2, 3)).abs().max() < 1e-3
    assert (inside.std((0, 2, 3)) - 1).abs().max() < 1e-2
