"""Which videos a shard has to look at, and what the journal already answers."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from vireo.errors import VireoError
from vireo.inference.controls import partners
from vireo.inference.journal import Journal, Row, Source, may_hold, order, resolve

Span = tuple[str, float | None, float | None]  # video, start, end (seconds; None = its ends)


@dataclass
class ClipTask:
    """One stretch of one video with the items that it answers."""

    span: Span
    path: str | None  # None: there is no such file
    kind: str
    source: Source
    items: list[Any] = field(default_factory=list)  # rows of the items table (`itertuples`)
    # Item -> checksum of frames -> rows that hold if the file, which has a new time, shows these.
    held: dict[str, dict[str, list[Row]]] = field(default_factory=dict)


def clips_by_group(items: pd.DataFrame) -> dict[str, list[Span]]:
    """Group -> the different stretches of video that its items ask about, in their order."""
    spans: dict[str, list[Span]] = {}
    for item in items.itertuples():
        own = spans.setdefault(str(item.group), [])
        if _span(item) not in own:
            own.append(_span(item))
    return spans


def clip_tasks(
    mine: pd.DataFrame, videos: pd.DataFrame, shuffled: dict[str, list[Span]] | None = None
) -> list[ClipTask]:
    """One `Work` per different stretch of video that the items `mine` ask about.

    videos: inventory with at least their rows. shuffled: `clips_by_group` the whole split for the
    control `shuffled_videos`: each stretch is then one of another group's.
    """
    spans = clips_by_group(mine) if shuffled is None else shuffled
    other = {group: group for group in spans} if shuffled is None else partners(spans)
    inventory = {str(row.video): row for row in videos.itertuples()}
    work: dict[Span, ClipTask] = {}
    for item in mine.itertuples():
        group = str(item.group)
        theirs = spans[other[group]]
        span = theirs[spans[group].index(_span(item)) % len(theirs)]
        if span not in work:
            work[span] = _work(span, inventory)
        work[span].items.append(item)
    return list(work.values())


def _span(item: Any) -> Span:
    start, end = (None if math.isnan(t) else float(t) for t in (item.start, item.end))
    return str(item.video), start, end


def _work(span: Span, inventory: dict[str, Any]) -> ClipTask:
    row = inventory.get(span[0])
    if row is None:
        raise VireoError(
            f"video {span[0]!r} of the items is not in the inventory; run scripts/prepare.py again"
        )
    if row.status != "found":
        return ClipTask(span, None, "file", None)
    return ClipTask(span, str(row.path), str(row.kind), (int(row.size), int(row.mtime_ns)))


def view_count(protocol: dict[str, Any]) -> int:
    """Rows that a complete prediction of one item has."""
    views = protocol.get("views") or {}
    return int(views.get("segments", 1)) * int(views.get("crops", 1))


def split_done(
    journal: Journal, work: Sequence[ClipTask], views: int = 1, keep: bool = True
) -> tuple[list[Row], list[ClipTask]]:
    """Final rows of the journal, and the work that is left with the items it is left for.

    An item of which a view is lacking is computed again, whole. Rows of an absent video are marked
    `kept` with the copy they are of; `keep=False` leaves these videos due.
    """
    found = journal.read({item.id for w in work for item in w.items}.__contains__)
    rows: list[Row] = []
    due: list[ClipTask] = []
    for w in work:
        left, held = [], {}
        for item in w.items:
            views_of = [found.get((item.id, view), []) for view in range(views)]
            whole = _whole(views_of, w.source) if keep or w.path is not None else None
            if whole is None:
                left.append(item)
                if may := _held(views_of, w.source):
                    held[item.id] = may
            elif w.path is None:
                rows += [{**row, "kept": _copy(row)} for row in whole]
            else:
                rows += whole
        if left:
            due.append(replace(w, items=left, held=held))
    return rows, due


def _whole(views: Sequence[Sequence[Row]], source: Source) -> list[Row] | None:
    """The final rows of all views; of a failed item the one that stands for all of them."""
    first = resolve(views[0], source)
    if first is not None and first["status"] != "ok":
        return [first]
    rows = [first, *(resolve(some, source) for some in views[1:])]
    whole = [row for row in rows if row is not None]
    return whole if len(whole) == len(views) else None


def _held(views: Sequence[Sequence[Row]], source: Source) -> dict[str, list[Row]]:
    """Checksum of frames -> rows of all views made from such frames, in a file of this size."""
    some = [[row for row in rows if may_hold(row, source)] for rows in views]
    held = {}
    for pixels in {row["pixels"] for row in some[0]}:
        rows = [[row for row in one if row["pixels"] == pixels] for one in some]
        if all(rows):
            held[pixels] = [sorted(one, key=order)[0] for one in rows]
    return held


def _copy(row: Row) -> str:
    """Which copy of a video a row was computed from, for people."""
    if row.get("path"):
        return str(row["path"])
    return f"a file of {row['source'][0]} bytes" if row.get("source") else "an unknown file"


def failed_rows(items: Iterable[Any], status: str, error: str) -> list[Row]:
    """Rows of items that have no prediction."""
    nothing = {"view": 0, "prediction": "null", "scores": np.zeros(0, np.float32), "seconds": 0.0}
    why = {"status": status, "error": error, "frames": [], "flags": []}
    return [{"id": item.id, "group": str(item.group), **nothing, **why} for item in items]
