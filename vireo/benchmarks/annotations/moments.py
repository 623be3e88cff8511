"""Files of moment retrieval made elsewhere: moment_detr's submissions, Charades-STA's own list.

A submission has one JSON object a line: `qid`, `pred_relevant_windows` ([start, end, score], best
first) and perhaps `pred_saliency_scores` (one per 2-second clip). Gold: `relevant_windows` per
`qid`, or Charades-STA's `video start end##sentence` lines.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vireo.benchmarks.annotations import user_files
from vireo.errors import VireoError
from vireo.metrics import highlight, moments

WINDOWS, SALIENCY = "pred_relevant_windows", "pred_saliency_scores"
CHARADES_LEVELS = (0.3, 0.5, 0.7)


@dataclass(frozen=True)
class Row:
    """One query: its id, its video, its sentence and its gold windows in seconds."""

    id: str
    video: str
    sentence: str
    windows: list[list[float]]


def spans(value: Any, where: str) -> list[list[float]]:
    """A list of [start, end]; VireoError unless all are finite pairs. Reversed ends stay so."""
    array = user_files.finite(value, where)
    if array.ndim != 2 or not len(array) or array.shape[1] < 2:
        raise VireoError(f"{where}: needs a list of [start, end]")
    found: list[list[float]] = array.tolist()
    return found


def is_charades_lines(path: str) -> bool:
    """Whether a file looks like Charades-STA's own text lines."""
    return "##" in user_files.text(path).split("\n", 1)[0]


def charades_lines(path: str) -> list[Row]:
    """Rows of charades_sta_test.txt; an id is the number of the line, from 0."""
    rows = []
    for number, line in enumerate(user_files.text(path).splitlines()):
        if not line.strip():
            continue
        head, mark, sentence = line.partition("##")
        cells = head.split()
        try:
            start, end = (float(cell) for cell in cells[1:])
        except ValueError:
            mark = ""
        if not mark or len(cells) != 3:
            raise VireoError(f"{path}, line {number + 1}: not `video start end##sentence`")
        windows = spans([[start, end]], f"{path}, line {number + 1}")
        rows.append(Row(str(number), cells[0], sentence.strip(), windows))
    return rows


def has_windows(path: str) -> bool:
    """Whether a prediction file holds windows, not MMDuet's scores per frame."""
    return WINDOWS in user_files.objects(path)[0]


def is_submission(path: str) -> bool:
    """Whether a prediction file is a submission of moment_detr (windows or saliency)."""
    first = user_files.objects(path)[0]
    return "qid" in first and bool({WINDOWS, SALIENCY} & first.keys())


def gold_rows(path: str) -> list[Row]:
    """Gold of either form; VireoError names what is wrong."""
    if is_charades_lines(path):
        return charades_lines(path)
    rows = []
    for number, entry in enumerate(user_files.objects(path)):
        where = f"{path}: entry {number}"
        if "qid" not in entry or "relevant_windows" not in entry:
            raise VireoError(f"{where}: needs `qid` and `relevant_windows`")
        windows = spans(entry["relevant_windows"], f"{where}, relevant_windows")
        names = (str(entry.get("vid", "")), str(entry.get("query", "")))
        rows.append(Row(str(entry["qid"]), *names, windows))
    if several := user_files.repeated(row.id for row in rows):
        raise VireoError(f"{path}: query {next(iter(several))} occurs more than once")
    return rows


def _windows(line: dict[str, Any], where: str) -> list[list[float]]:
    value = line.get(WINDOWS)
    if not value:
        return []
    array = user_files.finite(value, f"{where}, {WINDOWS}")
    if array.ndim != 2 or array.shape[1] not in (2, 3):
        raise VireoError(f"{where}: {WINDOWS} must be a list of [start, end, score]")
    if array.shape[1] == 2:  # no scores: in the order given
        array = np.column_stack([array, -np.arange(len(array), dtype=float)])
    found: list[list[float]] = array.tolist()
    return found


def _by_text(rows: Sequence[tuple[str, str]]) -> list[str]:
    """One id per (video, sentence); a repeated pair is numbered."""
    seen: Counter[str] = Counter()
    ids = []
    for video, sentence in rows:
        key = f"{video}: {' '.join(sentence.lower().split())}"
        seen[key] += 1
        ids.append(key if seen[key] == 1 else f"{key} ({seen[key]})")
    return ids


def report(
    gold_file: str, pred_file: str, most: float, saliency: list[dict[str, Any]] | None = None
) -> str:
    """Score a submission: moment retrieval, and highlights by `saliency` (release lines).

    The last line is JSON with moment_detr's names (`MR-full-mAP@0.5`, …), rounded as there.
    """
    lines = user_files.objects(pred_file)
    for number, line in enumerate(lines):
        if "qid" not in line and not {"vid", "query"} <= line.keys():
            raise VireoError(f"{pred_file}: entry {number} has no `qid`")
    rows = gold_rows(gold_file)
    texts = all({"vid", "query"} <= line.keys() for line in lines)
    if is_charades_lines(gold_file) and texts:
        gold_ids = _by_text([(row.video, row.sentence) for row in rows])
        ids = _by_text([(str(line["vid"]), str(line["query"])) for line in lines])
    else:
        gold_ids = [row.id for row in rows]
        ids = [str(line.get("qid")) for line in lines]
    both = user_files.matched(gold_ids, ids, (gold_file, pred_file), most)
    repeated = user_files.warn_repeated(ids, pred_file, "the last line of each counts")
    gold = {id: row.windows for id, row in zip(gold_ids, rows, strict=True)}
    by_id = dict(zip(ids, lines, strict=True))
    result: dict[str, Any] = {}
    if any(WINDOWS in line for line in lines):
        result |= _retrieval(gold, by_id, pred_file)
    if saliency is not None and any(SALIENCY in line for line in lines):
        result |= _highlights(saliency, by_id, pred_file)
    counts = {"n": both, "matched": both, "expected": len(gold), "repeated": repeated}
    printed = "".join(f"{name}: {value:.2f}\n" for name, value in result.items())
    return printed + json.dumps({**result, **counts}) + "\n"


def _retrieval(
    gold: dict[str, list[list[float]]], lines: dict[str, dict[str, Any]], path: str
) -> dict[str, float]:
    predicted = {id: _windows(line, f"{path}: {id!r}") for id, line in lines.items()}
    result: dict[str, float] = {}
    for length in moments.LENGTHS:
        found = moments.summarise(gold, predicted, length, (*CHARADES_LEVELS, *moments.THRESHOLDS))
        if not found.n:
            continue
        result[f"MR-{length}-mAP"] = round(found.mean_ap["average"], 2)
        if length == "full":
            for least in ("0.5", "0.75"):
                result[f"MR-full-mAP@{least}"] = round(found.mean_ap[least], 2)
            for level in CHARADES_LEVELS:
                result[f"MR-full-R1@{level}"] = round(found.recall[f"{level:g}"], 2)
            result["MR-full-mIoU"] = round(found.mean_iou, 2)
    return result


def _highlights(
    gold: list[dict[str, Any]], lines: dict[str, dict[str, Any]], path: str
) -> dict[str, float]:
    scores = {}
    for entry in gold:
        line = lines.get(str(entry["qid"]))
        if line is not None and line.get(SALIENCY):
            where = f"{path}: {entry['qid']!r}, {SALIENCY}"
            scores[entry["qid"]] = user_files.finite(line[SALIENCY], where)
    return {
        f"HL-min-{name}-{metric.removeprefix('HL-')}": round(value, 2)
        for name, numbers in highlight.evaluate(gold, scores).items()
        for metric, value in numbers.items()
    }
