"""Which videos a shard has to look at, and what the journal already answers."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from vireo.errors import VireoError
from vireo.inference.controls import partners
from vireo.inference.journal import Journal, Row, Source, resolve

Span = tuple[str, float | None, float | None]  # video, start, end (seconds; None = its ends)


@dataclass
class ClipTask:
    """One stretch of one video with the items that it answers."""

    span: Span
    path: str | None  # None: there is no such file
    kind: str
    source: Source
    items: list[Any] = field(default_factory=list)  # rows of the items table (`itertuples`)


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
    journal: Journal, work: Sequence[ClipTask], views: int = 1
) -> tuple[list[Row], list[ClipTask]]:
    """Final rows of the journal, and the work that is left with the items it is left for.

    An item of which a view is lacking is computed again, whole.
    """
    found = journal.read({item.id for w in work for item in w.items}.__contains__)
    rows: list[Row] = []
    due: list[ClipTask] = []
    for w in work:
        left = []
        for item in w.items:
            first = resolve(found.get((item.id, 0), ()), w.source)
            failed = first is not None and first["status"] != "ok"  # one row stands for all views
            more = () if failed else range(1, views)
            others = [resolve(found.get((item.id, view), ()), w.source) for view in more]
            whole = [row for row in (first, *others) if row is not None]
            if len(whole) == 1 + len(others):
                rows += whole
            else:
                left.append(item)
        if left:
            due.append(replace(w, items=left))
    return rows, due


def failed_rows(items: Iterable[Any], status: str, error: str) -> list[Row]:
    """Rows of items that have no prediction."""
    nothing = {"view": 0, "prediction": "null", "scores": np.zeros(0, np.float32), "seconds": 0.0}
    why = {"status": status, "error": error, "frames": [], "flags": []}
    return [{"id": item.id, "group": str(item.group), **nothing, **why} for item in items]
