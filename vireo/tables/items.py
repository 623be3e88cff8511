"""Items and inventories as Parquet: written atomically, read with the columns checked.

Items have one row per question or clip, in the order of the official annotations: `id`, `split`,
`video` (file stem), `start` and `end` (seconds, NaN = whole video), `question`, `options` (texts),
`answer`, `group` (items that share a video; the unit of sharding and of confidence intervals) and
`meta` (a JSON object with what else the annotations say).
An inventory has one row per video: `video`, `path`, `kind` (file | jpegs), `size`, `mtime_ns`,
`status` (found | missing).

A job looks at its part of a benchmark only, so files are passed through a few thousand rows at a
time and what a caller does not ask for is never held: memory grows with the shard.
"""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vireo.errors import VireoError
from vireo.utils import seal
from vireo.utils.files import atomic

ITEM_COLUMNS = (
    *("id", "split", "video", "start", "end"),
    *("question", "options", "answer", "group", "meta"),
)
VIDEO_COLUMNS = ("video", "path", "kind", "size", "mtime_ns", "status")
SPAN_COLUMNS = ("id", "video", "start", "end", "group")
ROW_GROUP = 16384
PART = 4096  # rows


class _Kind(NamedTuple):
    title: str
    columns: tuple[str, ...]


ITEMS = _Kind("items", ITEM_COLUMNS)
VIDEOS = _Kind("inventory of videos", VIDEO_COLUMNS)


def rows(table: pd.DataFrame) -> Iterator[Any]:
    """Rows as named tuples, whose fields have the types of this module's columns."""
    return iter(table.itertuples())


def write(table: pd.DataFrame, path: str | Path) -> None:
    """Write a table atomically, in pieces that can be read apart."""
    # Without pandas' own notes, which cannot be read back for lists that Arrow holds.
    content = pa.Table.from_pandas(table, preserve_index=False).replace_schema_metadata()
    with atomic(path, sealed=True) as tmp:
        pq.write_table(content, tmp, row_group_size=ROW_GROUP, write_page_checksum=True)


def compact(items: pd.DataFrame) -> pd.DataFrame:
    """The same items with `options` held by Arrow, as they will be read back."""
    texts = pd.ArrowDtype(pa.list_(pa.string()))
    return items.assign(options=pd.Series(list(items["options"]), items.index, dtype=texts))


def read_items(
    path: str | Path,
    splits: Collection[str] | None = None,
    groups: Collection[str] | None = None,
    columns: tuple[str, ...] = ITEM_COLUMNS,
) -> pd.DataFrame:
    """Items of the given splits and groups (None = all), in file order."""
    return _read(path, ITEMS, columns, {"split": splits, "group": groups})


def groups(path: str | Path, split: str) -> set[str]:
    """Names of a split's groups."""
    found: set[str] = set()
    for part in _parts(path, ITEMS, ("split", "group")):
        own = part.filter(pc.equal(part["split"], split))
        found.update(pc.unique(own["group"]).to_pylist())
    return found


def item_parts(path: str | Path, columns: tuple[str, ...]) -> Iterator[pd.DataFrame]:
    """All items in file order, some thousand rows at a time."""
    for part in _parts(path, ITEMS, columns):
        yield _pandas(part)


def read_videos(path: str | Path, videos: Collection[str] | None = None) -> pd.DataFrame:
    """The inventory, or its rows of the given videos."""
    return _read(path, VIDEOS, None, {"video": videos})


def missing_videos(path: str | Path) -> set[str]:
    """Names of the inventory's videos for which there is no file."""
    found: set[str] = set()
    for part in _parts(path, VIDEOS, ("video", "status")):
        found.update(part.filter(pc.not_equal(part["status"], "found"))["video"].to_pylist())
    return found


def _read(
    path: str | Path,
    what: _Kind,
    columns: tuple[str, ...] | None,
    wanted: dict[str, Collection[str] | None],
) -> pd.DataFrame:
    """Rows whose columns have the `wanted` values (None = any)."""
    filters = {name: sorted(set(values)) for name, values in wanted.items() if values is not None}
    kept = []
    for part in _parts(path, what, columns and tuple(dict.fromkeys((*columns, *filters)))):
        for name, values in filters.items():
            among = pa.array(values, part[name].type)
            part = part.filter(pc.is_in(part[name], value_set=among))
        kept.append(part if columns is None else part.select(list(columns)))
    return _pandas(pa.concat_tables(kept))


def _pandas(table: pa.Table) -> pd.DataFrame:
    """Lists stay with Arrow, in a tenth of the memory; an element is a Python list."""
    held = {kind: pd.ArrowDtype(kind) for kind in table.schema.types if pa.types.is_list(kind)}
    frame: pd.DataFrame = table.to_pandas(types_mapper=held.get)
    return frame


def _parts(path: str | Path, what: _Kind, columns: tuple[str, ...] | None) -> Iterator[pa.Table]:
    """Pieces of a file, the first perhaps without rows; the columns of its kind are checked."""
    seal.check(path)
    try:
        with pq.ParquetFile(path, pre_buffer=False) as file:  # else whole row groups are held
            schema = file.schema_arrow.remove_metadata()
            missing = [name for name in what.columns if name not in schema.names]
            if missing:
                raise VireoError(
                    f"{path} has no column {', '.join(missing)}; scripts/prepare.py makes it"
                )
            names = schema.names if columns is None else list(columns)
            yield schema.empty_table().select(names)
            for batch in file.iter_batches(PART, columns=names):
                yield pa.Table.from_batches([batch]).replace_schema_metadata().select(names)
    except FileNotFoundError as error:
        raise VireoError(f"{what.title} not found: {path}; scripts/prepare.py makes it") from error
    except (pa.ArrowInvalid, OSError) as error:
        raise VireoError(f"{path} is no readable Parquet file: {error}") from error


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
