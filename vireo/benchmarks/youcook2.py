"""YouCook2 dense captioning: what happens when, from what a watcher says while the video plays.

Facts: docs/reference/mmduet.md section 3.1. The original evaluator drops the first caption of every
video and mixes SODA_c's columns beyond ten captions; the defaults reproduce it, `keep_first`,
`numeric_order` and `count_missing` correct it.

One entry of the gold file (values invented; see `_mmduet_items`):

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

from vireo.benchmarks.annotations import mmduet_items
from vireo.benchmarks.annotations.mmduet_items import PREDICTS, export, prompts, videos
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
    parser.add_argument("--gold_file", required=True, help="val-random_prompt.json")
    parser.add_argument("--keep_first", action="store_true", help="count the first caption too")
    parser.add_argument("--numeric_order", action="store_true", help="SODA_c beyond ten captions")
    parser.add_argument("--count_missing", action="store_true", help="no prediction scores 0")


def evaluate(args: Namespace) -> str:
    """Score a prediction file; the last line is JSON (x 100; null = not computed)."""
    options = dense.Options(**{key: getattr(args, key) for key in SWITCHES})
    entries = mmduet_items.read_json_or_lines(args.gold_file)
    gold = {
        str(e["question_id"]): dense.gold(e["answer"], f"{args.gold_file}: {e['question_id']}")
        for e in entries
    }
    found = mmduet_items.read_predictions(args.pred_file)
    segments = {id: dense.built(one.turns, options.keep_first) for id, one in found.items()}
    segments = {id: one for id, one in segments.items() if id in gold}
    totals, each, why = measured(gold, segments, options)
    head = f"evaluate data samples: {len(each)}\n"
    if why:
        head += f"not computed: {', '.join(dense.JAVA)} ({why})\n"
    numbers = {k: None if v is None else round(v, 4) for k, v in totals.items()}
    numbers["SODA_c"] = numbers.get("SODA_c_2")
    numbers["F1"] = numbers.get("F1_Score")
    return head + printed(totals) + mmduet_items.last_line({**numbers, "n": len(each)})
