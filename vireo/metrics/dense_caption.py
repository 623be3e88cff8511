"""Dense captioning (YouCook2): segments from replies, then F1, CIDEr, METEOR, SODA_c.

Facts: docs/reference/mmduet.md section 3.1 (`evaluate.py --func dense_captioning`, `test/dvc`). All
numbers are per video first, then averaged; everything that needs METEOR or its tokenizer is None
where Java is absent.
"""

import itertools
import random
import re
import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vireo.errors import VireoError
from vireo.metrics import coco

LEVELS = (0.3, 0.5, 0.7, 0.9)
JAVA = ("Para_CIDER", "Para_METEOR", "CIDER", "METEOR", "SODA_c_2")


@dataclass(frozen=True)
class Options:
    """Departures from the original evaluator, which is the default.

    keep_first: the first caption counts too, from second 0. numeric_order: SODA_c's columns are
    ordered by number beyond ten captions. count_missing: a gold video without prediction scores 0.
    """

    keep_first: bool = False
    numeric_order: bool = False
    count_missing: bool = False


@dataclass
class Segments:
    """Captions of one video with [start, end] in seconds."""

    spans: list[list[float]]
    captions: list[str]


def built(turns: Sequence[dict[str, Any]], keep_first: bool = False) -> Segments:
    """Assistant turns (`time`, `content`) -> segments: each from the caption before it to itself.

    Turns of the same text in a row are one, which ends with the last of them. A span whose ends
    are reversed (turns not in the order of time) is turned round.
    """
    merged: list[tuple[float, str]] = []
    for turn in turns:
        if turn["role"] != "assistant":
            continue
        if merged and merged[-1][1] == turn["content"]:
            merged.pop()
        merged.append((turn["time"], turn["content"]))
    # parity: the two ends of a span are sorted, whatever the order of the turns | F1 of files whose
    # turns are not in order | none
    spans = [sorted((before[0], after[0])) for before, after in itertools.pairwise(merged)]
    captions = [text for _, text in merged[1:]]
    # parity: the first caption has no start and is dropped | one caption a video less |
    # `options.keep_first: true`
    if keep_first and merged:
        spans.insert(0, [0.0, merged[0][0]])
        captions.insert(0, merged[0][1])
    return Segments(spans, captions)


def gold(answers: Sequence[dict[str, Any]], name: str = "") -> Segments:
    """Gold answers (`content`, `time` [start, end]) -> segments with the captions as scored."""
    # parity: captions are joined to a paragraph and split again, which adds full stops | a full
    # stop more in gold captions | none
    joined = ". ".join(answer["content"].replace(". ", ", ") for answer in answers)
    captions = [f"{part}." for part in joined.split(". ")]
    if len(captions) != len(answers):
        raise VireoError(f"{name}: {len(answers)} gold captions give {len(captions)} sentences")
    return Segments([sorted(answer["time"]) for answer in answers], captions)


def iou(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over min(hull, sum of lengths)."""
    shared = max(0.0, min(a[1], b[1]) - max(a[0], b[0]))
    hull = max(a[1], b[1]) - min(a[0], b[0])
    return shared / (min(hull, a[1] - a[0] + b[1] - b[0]) + 1e-8)


def overlap(predicted: Segments, true: Segments) -> np.ndarray:
    """IoU [gold, predicted]."""
    rows = [[iou(p, g) for p in predicted.spans] for g in true.spans]
    return np.array(rows).reshape(len(true.spans), len(predicted.spans))


def localisation(ious: np.ndarray) -> dict[str, float]:
    """Precision and recall at each level, their means, and F1 of the means, 0..1."""
    result: dict[str, float] = {}
    for level in LEVELS:
        hit = ious > level
        result[f"Precision@{level}"] = float(hit.any(0).mean()) if hit.shape[1] else 0.0
        result[f"Recall@{level}"] = float(hit.any(1).mean()) if hit.size else 0.0
    precision = float(np.mean([result[f"Precision@{level}"] for level in LEVELS]))
    recall = float(np.mean([result[f"Recall@{level}"] for level in LEVELS]))
    both = precision + recall
    result["Precision_Mean"], result["Recall_Mean"] = precision, recall
    result["F1_Score"] = 2 * precision * recall / both if both else 0.0
    return result


def best_order(values: np.ndarray) -> float:
    """Largest sum over pairs that keep the order in both dimensions."""
    rows, columns = values.shape
    table = np.zeros((rows + 1, columns + 1))
    for i in range(rows):
        for j in range(columns):
            taken = table[i, j] + values[i, j]
            table[i + 1, j + 1] = max(taken, table[i, j + 1], table[i + 1, j])
    return float(table[-1, -1])


def _soda(
    meteor: coco.Meteor, words: dict[str, str], p: Segments, g: Segments, ious: np.ndarray,
    numeric_order: bool,
) -> float:  # fmt: skip
    count = len(p.captions)
    if not count or not g.captions:
        return 0.0
    # parity: scores come back ordered by the caption's number as a text ("0", "1", "10", "2", …),
    # the overlaps by number; more than ten captions are therefore mixed up | SODA_c of videos with
    # more than ten captions | `options.numeric_order: true`
    order = list(range(count)) if numeric_order else sorted(range(count), key=str)
    rows = []
    for caption in g.captions:
        # parity: the prediction is METEOR's reference, the gold caption its hypothesis | METEOR is
        # not symmetric: other values | none
        pairs = [(words[p.captions[j]], words[caption]) for j in order]
        rows.append(meteor.score(pairs)[1])
    best = best_order(np.array(rows) * ious)
    precision, recall = best / count, best / len(g.captions)
    return 2 * precision * recall / (precision + recall) if best else 0.0


def _pairs(p: Segments, g: Segments, ious: np.ndarray, level: float, rng: random.Random) -> Any:
    """(gold, predicted) captions that overlap enough; a lonely prediction meets random letters."""
    for j, caption in enumerate(p.captions):
        partners = [g.captions[i] for i in range(len(g.captions)) if ious[i, j] >= level]
        if partners:
            yield from ((partner, caption) for partner in partners)
        else:
            letters = rng.choices(string.ascii_lowercase, k=rng.randint(10, 20))
            yield "".join(letters), caption


def _paragraph(captions: Sequence[str]) -> str:
    text = " ".join(captions).lower()
    return " ".join(re.sub(r"[^a-z]", " ", text).split())


def evaluate(
    true: dict[str, Segments],
    predicted: dict[str, Segments],
    options: Options | None = None,
    meteor: coco.Meteor | None = None,
) -> tuple[dict[str, float | None], dict[str, dict[str, float]]]:
    """Video -> segments on both sides: (numbers x 100, per video 0..1).

    `n_preds` is a count. Without `meteor` the numbers of `JAVA` are None.
    """
    options = options or Options()
    ids = [video for video in true if options.count_missing or video in predicted]
    empty = Segments([], [])
    each: dict[str, dict[str, float]] = {}
    for video in ids:
        p = predicted.get(video, empty)
        each[video] = localisation(overlap(p, true[video])) | {"n_preds": float(len(p.captions))}
    totals: dict[str, float | None] = {name: None for name in JAVA}
    if meteor is not None and ids:
        totals |= _with_java(ids, true, predicted, options, meteor, each)
    for name in next(iter(each.values()), {}):
        mean = float(np.mean([row[name] for row in each.values()]))
        totals[name] = mean if name == "n_preds" else 100 * mean
    return totals, each


def _with_java(
    ids: list[str],
    true: dict[str, Segments],
    predicted: dict[str, Segments],
    options: Options,
    meteor: coco.Meteor,
    each: dict[str, dict[str, float]],
) -> dict[str, float | None]:
    """Add CIDEr, METEOR and SODA_c to each video; returns the paragraph metrics."""
    rng = random.Random(0)
    empty = Segments([], [])
    plan: dict[str, list[list[tuple[str, str]]]] = {}
    for video in ids:
        p, g = predicted.get(video, empty), true[video]
        ious = overlap(p, g)
        plan[video] = [list(_pairs(p, g, ious, level, rng)) for level in LEVELS]
    # parity: paragraphs keep their words as they are, only the other captions are tokenised |
    # paragraph scores of captions with contractions | none
    paragraphs = [
        (_paragraph(true[video].captions), _paragraph(predicted.get(video, empty).captions))
        for video in ids
    ]
    texts = [t for video in ids for pairs in plan[video] for pair in pairs for t in pair]
    texts += [t for video in ids for t in true[video].captions]
    words = coco.tokenize(texts, meteor.java)
    for video in ids:
        p, g = predicted.get(video, empty), true[video]
        levels = [[(words[a], words[b]) for a, b in pairs] for pairs in plan[video]]
        row = each[video]
        row["CIDER"] = float(np.mean([coco.cider(pairs)[0] for pairs in levels]))
        row["METEOR"] = float(np.mean([meteor.score(pairs)[0] for pairs in levels]))
        row["SODA_c_2"] = _soda(meteor, words, p, g, overlap(p, g), options.numeric_order)
    return {
        "Para_CIDER": 100 * coco.cider(paragraphs)[0],
        "Para_METEOR": 100 * meteor.score(paragraphs)[0],
    }
