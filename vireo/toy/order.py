"""Toy long videos in Breakfast's format: what is done is told only by the order of three events.

Lists `train.csv` and `test.csv` (`file_name,duration,action,class_id`), videos as Breakfast is
unpacked (`P03-cam01-P03_x` is `P03/cam01/P03_x.mp4`). In every video a red, a blue and a green
shape come one after the other; the six orders are the classes, so no single event tells anything
and a video played backwards belongs to another class.
"""

import csv
import itertools
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

from vireo import toy
from vireo.toy import scene, video
from vireo.toy.kinetics import TINTS
from vireo.toy.viclip_train import background, event, held_out
from vireo.utils.files import atomic

COLOURS = ("red", "blue", "green")
ORDERS = tuple(itertools.permutations(COLOURS))
PER_CLASS = {"train": 60, "test": 12}
FPS = Fraction(2)
SIZE = (64, 48)
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"


def pictures(
    rng: np.random.Generator, order: tuple[str, ...], split: str
) -> tuple[int, Iterator[np.ndarray]]:
    """Number of frames, and the frames: three events with pauses before, between and after."""
    test = split == "test"
    tints = TINTS["val" if test else "train"]
    ground = background(rng, str(rng.choice([*scene.TEXTURES])), tints)
    parts: list[tuple[int, tuple[scene.Event, ...]]] = []
    for colour in order:
        shape = str(rng.choice([*scene.SHAPES]))
        motions = [m for m in scene.MOTIONS if held_out(shape, m) == test]
        frames = int(rng.integers(10, 17))
        what = event(rng, shape, colour, str(rng.choice(motions)), frames / float(FPS))
        parts += [(int(rng.integers(2, 5)), ()), (frames, (what,))]
    parts.append((int(rng.integers(2, 5)), ()))

    def drawn() -> Iterator[np.ndarray]:
        for count, events in parts:
            one = scene.Scene(*SIZE, ground, events)
            yield from scene.frames(one, np.arange(count) / float(FPS))

    return sum(count for count, _ in parts), drawn()


def make(root: Path, seed: int) -> None:
    """Write lists and videos into the folder `root`."""
    for split, number in PER_CLASS.items():
        classes = list(range(len(ORDERS))) * number
        places = toy.rng(seed, "order", split, "order").permutation(len(classes))
        rows = []
        for place, which in enumerate(places):
            rng, label = toy.rng(seed, "order", split, place), classes[which]
            person = f"P{place % 25 + (60 if split == 'test' else 3):02d}"
            camera = str(rng.choice(["cam01", "webcam02"]))
            name = f"{person}_{''.join(rng.choice(list(LETTERS), 8))}"
            folder = root / "videos" / person / camera
            folder.mkdir(parents=True, exist_ok=True)
            count, drawn = pictures(rng, ORDERS[label], split)
            encoding = video.Encoding(fps=FPS, gop=int(rng.choice((4, 12, 250))))
            video.write(folder / f"{name}.mp4", drawn, encoding)
            action = "_".join(ORDERS[label])
            rows.append((f"{person}-{camera}-{name}", int(count / FPS), action, label))
        with atomic(root / f"{split}.csv") as tmp, open(tmp, "w", newline="") as handle:
            writer = csv.writer(handle, lineterminator="\n")
            writer.writerow(("file_name", "duration", "action", "class_id"))
            writer.writerows(rows)
