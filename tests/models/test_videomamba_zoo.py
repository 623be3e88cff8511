"""The blocks of VideoMamba's zoo: sizes, frames and classes agree with files and benchmarks."""

import re
from pathlib import Path

import pytest
import torch

from vireo import config as cfg
from vireo.models import videomamba

SIZES = {"t": "Ti", "s": "S", "m": "M", "b": "B"}
CLASSES = {"k400": 400, "ssv2": 174, "breakfast": 10, "coin": 180, "in1k": 1000}
RELEASED = re.compile(
    r"videomamba_(?P<size>[tsmb])16_(?P<task>[a-z0-9]+)(_mask_ft)?(_f(?P<frames>\d+))?_res224"
    r"((to\d+)*to(?P<pixels>\d+))?\.pth"
)


@pytest.fixture(scope="module")
def config() -> cfg.Config:
    return cfg.load()


def zoo(config: cfg.Config) -> dict[str, cfg.Config]:
    return {
        name: block
        for name, block in config["models"].items()
        if block["family"] == "videomamba" and "artifact" in (block["weights"] or {})
    }


def test_every_row_is_there(config: cfg.Config) -> None:
    blocks = zoo(config)
    count = dict.fromkeys(CLASSES, 0)
    for name in blocks:
        count[name.split("_")[2]] += 1
    assert count == {"k400": 20, "ssv2": 12, "breakfast": 8, "coin": 8, "in1k": 10}


def test_blocks_say_what_their_files_say(config: cfg.Config) -> None:
    files = set()
    for name, block in zoo(config).items():
        artifact = config["artifacts"][block["weights"]["artifact"]]
        (file,) = (entry["name"] for entry in artifact["files"])
        files.add(file)
        told = RELEASED.fullmatch(file)
        assert told, file
        size, arch = videomamba.SIZES[SIZES[told["size"]]], block["arch"]
        assert (arch["width"], arch["depth"]) == (size["width"], size["depth"]), name
        assert arch["num_classes"] == CLASSES[told["task"]], name
        assert arch["num_frames"] == int(told["frames"] or 1), name
        assert arch.get("image_size", 224) == block["size"] == int(told["pixels"] or 224), name
        assert ("(masked)" in block["title"]) == ("_mask_" in file) == ("_mask_" in name), name
        for target in block.get("protocols", {}):
            assert cfg.protocol(config, name, target)["frames"]["n"] == arch["num_frames"], name
        with torch.device("meta"):
            model = videomamba.build(arch)
        about = artifact["files"][0]["about"]
        assert about == pytest.approx(4 * sum(p.numel() for p in model.parameters()), rel=0.02)
    assert len(files) == 58


@pytest.mark.slow
def test_a_full_size_file_in_each_released_wrapping_is_loaded_and_runs(
    config: cfg.Config, tmp_path: Path
) -> None:
    block = {**config["models"]["videomamba_m16_k400_f8"], "files": {}}
    source = videomamba.build(block["arch"], torch.Generator().manual_seed(0)).eval()
    named = source.state_dict()
    wrappings = {
        "flat": named,
        "model": {"model": named, "epoch": 1},
        "module": {"module": named},
        "prefix": {f"backbone.{name}": value for name, value in named.items()},
    }
    clip = torch.randn(1, 8, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    for name, tree in wrappings.items():
        path = tmp_path / f"{name}.pth"
        torch.save(tree, path)
        model = videomamba.load(block, path)
        path.unlink()
        for key, value in model.module.state_dict().items():
            assert torch.equal(value, named[key]), (name, key)
    logits = model.classify(clip)
    assert logits.shape == (1, 400) and logits.isfinite().all()
    # An image file of the same size starts a video model.
    image = videomamba.build({**block["arch"], "image": True, "num_frames": 1, "num_classes": 1000})
    torch.save({"model": image.state_dict()}, tmp_path / "in1k.pth")
    kept = videomamba.start_from(source, tmp_path / "in1k.pth", "image")
    assert kept == ["temporal_pos_embedding", "head.weight", "head.bias"]
