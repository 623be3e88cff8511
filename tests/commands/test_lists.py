"""Lists in the reference's form, from the files of ViS4mer and COIN."""

import pytest

from vireo.benchmarks import actions
from vireo.toy import order, regression


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    root = tmp_path_factory.mktemp("toy")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(order, "PER_CLASS", {"train": 1, "test": 1})
        patch.setattr(regression, "NUMBER", {"train": 2, "val": 2, "test": 2})
        order.make(root / "order", 0)
        regression.make(root / "regression", 0)
    return root


@pytest.fixture
def run(world, vireo, monkeypatch):
    """The command on a shipped block that takes any number of rows."""
    monkeypatch.chdir(world)
    block = world / "own.yaml"
    block.write_text("benchmarks: {toy_order: {partial: true}, toy_regression: {partial: true}}")

    def call(name, *more, splits=("train", "test")):
        where = ["--annotations", world / name, "--out", world / "out", "--config", block]
        return vireo("lists", f"toy_{name}", *where, "--splits", *splits, *more)

    return call


def test_classes_with_paths_and_durations(world, run) -> None:
    done = run("order", "--videos", world / "order/videos", "--durations")
    assert done.returncode == 0, done.stderr
    lines = (world / "out/test.csv").read_text().splitlines()
    paths, labels, seconds = zip(*(line.split(",") for line in lines), strict=True)
    assert sorted(labels) == list("012345") and all(float(s) > 10 for s in seconds)
    assert all((world / "order/videos" / path).is_file() for path in paths)
    # what was written is a list that the benchmark reads
    own = {"format": "list", "split": "test", "columns": ["path", "label", "duration"]}
    sources = {"annotations": world / "out", "videos": world / "order/videos"}
    items = actions.items(sources, {"options": own})
    assert (actions.videos(sources, items, {"options": own})["status"] == "found").all()


def test_targets(world, run) -> None:
    done = run("regression", splits=("train", "val", "test"))
    assert done.returncode == 0, done.stderr
    for split in ("train", "val", "test"):
        lines = (world / f"out/{split}.csv").read_text().splitlines()
        assert all(abs(float(line.rpartition(",")[2])) <= 2.01 for line in lines)


def test_missing_videos_and_wrong_names(world, run) -> None:
    done = run("order", "--videos", world / "regression")
    assert done.returncode == 0 and "6 of 6 videos are not there" in done.stderr
    (world / "names.txt").write_text("red_blue_green\n")
    done = run("order", "--labels", world / "names.txt")
    assert done.returncode == 1 and "no class" in done.stderr
    done = run("order", "--separator", "")
    assert done.returncode == 2 and "--separator" in done.stderr
