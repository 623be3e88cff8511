"""Views of a video (segments x crops) -> one score per class, and a check of the class order.

Softmax of each view in float32, then the mean over views, as the authors of UMT and VideoMamba
merge their test views.
"""

from collections.abc import Iterable

import numpy as np


def merge(views: Iterable[np.ndarray]) -> np.ndarray:
    """Logits [K] of each view of one video -> mean probabilities [K] float32."""
    logits = np.stack([np.asarray(view, dtype=np.float32) for view in views])
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (shifted / shifted.sum(axis=1, keepdims=True)).mean(axis=0)


def relabelled(best: np.ndarray, labels: np.ndarray, classes: int) -> float:
    """Top-1 (0..1) under the one-to-one renaming of predicted classes that suits the labels best.

    Far above the real top-1 it means that head and annotations number the classes differently.
    """
    from scipy.optimize import linear_sum_assignment

    table = np.zeros((classes, classes))
    np.add.at(table, (best, labels), 1)
    rows, columns = linear_sum_assignment(-table)
    return float(table[rows, columns].sum() / max(len(labels), 1))
