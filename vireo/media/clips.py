"""ClipBERT's sparse clips: which frames a short clip of a video shows.

Made from counts and rates only; facts: docs/reference/clipbert.md section 1.5, vectors in
tests/golden/clipbert/video/sampling.json. Lengths and starts are in frames; `ticks` is the length
of a frame in the file's time base, by which the reference cuts (512 in the videos of this
pipeline).
"""

import math
import random

import numpy as np

from vireo.errors import unknown

PLACES = {"start": 0, "middle": 1, "end": 2}
STRATEGIES = ("clips", "uniform", *PLACES)
TICKS = 512


def length(n: int, target: float, fps: float) -> float:
    """Frames that a clip of `n` frames at `target` per second spans in a video of `fps`."""
    return n / target * fps


def frames_of(start: float, span: float, frames: int, n: int, ticks: int = TICKS) -> list[int]:
    """`n` frame numbers of the clip that begins at `start` (a fraction) and spans `span` frames."""
    first_tick, last_tick = int(start * ticks), int((start + span - 1) * ticks)
    first = min(-(-first_tick // ticks), frames - 1)
    # parity: the reader goes on up to and including the first frame after the clip | one frame more
    # to choose from | none
    last = min(last_tick // ticks + 1, frames - 1)
    within = np.clip(_linspace(span - 1, n), 0, max(last - first, 0))
    return [first + int(k) for k in within]


def _linspace(end: float, n: int) -> np.ndarray:
    """`n` float32 numbers from 0 to `end`, rounded as torch.linspace rounds them."""
    if n == 1:
        return np.zeros(1, np.float32)
    step, numbers = np.float32(end) / np.float32(n - 1), np.arange(n)
    from_end = np.float32(end) - step * np.float32(n - 1 - numbers)
    return np.where(numbers < n // 2, step * numbers.astype(np.float32), from_end)


def fixed(
    frames: int,
    fps: float,
    n: int = 2,
    clips: int = 1,
    target: float = 2.0,
    strategy: str = "clips",
) -> list[list[int]]:
    """Frame numbers of each clip at inference.

    `clips`: at i/clips of what is left beside a clip, so the last one never reaches the end;
    `start`, `middle`, `end`: one of three such; `uniform`: the whole video is one clip.
    """
    if strategy not in STRATEGIES:
        raise unknown("strategy of clips", strategy, STRATEGIES)
    if strategy == "uniform":
        return [frames_of(0, frames, frames, n)]
    span = length(n, target, fps)
    places, of = range(clips), clips
    if strategy in PLACES:
        places, of = range(PLACES[strategy], PLACES[strategy] + 1), 3
    left = max(frames - span, 0)
    return [frames_of(left * i / of, span, frames, n) for i in places]


def drawn(
    frames: int, fps: float, rng: random.Random, n: int = 2, clips: int = 8, target: float = 2.0
) -> list[list[int]]:
    """Frame numbers of random clips for training; they may overlap."""
    span = length(n, target, fps)
    left = max(frames - span, 0)
    return [frames_of(rng.uniform(0, left), span, frames, n) for _ in range(clips)]


def short(frames: int, fps: float, n: int, target: float) -> bool:
    """Whether a video is shorter than one clip, so that its last frame is repeated."""
    return frames < math.ceil(length(n, target, fps))
