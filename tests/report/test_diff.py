"""diff: names every cause, the lacking and flipped items, and tests the difference."""

import json
import shutil

import pandas as pd
import pytest

from tests import script
from vireo.report import diff
from vireo.tables import predictions


@pytest.fixture
def other(world, tmp_path):
    """A copy of a run with other frames, dtype, one lost video and five other answers."""
    config, paths = world
    path = tmp_path / "videomme.json"
    shutil.copy(paths[1], path)
    table = predictions.read(paths[1].with_suffix("") / "predictions.parquet")
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    ok = [row for row in rows if row["status"] == "ok"]
    for row in ok[:3]:
        row |= {"status": "missing", "prediction": None, "scores": None, "frames": None}
    for n, row in enumerate(ok[3:8]):
        row["prediction"] = json.dumps("ABCD"[n % 4] + ". Something else.")
        row["frames"] = list(range(1, 9))
        row["scores"] = row["scores"] + 0.5
    predictions.write(path.with_suffix("") / "predictions.parquet", rows)
    result = json.loads(path.read_text())
    result["protocol"]["frames"]["n"] = 16
    result["protocol"]["prompt"]["letter_prefix"] = False
    result["provenance"] |= {"dtype": "bfloat16", "decoder": "PyAV 99"}
    result["provenance"]["hashes"]["videos"] = "0" * 64
    result["provenance"]["versions"]["torch"] = "9.9"
    path.write_text(json.dumps(result))
    return config, paths[1], path


def test_names_every_cause(other) -> None:
    config, a, b = other
    said = diff.text([a, b], config)
    for line in (
        "frames.n: 8 | 16",
        "prompt.letter_prefix: true | false",
        "dtype: float32 | bfloat16",
        "| PyAV 99",
        "videos (copy of the data): ",
        "| 000000000000…",
        "| 9.9",
        "without prediction in b only: 3 missing: ",
        "other frames: 5 of 168",
        "scores: largest difference 0.5",
        "McNemar's exact test: p = ",
        "clustered by video",
    ):
        assert line in said, (line, said)
    assert "annotations" not in said


def test_a_result_against_itself(world) -> None:
    config, paths = world
    said = diff.text([paths[0], paths[0]], config)
    assert "nothing that a result records" in said and "another answer: 0 of 171" in said
    assert "p = 1 " in said and "holds 0" in said


def test_without_predictions_or_items(other, monkeypatch, tmp_path) -> None:
    config, a, b = other
    a, b = a.resolve(), b.resolve()
    monkeypatch.chdir(tmp_path)
    assert "no test of the difference: items not found" in diff.text([a, b], config)
    shutil.rmtree(b.with_suffix(""))
    assert "Items: not compared, predictions not found" in diff.text([a, b], config)


def test_other_benchmarks_are_not_tested(world) -> None:
    config, paths = world
    said = diff.text(paths[:2], config)
    assert "not the same benchmark and metric" in said and "benchmark: toy_videomme" in said


def test_known_values() -> None:
    """McNemar's exact p of 2 against 9 discordant pairs is 0.0654; the bootstrap is of the mean."""
    ids = [f"q{n}" for n in range(40)]
    groups = pd.Series([f"v{n // 2}" for n in range(40)], ids)
    a = pd.Series([100.0] * 20 + [0.0] * 20, ids)
    b = a.copy()
    b.iloc[:2], b.iloc[20:29] = 0.0, 100.0
    said = "\n".join(diff.differences(a, b, groups, "accuracy"))
    assert "right in a only: 2: q0, q1" in said and "right in b only: 9" in said
    assert "p = 0.0654" in said
    graded = "\n".join(diff.differences(a, a + pd.Series(range(40), ids) / 39, groups, "score"))
    assert "paired bootstrap over videos" in graded and "does not hold 0" in graded
    assert "McNemar" not in graded


def test_command_line(other, vireo) -> None:
    _, a, b = other
    done = vireo("diff", a, b)
    assert done.returncode == 0, done.stderr
    assert f"a: {a}" in done.stdout and "McNemar" in done.stdout
    done = vireo("diff", a, "no.json")
    assert done.returncode == 1 and "result not found: no.json" in done.stderr
    assert vireo("diff", a).returncode == 2


def test_the_older_name(other) -> None:
    _, a, b = other
    done = script.run("report", "diff", a, b)
    assert done.returncode == 0, done.stderr
    assert f"a: {a}" in done.stdout and "McNemar" in done.stdout
    done = script.run("report", "diff", a)
    assert done.returncode == 2 and "diff compares two results" in done.stderr
