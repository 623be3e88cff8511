"""A few questions with the frames that the model saw, their options, scores and answers."""

import base64
import hashlib
import io
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from vireo import benchmarks
from vireo import config as cfg
from vireo.report.load import ITEMS, RunView, text_of
from vireo.tables import items as item_table
from vireo.utils.cli import log

FRAMES = Path("cache/frames")
SIDE = 128  # pixels of a thumbnail's longer side
EACH = 3
MANY, BEST = 8, 5  # options of a question
LONGEST = 400  # letters


@dataclass
class Option:
    """One option of a question: its score, its share after softmax, and what it is."""

    text: str
    score: float | None
    share: float | None
    predicted: bool
    answer: bool


@dataclass
class Frame:
    """A thumbnail as data URI with its size and what it shows."""

    uri: str
    width: int
    height: int
    what: str


@dataclass
class Example:
    """One question as the page shows it."""

    id: str
    video: str
    split: str
    question: str
    answer: str
    prediction: str
    right: bool | None  # None: nothing that is right or wrong by itself
    options: list[Option]
    flags: list[str]
    frames: list["Frame"] = field(default_factory=list)
    no_frames: str = ""


def choose(shown: RunView, each: int = EACH) -> list[Example]:
    """Some right and some wrong answers, drawn by a hash of their ids over the splits.

    Nobody picked them, and the same items give the same examples in every report.
    """
    if shown.items is None or shown.rows is None:
        return []
    kind, names = _kind(shown)
    if kind in ("pairs", "embedding"):
        shown.why_no_examples = "its items are ranked together, none is right or wrong alone"
        return []
    rows = shown.rows[(shown.rows["status"] == "ok") & (shown.rows["view"] == 0)]
    joined = shown.items.merge(rows.drop(columns="group"), on="id")
    if joined.empty:
        return []
    if kind == "watch":
        joined["prediction"] = [json.dumps(_spoken(text)) for text in joined["prediction"]]
        joined["answer"] = [_gold(text) for text in joined["meta"]]
        joined["options"] = [[] for _ in range(len(joined))]  # what was asked, not choices
    if kind == "classes":
        joined["prediction"] = [_named(text, names) for text in joined["prediction"]]
    judged = kind not in ("watch", "value")
    joined["right"] = [_right(row) if judged else None for row in joined.itertuples()]
    joined["draw"] = [hashlib.sha256(f"example {i}".encode()).hexdigest() for i in joined["id"]]
    chosen: list[Any] = []
    for verdict in (True, False) if judged else (None,):
        mine = joined[joined["right"] == verdict] if judged else joined
        pool = mine.sort_values("draw")
        # One per split in turn, no video twice.
        turn = pool.groupby("split").cumcount()
        pool = pool.assign(turn=turn).sort_values(["turn", "draw"])
        seen = {row.video for row in chosen}
        fresh = pool[~pool["video"].isin(seen)].drop_duplicates("video")
        chosen += list(fresh.head(each if judged else 2 * each).itertuples())
    return [_example(row) for row in chosen]


def _kind(shown: RunView) -> tuple[str, list[str]]:
    """What a row of this benchmark predicts, and the names of its classes."""
    module = benchmarks.module(shown.module)
    kind = getattr(module, "PREDICTS", "")
    if kind == "classes" and hasattr(module, "classes"):
        return kind, [str(name) for name in module.classes(shown.items)]
    return kind, []


def _named(prediction: Any, names: list[str]) -> Any:
    """A class number as its name, in JSON."""
    number = text_of(prediction)
    known = number.isdigit() and int(number) < len(names)
    return json.dumps(names[int(number)]) if known else prediction


def _spoken(prediction: Any) -> str:
    """What a streaming model said under its first threshold, with the seconds."""
    try:
        answers = json.loads(prediction)["answers"]
        turns: list[dict[str, Any]] = next(iter(answers.values()), [])
        said = [f"[{float(turn['time']):.1f} s] {turn['content']}" for turn in turns]
    except (TypeError, ValueError, KeyError):
        return _short(prediction)
    return _short("  ".join(said)) if said else "(nothing said; scores of its frames only)"


def _gold(meta: Any) -> str:
    """What should have been said and when, or the right stretches of the video."""
    try:
        told = json.loads(meta)
        turns = [(turn["time"], turn["content"]) for turn in told.get("answer") or []]
        turns += [(span, "") for span in told.get("timestamps") or []]
        said = [f"[{_span(time)} s] {content}".strip() for time, content in turns]
    except (TypeError, ValueError, KeyError, AttributeError):
        return ""
    return _short("  ".join(said)) or "–"


def _span(time: Any) -> str:
    ends = time if isinstance(time, list) else [time]
    return " to ".join(f"{float(end):.1f}" for end in ends)


def _short(text: Any) -> str:
    return str(text) if len(str(text)) <= LONGEST else f"{str(text)[:LONGEST]}…"


def add_frames(examples: list[Example], shown: RunView, config: cfg.Config) -> None:
    """Take the frames from the store, or decode them again as the run's protocol says."""
    from vireo.media import pool, resize
    from vireo.media.decode import DecodeRequest
    from vireo.media.store import Store, stored

    protocol = shown.result["protocol"]
    if not examples or not protocol.get("frames"):
        return
    try:
        table = item_table.read_videos(ITEMS / f"{shown.result['benchmark']}.videos.parquet")
        inventory = {str(row["video"]): row for row in table.to_dict("records")}
        spans = _spans(shown, examples)
        rule = {k: v for k, v in protocol["frames"].items() if k != "store"}
        size = resize.before_store(protocol.get("resize"))
        limits = {**config["decode"], "workers": 1}
        requests = [
            DecodeRequest(e.video, row["path"], row["kind"], rule, size, *spans[e.id])
            for e in examples
            if (row := inventory.get(e.video)) is not None and row["status"] == "found"
        ]
        store = Store(FRAMES, config["decode"]) if stored(protocol) else None
        samples = {s.video: s for s in pool.decode(requests, limits, store)}
    except Exception as error:  # frames are an ornament: their absence is said, not fatal
        log.warning("%s: no frames in the report: %s", shown.key, error)
        for example in examples:
            example.no_frames = f"no frames: {error}"
        return
    for example in examples:
        sample = samples.get(example.video)
        if sample is None or sample.frames is None:
            example.no_frames = f"no frames: {getattr(sample, 'error', None) or 'video not found'}"
            continue
        for number, time, picture in zip(sample.indices, sample.times, sample.frames, strict=True):
            example.frames.append(thumbnail(picture, f"frame {number}, {_clock(time)}"))


def _spans(shown: RunView, examples: list[Example]) -> dict[str, tuple[float | None, float | None]]:
    assert shown.items is not None
    wanted = {e.id for e in examples}
    chosen = shown.items[shown.items["id"].isin(wanted)]
    rows = chosen.to_dict("records")
    return {str(row["id"]): (_number(row["start"]), _number(row["end"])) for row in rows}


def _number(value: Any) -> float | None:
    return None if value is None or pd.isna(value) else float(value)


def _letter(text: str) -> str:
    return text.strip()[:1]


def _right(row: Any) -> bool:
    given = text_of(row.prediction)
    if len(row.answer) == 1 and len(row.options):
        return _letter(given) == row.answer
    return given == row.answer


def _example(row: Any) -> Example:
    options = [str(text) for text in row.options]
    scores = [float(s) for s in row.scores] if row.scores is not None else []
    if len(scores) != len(options):
        scores = []
    shares = _softmax(scores)
    given = text_of(row.prediction)
    made = [
        Option(
            text,
            scores[i] if scores else None,
            shares[i] if scores else None,
            text == given,
            _letter(text) == row.answer or text == row.answer,
        )
        for i, text in enumerate(options)
    ]
    return Example(
        id=str(row.id),
        video=str(row.video),
        split=str(row.split),
        question=str(row.question),
        answer=str(row.answer),
        prediction=given,
        right=None if row.right is None else bool(row.right),
        options=some(made),
        flags=[str(flag) for flag in (row.flags if row.flags is not None else [])],
    )


def some(options: list[Option]) -> list[Option]:
    """All options in their order; of hundreds (classes) the best and the right one."""
    if len(options) <= MANY:
        return options
    best = sorted(options, key=lambda o: -(o.score if o.score is not None else -math.inf))
    return best[:BEST] + [o for o in best[BEST:] if o.answer]


def _softmax(scores: list[float]) -> list[float]:
    if not scores or not all(map(math.isfinite, scores)):
        return [0.0] * len(scores)
    top = max(scores)
    powers = [math.exp(score - top) for score in scores]
    return [power / sum(powers) for power in powers]


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{seconds % 60:04.1f}"


def thumbnail(picture: Any, what: str) -> Frame:
    """A small JPEG of an RGB picture, uint8 [H,W,3]."""
    from PIL import Image

    image = Image.fromarray(picture)
    image.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=72)
    text = base64.b64encode(buffer.getvalue()).decode()
    return Frame(f"data:image/jpeg;base64,{text}", image.width, image.height, what)
