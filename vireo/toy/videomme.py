"""Toy Video-MME: the official parquet, `videos/`, `subtitle/`, and two videos that are broken.

Every statement offered can be checked in the picture (ViCLIP never sees the question). Answers are
uniform over each set of options, so neither wording, position, file nor metadata tells the answer.
The column `probe` marks questions that must fail when time is reversed or red and blue are swapped.
Source of columns and labels: the Video-MME data card and its official scorer.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vireo import toy
from vireo.toy import captions, scene, video
from vireo.toy.viclip_train import background, event, held_out
from vireo.utils.files import write_text

TINTS = range(6, 8)  # never seen in training
PER_SPLIT = 24
# Seconds, [low, high). A sampler that takes 8 of the distinct seconds sees nearly all of 8-9 s and
# 16-18 s, but only the first half of 15 s; (5, 8) is too short for 8 seconds and gets flagged.
LENGTHS: dict[str, tuple[tuple[int, int], ...]] = {
    "short": ((8, 10), (8, 10), (8, 10), (8, 10), (8, 10), (8, 10), (8, 10), (5, 8)),
    "medium": ((16, 19), (24, 27), (32, 45), (32, 45)),
    "long": ((60, 180),),
}
RATES: dict[str, tuple[Fraction, ...]] = {
    "short": (Fraction(8), Fraction(12), Fraction(25), Fraction(30000, 1001)),
    "medium": (Fraction(6), Fraction(8), Fraction(10), Fraction(24000, 1001)),
    "long": (Fraction(4), Fraction(5), Fraction(6), Fraction(8)),
}
SIZES = ((64, 64), (80, 80), (96, 96), (128, 128), (96, 80), (128, 112))
DOMAINS: dict[str, tuple[str, ...]] = {
    "Knowledge": (
        "Humanity & History",
        "Literature & Art",
        "Biology & Medicine",
        "Finance & Commerce",
        "Astronomy",
        "Geography",
        "Law",
        "Life Tip",
        "Technology",
    ),
    "Film & Television": ("Animation", "Movie & TV Show", "Documentary", "News Report"),
    "Sports Competition": ("Esports", "Basketball", "Football", "Athletics", "Other Sports"),
    "Artistic Performance": ("Stage Play", "Magic Show", "Variety Show", "Acrobatics"),
    "Life Record": (
        "Handicraft",
        "Food",
        "Fashion",
        "Daily Life",
        "Travel",
        "Pet & Animal",
        "Exercise",
    ),
    "Multilingual": ("Multilingual",),
}
# Remarks that say nothing of what is seen.
REMARKS = (
    "Welcome back.",
    "Please watch closely.",
    "The camera stands still.",
    "There is more\nto come.",
    "[music]",
    "Thank you for watching.",
)
COLUMNS = pa.schema(
    [
        *((name, pa.string()) for name in ("video_id", "duration", "domain", "sub_category")),
        *((name, pa.string()) for name in ("url", "videoID", "question_id", "task_type")),
        ("question", pa.string()),
        ("options", pa.list_(pa.string())),
        ("answer", pa.string()),
        ("probe", pa.string()),
    ]
)


@dataclass(frozen=True)
class Content:
    """What one video shows."""

    shape: str
    colour: str
    motion: str
    texture: str

    def say(self, *parts: str, **changed: str) -> str:
        """State the named parts, some of them changed."""
        return captions.statement(**{p: changed.get(p, getattr(self, p)) for p in parts})


@dataclass(frozen=True)
class Question:
    """A question with four statements, the true one first."""

    task_type: str
    text: str
    statements: tuple[str, ...]
    probe: str | None = None


def _others(motion: str) -> list[str]:
    """Find the reverse of a motion and another pair of opposites of its kind."""
    motions = list(scene.MOTIONS)
    family = motions[:4] if motion in motions[:4] else motions[4:]
    return [m for m in family if m != motion]


# No question tells the answer of another one on the same video.
def _motion(content: Content, rng: np.random.Generator) -> Question:
    timed = content.motion in ("left", "right", "appears", "vanishes")
    moves = content.motion in ("left", "right", "up", "down")
    said = tuple(
        content.say("motion", motion=m) for m in (content.motion, *_others(content.motion))
    )
    return Question(
        "Action Recognition" if moves else "Temporal Perception",
        "What happens in the video?",
        said,
        "time" if timed else None,
    )


def _colour(content: Content, rng: np.random.Generator) -> Question:
    others = [c for c in scene.COLOURS if c != content.colour]
    said = tuple(content.say("colour", colour=c) for c in (content.colour, *others))
    probe = "colour" if content.colour in ("red", "blue") else None
    return Question("Attribute Perception", "What is shown in the video?", said, probe)


def _shape(content: Content, rng: np.random.Generator) -> Question:
    others = [s for s in scene.SHAPES if s != content.shape]
    said = tuple(content.say("shape", shape=s) for s in (content.shape, *others))
    return Question("Object Recognition", "What kind of object can be seen?", said)


def _summary(content: Content, rng: np.random.Generator) -> Question:
    """Offer every colour and every motion of a kind once: neither tells of the other questions."""
    colours = [content.colour, *rng.permutation([c for c in scene.COLOURS if c != content.colour])]
    motions = [content.motion, *rng.permutation(_others(content.motion))]
    said = tuple(
        content.say("colour", "shape", "motion", colour=colour, motion=motion)
        for colour, motion in zip(colours, motions, strict=True)
    )
    return Question("Information Synopsis", "Which sentence sums up the video?", said)


# The third question, in turn; the first two are always motion and colour.
THIRD = (_shape, _summary)


def contents(split: str, seed: int) -> list[Content]:
    """Draw what the good videos of a split show: only held-out pairs of shape and motion.

    Colours, motions, shapes and textures are each uniform, or a blind guess would beat chance.
    """
    pairs = [
        (shape, motion)
        for shape in scene.SHAPES
        for motion in scene.MOTIONS
        if held_out(shape, motion)
    ]

    def even(values: Iterable, kind: str) -> list:
        return _deal(toy.rng(seed, "videomme", split, kind), tuple(values), PER_SPLIT)

    rows = zip(
        even(pairs, "pair"),
        even(scene.COLOURS, "colour"),
        even(scene.TEXTURES, "texture"),
        strict=True,
    )
    return [Content(shape, colour, motion, texture) for (shape, motion), colour, texture in rows]


def _deal(rng: np.random.Generator, values: tuple, n: int) -> list:
    """Repeat `values` to `n` in random order; which ones come once more is random too."""
    offset = int(rng.integers(len(values)))
    return [values[(offset + i) % len(values)] for i in rng.permutation(n)]


def _identifier(rng: np.random.Generator) -> str:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return "".join(rng.choice(list(alphabet), 11))


def _subtitles(rng: np.random.Generator, seconds: float) -> str:
    """Make SRT text: every few seconds a remark."""

    def stamp(t: float) -> str:
        ms = round(t * 1000)
        return f"{ms // 3600000:02d}:{ms // 60000 % 60:02d}:{ms // 1000 % 60:02d},{ms % 1000:03d}"

    blocks: list[str] = []
    start = float(rng.uniform(0, 2))
    while start + 1 < seconds:
        end = min(start + float(rng.uniform(1.5, 3)), seconds)
        text = REMARKS[int(rng.integers(len(REMARKS)))]
        blocks.append(f"{len(blocks) + 1}\n{stamp(start)} --> {stamp(end)}\n{text}\n")
        start = end + float(rng.uniform(0.5, seconds / 6))
    return "\n".join(blocks)


def _encodings(rng: np.random.Generator, split: str) -> Iterator[tuple[video.Encoding, str]]:
    """Yield an encoding and file ending per video: mostly H.264 in MP4, some of everything else."""
    rates = _deal(rng, RATES[split], PER_SPLIT)
    kinds: tuple[tuple[str, str, str], ...]
    kinds = (("libx264", "mp4", ".mp4"),) * 18 + (("libx264", "mp4", ".MP4"),)
    kinds += (("libx264", "matroska", ".mkv"),) * 2
    kinds += (("mpeg4", "mp4", ".mp4"),) * 2 + (("libvpx-vp9", "matroska", ".mkv"),)
    for rate, (codec, container, ending) in zip(rates, _deal(rng, kinds, PER_SPLIT), strict=True):
        gop = int(rng.choice((1, 12, 48, 250)))
        b_frames = 0 if gop == 1 or codec == "libvpx-vp9" else int(rng.choice((0, 2, 3)))
        yield video.Encoding(codec, container, rate, gop, b_frames), ending


def question_rows(
    seed: int, split: str, items: list[tuple[Content, str]], first: int
) -> list[dict[str, object]]:
    """Make the three questions of each video, with letters as even as 3 x n can be."""
    rng = toy.rng(seed, "videomme", split, "questions")
    letters = _deal(rng, tuple(captions.LETTERS), 3 * len(items))
    thirds = _deal(rng, THIRD, len(items))
    rows: list[dict[str, object]] = []
    domains = _deal(rng, tuple(DOMAINS), len(items))
    for i, (content, name) in enumerate(items):
        sub_category = str(rng.choice(DOMAINS[domains[i]]))
        for kind, ask in enumerate((_motion, _colour, thirds[i])):
            question = ask(content, rng)
            answer = letters[3 * i + kind]
            order = [question.statements[1 + k] for k in rng.permutation(3)]
            order.insert(captions.LETTERS.index(answer), question.statements[0])
            rows.append(
                {
                    "video_id": f"{first + i:03d}",
                    "duration": split,
                    "domain": domains[i],
                    "sub_category": sub_category,
                    "url": f"https://www.example.org/watch?v={name}",
                    "videoID": name,
                    "question_id": f"{first + i:03d}-{kind + 1}",
                    "task_type": question.task_type,
                    "question": question.text,
                    "options": [
                        captions.option(letter, text)
                        for letter, text in zip(captions.LETTERS, order, strict=True)
                    ],
                    "answer": answer,
                    "probe": question.probe,
                }
            )
    return rows


def film(
    root: Path, seed: int, split: str, number: int, content: Content, name: str, how: tuple
) -> None:
    """Write one video and perhaps its subtitles."""
    rng = toy.rng(seed, "videomme", split, number)
    encoding, ending, (low, high) = how
    seconds = float(rng.uniform(low, high))
    count = round(seconds * encoding.fps)
    width, height = SIZES[int(rng.integers(len(SIZES)))]
    picture = scene.Scene(
        width,
        height,
        background(rng, content.texture, TINTS),
        (event(rng, content.shape, content.colour, content.motion, seconds),),
    )
    times = np.arange(count) / float(encoding.fps)
    video.write(root / f"videos/{name}{ending}", scene.frames(picture, times), encoding)
    if split == "long" or rng.random() < 0.7:
        write_text(root / f"subtitle/{name}.srt", _subtitles(rng, seconds))


def _break(path: Path, how: str) -> None:
    """Damage a video beyond decoding, as downloads do."""
    if how == "page":
        path.write_text("<!DOCTYPE html><html><title>429 Too Many Requests</title></html>\n")
    else:  # the index of an MP4 stands at its end and is lost with it
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def make(root: Path, seed: int) -> None:
    """Write the whole benchmark into the folder `root`."""
    for folder in ("videos", "subtitle", "videomme"):
        (root / folder).mkdir(parents=True)
    rows: list[dict[str, object]] = []
    for split, broken in (("short", "page"), ("medium", "truncated"), ("long", None)):
        rng = toy.rng(seed, "videomme", split, "files")
        shown = contents(split, seed)
        hows = [
            (encoding, ending, length)
            for (encoding, ending), length in zip(
                _encodings(rng, split), _deal(rng, LENGTHS[split], PER_SPLIT), strict=True
            )
        ]
        if broken:  # one more, made like the first and then damaged, somewhere among the others
            place = int(rng.integers(PER_SPLIT + 1))
            shown.insert(place, shown[0])
            hows.insert(place, (video.Encoding(), ".mp4", LENGTHS[split][0]))
        items = [(content, _identifier(rng)) for content in shown]
        for number, ((content, name), how) in enumerate(zip(items, hows, strict=True)):
            film(root, seed, split, number, content, name, how)
        if broken:
            _break(root / f"videos/{items[place][1]}.mp4", broken)
        rows += question_rows(seed, split, items, first=len(rows) // 3 + 1)
    table = pa.Table.from_pylist(rows, schema=COLUMNS)
    pq.write_table(table, root / "videomme/test-00000-of-00001.parquet")
