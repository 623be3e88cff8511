"""Lists of Breakfast, COIN and LVU as their makers write them; windows; targets; awkward names."""

import json
import math
import os

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vireo import config as cfg
from vireo.benchmarks import actions, regression
from vireo.benchmarks.annotations import action_lists
from vireo.errors import VireoError
from vireo.nn.head_rows import rows_of

BLOCKS = cfg.load()["benchmarks"]
NAMES = BLOCKS["breakfast"]["options"]["names"]


def breakfast(root, rows) -> dict:
    (root / "test.csv").write_text("file_name,duration,action,class_id\n" + "\n".join(rows) + "\n")
    return {"annotations": root, "videos": root}


def block(name: str, **more) -> dict:
    """A shipped block that takes any number of rows."""
    whole = BLOCKS[name]
    return {**whole, "partial": True, "options": {**whole["options"], **more}}


ROWS = ["P47-cam01-P47_tea,44,tea,2", "P48-stereo-P48_milk_ch0,130,milk,8"]


def test_breakfast(tmp_path) -> None:
    sources = breakfast(tmp_path, ROWS)
    items = actions.items(sources, block("breakfast"))
    assert list(items["answer"]) == ["tea", "milk"]
    assert actions.classes(items)[2] == "tea" and len(actions.classes(items)) == 10
    for path in ("P47/cam01/P47_tea.avi", "copy/P48/stereo/P48_milk_ch0.mp4"):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_bytes(b"x")
    found = actions.videos(sources, items, block("breakfast"))
    assert found["path"].str.endswith(("P47_tea.avi", "P48_milk_ch0.mp4")).all()


def test_breakfast_of_other_lists_is_refused(tmp_path) -> None:
    with pytest.raises(VireoError, match="2 clips, 355 expected"):
        actions.items(breakfast(tmp_path, ROWS), BLOCKS["breakfast"])
    swapped = ["P47-cam01-P47_tea,44,tea,1", "P48-cam01-P48_coffee,44,coffee,2"]
    with pytest.raises(VireoError, match="not the lists that the published weights"):
        actions.items(breakfast(tmp_path, swapped), block("breakfast"))
    assert " ".join(NAMES[:5]) == "cereals coffee tea pancake friedegg"
    assert " ".join(NAMES[5:]) == "scrambledegg sandwich juice milk salat"


def test_coin(tmp_path) -> None:
    entries = {
        "aaaaaaaaaaa": {"subset": "training", "recipe_type": 3, "duration": 100.5},
        "-bbbbbbbbbb": {"subset": "testing", "recipe_type": 179, "duration": 61.0},
    }
    (tmp_path / "COIN.json").write_text(json.dumps({"database": entries}))
    sources = {"annotations": tmp_path, "videos": tmp_path}
    items = actions.items(sources, block("coin"))
    assert list(items["video"]) == ["-bbbbbbbbbb"] and list(items["answer"]) == ["179"]
    assert actions.classes(items) == [str(n) for n in range(180)]
    assert len(actions.items(sources, block("coin", split="train"))) == 1
    with pytest.raises(VireoError, match="recipe_type 179, 100 classes expected"):
        actions.items(sources, block("coin", classes=100))


def lvu(root, task, header, rows, splits=("val", "test")) -> dict:
    (root / task).mkdir(exist_ok=True)
    for split in splits:
        own = [row.replace("SPLIT", split) for row in rows]
        (root / task / f"{split}.csv").write_text("\n".join([header, *own]) + "\n")
    return {"annotations": root, "videos": root}


def test_lvu_classes(tmp_path) -> None:
    rows = ["0 nm1 -SPLIT_id01 tt1", "9 nm2 bSPLIT_id02 tt2", r"4 \N cSPLIT_id03 tt2"]
    sources = lvu(tmp_path, "director", "class_id class_name youtube_id imdb_id", rows)
    items = actions.items(sources, block("lvu_director"))
    assert items["split"].tolist() == ["val"] * 3 + ["test"] * 3
    assert items["video"].iloc[3] == "-test_id01"
    names = actions.classes(items)
    assert [names[n] for n in (0, 9, 4, 1)] == ["nm1", "nm2", "\\N", "class 1"]
    # a class that only another split has keeps its number
    only = lvu(tmp_path, "director", "class_id class_name youtube_id imdb_id", rows[:1], ["test"])
    assert actions.classes(actions.items(only, block("lvu_director", split="test"))) == names


def test_lvu_targets(tmp_path) -> None:
    sources = lvu(tmp_path, "view_count", "view_count youtube_id imdb_id", ["1004143 -v_SPLIT t1"])
    items = regression.items(sources, block("lvu_view"))
    assert float(items["answer"][0]) == pytest.approx(math.log(1004143) - 11.76425435683139)
    header = "like_count dislike_count youtube_id imdb_id"
    sources = lvu(tmp_path, "like_ratio", header, ["100410 3572 l_SPLIT t1"])
    items = regression.items(sources, block("lvu_like"))
    assert float(items["answer"][0]) == pytest.approx(10 * 100410 / 103982 - 9.138220535629456)


@pytest.mark.parametrize(
    ("task", "row", "message"),
    [
        ("view_count", "0 v t", "counts must be positive"),
        ("view_count", "x v t", "'x' is not a number"),
        ("view_count", "1 2 v t", "line 2: 4 columns"),
        ("director", "1.5 nm v t", "no number of a class"),
        ("director", "0 nm0 v t\n1 nm0 w t", "'nm0' has two numbers"),
        ("director", "0 nm0 v t\n0 nm1 w t", "two classes have the same number"),
    ],
)
def test_broken_lvu_lists_are_named(tmp_path, task, row, message) -> None:
    sources = lvu(tmp_path, task, "header", [row])
    name = "lvu_view" if task == "view_count" else "lvu_director"
    with pytest.raises(VireoError, match=message):
        actions.items(sources, block(name))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("coin", "[]", "no object `database`"),
        ("coin", '{"database": {"a": {"subset": "testing"}}}', "video 'a': needs `subset`"),
        ("breakfast", "a,b\n", "line 1: needs file_name"),
        ("breakfast", "a,x,tea,2\n", "'x' is not a number"),
        ("breakfast", "a,1,tea,2\nb,1,tea,3\n", "'tea' has two numbers"),
    ],
)
def test_broken_lists_are_named(tmp_path, name, text, message) -> None:
    (tmp_path / ("COIN.json" if name == "coin" else "test.csv")).write_text(text)
    with pytest.raises(VireoError, match=message):
        actions.items({"annotations": tmp_path}, block(name))


def listed(tmp_path, text, **options) -> tuple[dict, dict]:
    (tmp_path / "val.csv").write_text(text)
    return {"annotations": tmp_path / "val.csv", "videos": tmp_path}, {
        "options": {"format": "list", **options}
    }


def test_dots_blanks_and_equal_names(tmp_path) -> None:
    text = "a/clip 1.v2.mp4,0\nb/clip 1.v2.mp4,1\nc/x.y,2\n"
    sources, own = listed(tmp_path, text)
    for path in ("a/clip 1.v2.mp4", "deep/b/clip 1.v2.mp4", "elsewhere/x.y.mkv"):
        (tmp_path / path).parent.mkdir(parents=True)
        (tmp_path / path).write_bytes(b"x")
    items = actions.items(sources, own)
    assert list(items["id"]) == ["a/clip 1.v2", "b/clip 1.v2", "x.y"]
    found = actions.videos(sources, items, own)
    # the second is not where the list says, and its name is another video's too
    assert found["status"].tolist() == ["found", "missing", "found"]
    assert found["path"][0] == os.fspath(tmp_path / "a/clip 1.v2.mp4")
    assert found["path"][2].endswith("elsewhere/x.y.mkv")


def test_columns(tmp_path) -> None:
    sources, own = listed(tmp_path, "a b.mp4 7 12.5\n", columns=["path", "label", "duration"])
    assert actions.items(sources, own)["answer"].tolist() == ["7"]
    columns = ["path", "frames", "label"]
    sources, own = listed(tmp_path, "frames/10211 46 94\n", columns=columns, separator=" ")
    items = actions.items(sources, own)
    (tmp_path / "frames/10211").mkdir(parents=True)
    (tmp_path / "frames/10211/img_00001.jpg").write_bytes(b"x")
    found = actions.videos(sources, items, own)
    assert found["kind"].tolist() == ["jpegs"] and found["status"].tolist() == ["found"]
    with pytest.raises(VireoError, match="did you mean 'label'"):
        actions.items(*listed(tmp_path, "a,1\n", columns=["path", "lable"]))
    with pytest.raises(VireoError, match="line 1: write `path,label,duration`"):
        actions.items(*listed(tmp_path, "a,1\n", columns=["path", "label", "duration"]))


@pytest.mark.parametrize("path", ["../x.mp4", "/etc/x.mp4", "a/../../b.mp4"])
def test_paths_stay_below_the_folder(tmp_path, path) -> None:
    with pytest.raises(VireoError, match="is refused"):
        actions.items(*listed(tmp_path, f"{path},1\n"))


def windows_of(tmp_path, **options):
    rows = ["P47-cam01-P47_tea,110,tea,2", "P48-cam01-P48_milk,50,milk,8"]
    own = block("breakfast_windows", **options)
    return actions.items(breakfast(tmp_path, rows), own), own


def test_windows_are_items(tmp_path) -> None:
    items, _ = windows_of(tmp_path)
    tea = items[items["answer"] == "tea"]
    assert tea["id"].tolist()[:2] == ["P47-cam01-P47_tea#0", "P47-cam01-P47_tea#1"]
    assert tea["start"].tolist() == [0, 16, 32, 48, 64, 80]
    assert tea["end"].round(2).tolist() == [60, 76, 92, 108, 110, 110]
    assert len(items) == 7 and set(items["group"]) == {"P47-cam01-P47_tea", "P48-cam01-P48_milk"}
    with pytest.raises(VireoError, match="need its duration"):
        sources, own = listed(tmp_path, "a,1\n", windows={"length": 60, "stride": 16})
        actions.items(sources, own)


def predictions(items, scores) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"id": id, "view": 0, "status": "ok", "scores": np.asarray(one, np.float32)}
            for id, one in zip(items["id"], scores, strict=True)
        ]
    )


def test_first_window_or_all(tmp_path) -> None:
    items, own = windows_of(tmp_path)
    tea, milk = np.eye(10)[2] * 9, np.eye(10)[8] * 9
    made = predictions(items, [milk, tea, tea, tea, tea, tea, milk])
    scores = actions.score(items, made, own)
    assert scores.metrics["top1"].value == 50 and scores.metrics["top1"].n == 2
    assert scores.metrics["top1_all_windows"].value == 100
    wide = actions.score(items, made, block("breakfast_windows", merge="all_windows"))
    assert wide.metrics["top1"].value == 100
    first_gone = made.assign(status=["error", *["ok"] * 6])
    assert actions.score(items, first_gone, own).metrics["top1"].value == 100
    with pytest.raises(VireoError, match="did you mean 'faithful'"):
        actions.score(items, made, block("breakfast_windows", merge="faithfull"))


def test_regression_score(tmp_path) -> None:
    items = pd.DataFrame({"id": ["a", "b"], "video": ["a", "b"], "answer": ["1.0", "-1.0"]})
    rows = [("a", 0, 1.5), ("a", 1, 0.9), ("b", 0, -1.0), ("b", 1, 0.0)]
    made = pd.DataFrame(
        [{"id": i, "view": v, "status": "ok", "scores": np.float32([x])} for i, v, x in rows]
    )
    scores = regression.score(items, made, {})
    assert scores.metrics["mse"].value == pytest.approx((0.2**2 + 0.5**2) / 2, abs=1e-6)
    assert scores.metrics["mse"].lower_is_better and scores.chance == 1
    (path,) = regression.export(items, made, tmp_path, {})
    assert path.read_text().splitlines()[2] == "b,-1.0,-0.5"
    text = regression.evaluate(type("A", (), {"predictions": path})())
    assert text == "videos: 2\nmse: 0.145000\n"
    with pytest.raises(VireoError, match="is not one number"):
        regression.score(items, made.assign(scores=[np.zeros(2, np.float32)] * 4), {})
    with pytest.raises(VireoError, match="no column id, target, prediction"):
        (tmp_path / "bad.csv").write_text("x\n1\n")
        regression.evaluate(type("A", (), {"predictions": tmp_path / "bad.csv"})())


def test_targets_must_be_numbers(tmp_path) -> None:
    with pytest.raises(VireoError, match="'b': target 'tea' is not a number"):
        regression.items(*listed(tmp_path, "a.mp4,-0.83\nb.mp4,tea\n"))


def test_a_permuted_head_is_joined_by_name_or_noticed(tmp_path) -> None:
    """With the head's names its order does not matter; without them the score says so."""
    rows = [f"P{n}-cam01-P{n}_{NAMES[n % 10]},44,{NAMES[n % 10]},{n % 10}" for n in range(40)]
    items = actions.items(breakfast(tmp_path, rows), block("breakfast"))
    order = np.random.default_rng(1).permutation(10)  # row r of the head is class order[r]
    head = np.eye(10)[np.arange(40) % 10][:, order] * 9
    joined = head[:, rows_of(actions.classes(items), [NAMES[n] for n in order])]
    assert actions.score(items, predictions(items, joined), {}).metrics["top1"].value == 100
    taken = head[:, rows_of(actions.classes(items), None)]
    scores = actions.score(items, predictions(items, taken), {})
    assert "class order looks permuted" in scores.notes[0]
    with pytest.raises(VireoError, match="'salat'; near: salad"):
        rows_of(actions.classes(items), [*NAMES[:-1], "salad"])


def test_short_and_long_names_of_files() -> None:
    assert action_lists.stem("a/b.c.MP4") == "b.c" and action_lists.stem("a/b.c") == "b.c"
    paths = ["x/a.mp4", "y/a.mp4", "b.mp4"]
    assert action_lists.identifiers(paths) == ["x/a", "y/a", "b"]
    assert action_lists.identifiers(["a.mp4", "a.avi", "c.mp4"]) == ["a.mp4", "a.avi", "c"]


def files_of(form: str) -> dict:
    """Name of the one file of a form, and the options to read it with."""
    name = {"list": "test.csv", "breakfast": "test.csv", "coin": "COIN.json"}.get(form)
    name = name or ("view_count/test.csv" if form == "view" else "scene/test.csv")
    task = {"view": "view", "scene": "scene"}.get(form)
    return {"name": name, "options": {"format": "lvu" if task else form, "task": task}}


@given(
    st.sampled_from(["list", "breakfast", "coin", "view", "scene"]),
    st.binary(max_size=80) | st.text('abc,0123456789 -.{}":\n\t/\\\0', max_size=120),
)
def test_any_file_gives_rows_or_a_clear_error(tmp_path_factory, form, data) -> None:
    own = files_of(form)
    path = tmp_path_factory.mktemp("lists") / own["name"]
    path.parent.mkdir(exist_ok=True)
    head = b"head\n" if form in ("view", "scene") else b""
    path.write_bytes(head + (data if isinstance(data, bytes) else data.encode()))
    root = path.parents[own["name"].count("/")]
    try:
        listing = action_lists.read(root, "test", own["options"])
    except VireoError as error:
        assert str(root) in str(error)
    else:
        assert all(entry.path and entry.label for entry in listing.entries)
