"""Charades-STA: where in the video does it happen, from MMDuet's per-frame relevance.

Facts: docs/reference/mmduet.md section 3.3. The paper smooths over +-6 frames; the threshold 0.5 on
the normalised score is presumed. "Best of all thresholds" is an oracle and only printed as such.

One entry of the gold file (values invented; see `mmduet_items`):

    {"question_id": "ch_0", "video": "a.mp4", "timestamps": [[6.3, 13.5]],
     "conversation": [{"role": "user", "content": "person opens a door", "time": 0}]}
"""

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vireo.benchmarks.annotations import mmduet_items, user_files
from vireo.benchmarks.annotations import moments as moment_files
from vireo.benchmarks.annotations.mmduet_items import (
    PREDICTS,
    StreamedVideo,
    export,
    prompts,
    videos,
)
from vireo.metrics import grounding
from vireo.metrics.scores import Metric, Scores
from vireo.tables import items as item_table

NEEDS = "StreamingModel"
WINDOW, THRESHOLD = 6, 0.5

__all__ = ["NEEDS", "PREDICTS", "export", "prompts", "videos"]


def items(sources: dict[str, Path], block: dict[str, Any]) -> pd.DataFrame:
    """One row per query, with its gold spans in `meta`."""
    path, entries = mmduet_items.annotations(sources, block)
    return mmduet_items.item_rows(entries, block["splits"][0], path, ["timestamps"])


def level(threshold: float) -> int:
    """Position of a threshold among the evaluator's."""
    return int(np.argmin(np.abs(np.array(grounding.THRESHOLDS) - threshold)))


def overlaps(
    gold: dict[str, list[list[float]]], predicted: dict[str, StreamedVideo], window: int
) -> dict[str, list[float]]:
    """Question id -> IoU at every threshold, for questions with a prediction."""
    return {
        id: grounding.ious(predicted[id].times, predicted[id].relevance, spans, window)
        for id, spans in gold.items()
        if id in predicted
    }


def score(items: pd.DataFrame, predictions: pd.DataFrame, block: dict[str, Any]) -> Scores:
    """R@1 at IoU 0.3, 0.5 and 0.7 and mIoU in percent, over the questions with a prediction.

    `options.shuffles: n` adds R@0.5 of scores shuffled within each video, mean of n orders.
    """
    options = block.get("options") or {}
    window = int(options.get("window", WINDOW))
    threshold = float(options.get("level", THRESHOLD))
    gold = {row.id: json.loads(row.meta)["timestamps"] for row in item_table.rows(items)}
    predicted = mmduet_items.from_rows(items, predictions, block)
    found = overlaps(gold, predicted, window)
    at = level(threshold)
    ious = pd.Series({id: values[at] for id, values in found.items()}, dtype=float)
    metrics = {
        f"R@{least}": Metric.mean(100.0 * (ious >= least), "%", 0.0, 100.0, f"R@1 at IoU {least}")
        for least in grounding.LEVELS
    }
    metrics["mIoU"] = Metric.mean(100.0 * ious, "%", 0.0, 100.0, "mean IoU")
    if times := int(options.get("shuffles", 0)):
        perturbed = [overlaps(gold, one, window) for one in mmduet_items.shuffled(predicted, times)]
        hits = {id: 100 * np.mean([each[id][at] >= 0.5 for each in perturbed]) for id in found}
        title = "R@1 at IoU 0.5, scores shuffled within each video"
        parts = pd.Series(hits, dtype=float)
        metrics["R@0.5_shuffled"] = Metric.mean(parts, "%", 0.0, 100.0, title)
    rows = []
    for k, value in enumerate(grounding.THRESHOLDS):
        values = [v[k] for v in found.values()]
        if values:
            names = ("mIoU", "R@0.3", "R@0.5", "R@0.7")
            summary = dict(zip(names, grounding.summary(values), strict=True))
            rows.append({"label": f"{value:.2f}", "n": len(values), **summary})
    return Scores(
        metrics=metrics,
        primary=block.get("primary") or "R@0.5",
        breakdowns={"threshold": pd.DataFrame(rows)} if rows else {},
        chance=block.get("chance"),
        notes=[
            f"scores smoothed over +-{window} frames, threshold {threshold} on the normalised "
            "score (the paper does not say which threshold it used)"
        ],
    )


def add_arguments(parser: ArgumentParser) -> None:
    """Files, and the setting that is reported."""
    parser.add_argument(
        "--pred_file",
        required=True,
        help="lines of test/inference.py, or JSON lines with `pred_relevant_windows` (moment_detr)",
    )
    parser.add_argument(
        "--gold_file",
        required=True,
        help="test-random_prompt.json, charades_sta_test.txt, or JSON lines with relevant_windows",
    )
    parser.add_argument("--window", type=int, default=WINDOW, help="frames on either side (6)")
    parser.add_argument("--threshold", type=float, default=THRESHOLD, help="0.30 to 0.70 (0.5)")
    user_files.add_unmatched(parser)


def gold_spans(path: str) -> dict[str, list[list[float]]]:
    """Question id -> spans, from MMDuetIT's file or the official `video start end##sentence` lines.

    Ids of the official lines: see `moment_files.charades_lines`.
    """
    if moment_files.is_charades_lines(path):
        return {row.id: row.windows for row in moment_files.charades_lines(path)}
    entries = mmduet_items.gold_entries(path, ["timestamps"])
    return {id: moment_files.spans(e["timestamps"], f"{path}: {id}") for id, e in entries.items()}


def evaluate(args: Namespace) -> str:
    """Score a prediction file; the last line is JSON with the reported setting and the sweep."""
    if moment_files.has_windows(args.pred_file):
        return moment_files.report(args.gold_file, args.pred_file, args.max_unmatched)
    gold = gold_spans(args.gold_file)
    predicted = mmduet_items.read_lines(args.pred_file)
    ids = [one.id for one in predicted]
    files = (args.gold_file, args.pred_file)
    both = user_files.matched(gold, ids, files, args.max_unmatched)
    # parity: every line counts, also when it repeats a question | files that repeat a question,
    # with a warning | none
    repeated = user_files.warn_repeated(
        ids, args.pred_file, "each line counts, as in the reference"
    )
    predicted = [one for one in predicted if one.id in gold]
    names = ("mIoU", "R@0.3", "R@0.5", "R@0.7")
    lines, sweep, oracle = [], [], []
    result: dict[str, Any] = {}
    for window in sorted({*grounding.WINDOWS, args.window}):
        found = [
            grounding.ious(one.times, one.relevance, gold[one.id], window) for one in predicted
        ]
        for k, threshold in enumerate(grounding.THRESHOLDS):
            scores = grounding.summary([values[k] for values in found])
            row = {"smooth_window_size": window, "threshold": threshold, "scores": scores}
            sweep.append(row)
            if window == args.window and k == level(args.threshold):
                result = dict(zip(names, scores, strict=True))
        best = grounding.summary([max(values) for values in found])
        oracle.append({"smooth_window_size": window, "scores": best})
        lines.append(
            f"window {window}: best among all thresholds (an oracle, not a result): "
            + "/".join(f"{value:.2f}" for value in best)
        )
    shown = "/".join(f"{value:.2f}" for value in result.values())
    lines.append(f"window {args.window}, threshold {args.threshold}: {shown}")
    head = {"n": len(predicted), "matched": both, "expected": len(gold), "repeated": repeated}
    head |= {"window": args.window}
    whole = {**result, **head, "threshold": args.threshold, "oracle": oracle, "sweep": sweep}
    return "\n".join(lines) + "\n" + mmduet_items.last_line(whole)
