"""Toy actions, long videos and regression: read by the benchmarks, even, repeatable."""

import json
from collections import Counter

import numpy as np
import pandas as pd
import pytest

from vireo import config as cfg
from vireo import toy
from vireo.benchmarks import actions, regression
from vireo.media.decode import DecodeRequest, decode_one
from vireo.toy import actions as actions_maker
from vireo.toy import order as order_maker
from vireo.toy import regression as regression_maker


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """The parts with a few videos, made twice."""
    root = tmp_path_factory.mktemp("toy")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(order_maker, "PER_CLASS", {"train": 2, "test": 3})
        patch.setattr(regression_maker, "NUMBER", {"train": 12, "val": 6, "test": 12})
        patch.setattr(actions_maker, "PER_CLASS", {"train": 2, "val": 3})
        for name in ("actions", "order", "regression"):
            toy.maker(f"toy_{name}")(root / name, 0)
            toy.maker(f"toy_{name}")(root / "again" / name, 0)
        toy.maker("toy_regression")(root / "other", 1)
    return root


def read(world, name, split=None):
    block = cfg.load()["benchmarks"][f"toy_{name}"]
    sources = {"annotations": world / name, "videos": world / name}
    if split:
        block = {**block, "options": {**block["options"], "split": split}}
    module = regression if name == "regression" else actions
    items = module.items(sources, {**block, "partial": True})
    return items, module.videos(sources, items, block)


def test_actions_are_read_by_the_benchmark(world) -> None:
    items, videos = read(world, "actions")
    assert (videos["status"] == "found").all() and len(items) == 24
    assert actions.classes(items)[:3] == ["left", "right", "up"]
    assert set(Counter(items["answer"]).values()) == {3}
    train, there = read(world, "actions", "train")
    assert len(train) == 16 and (there["status"] == "found").all()
    moved = []
    for path in videos["path"][items["answer"].isin(["left", "right"])]:
        frames = decode_one(DecodeRequest("v", path)).frames[[0, -1]].astype(int)
        strong = frames.max(-1) - frames.min(-1) > 90
        moved.append(np.diff([np.nonzero(one)[1].mean() for one in strong])[0])
    told = items["answer"][items["answer"].isin(["left", "right"])]
    assert ((np.array(moved) > 0) == (told == "right").to_numpy()).all()


def test_order_is_read_by_the_benchmark(world) -> None:
    items, videos = read(world, "order")
    assert (videos["status"] == "found").all()
    assert set(Counter(items["answer"]).values()) == {3}
    assert actions.classes(items)[:2] == ["red_blue_green", "red_green_blue"]
    train, _ = read(world, "order", "train")
    assert len(train) == 12 and not set(train["id"]) & set(items["id"])


def test_the_order_of_the_colours_is_the_class(world) -> None:
    items, videos = read(world, "order")
    for answer, path in zip(items["answer"], videos["path"], strict=True):
        frames = decode_one(DecodeRequest("v", path)).frames.astype(int)
        others = frames.sum(-1, keepdims=True) - frames
        strong = (2 * frames - others > 80).sum((1, 2))  # pixels of each colour, by frame
        middle = (np.arange(len(frames))[:, None] * strong).sum(0) / strong.sum(0)
        place = dict(zip(("red", "green", "blue"), middle, strict=True))
        assert "_".join(sorted(place, key=lambda c: place[c])) == answer


def test_regression_is_read_by_the_benchmark(world) -> None:
    items, videos = read(world, "regression")
    assert (videos["status"] == "found").all()
    assert Counter(items["split"]) == {"val": 6, "test": 12}
    targets = items["answer"].astype(float)
    assert targets.abs().max() <= 2.001 and targets.std() > 0.5
    assert read(world, "regression", "train")[0]["split"].unique() == ["train"]


def test_the_target_is_the_way_of_the_shape(world) -> None:
    """Where the strong colour is in the last frame, less where it was in the first."""
    items, videos = read(world, "regression")
    ways = []
    for path in videos["path"]:
        frames = decode_one(DecodeRequest("v", path)).frames[[0, -1]].astype(int)
        strong = frames.max(-1) - frames.min(-1) > 90
        ways.append(np.diff([np.nonzero(one)[1].mean() for one in strong])[0])
    fit = np.corrcoef(ways, items["answer"].astype(float))[0, 1]
    assert fit > 0.98


def test_the_same_seed_makes_the_same_files(world) -> None:
    for path in (world / "actions", world / "order", world / "regression"):
        for file in filter(lambda p: p.is_file(), path.rglob("*")):
            again = world / "again" / file.relative_to(world)
            if file.suffix != ".mp4" or file.read_bytes() == again.read_bytes():
                assert file.read_bytes() == again.read_bytes()
                continue
            # once in a few hundred clips the encoder writes other bytes for the same pictures
            one, two = (
                decode_one(DecodeRequest("v", str(p))).frames.astype(int) for p in (file, again)
            )
            assert one.shape == two.shape and np.abs(one - two).mean() < 1
    lists = [world / n / "lvu_1.0/view_count/test.csv" for n in ("regression", "other")]
    assert lists[0].read_text() != lists[1].read_text()


def test_lengths_and_names_say_nothing(world) -> None:
    items, _ = read(world, "order", "train")
    table = pd.read_csv(world / "order/train.csv")
    assert not table["file_name"].str.contains("red|blue|green").any()
    assert table.groupby("class_id")["duration"].nunique().max() > 1
    assert all(json.loads(meta)["path"] for meta in items["meta"])
    assert table["duration"].between(15, 34).all()
