"""Temporal grounding from per-frame relevance (Charades-STA): smooth, normalise, threshold, IoU.

Facts: docs/reference/mmduet.md section 3.3 (`evaluate.py --func grounding`). IoU is counted on
frames, between all frames at or above the threshold and the frames inside a gold span.
"""

from collections.abc import Sequence

import numpy as np

WINDOWS = tuple(range(15))
# parity: 0.30, 0.32, … as floating-point steps; a score that equals a threshold may fall either way
# | frames at exactly a threshold | none
THRESHOLDS = tuple(np.arange(0.30, 0.71, 0.02).tolist())
LEVELS = (0.3, 0.5, 0.7)


def smooth(scores: Sequence[float] | np.ndarray, window: int) -> np.ndarray:
    """Moving mean over [i - window, i + window], cut at the ends."""
    values = np.asarray(scores, dtype=np.float64)
    return np.array(
        [values[max(0, i - window) : i + window + 1].mean() for i in range(len(values))]
    )


def normalise(scores: np.ndarray) -> np.ndarray:
    """To 0..1 over the video; constant scores become NaN, which no threshold passes."""
    low, high = (scores.min(), scores.max()) if len(scores) else (0.0, 0.0)
    if not high > low:
        # parity: 0 / 0, so that such a video has no positive frame | such a video has IoU 0 | none
        return np.full(len(scores), np.nan)
    return (scores - low) / (high - low)


def inside(times: Sequence[float], spans: Sequence[Sequence[float]]) -> np.ndarray:
    """Which frames lie in a span, ends included."""
    moments = np.asarray(times, dtype=np.float64)
    result = np.zeros(len(moments), dtype=bool)
    for start, end in spans:
        result |= (moments >= start) & (moments <= end)
    return result


def iou(predicted: np.ndarray, gold: np.ndarray) -> float:
    """Intersection over union of two sets of frames; 0 when both are empty."""
    union = int((predicted | gold).sum())
    return float((predicted & gold).sum() / union) if union else 0.0


def ious(
    times: Sequence[float],
    scores: Sequence[float],
    spans: Sequence[Sequence[float]],
    window: int,
    thresholds: Sequence[float] = THRESHOLDS,
) -> list[float]:
    """IoU of one video at each threshold."""
    gold = inside(times, spans)
    level = normalise(smooth(scores, window))
    return [iou(level >= threshold, gold) for threshold in thresholds]


def summary(values: Sequence[float]) -> list[float]:
    """[mIoU, share >= 0.3, >= 0.5, >= 0.7], in percent."""
    array = np.asarray(values, dtype=np.float64)
    return [float(100 * array.mean())] + [float(100 * (array >= t).mean()) for t in LEVELS]
