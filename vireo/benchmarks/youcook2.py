"""YouCook2 dense captioning: what happens when, from a streaming model's replies.

Facts: docs/reference/mmduet.md section 3.1. The original evaluator drops the first caption of every
video and mixes SODA_c's columns beyond ten captions; the defaults reproduce it, `keep_first`,
`numeric_order` and `count_missing` correct it.

One entry of the gold file (values invented; see `mmduet_items`):

    {"question_id": "yc2_0", "video": "a.mp4",
     "conversation": [{"role": "user", "content": "Describe each step.", "time": 0}],
     "answer": [{"role": "assistant", "content": "cut the onion", "time": [12.0, 20.5]}]}
"""

import json
import math
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vireo.benchmarks.annotations import action_lists, mmduet_items, user_files
from vireo.benchmarks.annotations.mmduet_items import PREDICTS, export, prompts, videos
from vireo.errors import VireoError
from vireo.metrics import coco
from vireo.metrics import dense_caption as dense
from vireo.metrics.scores import Metric, Scores
from vireo.tables import items as item_table

NEEDS = "StreamingModel"
CEILING_DRAWS = 5
SWITCHES = ("keep_first", "numeric_order", "count_missing")

__all__ = ["NEEDS", "PREDICTS", "export", "prompts", "videos"]


def items(sources: dict[str, Path], block: dict[str, Any]) -> pd.DataFrame:
    """One row per video, with its gold captions in `meta`."""
    path, entries = mmduet_items.annotations(sources, block)
    return mmduet_items.item_rows(entries, block["splits"][0], path, ["answer"])


def measured(
    gold: dict[str, dense.Segments], predicted: dict[str, dense.Segments], options: dense.Options
) -> tuple[dict[str, float | None], dict[str, dict[str, float]], str | None]:
    """All numbers, per video, and why some were not computed (None: all were)."""
    why = coco.missing()
    if why:
        return *dense.evaluate(gold, predicted, options), why
    with coco.Meteor() as meteor:
        return *dense.evaluate(gold, predicted, options, meteor), None


def score(items: pd.DataFrame, predictions: pd.DataFrame, block: dict[str, Any]) -> Scores:
    """SODA_c, CIDEr, METEOR (through Java) and F1, x 100, means over videos.

    `options.answer_at: [a, b]` adds the F1 of a perfect model that answers there in each span, and
    the F1 in which only captions with the very words of the gold ones count.
    """
    given = block.get("options") or {}
    options = dense.Options(**{key: bool(given.get(key, False)) for key in SWITCHES})
    gold = {r.id: dense.gold(json.loads(r.meta)["answer"], r.id) for r in item_table.rows(items)}
    found = mmduet_items.from_rows(items, predictions, block)
    segments = {id: dense.built(one.turns, options.keep_first) for id, one in found.items()}
    totals, each, why = measured(gold, segments, options)
    names = {"SODA_c": "SODA_c_2", "CIDEr": "CIDER", "METEOR": "METEOR", "F1": "F1_Score"}
    metrics = {}
    for name, key in names.items():
        if why and key in dense.JAVA:
            metrics[name] = Metric(None, 0, title=name)
            continue
        parts = pd.Series({id: 100 * row.get(key, 0.0) for id, row in each.items()}, dtype=float)
        top = None if key == "CIDER" else 100.0
        metrics[name] = Metric.mean(parts, "", 0.0, top, name)
    if at := given.get("answer_at"):
        fps = float(block["protocol"]["frames"]["target"])
        metrics["F1_ceiling"] = ceiling(items, at, fps, options)
        metrics["F1_words"] = same_words(gold, segments)
    captions = [row["n_preds"] for row in each.values()]
    metrics["captions"] = Metric(
        sum(captions) / len(captions) if captions else None, len(captions), title="captions a video"
    )
    notes = [f"SODA_c, CIDEr, METEOR not computed: {why}"] if why else []
    notes += [f"corrected evaluator: {key}" for key in SWITCHES if getattr(options, key)]
    return Scores(
        metrics=metrics,
        primary=block.get("primary") or "F1",
        printout=printed(totals),
        chance=block.get("chance"),
        notes=notes,
    )


def ceiling(items: pd.DataFrame, at: Sequence[float], fps: float, options: dense.Options) -> Metric:
    """F1 of the gold captions, each told at the first frame after `at` (shares of its span)."""
    parts = {}
    for row in item_table.rows(items):
        answers = json.loads(row.meta)["answer"]
        rng = np.random.default_rng([*row.id.encode()])
        values = []
        for _ in range(CEILING_DRAWS):
            turns = []
            for answer in answers:
                start, end = answer["time"]
                time = start + rng.uniform(at[0], at[1]) * (end - start)
                told = math.ceil(time * fps) / fps
                turns.append({"role": "assistant", "content": answer["content"], "time": told})
            segments = dense.built(turns, options.keep_first)
            true = dense.gold(answers, row.id)
            values.append(dense.localisation(dense.overlap(segments, true))["F1_Score"])
        parts[row.id] = 100 * float(np.mean(values))
    title = f"F1 of the gold captions told at {at[0]:.0%} to {at[1]:.0%} of their spans"
    return Metric.mean(pd.Series(parts, dtype=float), "", title=title)


def same_words(gold: dict[str, dense.Segments], found: dict[str, dense.Segments]) -> Metric:
    """F1 that also looks at the words: an untrained model that chatters has a high F1 too."""

    def plain(captions: Sequence[str]) -> np.ndarray:
        return np.array([text.strip().rstrip(".").lower() for text in captions], dtype=object)

    parts = {}
    for id, one in found.items():
        equal = plain(gold[id].captions)[:, None] == plain(one.captions)[None, :]
        parts[id] = 100 * dense.localisation(dense.overlap(one, gold[id]) * equal)["F1_Score"]
    title = "F1 of captions with the same words"
    return Metric.mean(pd.Series(parts, dtype=float), "", 0.0, 100.0, title)


def printed(totals: dict[str, float | None]) -> str:
    """The numbers as the original evaluator prints them."""
    shown = {k: "not computed" if v is None else f"{v:.1f}" for k, v in totals.items()}
    return "".join(f"{name} {text}\n" for name, text in shown.items())


def add_arguments(parser: ArgumentParser) -> None:
    """Files, and the corrections of the original evaluator."""
    parser.add_argument("--pred_file", required=True, help="lines of test/inference.py")
    parser.add_argument(
        "--gold_file",
        required=True,
        help="val-random_prompt.json, or the official JSON (timestamps and sentences per video, or "
        "youcookii_annotations_trainval.json)",
    )
    parser.add_argument("--keep_first", action="store_true", help="count the first caption too")
    parser.add_argument("--numeric_order", action="store_true", help="SODA_c beyond ten captions")
    parser.add_argument("--count_missing", action="store_true", help="no prediction scores 0")
    user_files.add_unmatched(parser)


def gold_segments(path: str) -> dict[str, dense.Segments]:
    """Video -> gold segments, from MMDuetIT's file or an official one.

    Official: `{video: {timestamps: [[s, e], …], sentences: [...]}}`, or `database` of
    youcookii_annotations_trainval.json, of which the validation videos count.
    """
    value = user_files.json_or_lines(path)
    if not isinstance(value, dict) or "question_id" in value:
        entries = mmduet_items.gold_entries(path, ["answer"])
        return {id: _segments(entry["answer"], f"{path}: {id!r}") for id, entry in entries.items()}
    videos = value.get("database", value)
    result = {}
    for id, entry in videos.items() if isinstance(videos, dict) else ():
        where = f"{path}: {id!r}"
        try:
            if "annotations" in entry:
                if entry["subset"] != "validation":
                    continue
                spans = [one["segment"] for one in entry["annotations"]]
                texts = [one["sentence"] for one in entry["annotations"]]
            else:
                spans, texts = entry["timestamps"], entry["sentences"]
            both = zip(spans, texts, strict=True)
            answers = [{"content": text.strip(), "time": span} for span, text in both]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise VireoError(
                f"{where}: needs as many `timestamps` as `sentences` ({error!r})"
            ) from error
        result[id] = _segments(answers, where)
    if not result:
        raise VireoError(f"{path}: no video of the validation split with timestamps and sentences")
    return result


def _segments(answers: Any, where: str) -> dense.Segments:
    try:
        found = dense.gold(answers, where)
        shape = user_files.finite(found.spans, f"{where}, spans").shape
    except (KeyError, TypeError, AttributeError) as error:
        raise VireoError(f"{where}: needs answers with content and time ({error!r})") from error
    if not found.spans or shape != (len(found.spans), 2):
        raise VireoError(f"{where}: each caption needs a span [start, end]")
    return found


def evaluate(args: Namespace) -> str:
    """Score a prediction file; the last line is JSON (x 100; null = not computed)."""
    options = dense.Options(**{key: getattr(args, key) for key in SWITCHES})
    gold = gold_segments(args.gold_file)
    given = mmduet_items.read_lines(args.pred_file)
    found = mmduet_items.last_of_each(given, args.pred_file)
    if not found.keys() & gold.keys():  # question ids of MMDuet may carry the video's ending
        found = {action_lists.stem(id): one for id, one in found.items()}
    files = (args.gold_file, args.pred_file)
    both = user_files.matched(gold, found, files, args.max_unmatched)
    segments = {id: dense.built(one.turns, options.keep_first) for id, one in found.items()}
    segments = {id: one for id, one in segments.items() if id in gold}
    totals, each, why = measured(gold, segments, options)
    head = f"evaluate data samples: {len(each)}\n"
    if why:
        head += f"not computed: {', '.join(dense.JAVA)} ({why})\n"
    numbers = {k: None if v is None else round(v, 4) for k, v in totals.items()}
    numbers["SODA_c"] = numbers.get("SODA_c_2")
    numbers["F1"] = numbers.get("F1_Score")
    counts = {"n": len(each), "matched": both, "expected": len(gold)}
    return head + printed(totals) + mmduet_items.last_line({**numbers, **counts})
