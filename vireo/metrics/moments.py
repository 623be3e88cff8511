"""Moment retrieval (QVHighlights, Charades-STA): ranked windows against gold windows.

The protocol of moment_detr's standalone evaluator: average precision of the detection kind per
query at IoU 0.5, 0.55, …, 0.95, and recall of the first window. R1 looks at the first window of the
list, whatever its score; AP sorts by score.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

THRESHOLDS = tuple(np.linspace(0.5, 0.95, 10).round(2).tolist())
MOST = 10  # windows of a query that enter AP
LENGTHS = {
    "full": (0.0, 150.0),
    "short": (0.0, 10.0),
    "middle": (10.0, 30.0),
    "long": (30.0, 150.0),
}
Window = Sequence[float]  # start, end in seconds, of a prediction also its score


def ious(a: Sequence[Window], b: Sequence[Window]) -> np.ndarray:
    """Temporal IoU [A,B] of windows; two windows without length have 0."""
    first = np.asarray([w[:2] for w in a], dtype=np.float64).reshape(-1, 2)[:, None]
    second = np.asarray([w[:2] for w in b], dtype=np.float64).reshape(-1, 2)[None]
    start = np.maximum(first[..., 0], second[..., 0])
    end = np.minimum(first[..., 1], second[..., 1])
    shared = np.clip(end - start, 0, None)
    union = (first[..., 1] - first[..., 0]) + (second[..., 1] - second[..., 0]) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def average_precision(
    predicted: Sequence[Window],
    gold: Sequence[Window],
    thresholds: Sequence[float] = THRESHOLDS,
    most: int | None = MOST,
) -> np.ndarray:
    """AP of one query at each threshold, 0..1: area under the interpolated precision.

    A gold window is found once, by the best-scored prediction that overlaps enough; among several
    the one that overlaps most is taken.
    """
    kept = list(predicted)[:most]
    result = np.zeros(len(thresholds))
    if not kept or not gold:
        return result
    order = sorted(range(len(kept)), key=lambda n: -kept[n][2])
    overlap = ious(kept, gold)
    for t, least in enumerate(thresholds):
        free = np.ones(len(gold), dtype=bool)
        hit = np.zeros(len(kept))
        for place, number in enumerate(order):
            usable = np.where(free & (overlap[number] >= least), overlap[number], -1.0)
            # parity: of equals the last | rankings with equal scores | none
            best = int(len(usable) - 1 - np.argmax(usable[::-1]))
            if usable[best] >= 0:
                free[best] = False
                hit[place] = 1
        found = np.cumsum(hit)
        recall = np.concatenate([[0.0], found / len(gold)])
        precision = found / np.arange(1, len(kept) + 1)
        envelope = np.maximum.accumulate(precision[::-1])[::-1]
        result[t] = float((np.diff(recall) * envelope).sum())
    return result


def first_iou(predicted: Sequence[Window], gold: Sequence[Window]) -> float:
    """Best IoU of the first predicted window with any gold window; 0 without one."""
    return float(ious(predicted[:1], gold).max()) if len(predicted) and len(gold) else 0.0


@dataclass
class Summary:
    """Numbers in percent; `each` holds AP (mean over thresholds) and first IoU per query, 0..1."""

    mean_ap: dict[str, float] = field(default_factory=dict)
    recall: dict[str, float] = field(default_factory=dict)
    mean_iou: float = 0.0
    n: int = 0
    each: dict[str, tuple[float, float]] = field(default_factory=dict)


def in_range(windows: Sequence[Window], length: str) -> list[Window]:
    """The gold windows whose length belongs to a class of `LENGTHS`; `full` takes every one."""
    low, high = LENGTHS[length]
    return [w for w in windows if length == "full" or low < w[1] - w[0] <= high]


def summarise(
    gold: Mapping[str, Sequence[Window]],
    predicted: Mapping[str, Sequence[Window]],
    length: str = "full",
    levels: Sequence[float] = THRESHOLDS,
) -> Summary:
    """mAP at each threshold and their mean, R1 at `levels`, mIoU, over queries of both sides.

    length: only gold windows of that class of `LENGTHS`, and queries that have one.
    """
    known = {id: in_range(windows, length) for id, windows in gold.items() if id in predicted}
    known = {id: windows for id, windows in known.items() if windows}
    if not known:
        return Summary()
    aps = np.stack([average_precision(predicted[id], windows) for id, windows in known.items()])
    first = np.array([first_iou(predicted[id], windows) for id, windows in known.items()])
    means = {
        f"{t:.2f}".rstrip("0"): float(v) for t, v in zip(THRESHOLDS, 100 * aps.mean(0), strict=True)
    }
    return Summary(
        mean_ap={**means, "average": float(100 * aps.mean())},
        recall={f"{t:g}": float(100 * (first >= t).mean()) for t in levels},
        mean_iou=float(100 * first.mean()),
        n=len(known),
        each={id: (float(aps[k].mean()), float(first[k])) for k, id in enumerate(known)},
    )
