"""QVHighlights: which clips are the highlights of a query, from MMDuet's per-frame relevance.

Facts: docs/reference/mmduet.md section 3.4. The paper smooths over +-2 frames and reports mAP and
HIT@1 of clips marked "very good". The annotations are CC BY-NC-SA 4.0: fetched, never shipped.

One line of the official gold file (values invented):

    {"qid": 2579, "query": "a chef plates food", "duration": 150, "vid": "AbC_60.0_210.0",
     "relevant_clip_ids": [41, 42], "saliency_scores": [[3, 4, 2], [4, 4, 3]]}
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
from vireo.errors import VireoError
from vireo.metrics import highlight
from vireo.metrics.grounding import WINDOWS
from vireo.metrics.scores import Metric, Scores
from vireo.tables import items as item_table

NEEDS = "StreamingModel"
WINDOW = 2

__all__ = ["NEEDS", "PREDICTS", "export", "prompts", "videos"]


def items(sources: dict[str, Path], block: dict[str, Any]) -> pd.DataFrame:
    """One row per query, with its line of the release file in `meta`."""
    path, entries = mmduet_items.annotations(sources, block)
    _, released = mmduet_items.annotations(sources, block, "release")
    marks = {str(line["qid"]): line for line in released}
    for entry in entries:
        id = str(entry["question_id"])
        if id not in marks:
            raise VireoError(f"{path}: query {id} is not in the release file")
        entry["release"] = marks[id]
    return mmduet_items.item_rows(entries, block["splits"][0], path, ["release"])


def clips(predicted: dict[str, StreamedVideo], window: int) -> dict[str, np.ndarray]:
    """Question id -> scores of its 2-second clips."""
    return {
        id: highlight.clip_scores(one.times, one.relevance, window) for id, one in predicted.items()
    }


def score(items: pd.DataFrame, predictions: pd.DataFrame, block: dict[str, Any]) -> Scores:
    """mAP and HIT@1 in percent at each level of saliency, over queries with a prediction.

    `options.shuffles: n` adds HIT@1 of scores shuffled within each video, mean of n orders.
    """
    options = block.get("options") or {}
    window = int(options.get("window", WINDOW))
    predicted = mmduet_items.from_rows(items, predictions, block)
    scores = clips(predicted, window)
    gold = {row.id: json.loads(row.meta)["release"] for row in item_table.rows(items)}
    metrics = {}
    for name, least in highlight.LEVELS.items():
        found = {
            id: highlight.per_query(gold[id], scores[id], least) for id in gold if id in scores
        }
        aps = pd.Series({id: 100 * float(np.mean(a)) for id, (a, _) in found.items()}, dtype=float)
        hits = pd.Series({id: 100 * hit for id, (_, hit) in found.items()}, dtype=float)
        short = "" if name == "VeryGood" else f"_{name}"
        metrics[f"mAP{short}"] = Metric.mean(aps, "%", 0.0, 100.0, f"mAP ({name})")
        metrics[f"HIT@1{short}"] = Metric.mean(hits, "%", 0.0, 100.0, f"HIT@1 ({name})")
    if times := int(options.get("shuffles", 0)):
        least = highlight.LEVELS["VeryGood"]
        perturbed = [clips(one, window) for one in mmduet_items.shuffled(predicted, times)]
        mean = {
            id: 100 * np.mean([highlight.per_query(gold[id], s[id], least)[1] for s in perturbed])
            for id in gold
            if id in scores
        }
        title = "HIT@1 (VeryGood), scores shuffled within each video"
        parts = pd.Series(mean, dtype=float)
        metrics["HIT@1_shuffled"] = Metric.mean(parts, "%", 0.0, 100.0, title)
    return Scores(
        metrics=metrics,
        primary=block.get("primary") or "mAP",
        chance=block.get("chance"),
        notes=[f"scores smoothed over +-{window} frames, summed over 2-second clips"],
    )


def released(path: str) -> list[dict[str, Any]]:
    """Lines of the release file with their saliency; VireoError names what is wrong."""
    gold = user_files.objects(path)
    keys = ("qid", "duration", "relevant_clip_ids", "saliency_scores")
    for number, entry in enumerate(gold):
        if missing := [key for key in keys if key not in entry]:
            raise VireoError(
                f"{path}: entry {number} has no {', '.join(missing)}; give the release file, with "
                "saliency_scores (highlight_val_release.jsonl)"
            )
        try:
            highlight.labels(entry)
        except (TypeError, ValueError, IndexError) as error:
            raise VireoError(f"{path}: query {entry['qid']}: {error}") from error
    if several := user_files.repeated(entry["qid"] for entry in gold):
        raise VireoError(f"{path}: query {next(iter(several))} occurs more than once")
    return gold


def add_arguments(parser: ArgumentParser) -> None:
    """Files, and the window that is reported."""
    parser.add_argument(
        "--pred_file",
        required=True,
        help="lines of test/inference.py, or a submission of moment_detr (pred_relevant_windows, "
        "pred_saliency_scores)",
    )
    parser.add_argument("--gold_file", required=True, help="highlight_val_release.jsonl")
    parser.add_argument("--window", type=int, default=WINDOW, help="frames on either side (2)")
    user_files.add_unmatched(parser)


def evaluate(args: Namespace) -> str:
    """Score a prediction file; the last line is JSON with the reported window and the sweep."""
    gold = released(args.gold_file)
    known = [str(entry["qid"]) for entry in gold]
    files = (args.gold_file, args.pred_file)
    if moment_files.is_submission(args.pred_file):
        return moment_files.report(*files, args.max_unmatched, gold)
    lines_given = mmduet_items.read_lines(args.pred_file)
    both = user_files.matched(known, [one.id for one in lines_given], files, args.max_unmatched)
    predicted = mmduet_items.last_of_each(lines_given, args.pred_file)
    lines, sweep = [], []
    result: dict[str, float] = {}
    for window in sorted({*WINDOWS, args.window}):
        found = clips(predicted, window)
        by_qid = {e["qid"]: found[str(e["qid"])] for e in gold if str(e["qid"]) in found}
        values = highlight.evaluate(gold, by_qid)
        brief = {
            f"HL-min-{name}-{metric.removeprefix('HL-')}": round(number, 2)
            for name, numbers in values.items()
            for metric, number in numbers.items()
        }
        sweep.append({"smooth_window_size": window, "results": brief})
        if window == args.window:
            result = brief
        shown = ("HL-min-VeryGood-mAP", "HL-min-VeryGood-Hit1")
        lines.append(f"window {window}: " + "/".join(f"{brief[key]:.2f}" for key in shown))
    whole = {
        "mAP": result["HL-min-VeryGood-mAP"],
        "HIT@1": result["HL-min-VeryGood-Hit1"],
        **result,
        "n": both,
        "matched": both,
        "expected": len(gold),
        "window": args.window,
        "sweep": sweep,
    }
    return "\n".join(lines) + "\n" + mmduet_items.last_line(whole)
