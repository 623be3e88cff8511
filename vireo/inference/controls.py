"""Controls: the same items and weights with something perturbed, to show what a score rests on.

`untrained` takes random weights, `shuffled_videos` another video of the same split,
`reversed_time` the frames backwards, `swapped_channels` red for blue.
"""

import hashlib
from collections.abc import Iterable

import numpy as np

from vireo.errors import VireoError, unknown

CONTROLS = ("untrained", "shuffled_videos", "reversed_time", "swapped_channels")


def check(name: str | None) -> None:
    """VireoError with near names unless `name` is a control or None."""
    if name is not None and name not in CONTROLS:
        raise unknown("control", name, CONTROLS)


def partners(groups: Iterable[str]) -> dict[str, str]:
    """Each group's other group: one cycle through all in hash order, so nobody meets itself.

    A function of the set of groups alone: shards and machines agree.
    """
    unique = sorted(set(groups), key=lambda g: (hashlib.sha256(g.encode()).digest(), g))
    if len(unique) < 2:
        raise VireoError("control shuffled_videos needs at least two videos in the split")
    return dict(zip(unique, unique[1:] + unique[:1], strict=True))


def perturb(
    control: str | None, frames: np.ndarray, indices: list[int]
) -> tuple[np.ndarray, list[int]]:
    """Frames [N,H,W,3] and their numbers as the control wants them seen."""
    if control == "reversed_time":
        return frames[::-1], indices[::-1]
    if control == "swapped_channels":
        return frames[..., ::-1], indices
    return frames, indices
