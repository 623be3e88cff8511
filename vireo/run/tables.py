"""Items and inventories as Parquet: written atomically, read with the columns checked.

Items have one row per question or clip, in the order of the official annotations: `id`, `split`,
`video` (file stem), `start` and `end` (seconds, NaN = whole video), `question`, `options` (texts),
`answer`, `group` (items that share a video; the unit of sharding and of confidence intervals) and
`meta` (a JSON object with what else the annotations say).
An inventory has one row per video: `video`, `path`, `kind` (file | jpegs), `size`, `mtime_ns`,
`status` (found | missing).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from vireo.errors import VireoError
from vireo.run.files import atomic

ITEM_COLUMNS = (
    *("id", "split", "video", "start", "end"),
    *("question", "options", "answer", "group", "meta"),
)
VIDEO_COLUMNS = ("video", "path", "kind", "size", "mtime_ns", "status")


def rows(table: pd.DataFrame) -> Iterator[Any]:
    """Rows as named tuples, whose fields have the types of this module's columns."""
    return iter(table.itertuples())


def write(table: pd.DataFrame, path: str | Path) -> None:
    """Write a table atomically."""
    with atomic(path) as tmp:
        table.to_parquet(tmp, index=False)


def read_items(path: str | Path, splits: list[str] | None = None) -> pd.DataFrame:
    """Items of the given splits (None = all), in file order."""
    items = _read(path, "items", ITEM_COLUMNS)
    return items if splits is None else items[items["split"].isin(splits)].reset_index(drop=True)


def read_videos(path: str | Path) -> pd.DataFrame:
    """The inventory."""
    return _read(path, "inventory of videos", VIDEO_COLUMNS)


def _read(path: str | Path, what: str, columns: tuple[str, ...]) -> pd.DataFrame:
    try:
        table = pd.read_parquet(path)
    except FileNotFoundError as error:
        raise VireoError(f"{what} not found: {path}; scripts/prepare.py makes it") from error
    except (pa.ArrowInvalid, OSError) as error:
        raise VireoError(f"{path} is no readable Parquet file: {error}") from error
    missing = [c for c in columns if c not in table]
    if missing:
        raise VireoError(f"{path} has no column {', '.join(missing)}; scripts/prepare.py makes it")
    return table


def check_items(items: pd.DataFrame, name: str) -> None:
    """VireoError unless a benchmark's items have the columns, unique ids and at least one row."""
    missing = [c for c in ITEM_COLUMNS if c not in items]
    if missing:
        raise VireoError(f"{name}: items have no column {', '.join(missing)}")
    if items.empty:
        raise VireoError(f"{name}: no items")
    twice = items.loc[items["id"].duplicated(), "id"]
    if len(twice):
        raise VireoError(f"{name}: item {twice.iloc[0]!r} occurs more than once")
