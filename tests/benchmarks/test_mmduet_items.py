"""MMDuet's benchmarks: original files of both formats in, items, rows and official files out."""

import json
import math
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from vireo import benchmarks
from vireo.benchmarks.annotations import mmduet_items
from vireo.errors import VireoError
from vireo.metrics import coco

GOLDEN = Path(__file__).resolve().parents[1] / "golden/mmduet_eval"
FILES = {
    "charades": ("charades_pred.jsonl", "charades_gold.json"),
    "qvhighlights": ("qvh_pred.jsonl", "qvh_gold.jsonl"),
    "magqa": ("magqa_pred.jsonl", "magqa_gold.json"),
    "youcook2": ("youcook2_pred.jsonl", "youcook2_gold.json"),
}


def evaluated(name: str, pred: Path, *more: str) -> dict[str, Any]:
    module = benchmarks.module(name)
    parser = ArgumentParser()
    module.add_arguments(parser)
    gold = GOLDEN / FILES[name][1]
    args = parser.parse_args(["--pred_file", str(pred), "--gold_file", str(gold), *more])
    return json.loads(module.evaluate(args).splitlines()[-1])


def older(name: str, folder: Path) -> Path:
    """The same predictions in the format that the original evaluator reads."""
    lines = []
    for line in (GOLDEN / FILES[name][0]).read_text().splitlines():
        row = json.loads(line)
        for frame in row["debug_data"]:
            frame["video_time"] = frame.pop("time")
            for head in mmduet_items.HEADS:
                frame[head] = [1 - frame[head], frame[head]]
        lines.append(json.dumps(row))
    path = folder / "older.jsonl"
    path.write_text("\n".join(lines))
    return path


def test_charades_of_either_format(tmp_path: Path) -> None:
    result = evaluated("charades", GOLDEN / FILES["charades"][0])
    expected = json.loads((GOLDEN / "charades_expected.json").read_text())
    assert result["sweep"] == [{**row, "scores": pytest.approx(row["scores"])} for row in expected]
    names = ("mIoU", "R@0.3", "R@0.5", "R@0.7")
    at = [r for r in expected if r["smooth_window_size"] == 6 and round(r["threshold"], 2) == 0.5]
    assert [result[n] for n in names] == pytest.approx(at[0]["scores"])
    assert evaluated("charades", older("charades", tmp_path)) == result


def test_highlights_of_either_format(tmp_path: Path) -> None:
    result = evaluated("qvhighlights", GOLDEN / FILES["qvhighlights"][0])
    for ours, theirs in zip(
        result["sweep"], json.loads((GOLDEN / "qvh_expected.json").read_text()), strict=True
    ):
        assert ours["results"] == theirs["results"]["brief"]
    assert evaluated("qvhighlights", older("qvhighlights", tmp_path)) == result


def test_magqa(tmp_path: Path) -> None:
    out = tmp_path / "judged.jsonl"
    args = ("--num_examples", "10", "--output_file", str(out))
    result = evaluated("magqa", GOLDEN / FILES["magqa"][0], *args)
    assert (round(result["in_span_score"], 2), result["judge_calls"]) == (2.22, 24)
    expected = GOLDEN / "magqa_judged_expected.jsonl"
    assert [json.loads(x) for x in out.read_text().splitlines()] == [
        json.loads(x) for x in expected.read_text().splitlines()
    ]
    again = evaluated("magqa", expected, "--num_examples", "10")
    assert again["judge_calls"] == 0
    assert again["in_span_score"] == result["in_span_score"]


def test_youcook2_without_java_is_not_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coco, "missing", lambda: "no Java here")
    result = evaluated("youcook2", GOLDEN / FILES["youcook2"][0])
    assert result["METEOR"] is None and result["SODA_c"] is None
    assert round(result["F1"], 1) == 50.9


def test_wrong_files_are_named(tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"question_id": 1, "debug_data": [{"tim": 3}]}\n')
    with pytest.raises(VireoError, match=r"bad\.jsonl"):
        evaluated("charades", bad)
    with pytest.raises(VireoError, match="release file"):
        module = benchmarks.module("qvhighlights")
        parser = ArgumentParser()
        module.add_arguments(parser)
        gold = str(GOLDEN / FILES["charades"][1])
        module.evaluate(parser.parse_args(["--pred_file", gold, "--gold_file", gold]))


def rows_of(name: str, items: pd.DataFrame, fps: float) -> pd.DataFrame:
    """Prediction rows as the StreamingModel engine writes them, from the lines of the vectors."""
    found = []
    for line in (GOLDEN / FILES[name][0]).read_text().splitlines():
        one = mmduet_items.read_line(json.loads(line))
        answers = [t for t in one.turns if t["role"] == "assistant"]
        asked = [t for t in one.turns if t["role"] == "user"]
        value = {"fps": fps, "asked": asked, "answers": {"0.5": answers}}
        scores = np.array([one.informative, one.relevance], np.float32).ravel()
        row = {"id": one.id, "status": "ok", "prediction": json.dumps(value), "scores": scores}
        found.append(row)
    return pd.DataFrame(found)


@pytest.mark.parametrize("name", ["charades", "magqa", "youcook2"])
def test_workflow_and_evaluation_agree(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coco, "missing", lambda: "left out here")
    module = benchmarks.module(name)
    block = {"splits": ["test"], "options": {"file": FILES[name][1]}, "model": "m"}
    items = module.items({"annotations": GOLDEN}, block)
    rows = rows_of(name, items, 2.0)
    scores = module.score(items, rows, block)
    (path,) = module.export(items, rows, tmp_path, block)
    result = evaluated(name, path)
    keys = {"charades": "R@0.5", "magqa": "turns", "youcook2": "F1"}
    value = scores.metrics[keys[name]].value
    if name == "magqa":  # the original leaves questions without an answer out
        value *= len(rows) / result["n"]  # type: ignore[operator]
    assert value == pytest.approx(result[keys[name]], abs=1e-4)
    assert all(json.loads(text)["time"] >= 0 for text in items["options"].iloc[0])
    assert scores.primary in scores.metrics


def test_threshold_of_a_sweep_is_picked(tmp_path: Path) -> None:
    module = benchmarks.module("magqa")
    block = {"splits": ["test"], "options": {"file": FILES["magqa"][1], "threshold": 0.4}}
    items = module.items({"annotations": GOLDEN}, block)
    with pytest.raises(VireoError, match="threshold"):
        module.score(items, rows_of("magqa", items, 2.0), block)


def test_controls_of_the_toy_world(monkeypatch: pytest.MonkeyPatch) -> None:
    """Perfect scores stand far above the same scores shuffled; perfect captions have a ceiling."""
    monkeypatch.setattr(coco, "missing", lambda: "left out here")
    entries, spans = [], [[2.0, 7.0], [9.0, 14.0], [14.0, 20.0], [23.0, 28.0]]
    for number in range(6):
        answers = [{"content": f"thing {k}", "time": span} for k, span in enumerate(spans)]
        turn = {"role": "user", "content": "x", "time": 0}
        more = {"answer": answers, "timestamps": [spans[number % 4]]}
        entries.append({"question_id": number, "video": f"{number}.mp4", "conversation": [turn]})
        entries[-1] |= more
    items = mmduet_items.item_rows(entries, "test", Path("x"), ["answer", "timestamps"])
    rows = []
    for entry in entries:
        ((start, end),) = entry["timestamps"]
        scores = [0.9 if start <= t <= end else 0.1 for t in range(30)]
        told = [
            {
                "role": "assistant",
                "content": a["content"],
                "time": float(math.ceil(s + 0.6 * (e - s))),
            }
            for a in entry["answer"]
            for s, e in [a["time"]]
        ]
        value = {"fps": 1.0, "asked": [], "answers": {"0.5": told}}
        row = {"id": str(entry["question_id"]), "status": "ok", "prediction": json.dumps(value)}
        rows.append({**row, "scores": np.array([scores, scores], np.float32).ravel()})
    block: dict = {"splits": ["test"], "options": {"window": 0, "shuffles": 10}}
    block["protocol"] = {"frames": {"target": 1.0}}
    found = benchmarks.module("charades").score(items, pd.DataFrame(rows), block).metrics
    assert found["R@0.5"].value == 100 and found["R@0.5_shuffled"].value < 20
    block["options"] = {"answer_at": [0.6, 0.6]}
    found = benchmarks.module("youcook2").score(items, pd.DataFrame(rows), block).metrics
    assert 0 < found["F1_ceiling"].value < 60
    assert found["F1"].value == pytest.approx(found["F1_ceiling"].value)
    assert found["F1_words"].value == found["F1"].value
    for row in rows:
        row["prediction"] = row["prediction"].replace("thing", "object")
    found = benchmarks.module("youcook2").score(items, pd.DataFrame(rows), block).metrics
    assert found["F1_words"].value == 0 < found["F1"].value
