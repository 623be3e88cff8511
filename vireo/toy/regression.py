"""Toy videos of LVU's view-count task: the number is told by how fast a shape moves, and where to.

Files as in ViS4mer's `lvu_1.0`: `view_count/{train,val,test}.csv` and `lvu_durations.csv`; videos
`<id>.mp4`. The target ln(view_count) - mean is the distance that the shape moves to the right
(negative: to the left), 2 for the widest move, so that a video played backwards has the
opposite target.
"""

import math
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np

from vireo import toy
from vireo.benchmarks.annotations.action_lists import VIEW_MEAN
from vireo.toy import scene, video
from vireo.toy.kinetics import TINTS, identifier
from vireo.toy.viclip_train import background, event
from vireo.utils.files import write_text

NUMBER = {"train": 720, "val": 48, "test": 64}
WIDEST = 2.0  # of the target, to both sides
SHAPES = {
    "train": ("ball", "ring", "bar"),
    "val": ("ball", "ring", "bar"),
    "test": ("ball", "pole"),
}


def clip(rng: np.random.Generator, path: Path, target: float, split: str) -> float:
    """Write one video; its length in seconds."""
    count, fps = int(rng.integers(16, 28)), Fraction(int(rng.choice((4, 5, 6))))
    seconds = count / float(fps)
    shape, colour = str(rng.choice(SHAPES[split])), str(rng.choice([*scene.COLOURS]))
    what = event(rng, shape, colour, "right" if target > 0 else "left", seconds)
    # A slow shape is one whose whole way would take longer than the video.
    half = seconds / 2 / max(abs(target) / WIDEST, 1e-3)
    what = replace(what, start=seconds / 2 - half, end=seconds / 2 + half)
    tints = TINTS["train" if split == "train" else "val"]
    picture = scene.Scene(
        64, 64, background(rng, str(rng.choice([*scene.TEXTURES])), tints), (what,)
    )
    encoding = video.Encoding(fps=fps, gop=int(rng.choice((4, 12, 250))))
    video.write(path, scene.frames(picture, np.arange(count) / float(fps)), encoding)
    return seconds


def make(root: Path, seed: int) -> None:
    """Write lists, durations and videos into the folder `root`."""
    lists, videos = root / "lvu_1.0", root / "videos"
    (lists / "view_count").mkdir(parents=True)
    videos.mkdir()
    durations = ["videoid,duration"]
    for split, number in NUMBER.items():
        rows = ["view_count youtube_id imdb_id"]
        for place in range(number):
            rng = toy.rng(seed, "regression", split, place)
            views = round(math.exp(VIEW_MEAN + float(rng.uniform(-WIDEST, WIDEST))))
            name = identifier(rng)
            target = math.log(views) - VIEW_MEAN
            seconds = clip(rng, videos / f"{name}.mp4", target, split)
            rows.append(f"{views} {name} tt{int(rng.integers(10**7)):07d}")
            durations.append(f"{name},{int(seconds)}")
        write_text(lists / "view_count" / f"{split}.csv", "\n".join(rows) + "\n")
    write_text(lists / "lvu_durations.csv", "\n".join(durations) + "\n")
