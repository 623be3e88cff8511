"""Assembling a result: coverage, bounds, published numbers, controls, and the schema."""

import numpy as np
import pandas as pd
import pytest
from jsonschema import Draft202012Validator, ValidationError

from vireo import config as cfg
from vireo.metrics import intervals
from vireo.metrics.scores import Metric, Scores
from vireo.results import assemble as result
from vireo.results.published import Published

STATUS = ["ok", "ok", "missing", "ok", "ok", "undecodable"]
CONFIG = cfg.load(
    over={
        "artifacts": {"w": {}},
        "models": {
            "m": {"inherits": "toy_viclip", "weights": {"artifact": "w"}},
            "t": {"inherits": "toy_viclip", "weights": {"recipe": "toy_viclip_pretrain"}},
        },
        "benchmarks": {
            "b": {
                "module": "videomme",
                "needs": "DualEncoder",
                "sources": {},
                "splits": ["x", "y"],
                "version": 1,
                "note": "a remark",
                "options": {"copy": "official"},
                "protocol": {"frames": {"rule": "middle"}},
            }
        },
    }
)


def items() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "id": [f"q{i}" for i in range(6)],
            "split": ["x"] * 3 + ["y"] * 3,
            "group": ["a", "a", "b", "c", "d", "e"],
        }
    )


def predictions(status: list[str] = STATUS) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "id": [f"q{i}" for i in range(len(status))],
            "view": 0,
            "group": ["a", "a", "b", "c", "d", "e"][: len(status)],
            "status": status,
            "prediction": "null",
            "scores": [np.zeros(0, np.float32)] * len(status),
            "frames": [np.zeros(0, np.int32)] * len(status),
            "seconds": 0.1,
            "error": [None if s == "ok" else "broken" for s in status],
            "flags": [np.array(["padded"], dtype=object)] * len(status),
        }
    )


def scores(values: dict[str, float], probe: dict[str, float] | None = None) -> Scores:
    series = pd.Series(values, dtype=float)
    tables = {}
    if probe:
        tables["probe"] = pd.DataFrame(
            [{"label": k, "n": 2, "value": v} for k, v in probe.items()]
        ).assign(items=2, ci_low=np.nan, ci_high=None)
    metrics = {
        "accuracy": Metric.mean(series, "%", 0.0, 100.0, "accuracy"),
        "map": Metric(41.5, 4, "%"),
    }
    return Scores(metrics, "accuracy", tables, chance=25.0, notes=["said by the benchmark"])


PROVENANCE = {
    "git": {"commit": "abc", "dirty": False},
    "vireo": "0",
    "python": "3",
    "versions": {"torch": None},
    "hashes": {"weights": None, "annotations": "1", "videos": "2", "config": "3"},
    "machine": {},
    "device": None,
    "dtype": None,
    "decoder": "PyAV",
    "inference": [],
    "command": "score.py",
    "date": "now",
    "wall_s": 1.0,
    "inference_s": 0.0,
    "gpu_hours": 0.0,
}
MAIN = {"q0": 100.0, "q1": 0.0, "q3": 100.0, "q4": 100.0}


def run(model: str = "m", name: str = "b", values: dict[str, float] = MAIN, **more) -> result.Run:
    rows = more.pop("rows", predictions())
    return result.Run(CONFIG, model, name, items(), rows, scores(values, **more))


def assemble(main: result.Run, published=None, controls=None) -> dict:
    whole = result.assemble(main, published or {}, PROVENANCE, controls)
    result.check(whole)
    return whole


def test_coverage_bounds_and_interval():
    whole = assemble(run())
    cover = whole["coverage"]
    assert (cover["items"], cover["ok"], cover["missing"], cover["undecodable"]) == (6, 4, 1, 1)
    assert cover["share"] == pytest.approx(4 / 6)
    assert (cover["groups"], cover["groups_ok"], cover["absent"]) == (5, 3, 0)
    split = {"items": 3, "ok": 2, "kept": 0, "missing": 1, "undecodable": 0, "error": 0}
    assert cover["by_split"]["x"] == split
    accuracy = whole["metrics"]["accuracy"]
    assert accuracy["value"] == 75 and accuracy["n"] == 4
    assert accuracy["bounds"] == pytest.approx([50, 100 * 5 / 6])
    assert accuracy["ci95"][0] < 75 < accuracy["ci95"][1] == 100
    assert whole["metrics"]["map"]["ci95"] is None and whole["metrics"]["map"]["ci95_reason"]
    assert whole["metrics"]["map"]["bounds"] is None and whole["metrics"]["map"]["bounds_reason"]
    assert [f["id"] for f in whole["failed"]] == ["q2", "q5"]
    assert whole["failed"][0]["error"] == "broken" and whole["failed"][0]["split"] == "x"
    assert whole["flags"] == {"padded": 6}
    assert whole["notes"] == ["said by the benchmark", "a remark"]
    assert (whole["headline"], whole["chance"]) == (True, 25.0)


def test_unanswered_items_in_the_value_are_not_counted_twice_in_the_bounds():
    everything = {**MAIN, "q2": 0.0, "q5": 0.0}  # "all questions": no prediction = wrong
    accuracy = assemble(run(values=everything))["metrics"]["accuracy"]
    assert accuracy["value"] == 50
    assert accuracy["bounds"] == pytest.approx([50, 100 * 5 / 6])


def test_nothing_published():
    whole = assemble(run())
    assert whole["verdict"] == {"word": "no published value", "reasons": ["a remark"]}
    assert whole["metrics"]["accuracy"]["gap"] is None


def published(**more) -> dict[str, Published]:
    facts = {"value": 75.0, "decimals": 1, "unit": "%", "n": 6, "source": "Table 1", **more}
    return {"accuracy": Published("m", "b", "accuracy", **facts)}


def whole_run(model: str = "m") -> result.Run:
    values = {**MAIN, "q2": 100.0, "q5": 50.0}
    return run(model, values=values, rows=predictions(["ok"] * 6))


@pytest.mark.parametrize(
    ("word", "facts"),
    [
        ("reproduced", {}),
        ("reproduced", {"copy": "official"}),
        ("consistent", {"copy": "other"}),
        ("consistent", {"n": None}),
        ("consistent", {"n": 7}),
        ("not reproduced", {"value": 74.0}),
    ],
)
def test_verdicts_of_complete_runs(word, facts):
    whole = assemble(whole_run(), published(**facts))
    accuracy = whole["metrics"]["accuracy"]
    assert accuracy["verdict"] == whole["verdict"]["word"] == word
    assert accuracy["published"] == facts.get("value", 75.0) and accuracy["source"] == "Table 1"
    assert accuracy["gap"] == pytest.approx(75 - accuracy["published"])


def test_other_weights_and_incomplete_runs():
    assert assemble(whole_run("t"), published())["verdict"]["word"] == "recipe ours"
    assert assemble(run(), published(value=99.0))["verdict"]["word"] == "consistent"
    assert assemble(run(), published(value=-5.0))["verdict"]["word"] == "not reproduced"


def test_an_item_without_a_row_is_listed_not_dropped():
    rows = predictions()
    rows = pd.concat([rows.iloc[[4]], rows.iloc[:3]])
    whole_rows = result.complete(items(), rows)
    assert list(whole_rows["id"]) == [f"q{i}" for i in range(6)]
    assert list(whole_rows["status"]) == ["ok", "ok", "missing", "error", "ok", "error"]
    whole = assemble(run(rows=whole_rows))
    assert whole["coverage"]["absent"] == 2 and whole["coverage"]["error"] == 2
    assert whole["failed"][1]["error"] == result.ABSENT


def test_views_of_an_item_make_one_status():
    rows = predictions()
    more = rows.assign(view=1, status="ok")
    both = result.complete(items(), pd.concat([more, rows]))
    assert list(both["view"]) == [0, 1] * 6
    assert set(result.item_status(items(), both)) == {"ok"}


def test_controls_stand_beside_the_run():
    main = run(probe={"time": 100.0, "colour": 50.0})
    other = run(values=dict.fromkeys(MAIN, 0.0) | {"q0": 100.0}, probe={"time": 25.0})
    control = assemble(main, controls={"reversed_time": other})["controls"]["reversed_time"]
    assert (control["value"], control["n"], control["drop"]) == (25.0, 4, 50.0)
    assert control["contains_chance"] is True
    assert control["drop_ci95"][0] < 50 < control["drop_ci95"][1]
    assert control["probes"] == [
        {"label": "time", "n": 2, "main": 100.0, "control": 25.0, "drop": 75.0},
        {"label": "colour", "n": 2, "main": 50.0, "control": None, "drop": None},
    ]


def errors(values: dict[str, float]) -> Scores:
    metric = Metric.mean(pd.Series(values), "", 0.0, None, "error", lower_is_better=True)
    return Scores({"mse": metric}, "mse", chance=2.0)


def test_a_control_that_raises_an_error_loses():
    main, other = run(), run()
    main.scores = errors({"q0": 0.1, "q1": 0.3, "q3": 0.0, "q4": 0.2})
    other.scores = errors({"q0": 2.2, "q1": 2.4, "q3": 2.3, "q4": 2.7})
    whole = assemble(main, controls={"reversed_time": other})
    assert whole["metrics"]["mse"]["lower_is_better"] is True
    assert whole["metrics"]["mse"]["bounds"] is None and whole["metrics"]["mse"]["ci95"][0] >= 0
    control = whole["controls"]["reversed_time"]
    assert control["drop"] == pytest.approx(2.25) and control["drop_ci95"][0] > 0
    assert control["contains_chance"] is True


def test_nothing_scored_at_all():
    whole = assemble(run(values={}, rows=predictions(["missing"] * 6)), published())
    assert whole["metrics"]["accuracy"]["value"] is None
    assert whole["metrics"]["accuracy"]["bounds"] == [0, 100]
    assert whole["verdict"]["word"] == "not run"


def test_predictions_of_an_earlier_copy_are_counted_apart_and_named():
    """They used to count as answered: coverage 1.0 with none of the videos there."""
    rows = predictions()
    done = rows.index[rows["status"] == "ok"][:2]
    rows["kept"] = None
    rows.loc[done, "kept"] = ["/old/copy/a.mp4", "/old/copy/b.mp4"]
    whole = assemble(run(rows=rows))
    cover = whole["coverage"]
    assert (cover["items"], cover["ok"], cover["kept"]) == (6, 2, 2)
    assert cover["share"] == pytest.approx(2 / 6)
    assert sum(split["kept"] for split in cover["by_split"].values()) == 2
    assert whole["copies"] == {
        "present": 2, "kept": 2, "missing": 1, "kept_from": {"/old/copy": 2},
    }  # fmt: skip
    assert "2 predictions were kept from an earlier copy" in whole["notes"][0]
    assert "/old/copy" in whole["notes"][0]
    assert whole["metrics"]["accuracy"]["n"] == 4  # they are scored


def test_schema_is_valid_and_strict():
    rules = cfg.read_yaml(result.SCHEMA_FILE)
    Draft202012Validator.check_schema(rules)
    whole = assemble(run())
    # Results of earlier versions do not say of which copy their predictions are.
    assert set(whole) == {*rules["required"], "copies"} == set(rules["properties"])
    for broken in ({**whole, "extra": 1}, {**whole, "verdict": {"word": "fine", "reasons": []}}):
        with pytest.raises(ValidationError):
            result.check(broken)


def test_every_key_of_the_schema_is_described():
    def walk(rule: dict, where: str):
        for key, sub in rule.get("properties", {}).items():
            yield from walk(sub, f"{where}.{key}")
            told = "description" in sub or "$ref" in sub or key in rules_known
            assert told, f"{where}.{key} has no description"
        for part in ("items", "additionalProperties"):
            if isinstance(rule.get(part), dict):
                yield from walk(rule[part], where)

    rules = cfg.read_yaml(result.SCHEMA_FILE)
    # Their names say it all.
    rules_known = {"id", "split", "status", "label", "python", "paper", "table", "commit", "dirty"}
    rules_known |= {"hashes", "tolerance_reason", "reasons"}
    list(walk(rules, ""))
    for name, rule in rules["$defs"].items():
        list(walk(rule, name))


def test_plain_values():
    assert result.plain({"a": np.float32(1.5), "b": [np.nan, np.int64(2)], "c": float("inf")}) == {
        "a": 1.5,
        "b": [None, 2],
        "c": None,
    }


def test_percent_without_bounds_has_an_interval_inside_0_and_100():
    """Retrieval: no cheap bound for lacking items, but no recall above 100 % either."""
    hits = pd.Series({f"q{n}": 100.0 * (n > 0) for n in range(12)})
    metric = Metric.mean(hits, "%")
    groups = pd.Series({f"q{n}": f"v{n}" for n in range(12)})
    low, high = intervals.clustered_mean(hits, groups, *result.limits(metric)).pair()
    assert low > 50 and high == 100.0
    assert result.limits(Metric.mean(hits, "")) == (None, None)
