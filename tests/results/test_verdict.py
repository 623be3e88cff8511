"""Every verdict, and the boundaries between them."""

import pytest

from vireo.errors import VireoError
from vireo.results import published
from vireo.results.published import Published
from vireo.results.verdict import VERDICTS, judge


def row(value: float | None = 60.0, **more: object) -> Published:
    return Published("viclip", "k400", "top1", value, **{"decimals": 1, "unit": "%", **more})


SAME = {"same_set": True, "ci95": [58.0, 62.0], "bounds": [59.0, 61.0]}


@pytest.mark.parametrize(
    ("word", "value", "facts"),
    [
        ("reproduced", 60.15, SAME),
        ("reproduced", 59.85, {**SAME, "coverage": 0.99}),
        ("not reproduced", 60.2, SAME),
        # Sampling error is no excuse when the items are the same.
        ("not reproduced", 61.0, SAME),
        ("consistent", 60.0, {**SAME, "same_set": None}),
        ("consistent", 61.0, {**SAME, "same_set": False}),
        ("consistent", 60.0, {**SAME, "coverage": 0.98}),
        ("inconclusive", 63.0, {"coverage": 0.9, "ci95": [62.0, 64.0], "bounds": [57.0, 67.0]}),
        ("inconclusive", 63.0, {"coverage": 0.9, "ci95": None, "bounds": [57.0, 67.0]}),
        ("not reproduced", 63.0, {"coverage": 0.9, "ci95": [62.0, 64.0], "bounds": [61.0, 67.0]}),
        ("not reproduced", 70.0, {"same_set": None, "ci95": [69.0, 71.0], "bounds": [70.0, 70.0]}),
        ("recipe ours", 60.0, {**SAME, "weights": "ours"}),
        ("recipe ours", 10.0, {**SAME, "weights": "ours"}),
        ("no weights released", 60.0, {**SAME, "weights": "none"}),
        ("not run", None, {"coverage": 0.0}),
    ],
)
def test_words(word, value, facts):
    verdict = judge(row(), value, **facts)
    assert verdict.word == word and word in VERDICTS
    assert verdict.reasons
    if value is not None and word != "no weights released":
        assert verdict.gap == pytest.approx(value - 60)


def test_nothing_published_says_why():
    assert judge(None, 50.0, note="nobody did").reasons == ["nobody did"]
    verdict = judge(row(None, note="searched, none found"), 50.0, weights="ours")
    assert verdict.word == "no published value" and verdict.reasons == ["searched, none found"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (row(decimals=0), 0.6),
        (row(decimals=1), 0.15),
        (row(decimals=2), 0.105),
        (row(unit="seconds"), 0.05),
        (row(tolerance=2.0, tolerance_reason="seeds differ"), 2.0),
    ],
)
def test_tolerance(given, expected):
    tolerance, reason = given.tolerance_and_reason()
    assert tolerance == pytest.approx(expected) and reason


def test_a_remembered_number_is_marked():
    assert any("memory" in r for r in judge(row(from_memory=True), 60.0, **SAME).reasons)


def tsv(tmp_path, *lines: str):
    path = tmp_path / "published.tsv"
    path.write_text("\t".join(published.COLUMNS) + "\n" + "".join(f"{x}\n" for x in lines))
    return path


def test_table(tmp_path):
    cells = {"paper": "viclip", "model": "viclip", "benchmark": "k400", "metric": "top1"}
    cells |= {"value": "64.80", "n": "19,881", "source": "Table 1", "from_memory": "true"}
    path = tsv(tmp_path, "\t".join(cells.get(c, "") for c in published.COLUMNS))
    (found,) = published.read(path)
    assert (found.value, found.decimals, found.n, found.from_memory) == (64.8, 2, 19881, True)


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"value": "6O"}, "line 2: value '6O' is not a number"),
        ({"n": "1.5"}, "not a whole number"),
        ({"model": ""}, "no model"),
        ({"source": ""}, "source"),
    ],
)
def test_bad_rows_name_their_line(tmp_path, cells, message):
    good = {"model": "m", "benchmark": "b", "metric": "x", "value": "1", "source": "s"}
    path = tsv(tmp_path, "\t".join((good | cells).get(c, "") for c in published.COLUMNS))
    with pytest.raises(VireoError, match=message):
        published.read(path)


def test_too_few_columns_and_wrong_header(tmp_path):
    with pytest.raises(VireoError, match="line 2: needs 16 columns"):
        published.read(tsv(tmp_path, "viclip\tx"))
    path = tmp_path / "other.tsv"
    path.write_text("model\tvalue\n")
    with pytest.raises(VireoError, match="columns must be"):
        published.read(path)


def test_inline_rows_and_their_run():
    block = {"published": [{"model": "m", "metric": "x", "value": 1.5, "source": "paper"}]}
    split = {"published": [{"benchmark": "b", "metric": "x", "value": 2, "source": "p"}]}
    split["published"][0]["split"] = "long"
    rows = published.inline({"benchmarks": {"b": block}, "models": {"m": split}})
    assert published.find(rows, "m", "b", ["short", "long"], True)["x"].value == 1.5
    assert published.find(rows, "m", "b", ["long"], False)["x"].value == 2
    assert published.find(rows, "m", "b", ["short"], False) == {}
    with pytest.raises(VireoError, match="did you mean 'metric'"):
        published.inline({"benchmarks": {"b": {"published": [{"metrik": "x"}]}}, "models": {}})


def test_a_number_wins_over_a_note_that_there_is_none():
    rows = [row(None, note="none"), row(60.0), row(None, note="none")]
    assert published.find(rows, "viclip", "k400", ["val"], True)["top1"].value == 60.0


def test_the_projects_own_table_is_readable():
    from vireo.config import HOME

    published.read(HOME / "config/published.tsv")


def test_a_number_of_the_toy_world_is_a_target():
    toy = Published("toy_viclip", "toy_videomme", "accuracy", 88.4, decimals=1, paper="toy")
    verdict = judge(toy, 88.43, weights="ours")
    assert verdict.reasons[0] == "88.43 against a target of 88.4 (gap +0.03)"
    assert not any("published" in reason for reason in verdict.reasons)
    assert "published" in judge(Published("m", "b", "top1", 64.8, 1), 64.8).reasons[0]
