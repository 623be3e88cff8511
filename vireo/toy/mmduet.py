"""Toy videos of events, with annotations in the formats of MMDuetIT and of its four benchmarks.

In each video coloured shapes are shown one after the other, some twice. `train/` has captions,
questions and queries with `videos_metadata.json`; `test/` (other seeds and backgrounds) has the
files of YouCook2, MAGQA, Charades-STA and QVHighlights. Times are whole and half seconds; answers
stand at 50 to 75 % of an event, as in the released training files.
"""

import json
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from vireo import toy
from vireo.toy import scene, video
from vireo.toy.viclip_train import background
from vireo.utils.files import write_json, write_text

WIDTH, HEIGHT, FPS = 64, 64, 4
COUNTS = {"train": 240, "test": 40}
TEXTURES = {"train": range(5), "test": range(5, 8)}  # tints
QUESTION = "What is shown?"
NARRATE = "Describe what you see."
ANNOTATORS = 3


@dataclass(frozen=True)
class Shown:
    """A thing, and the seconds it can be seen."""

    what: str
    start: float
    end: float

    def answer(self, rng: np.random.Generator) -> float:
        """When it is spoken of: after 50 to 75 % of its time."""
        return float(self.start + rng.uniform(0.5, 0.75) * (self.end - self.start))


def _events(rng: np.random.Generator) -> tuple[list[Shown], list[tuple[str, str]], float]:
    """Things in the order of time, their (colour, shape), and the length of the video."""
    kinds = [(c, s) for c in scene.COLOURS for s in scene.SHAPES]
    now = float(rng.integers(1, 4))
    shown: list[Shown] = []
    looks: list[tuple[str, str]] = []
    for _ in range(int(rng.integers(3, 5))):
        free = [kind for kind in kinds if not looks or kind != looks[-1]]
        look = free[int(rng.integers(len(free)))]
        length = float(rng.integers(4, 7))
        shown.append(Shown(f"a {look[0]} {look[1]}", now, now + length))
        looks.append(look)
        now += length + float(rng.integers(0, 3))
    return shown, looks, now + 1.0


def write_video(path: Path, rng: np.random.Generator, tints: range) -> tuple[list[Shown], float]:
    """One video file; returns what it shows and its length in seconds."""
    shown, looks, length = _events(rng)
    texture = list(scene.TEXTURES)[int(rng.integers(len(scene.TEXTURES)))]
    ground = scene.paint(background(rng, texture, tints), WIDTH, HEIGHT)
    places = [(float(rng.uniform(0.42, 0.58)), float(rng.uniform(0.42, 0.58))) for _ in shown]
    sizes = rng.uniform(0.26, 0.32, len(shown))
    pictures = []
    for frame in range(int(length * FPS)):
        picture = ground.copy()
        for one, look, (x, y), size in zip(shown, looks, places, sizes, strict=True):
            if one.start <= frame / FPS < one.end:
                event = scene.Event(look[1], look[0], "grows", -1e6, 1e6, x, y, float(size))
                scene.draw(picture, event, 0.0)
        pictures.append(picture)
    video.write(path, pictures, video.Encoding(fps=Fraction(FPS)))
    return shown, length


def _spans(shown: list[Shown], what: str) -> list[list[float]]:
    return [[one.start, one.end] for one in shown if one.what == what]


def make(root: Path, seed: int) -> None:
    """Write both parts into the folder `root`."""
    for part, count in COUNTS.items():
        folder = root / part
        (folder / "videos").mkdir(parents=True)
        made: dict[str, tuple[list[Shown], float]] = {}
        for number in range(count):
            rng = toy.rng(seed, "mmduet", part, number)
            name = f"{part}{number:03d}.mp4"
            made[name] = write_video(folder / "videos" / name, rng, TEXTURES[part])
        rng = toy.rng(seed, "mmduet", part, "texts")
        (_train if part == "train" else write_annotations)(folder, made, rng)


def example(path: Path, seed: int = 0) -> None:
    """Write one more video of events, of no part."""
    write_video(path, toy.rng(seed, "mmduet", "example"), TEXTURES["test"])


def _train(folder: Path, made: dict[str, Any], rng: np.random.Generator) -> None:
    captions, questions, queries = {}, [], []
    for name, (shown, _) in made.items():
        told = [
            {"text": one.what, "time": one.answer(rng), "timespan": [one.start, one.end]}
            for one in shown
        ]
        captions[name] = {"0": told}
        ask: dict[str, Any] = {"role": "user", "content": QUESTION, "time": 1.0}
        answers = [
            {
                "role": "assistant",
                "content": t["text"],
                "time": t["time"],
                "timespan": t["timespan"],
            }
            for t in told
        ]
        questions.append({"video_uid": name, "conversation": [ask, *answers]})
        for what in dict.fromkeys(one.what for one in shown):
            spans = _spans(shown, what)
            queries.append({"video_uid": name, "query": what, "timestamps": spans})
    write_json(folder / "captions.json", captions)
    write_json(folder / "questions.json", questions)
    write_json(folder / "queries.json", queries)
    metadata = {
        name: {"duration": length, "fps": FPS, "path": name, "frame_count": int(length * FPS)}
        for name, (_, length) in made.items()
    }
    write_json(folder / "videos_metadata.json", metadata)


def write_annotations(folder: Path, made: dict[str, Any], rng: np.random.Generator) -> None:
    """Write the files of all four benchmarks; made: file name -> what `write_video` returned."""
    dense, questions, queries, highlights, released = [], [], [], [], []
    for number, (name, (shown, length)) in enumerate(made.items()):
        gold = [
            {"role": "assistant", "content": one.what, "time": [one.start, one.end]}
            for one in shown
        ]

        def entry(id: Any, text: str, **more: Any) -> dict[str, Any]:
            turn = {"role": "user", "content": text, "time": 0}
            return {"question_id": id, "video": name, "conversation": [turn], **more}  # noqa: B023

        dense.append(entry(name, NARRATE, answer=gold))
        questions.append(entry(name, QUESTION, answer=gold))
        once = [one for one in shown if len(_spans(shown, one.what)) == 1] or shown[:1]
        target = once[int(rng.integers(len(once)))]
        spans = _spans(shown, target.what)
        queries.append(entry(f"{name}_0", target.what, timestamps=spans))
        clips = [k for k in range(int(length / 2)) if any(a <= 2 * k < b for a, b in spans)]
        marks = rng.integers(3, 5, (len(clips), ANNOTATORS))
        marks[len(marks) // 2] = 4
        highlights.append(entry(number, target.what))
        released.append(
            {
                "qid": number,
                "query": target.what,
                "duration": length,
                "vid": Path(name).stem,
                "relevant_windows": spans,
                "relevant_clip_ids": clips,
                "saliency_scores": marks.tolist(),
            }
        )
    write_json(folder / "youcook2.json", dense)
    write_json(folder / "magqa.json", questions)
    write_json(folder / "charades.json", queries)
    write_json(folder / "qvhighlights.json", highlights)
    lines = "".join(json.dumps(line) + "\n" for line in released)
    write_text(folder / "qvhighlights_release.jsonl", lines)
