"""Toy pre-training set in ViCLIP's list format: `clips/NNNN.mp4` and `train.json`.

The list is [{"video": "clips/0000.mp4", "caption": "a red ball moves left"}, ...], as
InternVideo1/Pretrain/ViCLIP reads it. Every allowed combination of shape, colour, motion and
texture occurs equally often, so nothing can be guessed from anything else.
"""

import itertools
from fractions import Fraction
from pathlib import Path

import numpy as np

from vireo import toy
from vireo.toy import captions, scene, video
from vireo.utils.files import write_json

ROUNDS = 6  # clips per combination
TINTS = range(6)  # the last two tints belong to the test sets


def held_out(shape: str, motion: str) -> bool:
    """Whether a shape with a motion is kept for testing: one pair of opposites per shape."""
    pair = scene.PAIRS[list(scene.SHAPES).index(shape) % len(scene.PAIRS)]
    return motion in pair


def background(rng: np.random.Generator, texture: str, tints: range) -> scene.Background:
    """Draw a background of a texture at random, with one of the given tints."""
    dark = rng.uniform(0.25, 0.4)
    return scene.Background(
        texture=texture,
        tint=int(rng.choice(tints)),
        pitch=float(rng.uniform(9, 15)),
        angle=float(rng.uniform(0, np.pi)),
        dark=float(dark),
        bright=float(dark + rng.uniform(0.15, 0.25)),
        phase=float(rng.uniform(0, 1)),
        seed=int(rng.integers(2**31)),
    )


def event(
    rng: np.random.Generator, shape: str, colour: str, motion: str, seconds: float
) -> scene.Event:
    """Draw the free values of an event that lasts (nearly) the whole video.

    The middle of a path is drawn, not its start, so that one frame alone does not tell the motion.
    """
    return scene.Event(
        shape=shape,
        colour=colour,
        motion=motion,
        start=float(rng.uniform(0, 0.05) * seconds),
        end=float(rng.uniform(0.95, 1) * seconds),
        x=float(rng.uniform(0.44, 0.56)),
        y=float(rng.uniform(0.44, 0.56)),
        radius=float(rng.uniform(0.17, 0.21)),
        turn=float(rng.uniform(-0.2, 0.2)),
        shade=float(rng.uniform(0.85, 1.1)),
    )


def make(root: Path, seed: int) -> None:
    """Write the clips and the list into the folder `root`."""
    (root / "clips").mkdir(parents=True)
    combinations = [
        combination
        for combination in itertools.product(
            scene.SHAPES, scene.COLOURS, scene.MOTIONS, scene.TEXTURES
        )
        if not held_out(combination[0], combination[2])
    ] * ROUNDS
    order = toy.rng(seed, "viclip_train", "order").permutation(len(combinations))
    entries = []
    for number, which in enumerate(order):
        shape, colour, motion, texture = combinations[which]
        rng = toy.rng(seed, "viclip_train", number)
        count, fps = int(rng.integers(10, 15)), Fraction(5)
        picture = scene.Scene(
            64,
            64,
            background(rng, texture, TINTS),
            (event(rng, shape, colour, motion, count / float(fps)),),
        )
        name = f"clips/{number:04d}.mp4"
        encoding = video.Encoding(fps=fps, gop=int(rng.choice((4, 12, 250))))
        video.write(root / name, scene.frames(picture, np.arange(count) / float(fps)), encoding)
        text = captions.caption(rng, colour, shape, motion)
        entries.append({"video": name, "caption": text})
    write_json(root / "train.json", entries)
