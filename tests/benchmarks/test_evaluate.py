"""Predictions made elsewhere: numbers of the references, and a sentence for bad files."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vireo import benchmarks
from vireo.errors import VireoError
from vireo.metrics import coco
from vireo.metrics import dense_caption as dense

GOLDEN = Path(__file__).resolve().parents[1] / "golden/mmduet_eval"
Evaluate = Callable[..., str]


def last(text: str) -> dict:
    return json.loads(text.splitlines()[-1])


def written(path: Path, lines: list) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def lines_of(name: str) -> list[dict]:
    return [json.loads(line) for line in (GOLDEN / name).read_text().splitlines()]


# Numbers that are none


def test_a_row_of_zeros_matches_nothing(tmp_path: Path, evaluate: Evaluate) -> None:
    """60 pairs, 45 right; one text's features are all zero: R@1 75.0, not 1.67."""
    video = np.eye(60)
    text = video[np.r_[0:45, 46:60, 45]].copy()
    text[50] = 0
    np.savez(tmp_path / "f.npz", video=video, text=text, owner=np.arange(60))
    assert evaluate("retrieval", "--features", tmp_path / "f.npz").startswith("plain: txt_r1 75.00")


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_scores_that_are_no_numbers_are_refused(
    tmp_path: Path, evaluate: Evaluate, bad: float
) -> None:
    rows = np.eye(4)
    rows[2, 1] = bad
    np.savez(tmp_path / "f.npz", video=np.eye(4), text=rows, owner=np.arange(4))
    with pytest.raises(VireoError, match=r"f\.npz: text, row 2: NaN or infinite"):
        evaluate("retrieval", "--features", tmp_path / "f.npz")
    np.savez(tmp_path / "v.npz", logits=rows, id=list("abcd"), label=[0, 1, 2, 3])
    with pytest.raises(VireoError, match=r"v\.npz: logits, row 2"):
        evaluate("actions", "--views", tmp_path / "v.npz")
    (tmp_path / "r.csv").write_text(f"id,target,prediction\na,1,1\na,1,{bad}\n")
    with pytest.raises(VireoError, match=r"r\.csv, line 3: prediction: a value is"):
        evaluate("regression", "--predictions", tmp_path / "r.csv")
    frames = [{"time": 0.0, "relevance_score": bad}]
    pred = written(tmp_path / "p.jsonl", [{"question_id": "ch_000", "debug_data": frames}])
    files = ("--pred_file", pred, "--gold_file", GOLDEN / "charades_gold.json")
    with pytest.raises(VireoError, match=r"p\.jsonl: prediction 'ch_000', relevance_score"):
        evaluate("charades", *files)


def test_cached_scores_that_are_no_numbers_are_refused() -> None:
    """The same in prediction rows of the workflow."""
    import pandas as pd

    rows = pd.DataFrame(
        {"id": ["a"], "status": ["ok"], "view": [0], "scores": [np.array([math.nan, 1.0])]}
    )
    items = pd.DataFrame(
        {"id": ["a"], "video": ["a"], "answer": ["x"], "options": [["x", "y"]], "group": ["a"]}
    )
    for name in ("actions", "retrieval"):
        with pytest.raises(VireoError, match="prediction of 'a': a value is nan"):
            benchmarks.module(name).score(items, rows, {})


def test_a_frame_without_relevance_counts_as_zero(tmp_path: Path, evaluate: Evaluate) -> None:
    frames = [{"time": t / 2, "relevance_score": float(4 <= t < 8)} for t in range(12)]
    for frame in frames[:2]:
        del frame["relevance_score"]
    pred = written(tmp_path / "p.jsonl", [{"question_id": "q", "debug_data": frames}])
    gold = [{"question_id": "q", "timestamps": [[2.0, 3.5]]}]
    files = ("--pred_file", pred, "--gold_file", written(tmp_path / "g.json", gold))
    assert last(evaluate("charades", *files, "--window", 0))["mIoU"] == 100

    absent, zero = lines_of("qvh_pred.jsonl"), lines_of("qvh_pred.jsonl")
    for one, other in zip(absent, zero, strict=True):
        for frame, same in list(zip(one["debug_data"], other["debug_data"], strict=True))[::7]:
            del frame["relevance_score"]
            same["relevance_score"] = 0.0
    gold_file = GOLDEN / "qvh_gold.jsonl"
    results = [
        last(evaluate("qvhighlights", "--gold_file", gold_file, "--pred_file", path))
        for path in (written(tmp_path / "a.jsonl", absent), written(tmp_path / "z.jsonl", zero))
    ]
    assert results[0] == results[1] and results[0]["mAP"] > 0


# Equal scores


def test_ties_follow_the_protocol(tmp_path: Path, evaluate: Evaluate) -> None:
    """bfloat16 logits tie: VideoMamba's arg-max and ViCLIP's reversed sort give other numbers."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 0.01, (2000, 100)).astype(np.float32) + 3
    logits = (logits.view(np.uint32) & 0xFFFF0000).view(np.float32)  # bfloat16, truncated
    label = rng.integers(0, 100, 2000)
    np.savez(tmp_path / "v.npz", logits=logits, id=np.arange(2000), label=label)
    text = {t: evaluate("actions", "--views", tmp_path / "v.npz", "--ties", t) for t in
            ("lowest", "highest")}  # fmt: skip
    softmax = np.exp(logits - logits.max(1, keepdims=True))
    lowest = 100 * (softmax.argmax(1) == label).mean()
    highest = 100 * (99 - softmax[:, ::-1].argmax(1) == label).mean()
    assert lowest != highest
    assert f"top-1: {lowest:.2f}\n" in text["lowest"]
    assert f"top-1: {highest:.2f}\n" in text["highest"]
    assert evaluate("actions", "--views", tmp_path / "v.npz") == text["lowest"]


# Repeated ids


def test_a_repeated_question_counts_again(
    tmp_path: Path, evaluate: Evaluate, caplog: pytest.LogCaptureFixture
) -> None:
    """MAGQA divides the sum over lines by lines: one perfect answer twice is 5.0, not 2.5."""
    turn = {"role": "user", "content": "what?", "time": 0}
    gold = [{"question_id": "a", "conversation": [turn]}]
    gold[0]["answer"] = [{"content": "a red ball", "time": [0, 9]}]
    said = {"role": "assistant", "content": "a red ball", "time": 5}
    line = {"question_id": "a", "model_response_list": [turn, said]}
    files = ("--gold_file", written(tmp_path / "g.jsonl", gold), "--pred_file")
    result = last(evaluate("magqa", *files, written(tmp_path / "p.jsonl", [line, line])))
    assert (result["in_span_score"], result["n"], result["repeated"]) == (5.0, 2, 1)
    assert "1 ids occur more than once" in caplog.text


def test_charades_counts_each_line(tmp_path: Path, evaluate: Evaluate) -> None:
    def frames(low: int, high: int) -> list[dict]:
        return [{"time": float(t), "relevance_score": float(low <= t <= high)} for t in range(9)]

    pred = [{"question_id": q, "debug_data": frames(*span)} for q, span in
            (("a", (2, 4)), ("a", (6, 8)), ("b", (2, 4)))]  # fmt: skip
    gold = [{"question_id": q, "timestamps": [[2, 4]]} for q in "ab"]
    files = ("--pred_file", written(tmp_path / "p", pred), "--gold_file")
    result = last(evaluate("charades", *files, written(tmp_path / "g", gold), "--window", 0))
    assert result["R@0.5"] == pytest.approx(200 / 3)
    assert (result["n"], result["matched"], result["repeated"]) == (3, 2, 1)


def test_sqa3d_keeps_the_last_answer(tmp_path: Path, evaluate: Evaluate) -> None:
    (tmp_path / "d.json").write_text('{"red": 0, "blue": 1}')
    entries = [
        {"question_id": q, "answer": label, "data": {"answer": "blue", "answer_type": "what"}}
        for q, label in ((0, 0), (1, 1), (0, 1))
    ]
    (tmp_path / "r.json").write_text(json.dumps(entries))
    files = ("--results_file", tmp_path / "r.json", "--ans2label", tmp_path / "d.json")
    scores = json.loads(evaluate("sqa3d", *files))
    assert scores["overall_acc"] == 100.0 and scores["ratios"]["what_ratio"] == [100.0, 2]


def test_the_last_target_of_a_video_counts(
    tmp_path: Path, evaluate: Evaluate, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "r.csv").write_text("id,target,prediction\na,1,3\na,2,3\nb,1,1\n")
    assert "mse: 0.500000" in evaluate("regression", "--predictions", tmp_path / "r.csv")
    assert "1 videos have several targets" in caplog.text


def test_a_clip_twice_is_refused(tmp_path: Path, evaluate: Evaluate) -> None:
    head = "label,youtube_id,time_start,time_end,split\n"
    (tmp_path / "val.csv").write_text(head + "a,abcdefghijk,1,11,val\n")
    (tmp_path / "p.csv").write_text("id,top1\n" + "abcdefghijk_000001_000011,a\n" * 2)
    files = ("--annotations", tmp_path / "val.csv", "--predictions", tmp_path / "p.csv")
    with pytest.raises(VireoError, match="1 clips occur more than once"):
        evaluate("kinetics", *files)


# Gold of another split


def test_gold_of_another_split_is_refused(tmp_path: Path, evaluate: Evaluate) -> None:
    frames = [{"time": 2.0 * t, "relevance_score": 0.1} for t in range(3)]
    pred = written(tmp_path / "p.jsonl", [{"question_id": 2579, "debug_data": frames}])
    gold = {"qid": 3158, "duration": 150, "relevant_clip_ids": [35], "saliency_scores": [[0, 3, 2]]}
    files = ("--pred_file", pred, "--gold_file", written(tmp_path / "g.jsonl", [gold]))
    with pytest.raises(VireoError, match=r"0 of 1 ids of .*g\.jsonl have a prediction"):
        evaluate("qvhighlights", *files)
    with pytest.raises(VireoError, match="0 of 1 ids"):
        evaluate("qvhighlights", *files, "--max_unmatched", 1)


def test_coincidental_ids_are_refused(
    tmp_path: Path, evaluate: Evaluate, caplog: pytest.LogCaptureFixture
) -> None:
    """533 ids of 3,720 in common by chance."""
    gold = [{"question_id": n, "timestamps": [[0, 1]]} for n in range(3720)]
    frames = [{"time": 0.0, "relevance_score": 0.0}, {"time": 2.0, "relevance_score": 1.0}]
    pred = [{"question_id": n, "debug_data": frames} for n in range(3187, 5000)]
    files = ("--gold_file", written(tmp_path / "g.jsonl", gold))
    files += ("--pred_file", written(tmp_path / "p.jsonl", pred))
    with pytest.raises(VireoError, match="533 of 3720 ids"):
        evaluate("charades", *files)
    caplog.set_level("INFO", "vireo")
    result = last(evaluate("charades", *files, "--max_unmatched", 1))
    assert (result["n"], result["matched"], result["expected"]) == (533, 533, 3720)
    assert "533 of 1813 ids" in caplog.text


# Dense captions


def caption_files(tmp_path: Path, order: int = 1) -> tuple:
    texts = {"a": "cut the red onion", "b": "boil some water now", "c": "you cannot fry the fish"}
    gold, pred = [], []
    for id, text in texts.items():
        answers = [{"content": f"{text} {k}", "time": [10 * k, 10 * k + 10]} for k in range(3)]
        gold.append({"question_id": id, "answer": answers})
        said = [{"role": "assistant", "content": "start", "time": 0}]
        said += [{"role": "assistant", "content": f"{text} {k}.", "time": 10 * k + 10} for k in
                 range(3)]  # fmt: skip
        pred.append({"question_id": id, "model_response_list": said[::order]})
    gold_file = written(tmp_path / "g.jsonl", gold)
    return gold_file, pred


def test_spans_of_reversed_turns_are_turned_round(
    tmp_path: Path, evaluate: Evaluate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Turns from the last to the first: the same spans (the text of each is the other end's)."""
    monkeypatch.setattr(coco, "missing", lambda: "left out")
    results = []
    for order in (1, -1):
        gold, pred = caption_files(tmp_path, order)
        files = ("--gold_file", gold, "--pred_file", written(tmp_path / "p.jsonl", pred))
        results.append(last(evaluate("youcook2", *files)))
    assert results[0]["F1"] == results[1]["F1"] == 100


class Overlap:
    """Stands in for METEOR: the share of words in common."""

    java = None

    def score(self, pairs: list[tuple[str, str]]) -> tuple[float, list[float]]:
        both = [(set(a.split()), set(b.split())) for a, b in pairs]
        each = [len(a & b) / max(len(a | b), 1) for a, b in both]
        return float(np.mean(each)), each


def test_paragraphs_are_paired_by_name_and_not_tokenised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order of the prediction file is nothing; the tokenizer would cut "cannot" into two."""

    def tokenized(texts: list[str], java: object = None) -> dict[str, str]:
        return {t: t.lower().replace("cannot", "can not").replace(".", "") for t in texts}

    monkeypatch.setattr(coco, "tokenize", tokenized)
    _, pred = caption_files(tmp_path)
    found = {line["question_id"]: dense.built(line["model_response_list"]) for line in pred}
    true = {id: dense.Segments(one.spans, one.captions) for id, one in found.items()}
    totals = [
        dense.evaluate(true, dict(order), meteor=Overlap())[0]  # type: ignore[arg-type]
        for order in (found.items(), reversed(found.items()))
    ]
    assert totals[0] == totals[1]
    assert totals[0]["Para_METEOR"] == pytest.approx(100)
    found["c"] = dense.Segments(
        found["c"].spans, [text.replace("cannot", "can not") for text in found["c"].captions]
    )
    split = dense.evaluate(true, found, meteor=Overlap())[0]  # type: ignore[arg-type]
    assert split["Para_CIDER"] < totals[0]["Para_CIDER"]  # type: ignore[operator]
    assert split["CIDER"] == totals[0]["CIDER"]


# Official files


def test_official_youcook2_annotations(
    tmp_path: Path, evaluate: Evaluate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coco, "missing", lambda: "left out")
    _, pred = caption_files(tmp_path)
    plain, database = {}, {}
    for line in pred:
        id = line["question_id"]
        texts = [turn["content"] for turn in line["model_response_list"][1:]]
        spans = [[0, 10], [10, 20], [20, 30]]
        plain[id] = {"duration": 30.0, "timestamps": spans, "sentences": texts}
        both = zip(spans, texts, strict=True)
        parts = [{"segment": s, "id": k, "sentence": t} for k, (s, t) in enumerate(both)]
        database[id] = {"subset": "validation", "annotations": parts}
    database["other"] = {"subset": "training", "annotations": []}
    (tmp_path / "plain.json").write_text(json.dumps(plain))
    (tmp_path / "all.json").write_text(json.dumps({"database": database}))
    for line in pred:
        line["question_id"] += ".mp4"
    path = written(tmp_path / "p.jsonl", pred)
    for gold in ("plain.json", "all.json"):
        result = last(evaluate("youcook2", "--gold_file", tmp_path / gold, "--pred_file", path))
        assert (result["F1"], result["n"], result["expected"]) == (100, 3, 3)


def test_official_charades_list(tmp_path: Path, evaluate: Evaluate) -> None:
    (tmp_path / "test.txt").write_text(
        "3MSZA 24.3 30.4##person turn a light on.\n3MSZA 0.0 10.0##person sits down.\n"
    )
    frames = [{"time": float(t), "relevance_score": float(t <= 10)} for t in range(40)]
    lines = [{"question_id": n, "debug_data": frames} for n in (0, 1)]
    gold = ("--gold_file", tmp_path / "test.txt", "--pred_file")
    result = last(evaluate("charades", *gold, written(tmp_path / "p", lines), "--window", 0))
    assert result["R@0.7"] == 50 and result["n"] == 2
    ranked = [[0, 5, 0.9], [24.3, 30.4, 0.8]]
    windows = [
        {"qid": 7, "vid": "3MSZA", "query": "Person sits down.", "pred_relevant_windows": ranked},
        {"qid": 8, "vid": "3MSZA", "query": "person turn a light on.",
         "pred_relevant_windows": ranked[::-1]},
    ]  # fmt: skip
    result = last(evaluate("charades", *gold, written(tmp_path / "w", windows)))
    assert result["MR-full-R1@0.5"] == 100 and result["MR-full-R1@0.7"] == 50
    assert result["MR-full-mIoU"] == pytest.approx(75)


def test_a_submission_of_moment_detr(tmp_path: Path, evaluate: Evaluate) -> None:
    """Two queries by hand. Query 1: gold 0-10; ranked 0-8 (IoU 0.8), 0-10 (IoU 1): AP is 1 up to
    0.8, then 1/2 for 0.85, 0.9, 0.95, so 0.85. Query 2: gold 50-90 and 100-104; ranked 50-70 (IoU
    0.5), then 100-104: at 0.5 both are hits, AP 1; above only the second is, AP (1/2)(1/2)."""
    gold = [
        {"qid": 1, "duration": 12, "relevant_windows": [[0, 10]], "relevant_clip_ids": [0, 1],
         "saliency_scores": [[4, 4, 4], [2, 2, 2]]},
        {"qid": 2, "duration": 150, "relevant_windows": [[50, 90], [100, 104]],
         "relevant_clip_ids": [30], "saliency_scores": [[4, 4, 4]]},
    ]  # fmt: skip
    pred = [
        {"qid": 1, "pred_relevant_windows": [[0, 8, 0.9], [0, 10, 0.5]],
         "pred_saliency_scores": [0.9, 0.1, 0, 0, 0, 0]},
        {"qid": 2, "pred_relevant_windows": [[50, 70, 0.8], [100, 104, 0.7]],
         "pred_saliency_scores": [0.0] * 30 + [1.0] + [0.0] * 44},
    ]  # fmt: skip
    files = ("--gold_file", written(tmp_path / "g.jsonl", gold))
    result = last(evaluate("qvhighlights", *files, "--pred_file", written(tmp_path / "p", pred)))
    first = (7 * 1.0 + 3 * 0.5) / 10
    second = (1 * 1.0 + 9 * 0.25) / 10
    assert result["MR-full-mAP"] == pytest.approx(100 * (first + second) / 2, abs=0.01)
    assert result["MR-full-mAP@0.5"] == 100
    assert result["MR-full-mAP@0.75"] == pytest.approx(62.5)
    assert (result["MR-full-R1@0.5"], result["MR-full-R1@0.7"]) == (100, 50)
    assert result["MR-short-mAP"] == pytest.approx(67.5)
    assert result["MR-long-mAP"] == pytest.approx(10)
    assert result["HL-min-VeryGood-mAP"] == result["HL-min-VeryGood-Hit1"] == 100
    assert (result["n"], result["expected"]) == (2, 2)


def test_official_files_of_sqa3d(tmp_path: Path, evaluate: Evaluate) -> None:
    asked = [
        {"question_id": 22060200000 + n, "scene_id": "scene0000_00", "situation": "I sit.",
         "question": text}
        for n, text in enumerate(("What is red?", "Is it?", "Can I?", "What is blue?"))
    ]  # fmt: skip
    answers = ("chair", "yes", "no", "table")
    given = [{"question_id": q["question_id"], "answers": [{"answer": a}]} for q, a in
             zip(asked, answers, strict=True)]  # fmt: skip
    questions = tmp_path / "v1_balanced_questions_test_scannetv2.json"
    questions.write_text(json.dumps({"questions": asked}))
    other = tmp_path / "v1_balanced_sqa_annotations_test_scannetv2.json"
    other.write_text(json.dumps({"annotations": given}))
    said = ("chair", "no", "no", "sofa")
    ids = [q["question_id"] for q in asked]
    forms = (
        {str(id): text for id, text in zip(ids, said, strict=True)},
        [{"question_id": id, "answer": text} for id, text in zip(ids, said, strict=True)],
        [{"question_id": id, "answer_top10": [text, "x"]} for id, text in
         zip(ids, said, strict=True)],
    )  # fmt: skip
    for form in forms:
        (tmp_path / "p.json").write_text(json.dumps(form))
        files = ("--results_file", tmp_path / "p.json", "--questions", questions)
        scores = json.loads(evaluate("sqa3d", *files))
        assert scores["overall_acc"] == 50.0
        assert (scores["what_acc"], scores["is_acc"], scores["can_acc"]) == (50.0, 0.0, 100.0)


# Files that are something else

NEEDED = {
    "actions": ["--views"],
    "charades": ["--pred_file", "--gold_file"],
    "kinetics": ["--annotations", "--predictions"],
    "magqa": ["--pred_file", "--gold_file"],
    "qvhighlights": ["--pred_file", "--gold_file"],
    "regression": ["--predictions"],
    "retrieval": ["--features"],
    "sqa3d": ["--results_file", "--ans2label"],
    "videomme": ["--results_file"],
    "views": ["--dir"],
    "youcook2": ["--pred_file", "--gold_file"],
}
GOOD = {
    "charades": {"--pred_file": "charades_pred.jsonl", "--gold_file": "charades_gold.json"},
    "magqa": {"--pred_file": "magqa_pred.jsonl", "--gold_file": "magqa_gold.json"},
    "qvhighlights": {"--pred_file": "qvh_pred.jsonl", "--gold_file": "qvh_gold.jsonl"},
    "youcook2": {"--pred_file": "youcook2_pred.jsonl", "--gold_file": "youcook2_gold.json"},
}
WRONG: dict[str, bytes] = {
    "empty": b"",
    "blank": b"\n\n",
    "binary": bytes(range(256)) * 4,
    "nul": b"\0" * 64,
    "page": b"<!DOCTYPE html><html><body>Log in</body></html>",
    "empty_list": b"[]",
    "empty_object": b"{}",
    "number": b"3\n",
    "null": b"null",
    "texts": b'["a", "b"]',
    "lists": b"[[1, 2], [3]]",
    "objects": b'[{"a": 1}, {"b": [2]}]',
    "cut": b'[{"question_id": "x", "answer": [{"con',
    "deep": b"[" * 100_000,
    "odd": b'{"question_id": null, "qid": [], "answer": 3, "timestamps": "x", "debug_data": 5, '
    b'"conversation": {}, "model_response_list": 7, "videos": 1, "pred_relevant_windows": "no"}\n',
    "nested": b'[{"question_id": "a", "answer": [[1]], "conversation": [1], "timestamps": [[1]], '
    b'"debug_data": [1], "model_response_list": [2], "questions": [1], "duration": {}}]',
    "table": b"id,top1\nx\n",
    "semicolons": b"a;b;c\n1;2;3\n",
    "zip": b"PK\x03\x04" + b"\0" * 40,
    "npy": b"\x93NUMPY\x01\x00v\x00{'descr': '<f8', 'fortran_order': False, 'shape': (3,), }",
    "latin": "Ärger\n".encode("latin-1"),
}  # fmt: skip


@pytest.mark.parametrize("name", NEEDED)
def test_wrong_files_end_in_a_sentence(name: str, tmp_path: Path, evaluate: Evaluate) -> None:
    """Every flag of every scorer, with anything at all in the file: never a traceback."""
    extra = {"videomme": ["--video_duration_type", "short"], "views": ["--ranks", 1]}
    for label, content in {**WRONG, "folder": None, "absent": None}.items():
        path = tmp_path / label
        if label == "folder":
            path.mkdir()
        elif content is not None:
            path.write_bytes(content)
        for flag in NEEDED[name]:
            good = {f: GOLDEN / g for f, g in GOOD.get(name, {}).items()}
            argv: list = []
            for other in NEEDED[name]:
                argv += [other, path if other == flag or other not in good else good[other]]
            with pytest.raises(VireoError) as raised:
                evaluate(name, *argv, *extra.get(name, []))
            assert str(raised.value), (label, flag)
