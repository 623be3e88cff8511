"""MMDuet against vectors of the authors' code: names, tower, pooling, loading in every spelling."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.models import duet
from vireo.errors import VireoError
from vireo.models import mmduet
from vireo.models.mmduet import checkpoint
from vireo.nn import lora

GOLDEN = duet.GOLDEN
ADAPTER = GOLDEN / "adapter_model.safetensors"


@pytest.fixture(scope="module")
def model() -> mmduet.Model:
    return mmduet.load(duet.block(), ADAPTER)


@pytest.fixture(scope="module")
def tensors() -> dict[str, torch.Tensor]:
    return load_file(GOLDEN / "tensors.safetensors")


def test_full_size_has_the_released_names_and_shapes() -> None:
    keys = json.loads((GOLDEN / "keys.json").read_text())
    with torch.device("meta"):
        full = mmduet.build({})
    ours = {name: list(value.shape) for name, value in full.state_dict().items()}
    heads = {n: ours.pop(n) for n in ("informative_head.weight", "relevance_head.weight")}
    assert list(heads.values()) == [[2, 3584], [2, 3584]]
    theirs = {mmduet.rename(name): shape for name, shape in keys["base"].items()}
    theirs = checkpoint.without_norm(theirs)
    assert ours == theirs
    for name, expected in keys["rename"].items():
        assert mmduet.rename(name) == expected
    count = sum(p.numel() for p in full.parameters())
    unread = sum(
        torch.Size(shape).numel()
        for name, shape in keys["base"].items()
        if not checkpoint.without_norm({mmduet.rename(name): 0})
    )
    assert count - 2 * 2 * 3584 == keys["counts"]["base_params"] - unread
    assert full.frame_tokens == 49


def test_tower_projector_and_pooling(model: mmduet.Model, tensors: dict[str, torch.Tensor]) -> None:
    frames = tensors["frames_uint8"]
    pixels = mmduet.normalise(frames[:2])
    torch.testing.assert_close(pixels, tensors["pixel_values_01"], atol=1e-6, rtol=0)
    with torch.no_grad():
        features = model.module.tower(pixels)
        projected = model.module.model.multi_modal_projector(features)
    torch.testing.assert_close(features[:1], tensors["tower_out_frame0"], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(projected[:1], tensors["proj_out_frame0"], atol=1e-4, rtol=1e-4)
    for mode in ("average", "max"):
        pooled = mmduet.pool(projected, 4, mode)
        torch.testing.assert_close(pooled, tensors[f"pool_{mode}_f01"], atol=1e-4, rtol=1e-4)
    embeds = model.embed_frames(frames)
    torch.testing.assert_close(embeds, tensors["frame_embeds"], atol=1e-4, rtol=1e-4)


def test_normalisation_of_pictures_of_the_right_size() -> None:
    golden = load_file(GOLDEN / "preprocess.safetensors")
    ours = mmduet.normalise(golden["in_uint8"])
    torch.testing.assert_close(ours, golden["out_same_size"], atol=1e-6, rtol=0)


def written(folder: Path, change: dict[str, str], drop: str = "") -> Path:
    """The adapter with renamed or dropped tensors, beside its configuration."""
    named = load_file(ADAPTER)
    for old, new in change.items():
        named = {k.replace(old, new): v for k, v in named.items()}
    named = {k: v for k, v in named.items() if not drop or drop not in k}
    save_file(named, folder / "adapter_model.safetensors")
    shutil.copy(GOLDEN / "adapter_config.json", folder)
    return folder / "adapter_model.safetensors"


@pytest.mark.parametrize(
    "change",
    [
        {"informative_head": "response_head", "relevance_head": "related_head"},
        {"_head.weight": "_head.modules_to_save.default.weight"},
        {"lora_A.weight": "lora_A.default.weight", "lora_B.weight": "lora_B.default.weight"},
    ],
)
def test_every_spelling_of_the_adapter(
    model: mmduet.Model, tmp_path: Path, change: dict[str, str]
) -> None:
    other = mmduet.load(duet.block(), written(tmp_path, change))
    for name, value in model.module.state_dict().items():
        assert torch.equal(value, other.module.state_dict()[name]), name


@pytest.mark.parametrize("head", ["informative_head", "relevance_head"])
def test_an_adapter_without_a_head_is_refused(tmp_path: Path, head: str) -> None:
    with pytest.raises(VireoError, match=head):
        mmduet.load(duet.block(), written(tmp_path, {}, drop=head))


def test_a_configuration_that_does_not_serve_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, {}).with_name("adapter_config.json")
    told = json.loads(path.read_text())
    for text, message in (
        (json.dumps({**told, "use_dora": True}), "use_dora is not supported"),
        ("{", "is not valid JSON"),
    ):
        path.write_text(text)
        with pytest.raises(VireoError, match=message):
            lora.scale_of(tmp_path)
    path.unlink()
    with pytest.raises(VireoError, match="must lie beside the adapter"):
        lora.scale_of(tmp_path)


def test_unmerged_and_merged_agree(model: mmduet.Model) -> None:
    apart = mmduet.load(duet.block(merge=False), ADAPTER)
    embeds = model.embed_text("Is it the same?")
    with torch.inference_mode():
        one = model.module.read(embeds, model.memory())
        other = apart.module.read(embeds, apart.memory())
    torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_a_complete_file_loads_without_a_base(model: mmduet.Model, tmp_path: Path) -> None:
    state = {k: v.clone() for k, v in model.module.state_dict().items()}
    save_file(state, tmp_path / "weights.safetensors")
    shutil.copy(GOLDEN / "base/tokenizer.json", tmp_path)
    other = mmduet.load({"arch": duet.arch()}, tmp_path / "weights.safetensors")
    assert torch.equal(other.module.lm_head.weight, model.module.lm_head.weight)


def test_sharded_base_and_bfloat16(tmp_path: Path) -> None:
    named = load_file(GOLDEN / "base/model.safetensors")
    names = sorted(named)
    files = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, part in files.items():
        save_file({n: named[n] for n in part}, tmp_path / file)
    index = {"weight_map": {n: f for f, part in files.items() for n in part}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(GOLDEN / "base" / name, tmp_path)
    block = {"arch": duet.arch(), "options": {"base": str(tmp_path)}}
    loaded = mmduet.load(block, ADAPTER, dtype="bfloat16")
    assert {p.dtype for p in loaded.module.parameters()} == {torch.bfloat16}


def test_another_base_is_refused(tmp_path: Path) -> None:
    config = json.loads((GOLDEN / "base/config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "mm_spatial_pool_mode": "max"}))
    with pytest.raises(VireoError, match="mm_spatial_pool_mode"):
        mmduet.load({"arch": duet.arch(), "options": {"base": str(tmp_path)}}, ADAPTER)


def test_wrong_keys_are_named() -> None:
    with pytest.raises(VireoError, match="hidden_size"):
        mmduet.build({"hiden_size": 3})
    with pytest.raises(VireoError, match="where its base lies"):
        mmduet.load({"arch": duet.arch()}, ADAPTER)
