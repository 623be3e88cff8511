"""VideoMamba through inference and scoring on generated clips; the head's rows by their names."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from vireo import config as cfg
from vireo.benchmarks import actions
from vireo.inference import shard
from vireo.models import videomamba
from vireo.tables import items as item_table
from vireo.tables import predictions

ARCH = {"width": 32, "depth": 2, "image_size": 32, "num_frames": 4, "num_classes": 16}
NUMBERS = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "size": 32}


@pytest.fixture()
def place(tmp_path, monkeypatch):
    """A working directory with one clip of each toy class; its items and inventory."""
    from vireo.toy import kinetics

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VIREO_TRUST_DEVICES", "1")
    monkeypatch.delenv("VIREO_CONFIG", raising=False)
    monkeypatch.setattr(kinetics, "PER_CLASS", {"train": 0, "val": 1})
    kinetics.make(tmp_path / "toy", 0)
    return tmp_path


def run(place: Path, weights: Path, **changed):
    """Predictions of the 16 clips (`few`: of one), and their score."""
    few = changed.pop("few", False)
    model = {"family": "videomamba", "fulfils": ["Classifier"], "arch": ARCH, "weights": None}
    bench = {
        "module": "actions", "needs": "Classifier", "splits": ["val"], "version": 1,
        "sources": {"annotations": "toy_kinetics", "videos": "toy_kinetics"},
        "options": {"format": "kinetics", "classes": 16},
        "protocol": {
            "frames": {"rule": "sparse_views", "store": False},
            "resize": {"library": "none"},
            "views": changed.pop("views", {"segments": 2, "crops": 3}),
        },
    }  # fmt: skip
    given = {
        "models": {"tiny": {**model, **NUMBERS, "version": 1, **changed}},
        "benchmarks": {"mini": bench},
        "device": "cpu",
        "decode": {"workers": 0},
    }
    (place / "mine.yaml").write_text(json.dumps(given))
    config = cfg.load([place / "mine.yaml"])
    sources = {"annotations": place / "toy", "videos": place / "toy"}
    block = {**config["benchmarks"]["mini"], "partial": True}
    items = actions.items(sources, block)
    if few:  # the list still names all classes
        items = items.head(1).assign(options=[actions.classes(items)])
    item_table.write(items, place / "items.parquet")
    item_table.write(actions.videos(sources, items, block), place / "videos.parquet")
    files = place / "items.parquet", place / "videos.parquet", weights, place / "out.parquet"
    job = shard.Job(config, "tiny", "mini", "val", "1-of-1", *files, threads=1)
    shard.run(job)
    rows = predictions.read(place / "out.parquet")
    return rows, actions.score(items, rows, block)


def test_views_are_rows_and_classes_are_joined_by_name(place) -> None:
    model = videomamba.build(ARCH, torch.Generator().manual_seed(3))
    torch.nn.init.normal_(model.head.weight, generator=torch.Generator().manual_seed(4))
    path, other = place / "w.safetensors", place / "other.safetensors"
    block = {"options": {"format": "kinetics", "classes": 16}}
    sources = {"annotations": place / "toy", "videos": place / "toy"}
    names = actions.classes(actions.items(sources, {**block, "splits": ["val"], "partial": True}))
    save_file(model.state_dict(), path, metadata={"labels": json.dumps(names)})
    rows, scores = run(place, path)
    assert len(rows) == 16 * 6 and set(rows["status"]) == {"ok"}
    assert sorted(rows["view"].unique()) == [0, 1, 2, 3, 4, 5]
    assert scores.metrics["top1"].n == 16
    # Another order of the rows of the head, told by its names, changes nothing.
    order = torch.randperm(16, generator=torch.Generator().manual_seed(5))
    state = model.state_dict()
    state |= {name: state[name][order] for name in ("head.weight", "head.bias")}
    shuffled = [names[i] for i in order.tolist()]
    save_file(state, other, metadata={"labels": json.dumps(shuffled)})
    again, _ = run(place, other)
    np.testing.assert_allclose(
        np.stack(list(again["scores"])), np.stack(list(rows["scores"])), atol=1e-6
    )


@pytest.mark.slow
@pytest.mark.parametrize("wrap", ["flat", "model", "module"])
def test_a_full_size_file_of_each_released_wrapping_gives_a_result(place, wrap) -> None:
    block = cfg.load()["models"]["videomamba_m16_k400_f8"]
    arch = {**block["arch"], "num_classes": 16}
    named = videomamba.build(arch, torch.Generator().manual_seed(0)).state_dict()
    path = place / "m.pth"
    torch.save(named if wrap == "flat" else {wrap: named, "epoch": 1}, path)
    changes = {"arch": arch, "size": 224, "views": {"segments": 1, "crops": 1}, "few": True}
    rows, _ = run(place, path, **changes)
    assert len(rows) == 1 and rows["status"].tolist() == ["ok"]
    assert len(rows["scores"].iloc[0]) == 16 and np.isfinite(rows["scores"].iloc[0]).all()
