"""Which frames and which part of the picture make one view of a video, as VideoMamba takes them.

Test views are `segments` x `crops`: shifted frame choices times square crops along the long side.
Their predictions are merged in `vireo/metrics/views.py`. Functions of counts and of uint8 pixels,
nothing of torch. Facts: VideoMamba's `datasets` (sparse Kinetics, SSv2 and sliding-window readers).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from vireo.errors import VireoError


@dataclass(frozen=True)
class View:
    """One view of a video: frame choice `segment`, crop `crop`."""

    segment: int
    crop: int


def views(segments: int, crops: int) -> list[View]:
    """All views in the reference's order (segment first); the place is the view number."""
    if segments < 1 or crops < 1:
        raise VireoError(f"views: {segments} segments x {crops} crops; both must be at least 1")
    return [View(segment, crop) for segment in range(segments) for crop in range(crops)]


# -- frames -----------------------------------------------------------------------------------


def sparse(frames: int, n: int, segments: int = 1, segment: int = 0) -> list[int]:
    """n frames spread over the video, moved on inside their stretches by segment (test views).

    `segments=1` is the validation choice. Used for Kinetics, Breakfast, COIN and LVU.
    """
    size = (frames - 1) / n
    shift = int(size / (segments + 1) * (segment + 1))
    # numpy rounds halves to even; a shifted last frame stays inside by construction
    return [int(np.round(size * i)) + shift for i in range(n)]


def sparse_train(frames: int, n: int, rng: np.random.Generator) -> list[int]:
    """One uniformly random frame in each of n stretches, both ends included."""
    size = (frames - 1) / n
    chosen = []
    for i in range(n):
        first, last = int(np.round(size * i)), int(np.round(size * (i + 1)))
        chosen.append(min(int(rng.integers(first, last + 1)), frames - 1))
    return chosen


def halves(frames: int, n: int, segments: int = 2, segment: int = 0) -> list[int]:
    """SSv2: starts (segment 0) and middles (1) of n ticks, put in order and dealt out in turn.

    `segments=1` gives the middles, the validation choice. VideoMamba's reader knows no third test
    choice: VireoError for more than two segments.
    """
    tick = frames / n
    middles = [int(tick / 2 + tick * i) for i in range(n)]
    if segments == 1:
        return middles
    if segments != 2:
        # parity: the reference takes every second frame whatever the number of segments | more than
        # two segments are refused | none
        raise VireoError(f"views: SSv2 has 1 or 2 segments, not {segments}")
    return sorted([int(tick * i) for i in range(n)] + middles)[segment::2]


def halves_train(frames: int, n: int, rng: np.random.Generator) -> list[int]:
    """SSv2 and masked pre-training: one random frame in each of n equal whole-number stretches.

    Shorter than n frames: all frame 0, as in the reference.
    """
    average = frames // n
    if average < 1:
        return [0] * n
    return [i * average + int(offset) for i, offset in enumerate(rng.integers(average, size=n))]


def windows(duration: float, length: float, stride: float) -> list[tuple[float, float]]:
    """Sliding windows (start, end) in seconds; the last ones are cut at the video's end.

    A cut window counts while at least half of `length` remains; a shorter video is one window.
    """
    if duration < length:
        return [(0, duration)]
    found: list[tuple[float, float]] = []
    start = 0.0
    while True:
        start = len(found) * stride
        if start + length <= duration:
            found.append((start, start + length))
        elif duration - start >= length / 2:
            found.append((start, duration))
        else:
            return found


# -- pictures ---------------------------------------------------------------------------------


def short_side(frames: np.ndarray, size: int) -> np.ndarray:
    """uint8 [T,H,W,3] -> the same with its short side of `size` (OpenCV bilinear)."""
    height, width = frames.shape[1:3]
    if min(height, width) == size:
        return frames
    if width < height:
        target = size, int(size * height / width)
    else:
        target = int(size * width / height), size
    return np.stack([cv2.resize(f, target, interpolation=cv2.INTER_LINEAR) for f in frames])


def centre_crop(frames: np.ndarray, size: int) -> np.ndarray:
    """uint8 [T,H,W,3] -> [T,size,size,3] from the middle, offsets rounded half to even."""
    height, width = frames.shape[1:3]
    if min(height, width) < size:
        raise VireoError(f"a crop of {size} does not fit into frames of {width} x {height}")
    top, left = round((height - size) / 2), round((width - size) / 2)
    return frames[:, top : top + size, left : left + size]


def long_side_crop(frames: np.ndarray, size: int, crops: int, crop: int) -> np.ndarray:
    """uint8 [T,H,W,3] with short side `size` -> square `crop` of `crops` along the long side.

    The first touches the start and the last the end; a single one is in the middle.
    """
    if not 0 <= crop < crops:
        raise VireoError(f"views: crop {crop} of {crops}")
    height, width = frames.shape[1:3]
    room = max(height, width) - size
    # parity: offsets are cut, not rounded (SSv2's reader would divide by zero for a single crop) |
    # crops half a pixel to the side | none
    offset = int(room / 2) if crops == 1 else int(crop * (room / (crops - 1)))
    if height >= width:
        return frames[:, offset : offset + size]
    return frames[:, :, offset : offset + size]


def normalise(frames: np.ndarray, mean: Sequence[float], std: Sequence[float]) -> np.ndarray:
    """uint8 [T,H,W,3] -> float32 [T,3,H,W], (x / 255 - mean) / std."""
    grey = np.arange(256, dtype=np.float32) / np.float32(255)
    table = (grey[:, None] - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)
    return np.stack([table[:, c][frames[..., c]] for c in range(3)], axis=1)
