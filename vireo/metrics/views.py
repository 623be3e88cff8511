"""Views of a video (segments x crops, windows) -> one score per class, or one number.

Softmax of each view in float32, then the mean over views, as the authors of UMT and VideoMamba
merge their test views; numbers are averaged as they are. Also a check of the class order.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class View:
    """What one view of a video was given: logits [K] or one number [1], and its label."""

    id: str
    scores: np.ndarray
    label: str
    chunk: str
    crop: str


@dataclass
class Video:
    """Views of one id that count, in the order they were met; its labels, the last one last."""

    views: list[np.ndarray]
    labels: list[str]


def merge(views: Iterable[np.ndarray]) -> np.ndarray:
    """Logits [K] of each view of one video -> mean probabilities [K] float32."""
    logits = np.stack([np.asarray(view, dtype=np.float32) for view in views])
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (shifted / shifted.sum(axis=1, keepdims=True)).mean(axis=0)


def gather(views: Iterable[View], all_windows: bool = False) -> dict[str, Video]:
    """Views of each id without repetitions (the reference's sampler pads with the first items).

    A view is known by chunk and crop, so that of several windows of a video only the first one met
    counts, which depends on the number of ranks. `all_windows` tells windows apart by their scores.
    """
    found: dict[str, Video] = {}
    seen: set[tuple[object, ...]] = set()
    for view in views:
        # parity: windows of a video have the same chunk and crop, all but the first are dropped | a
        # long video is judged by its first window | `options.merge: all_windows`
        place: tuple[object, ...] = (view.id, view.chunk + view.crop)
        if all_windows:
            place = (view.id, view.chunk, view.crop, view.scores.tobytes())
        if place in seen:
            continue
        seen.add(place)
        video = found.setdefault(view.id, Video([], []))
        video.views.append(view.scores)
        if view.label in video.labels:
            video.labels.remove(view.label)
        video.labels.append(view.label)
    return found


def relabelled(best: np.ndarray, labels: np.ndarray, classes: int) -> float:
    """Top-1 (0..1) under the one-to-one renaming of predicted classes that suits the labels best.

    Far above the real top-1 it means that head and annotations number the classes differently.
    """
    from scipy.optimize import linear_sum_assignment

    table = np.zeros((classes, classes))
    np.add.at(table, (best, labels), 1)
    rows, columns = linear_sum_assignment(-table)
    return float(table[rows, columns].sum() / max(len(labels), 1))
