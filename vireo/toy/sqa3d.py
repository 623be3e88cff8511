"""Toy SQA3D: ScanNet scans of small rooms (.sens) and questions in SQA3D's own files.

A room has four walls with one coloured thing on each; the camera looks at two of them in turn, then
at the other two. The default inference sees sensor frames 0 and 380 only, that is the first two
walls: four of five questions are about these (`probe: seen`), the rest needs several clips
(`unseen`). Every answer is drawn independently of the words of its question, so a model that sees
nothing is left with the most frequent answer of each kind. Also `vocab.txt`, a WordPiece list.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from vireo import toy
from vireo.media import sens_write
from vireo.toy.scene import COLOURS, SHAPES
from vireo.utils.files import write_json, write_text

WIDTH, HEIGHT = 64, 48
STEP, VIEWS = 20, 26  # sensor frames per view; SQA3D keeps one of 20
ROOMS = {"train": 400, "val": 12, "test": 80}
PER_ROOM = 15
LATER = (6, 7, 10)  # what, is, which
SIZES = {"big": 15.0, "small": 8.0}
SIDES = {"left": 0.27, "right": 0.73}
# Short: a small model's attention finds few pictures among many words.
SITUATIONS = ("I am standing.", "I came in.", "I am sitting.")


@dataclass(frozen=True)
class Thing:
    """What hangs on a wall."""

    shape: str
    colour: str
    size: str
    side: str


# Kind of question -> (wording, answer when true to the room). `{o}` is a colour to be confirmed.
ASKED: dict[str, tuple[str, Callable[[Thing], str]]] = {
    "what": ("What color is the {s}?", lambda t: t.colour),
    "how": ("How large is the {s}, big or small?", lambda t: t.size),
    "which": ("Which side is the {s} on, left or right?", lambda t: t.side),
    "others": ("Tell me the color of what is on the {d}.", lambda t: t.colour),
}
ANSWERS = ("yes", "no", *COLOURS, *SIZES, *SIDES)


def make(root: Path, seed: int) -> None:
    """Fill `root` with `scans/`, `sqa_task/` and `vocab.txt`."""
    number = 0
    for split, count in ROOMS.items():
        questions: list[dict[str, object]] = []
        answers: list[dict[str, object]] = []
        for _ in range(count):
            name = f"scene{number:04d}_00"
            rng = toy.rng(seed, "sqa3d", number)
            number += 1
            things = room(rng)
            scan(root / "scans" / name / f"{name}.sens", things, rng)
            for turn, (text, answer, probe) in enumerate(asked(things, rng)):
                key = 220_000_000_000 + 1000 * number + turn
                situation = str(rng.choice(SITUATIONS))
                others = [s for s in SITUATIONS if s != situation]
                questions.append(
                    {
                        "scene_id": name,
                        "situation": situation,
                        "alternative_situation": others,
                        "question": text,
                        "question_id": key,
                        "probe": probe,
                    }
                )
                answers.append(
                    {
                        "scene_id": name,
                        "question_type": "N/A",
                        "answer_type": "other",
                        "question_id": key,
                        "answers": [{"answer": answer, "answer_confidence": "yes", "answer_id": 1}],
                        "rotation": {"_x": 0, "_y": 0, "_z": 0, "_w": 1},
                        "position": {"x": 0, "y": 0, "z": 0},
                    }
                )
        toy.rng(seed, "order", split).shuffle(answers)  # the real files are joined by id, too
        folder = root / "sqa_task/balanced"
        head = {"data_type": "scannet", "data_subtype": "v2"}
        ending = f"{split}_scannetv2.json"
        write_json(folder / f"v1_balanced_questions_{ending}", {**head, "questions": questions})
        write_json(
            folder / f"v1_balanced_sqa_annotations_{ending}", {**head, "annotations": answers}
        )
    numbers = {answer: n for n, answer in enumerate(ANSWERS)}
    write_json(
        root / "sqa_task/answer_dict.json", [numbers, {str(n): a for a, n in numbers.items()}]
    )
    write_text(root / "vocab.txt", "\n".join(vocabulary()) + "\n")


def room(rng: np.random.Generator) -> list[Thing]:
    """Four things of four shapes; the first two hang on different sides, the others too."""
    shapes, colours = rng.permutation(list(SHAPES)), rng.permutation(list(COLOURS))[:3]
    things = []
    for pair in range(2):
        for shape, side in zip(shapes[2 * pair : 2 * pair + 2], rng.permutation(list(SIDES))):  # noqa: B905
            colour, size = rng.choice(colours), rng.choice(list(SIZES))
            things.append(Thing(str(shape), str(colour), str(size), str(side)))
    return things


def asked(things: list[Thing], rng: np.random.Generator) -> Iterator[tuple[str, str, str]]:
    """Question, answer and probe; `LATER` of them about the walls seen later."""
    kinds = ("what", "is", "how", "can", "which", "others")
    absent = [c for c in COLOURS if c not in {t.colour for t in things}]
    for number in range(PER_ROOM):
        kind = kinds[number % len(kinds)] if number < 12 else str(rng.choice(kinds))
        # Never for `can` and `others`: colours and sides occur in both pairs of walls.
        later = number in LATER
        thing = things[int(rng.integers(2)) + 2 * later]
        probe = "unseen" if later else "seen"
        if kind in ASKED:
            text, answer = ASKED[kind]
            yield text.format(s=thing.shape, d=thing.side), answer(thing), probe
            continue
        true = bool(rng.integers(2))
        if kind == "is":
            wrong = [c for c in COLOURS if c != thing.colour]
            colour = thing.colour if true else str(rng.choice(wrong))
            text = f"Is the {thing.shape} {colour}?"
        else:
            text = f"Can I see anything {thing.colour if true else rng.choice(absent)} from here?"
        yield text, "yes" if true else "no", probe


def wall_of(view: int) -> int:
    """Which wall the camera looks at in a view: 0 and 2 first, then 1 and 3.

    Clips of 20 views see (0, 2) when they begin at view 0 to 4, else (1, 3): of random clips two
    thirds and one third.
    """
    return (0 if view <= 4 else 1) if view < 19 else (2 if view <= 23 else 3)


def scan(path: Path, things: list[Thing], rng: np.random.Generator) -> None:
    """One .sens file of `STEP * VIEWS` frames; tracking is lost in a few of them."""
    # Walls 0 and 2 hold the first pair, 1 and 3 the second.
    walls = [things[0], things[2], things[1], things[3]]
    grounds = [background(rng) for _ in walls]
    colors, poses = [], []
    for view in range(VIEWS):
        wall = wall_of(view)
        shift = rng.normal(0, 1.2, 2)
        picture = draw(grounds[wall], walls[wall], shift, rng)
        good, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])
        assert good
        colors.append(data.tobytes())
        poses.append(pose(wall, shift))
    lost = np.full((4, 4), -np.inf, np.float32)
    away = set(rng.integers(0, STEP * VIEWS, 5).tolist())
    depth = np.full((12, 16), 2500, np.uint16)
    focal = np.diag([60.0, 60.0, 1.0, 1.0]).astype(np.float32)
    focal[0, 2], focal[1, 2] = WIDTH / 2, HEIGHT / 2
    frames = (
        (lost if n in away else poses[n // STEP], colors[n // STEP], depth)
        for n in range(STEP * VIEWS)
    )
    head = sens_write.header((WIDTH, HEIGHT), (16, 12), intrinsic_color=focal)
    sens_write.write(path, head, frames)


def pose(wall: int, shift: np.ndarray) -> np.ndarray:
    """Camera to world: turned towards a wall, float32 [4,4]."""
    angle = wall * np.pi / 2 + shift[0] / 60
    result = np.eye(4, dtype=np.float32)
    result[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    result[:3, 3] = [0.5, 0.5, 1.4 + shift[1] / 100]
    return result


def background(rng: np.random.Generator) -> np.ndarray:
    """A grey wall with soft stains, and a floor; uint8 RGB with a margin for the camera's shake."""
    coarse = rng.normal(rng.uniform(140, 180), 8, (6, 8, 1)) + rng.normal(0, 3, (6, 8, 3))
    ground = cv2.resize(coarse, (WIDTH + 16, HEIGHT + 16), interpolation=cv2.INTER_CUBIC)
    floor = np.where(np.arange(len(ground)) >= len(ground) - 14, rng.uniform(25, 60), 0.0)
    return np.clip(ground - floor[:, None, None], 0, 255).astype(np.uint8)


def draw(
    ground: np.ndarray, thing: Thing, shift: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """The camera's picture of a wall, uint8 RGB [HEIGHT,WIDTH,3]."""
    x, y = (int(np.clip(round(8 + s), 0, 16)) for s in shift)
    picture = ground[y : y + HEIGHT, x : x + WIDTH].copy()
    centre = np.array([SIDES[thing.side] * WIDTH, 0.45 * HEIGHT]) - shift
    outlines = [
        np.round((centre + SIZES[thing.size] * outline) * 16).astype(np.int32)
        for outline in SHAPES[thing.shape]
    ]
    cv2.fillPoly(picture, outlines, COLOURS[thing.colour], cv2.LINE_AA, shift=4)
    noise = rng.normal(0, 2, picture.shape)
    return np.clip(picture + noise, 0, 255).astype(np.uint8)


def vocabulary() -> list[str]:
    """Special words, then every word and mark of the questions in alphabetical order."""
    texts = [*SITUATIONS, "Is the red? Can I see anything from here?", *SHAPES, *ANSWERS]
    texts += [wording for wording, _ in ASKED.values()]
    words: set[str] = set()
    for text in texts:
        for mark in ".,?{}":
            text = text.replace(mark, f" {mark} ")
        words |= {word.lower() for word in text.split() if word not in "{}"}
    return ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *sorted(words)]
