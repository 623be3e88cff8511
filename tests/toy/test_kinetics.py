"""Toy Kinetics and toy retrieval: real formats, even classes, other scenes in validation."""

import json
from collections import Counter

import pandas as pd
import pytest

from vireo import config as cfg
from vireo import toy
from vireo.benchmarks import kinetics, retrieval


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Both parts, with a few clips only."""
    root = tmp_path_factory.mktemp("toy")
    from vireo.toy import kinetics as maker

    few = {"train": 1, "val": 2}
    whole, maker.PER_CLASS = maker.PER_CLASS, few
    try:
        toy.maker("toy_kinetics")(root / "kinetics", 0)
        toy.maker("toy_kinetics")(root / "again", 0)
    finally:
        maker.PER_CLASS = whole
    toy.maker("toy_retrieval")(root / "retrieval", 0)
    return root


def test_kinetics_is_read_by_the_benchmark(world) -> None:
    block = cfg.load()["benchmarks"]["toy_kinetics"]
    sources = {"annotations": world / "kinetics", "videos": world / "kinetics"}
    items = kinetics.items(sources, {**block, "partial": True})
    assert len(kinetics.classes(items)) == 16
    assert set(Counter(items["answer"]).values()) == {2}
    assert (kinetics.videos(sources, items, block)["status"] == "found").all()
    assert items["answer"].str.contains("red").sum() == 8


def test_the_same_seed_makes_the_same_files(world) -> None:
    for path in (world / "kinetics").rglob("*.*"):
        again = world / "again" / path.relative_to(world / "kinetics")
        assert path.is_dir() or path.read_bytes() == again.read_bytes()


def test_file_names_say_nothing_of_the_class(world) -> None:
    table = pd.read_csv(world / "kinetics/val.csv")
    assert table["youtube_id"].str.len().eq(11).all() and table["youtube_id"].is_unique
    assert table.groupby("label")["time_start"].nunique().max() > 1


def test_retrieval_is_read_by_the_benchmark(world) -> None:
    block = cfg.load()["benchmarks"]["toy_retrieval"]
    sources = {"annotations": world / "retrieval", "videos": world / "retrieval"}
    items = retrieval.items(sources, block)
    assert (retrieval.videos(sources, items, block)["status"] == "found").all()
    texts = [text for texts in items["options"] for text in texts]
    assert len(texts) == len(set(texts)) == 60
    json.loads(items["meta"][0])
