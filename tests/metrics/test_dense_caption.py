"""Dense captions against numbers printed by the authors' script, with Java and without."""

from typing import Any

import pytest

from tests.metrics.mmduet_golden import read
from vireo.metrics import coco
from vireo.metrics import dense_caption as dense


def dense_inputs(name: str) -> tuple[dict[str, dense.Segments], dict[str, dense.Segments]]:
    gold = {e["question_id"]: dense.gold(e["answer"]) for e in read(f"{name}_gold.json")}
    lines = read(f"{name}_pred.jsonl")
    return gold, {row["question_id"]: dense.built(row["model_response_list"]) for row in lines}


def expected_dense(name: str) -> dict[str, Any]:
    short = name == "youcook2"
    return read("expected.json")["youcook2"] if short else read("youcook2_long_expected.json")


def test_segments() -> None:
    _, predicted = dense_inputs("youcook2")
    for video, wanted in expected_dense("youcook2")["intervals_built_from_pred"].items():
        assert predicted[video].captions == [one["caption"] for one in wanted]
        assert predicted[video].spans == [one["timestamp"] for one in wanted]
    turns = [{"role": "assistant", "time": 3, "content": "a"}]
    assert dense.built(turns).captions == []
    assert dense.built(turns, keep_first=True).spans == [[0.0, 3]]


def test_without_java_localisation_alone() -> None:
    gold, predicted = dense_inputs("youcook2")
    totals, _ = dense.evaluate(gold, predicted)
    printed = dict(
        line.split(" ") for line in expected_dense("youcook2")["stdout"][5:] if "@" in line
    )
    assert printed == {name: f"{totals[name]:.1f}" for name in printed}
    assert all(totals[name] is None for name in dense.JAVA)
    fewer = {k: v for k, v in list(predicted.items())[1:]}
    whole, _ = dense.evaluate(gold, fewer, dense.Options(count_missing=True))
    part, _ = dense.evaluate(gold, fewer)
    assert whole["F1_Score"] < part["F1_Score"]  # type: ignore[operator]


@pytest.mark.java
def test_dense_captions_with_java() -> None:
    with coco.Meteor() as meteor:
        for name in ("youcook2", "youcook2_long"):
            wanted = expected_dense(name)
            totals, each = dense.evaluate(*dense_inputs(name), meteor=meteor)
            lines = [line.split(" ") for line in wanted["stdout"] if line.count(" ") == 1]
            printed = {k: float(v) for k, v in lines if k in totals}
            assert len(printed) == len(totals)
            assert {k: round(totals[k], 1) for k in printed} == printed  # type: ignore[arg-type]
            for k, video in enumerate(wanted["per_video"]["key"]):
                for metric, values in wanted["per_video"].items():
                    if metric in each[video]:
                        assert each[video][metric] == pytest.approx(values[k], abs=1e-6)
        options = dense.Options(numeric_order=True)
        _, each = dense.evaluate(*dense_inputs("youcook2_long"), options, meteor)
        ordered = expected_dense("youcook2_long")["soda_c_if_columns_in_numeric_order"]
        assert [row["SODA_c_2"] for row in each.values()] == pytest.approx(ordered, abs=1e-6)
