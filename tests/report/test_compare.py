"""compare: values found by hand, several results, and what cannot be compared."""

import json
import shutil

import pandas as pd
import pytest

from vireo.report import compare, paired
from vireo.tables import predictions


@pytest.fixture
def changed(world, tmp_path):
    """A copy of a run in which answers of the first 20 items are another one's."""
    config, paths = world
    path = tmp_path / "videomme.json"
    shutil.copy(paths[1], path)
    table = predictions.read(paths[1].with_suffix("") / "predictions.parquet")
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    for n, row in enumerate([row for row in rows if row["status"] == "ok"][:20]):
        row["prediction"] = json.dumps("ABCD"[n % 4] + ". Something else.")
    predictions.write(path.with_suffix("") / "predictions.parquet", rows)
    return config, paths[1], path


def test_right_and_wrong_by_hand() -> None:
    """2 against 9 discordant pairs of 40: p = 2 (1 + 11 + 55) / 2^11 = 0.0654."""
    ids = [f"q{n}" for n in range(40)]
    videos = pd.Series([f"v{n // 2}" for n in range(40)], ids)
    a = pd.Series([100.0] * 20 + [0.0] * 20, ids)
    b = a.copy()
    b.iloc[:2], b.iloc[20:29] = 0.0, 100.0
    found = paired.compare(a, b, videos)
    assert (found.n, found.first, found.second, found.difference) == (40, 50.0, 67.5, 17.5)
    assert found.p == pytest.approx(2 * (1 + 11 + 55) / 2**11)
    assert found.only_first == ["q0", "q1"] and len(found.only_second) == 9
    assert found.interval == paired.CLUSTERED and found.ci95[0] < 17.5 < found.ci95[1]
    # only the items that both have count
    assert paired.compare(a.iloc[:30], b.iloc[10:], videos).n == 20
    assert paired.compare(a.iloc[:5], b.iloc[5:], videos).reason == "no item was scored by both"


def test_graded_metrics_have_an_interval_and_no_test() -> None:
    ids = [f"q{n}" for n in range(40)]
    videos = pd.Series([f"v{n // 2}" for n in range(40)], ids)
    a = pd.Series([n / 40 for n in range(40)], ids)
    found = paired.compare(a, a + 0.25, videos)
    assert found.p is None and found.interval == paired.BOOTSTRAP
    assert found.ci95 == pytest.approx([0.25, 0.25])


def test_holm() -> None:
    """0.01, 0.02, 0.04 of three: 0.03, 0.04, 0.04; order and gaps are kept."""
    assert paired.holm([0.04, None, 0.01, 0.02]) == pytest.approx([0.04, None, 0.03, 0.04])
    assert paired.holm([0.6, 0.7]) == [1.0, 1.0]


def test_several_results(changed, vireo) -> None:
    config, a, b = changed
    facts = compare.compare([a, b, a], config)
    assert [row["model"] for row in facts["results"]] == ["viclip"] * 3
    first, second = facts["differences"]
    assert first["n"] == 171 and len(first["only_first"]) + len(first["only_second"]) > 0
    assert first["p_holm"] == pytest.approx(min(1.0, 2 * first["p"]))
    assert second["difference"] == 0 and second["p"] == 1.0
    done = vireo("compare", a, b, a)
    assert done.returncode == 0, done.stderr
    assert "b - a: " in done.stdout and "for 2 comparisons (Holm)" in done.stdout
    assert json.loads(vireo("compare", a, b, a, "--json").stdout) == json.loads(json.dumps(facts))


def test_what_cannot_be_compared(changed, world, vireo, monkeypatch, tmp_path) -> None:
    config, a, b = changed
    done = vireo("compare", a, world[1][0])
    assert done.returncode == 1 and "results of one benchmark are compared" in done.stderr
    a = a.resolve()
    shutil.rmtree(b.with_suffix(""))
    (pair,) = compare.compare([a, b], config)["differences"]
    assert pair["difference"] is None and "predictions not found" in pair["reason"]
    monkeypatch.chdir(tmp_path)
    done = vireo("compare", a, a)
    assert done.returncode == 0 and "not compared, items not found" in done.stdout
