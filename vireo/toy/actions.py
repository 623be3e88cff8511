"""Toy actions in the lists of VideoMamba's own code: what a shape does is the class.

`train.csv` and `val.csv` hold `path,label`, `labels.txt` the eight names in the order of their
numbers. The classes are four pairs of opposites: played backwards, a clip belongs to the other of
its pair. Shapes, colours and backgrounds tell nothing; validation has pairs of shape and motion,
and tints, that training never shows.
"""

from fractions import Fraction
from pathlib import Path

import numpy as np

from vireo import toy
from vireo.toy import scene, video
from vireo.toy.kinetics import TINTS, identifier
from vireo.toy.viclip_train import background, event, held_out
from vireo.utils.files import write_text

PER_CLASS = {"train": 80, "val": 12}
SIZE = (64, 48)


def clip(rng: np.random.Generator, path: Path, motion: str, split: str) -> None:
    """Write one clip of a shape that does `motion`."""
    shapes = [s for s in scene.SHAPES if held_out(s, motion) == (split == "val")]
    shape, colour = str(rng.choice(shapes)), str(rng.choice([*scene.COLOURS]))
    count, fps = int(rng.integers(12, 22)), Fraction(int(rng.choice((5, 6, 8))))
    seconds = count / float(fps)
    ground = background(rng, str(rng.choice([*scene.TEXTURES])), TINTS[split])
    picture = scene.Scene(*SIZE, ground, (event(rng, shape, colour, motion, seconds),))
    encoding = video.Encoding(fps=fps, gop=int(rng.choice((4, 12, 250))))
    video.write(path, scene.frames(picture, np.arange(count) / float(fps)), encoding)


def make(root: Path, seed: int) -> None:
    """Write lists and clips into the folder `root`."""
    names = list(scene.MOTIONS)
    for split, number in PER_CLASS.items():
        (root / "clips" / split).mkdir(parents=True)
        labels = list(range(len(names))) * number
        order = toy.rng(seed, "actions", split, "order").permutation(len(labels))
        rows = []
        for place, which in enumerate(order):
            rng = toy.rng(seed, "actions", split, place)
            path = f"clips/{split}/{identifier(rng)}.mp4"
            clip(rng, root / path, names[labels[which]], split)
            rows.append(f"{path},{labels[which]}\n")
        write_text(root / f"{split}.csv", "".join(rows))
    write_text(root / "labels.txt", "".join(f"{name}\n" for name in names))
