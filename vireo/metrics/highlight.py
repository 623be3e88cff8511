"""Highlight detection (QVHighlights): mAP and HIT@1 over 2-second clips and three annotators.

Facts: docs/reference/mmduet.md section 3.4; the same as moment_detr's standalone evaluator.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from vireo.metrics.grounding import smooth

CLIP_S = 2
LEVELS = {"Fair": 2, "Good": 3, "VeryGood": 4}


def clip_scores(times: Sequence[float], scores: Sequence[float], window: int) -> np.ndarray:
    """Per-frame scores -> one per 2-second clip: the sum over its frames after smoothing."""
    level = smooth(scores, window)
    size = int(CLIP_S / (times[1] - times[0])) if len(times) > 1 else 1
    size = max(size, 1)
    return np.array([level[i : i + size].sum() for i in range(0, len(level), size)])


def labels(entry: dict[str, Any]) -> np.ndarray:
    """Saliency 0..4 [clips, 3 annotators] of one query of the release file."""
    count = int(entry["duration"] / CLIP_S)
    result = np.zeros((count, 3))
    for clip, marks in zip(entry["relevant_clip_ids"], entry["saliency_scores"], strict=True):
        if clip < count:
            result[clip] = marks
    return result


def average_precision(positive: np.ndarray, scores: np.ndarray) -> float:
    """Interpolated AP: mean of the best precision at each recall; 0 (1) if no (every) clip is."""
    if positive.all() or not positive.any():
        return float(positive.all()) if len(positive) else 0.0
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(positive[order])
    # One point per distinct score: tied clips enter together.
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(scores) - 1)
    recall = (hits[last] / hits[-1]).astype(np.float32)
    precision = hits[last] / (last + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    new = np.diff(np.concatenate([np.zeros(1, np.float32), recall])) != 0
    return float(best[new].mean())


def per_query(entry: dict[str, Any], scores: np.ndarray, least: int) -> tuple[list[float], float]:
    """(AP of each annotator, HIT@1) of one query; clips are positive from saliency `least` on."""
    positive = labels(entry) >= least
    count = len(positive)
    best = int(np.argmax(scores)) if len(scores) else count
    hit = float(best < count and positive[best].any())
    fitted = np.zeros(count)
    fitted[: min(count, len(scores))] = scores[:count]
    return [average_precision(positive[:, k], fitted) for k in range(positive.shape[1])], hit


def evaluate(
    gold: Sequence[dict[str, Any]], predictions: dict[Any, np.ndarray]
) -> dict[str, dict[str, float]]:
    """Level -> HL-mAP and HL-Hit1 in percent, over the queries that have a prediction."""
    # parity: queries without prediction are left out | the mean is over fewer queries | none;
    # coverage says how many
    known = [entry for entry in gold if entry["qid"] in predictions]
    result = {}
    for name, least in LEVELS.items():
        found = [per_query(entry, predictions[entry["qid"]], least) for entry in known]
        aps = [ap for values, _ in found for ap in values]
        result[name] = {
            "HL-mAP": 100 * float(np.mean(aps)) if aps else 0.0,
            "HL-Hit1": 100 * float(np.mean([hit for _, hit in found])) if found else 0.0,
        }
    return result
