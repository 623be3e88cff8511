"""SQA3D: conversion and metric against the authors' code; files of other shapes; exports."""

import json
import shutil
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from vireo.benchmarks import sqa3d
from vireo.benchmarks.annotations import sqa3d_items as annotations
from vireo.errors import VireoError
from vireo.metrics import qa
from vireo.nn import answers

GOLDEN = Path(__file__).parents[1] / "golden/clipbert"
TASK, DB = GOLDEN / "sqa3d/sqa_task", GOLDEN / "sqa3d/txt_db"
BLOCK: dict[str, Any] = {"splits": ["train", "val", "test"], "rows": {"test": 30}}
EVAL = json.loads((GOLDEN / "sqa3d/reference_eval.json").read_text())


def lines_of(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_conversion_is_the_references(tmp_path: Path) -> None:
    counts = annotations.convert(TASK, tmp_path)
    for split in annotations.SPLITS:
        wanted = lines_of(DB / f"{split}.jsonl")
        found = lines_of(tmp_path / f"{split}.jsonl")
        assert found == wanted and counts[split] == len(wanted)
        assert [list(line) for line in found] == [list(line) for line in wanted]
    name = "train_ans2label.json"
    assert json.loads((tmp_path / name).read_text()) == json.loads((DB / name).read_text())
    assert any(line["answer"] == "unknown" for line in lines_of(DB / "test.jsonl"))


@pytest.mark.parametrize(
    ("question", "kind"),
    [
        ("What's here?", "others"),
        ("IS it?", "is"),
        (" What is it?", "others"),
        ("Wwhat is it?", "others"),
        ("Which one", "which"),
        ("", "others"),
        ("what\tis", "others"),
    ],
)
def test_question_type(question: str, kind: str) -> None:
    assert qa.question_type(question) == kind


@pytest.fixture(scope="module")
def items() -> pd.DataFrame:
    return sqa3d.items({"questions": TASK}, BLOCK)


def test_both_kinds_of_files_give_the_same_questions(items: pd.DataFrame) -> None:
    again = sqa3d.items({"questions": DB}, BLOCK)
    columns = ["split", "video", "question", "answer", "group"]
    pd.testing.assert_frame_equal(items[columns], again[columns])
    assert again["id"].iloc[0] == "train-000000" and items["id"].str.fullmatch(r"\d{12}").all()
    assert json.loads(items["meta"].iloc[3])["line"] == 3


def predictions(items: pd.DataFrame, labels: dict[int, int]) -> pd.DataFrame:
    names = annotations.dictionary(TASK)
    rows = []
    for item in items[items["split"] == "test"].itertuples():
        label = labels.get(json.loads(str(item.meta))["line"])
        known = label is not None and label < len(names)
        value = {"answer": names[label] if known else None, "label": label, "top": []}  # type: ignore[index]
        status = "missing" if label is None else "ok"
        rows.append({"id": item.id, "status": status, "prediction": json.dumps(value)})
    return pd.DataFrame(rows)


def test_metric_is_the_references(items: pd.DataFrame) -> None:
    labels = {p["question_id"]: p["answer"] for p in EVAL["predictions"]}
    test = items[items["split"] == "test"]
    scores = sqa3d.score(test, predictions(items, labels), {})
    wanted = EVAL["reference_metrics_fraction"]
    value = scores.metrics["em1"].value
    assert value == pytest.approx(100 * wanted["overall_acc"])
    table = scores.breakdowns["question type"].set_index("label")
    for kind in qa.TYPES:
        metric = scores.metrics[f"em1_{kind}"]
        assert metric.value == pytest.approx(100 * wanted[f"{kind}_acc"])
        assert metric.n == wanted["ratios"][f"{kind}_ratio"][1] == table.loc[kind, "n"]
    assert json.loads(scores.printout) == qa.in_percent(wanted)


def test_missing_predictions_and_answers_outside_the_dictionary(items: pd.DataFrame) -> None:
    test = items[items["split"] == "test"]
    scores = sqa3d.score(test, predictions(items, {0: 900, 1: 3}), {})
    assert scores.metrics["em1"].n == 2
    assert any("1 of 2 answers are classes outside" in note for note in scores.notes)
    assert any("not in the dictionary" in note for note in scores.notes)
    assert json.loads(scores.printout)["ratios"]["what_ratio"][1] == 3


@pytest.mark.parametrize("clips", ["1", "4"])
def test_official_files_are_the_references(items: pd.DataFrame, tmp_path: Path, clips: str) -> None:
    wanted = json.loads((GOLDEN / "sqa3d/reference_e2e.json").read_text())[clips]
    labels = {r["question_id"]: r["answer"] for r in wanted["results_all"]}
    test = items[items["split"] == "test"]
    sqa3d.export(test, predictions(items, labels), tmp_path, {})
    assert json.loads((tmp_path / "results_all.json").read_text()) == wanted["results_all"]
    assert json.loads((tmp_path / "scores.json").read_text()) == wanted["scores"]
    assert len(json.loads((tmp_path / "answers.json").read_text())) == 30
    for dictionary in (DB / "train_ans2label.json", TASK / "answer_dict.json"):
        parser = ArgumentParser()
        sqa3d.add_arguments(parser)
        files = ["--results_file", str(tmp_path / "results_all.json")]
        text = sqa3d.evaluate(parser.parse_args([*files, "--ans2label", str(dictionary)]))
        assert json.loads(text) == wanted["scores"]


def test_evaluate_takes_labels_outside_the_dictionary_as_wrong(tmp_path: Path) -> None:
    data = {"answer": "yes", "answer_type": "is"}
    (tmp_path / "r.json").write_text(json.dumps([{"answer": 1400, "data": data}]))
    parser = ArgumentParser()
    sqa3d.add_arguments(parser)
    given = ["--ans2label", str(DB / "train_ans2label.json"), "--results_file"]
    text = sqa3d.evaluate(parser.parse_args([*given, str(tmp_path / "r.json")]))
    assert json.loads(text)["is_acc"] == 0.0
    (tmp_path / "r.json").write_text('[{"answer": 1}]')
    with pytest.raises(VireoError, match="entry 0"):
        sqa3d.evaluate(parser.parse_args([*given, str(tmp_path / "r.json")]))


def test_videos_in_both_layouts(items: pd.DataFrame, tmp_path: Path) -> None:
    from vireo.media import lmdb

    nested = tmp_path / "tree/video"
    nested.mkdir(parents=True)
    for name in ("scene9001_00", "scene9002_00", "scene9003_00"):
        shutil.copy(GOLDEN / f"video/{name}.mp4", nested)
    table = sqa3d.videos({"videos": tmp_path / "tree"}, items, {}).set_index("video")
    assert table.loc["scene9001_00", "kind"] == "file"
    assert table.loc["scene9004_00", "status"] == "missing"
    lmdb.write(tmp_path / "db/sqa", [(p.stem, p) for p in nested.iterdir()])
    for root in (tmp_path / "db", tmp_path / "db/sqa/data.mdb"):
        table = sqa3d.videos({"videos": root}, items, {}).set_index("video")
        assert table.loc["scene9001_00", "kind"] == "lmdb"
        assert table.loc["scene9004_00", "status"] == "missing"


def test_bad_annotations(tmp_path: Path) -> None:
    with pytest.raises(VireoError, match="neither v1_balanced"):
        sqa3d.items({"questions": tmp_path}, BLOCK)
    shutil.copytree(TASK, tmp_path / "a")
    with pytest.raises(VireoError, match="SQA3D has 31"):
        sqa3d.items({"questions": tmp_path}, {**BLOCK, "rows": {"test": 31}})
    path = next((tmp_path / "a").rglob("*sqa_annotations_val*"))
    whole = json.loads(path.read_text())
    gone = whole["annotations"].pop()["question_id"]
    path.chmod(0o644)
    path.write_text(json.dumps(whole))
    with pytest.raises(VireoError, match=str(gone)):
        sqa3d.items({"questions": tmp_path}, BLOCK)
    (tmp_path / "d.json").write_text('{"yes": 0, "no": 2}')
    with pytest.raises(VireoError, match="not 0 to n-1"):
        answers.read(tmp_path / "d.json")
    (tmp_path / "d.json").write_text('[{"yes": 0, "no": 1}, {"0": "no", "1": "yes"}]')
    with pytest.raises(VireoError, match="contradict"):
        answers.read(tmp_path / "d.json")
    (tmp_path / "b").mkdir()
    (tmp_path / "b/test.jsonl").write_text('{"answer": "yes"}\n')
    with pytest.raises(VireoError, match="line 1: does not have"):
        sqa3d.items({"questions": tmp_path / "b"}, BLOCK)
