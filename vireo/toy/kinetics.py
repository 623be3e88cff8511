"""Toy Kinetics: clips named `<id>_<start>_<end>.mp4` and the official lists train.csv and val.csv.

Sixteen classes, a colour and a shape each ("a red ball"). Training and validation clips differ in
backgrounds and in what the shapes do, so neither tells the class.
"""

import csv
import itertools
from fractions import Fraction
from pathlib import Path

import numpy as np

from vireo import toy
from vireo.toy import captions, scene, video
from vireo.toy.viclip_train import background, event, held_out
from vireo.utils.files import atomic

PER_CLASS = {"train": 24, "val": 6}
TINTS = {"train": range(6), "val": range(6, 8)}  # as in the other toy sets
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def label(colour: str, shape: str) -> str:
    """Class name, in words that toy captions use."""
    return captions.statement(colour=colour, shape=shape)


def identifier(rng: np.random.Generator) -> str:
    """Something like a YouTube id."""
    return "".join(rng.choice(list(ALPHABET), 11))


def clip(
    rng: np.random.Generator, path: Path, content: tuple[str, str, str, str], tints: range
) -> None:
    """Write one clip of (shape, colour, motion, texture)."""
    shape, colour, motion, texture = content
    count, fps = int(rng.integers(10, 18)), Fraction(int(rng.choice((5, 6, 8))))
    seconds = count / float(fps)
    picture = scene.Scene(
        *(64, 64), background(rng, texture, tints), (event(rng, shape, colour, motion, seconds),)
    )
    encoding = video.Encoding(fps=fps, gop=int(rng.choice((4, 12, 250))))
    video.write(path, scene.frames(picture, np.arange(count) / float(fps)), encoding)


def make(root: Path, seed: int) -> None:
    """Write lists and clips into the folder `root`."""
    (root / "clips").mkdir(parents=True)
    for split, number in PER_CLASS.items():
        classes = list(itertools.product(scene.COLOURS, scene.SHAPES)) * number
        order = toy.rng(seed, "kinetics", split, "order").permutation(len(classes))
        rows = []
        for place, which in enumerate(order):
            colour, shape = classes[which]
            rng = toy.rng(seed, "kinetics", split, place)
            allowed = [m for m in scene.MOTIONS if held_out(shape, m) == (split == "val")]
            content = (shape, colour, str(rng.choice(allowed)), str(rng.choice([*scene.TEXTURES])))
            start = int(rng.integers(0, 200))
            name, end = identifier(rng), start + 10
            clip(rng, root / "clips" / f"{name}_{start:06d}_{end:06d}.mp4", content, TINTS[split])
            rows.append((label(colour, shape), name, start, end, split))
        with atomic(root / f"{split}.csv") as tmp, open(tmp, "w", newline="") as handle:
            writer = csv.writer(handle)
            writer.writerow(("label", "youtube_id", "time_start", "time_end", "split"))
            writer.writerows(rows)
