"""Prediction rows as Parquet: what inference writes, what scoring reads, key `(id, view)`.

The file's own metadata holds what the rows were made with (the journal key, device, versions,
seconds), for the provenance of a result.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from vireo.errors import VireoError
from vireo.utils import seal
from vireo.utils.files import atomic

STATUSES = ("ok", "missing", "undecodable", "error")
SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("view", pa.int32(), nullable=False),
        pa.field("group", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("prediction", pa.string()),  # JSON text
        pa.field("scores", pa.list_(pa.float32())),
        pa.field("frames", pa.list_(pa.int32())),
        pa.field("seconds", pa.float64()),
        pa.field("error", pa.string()),
        pa.field("flags", pa.list_(pa.string())),
        pa.field("source", pa.list_(pa.int64())),  # size and mtime_ns of the video
        pa.field("pixels", pa.string()),  # checksum of the decoded frames
        pa.field("kept", pa.string()),  # the earlier copy of a video that is not here now
    ]
)
# Files of earlier versions do not have these.
NEWER = ("source", "pixels", "kept")
_INFO = b"vireo"


def write(
    path: str | Path, rows: Iterable[dict[str, Any]], info: dict[str, Any] | None = None
) -> None:
    """Write rows (keys of SCHEMA, others are dropped) atomically; checks them first."""
    listed = [{name: row.get(name) for name in SCHEMA.names} for row in rows]
    _write(path, pa.Table.from_pylist(listed, schema=SCHEMA), info)


def write_frame(path: str | Path, frame: pd.DataFrame) -> None:
    """Write rows as `read` gives them (NaN = nothing) atomically; checks them first."""
    whole = frame.reindex(columns=SCHEMA.names).astype(dict.fromkeys(NEWER, object))
    _write(path, pa.Table.from_pandas(whole, SCHEMA, preserve_index=False), None)


def _write(path: str | Path, table: pa.Table, info: dict[str, Any] | None) -> None:
    _check(table.select(["id", "view", "status"]).to_pandas(), {str(path): len(table)})
    text = json.dumps(info or {}, sort_keys=True)
    with atomic(path, sealed=True) as tmp:
        noted = table.replace_schema_metadata({_INFO: text})
        pq.write_table(noted, tmp, compression="zstd", write_page_checksum=True)


def read(paths: str | Path | Sequence[str | Path]) -> pd.DataFrame:
    """Rows of one file or of all shards together, in the order given.

    Columns as in SCHEMA (lists are NumPy arrays). VireoError for a file that is absent or damaged,
    has other columns, or repeats an `(id, view)`.
    """
    files = [paths] if isinstance(paths, (str, Path)) else list(paths)
    tables = [_table(Path(path)) for path in files]
    table = pa.concat_tables(tables) if tables else SCHEMA.empty_table()
    frame = table.to_pandas()
    counts = {str(path): len(part) for path, part in zip(files, tables, strict=True)}
    _check(frame[["id", "view", "status"]], counts)
    return frame


def info(path: str | Path) -> dict[str, Any]:
    """What the rows of one file were made with ({} if it does not say)."""
    metadata = _schema(Path(path)).metadata or {}
    return json.loads(metadata.get(_INFO, b"{}"))


def _schema(path: Path) -> pa.Schema:
    seal.check(path)
    try:
        return pq.read_schema(path)
    except FileNotFoundError as error:
        raise VireoError(f"predictions not found: {path}") from error
    except (pa.ArrowInvalid, OSError) as error:
        raise VireoError(f"{path} is no readable Parquet file: {error}") from error


def _table(path: Path) -> pa.Table:
    found = _schema(path)
    unknown = [n for n in found.names if n not in SCHEMA.names]
    missing = [n for n in SCHEMA.names if n not in found.names and n not in NEWER]
    if unknown or missing:
        raise VireoError(
            f"{path}: these are not prediction rows ("
            + "; ".join(
                f"{word} columns: {', '.join(names)}"
                for word, names in (("unknown", unknown), ("missing", missing))
                if names
            )
            + ")"
        )
    try:
        table = pq.read_table(path)
        for name in NEWER:
            if name not in found.names:
                kind = SCHEMA.field(name).type
                table = table.append_column(name, pa.nulls(len(table), kind))
        return table.select(SCHEMA.names).cast(SCHEMA)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise VireoError(f"{path} is not a readable predictions file: {error}") from error


def _check(frame: pd.DataFrame, counts: dict[str, int]) -> None:
    """Statuses are known and keys are unique; `counts` (file -> rows) names the place."""
    where = [name for name, count in counts.items() for _ in range(count)]
    wrong = frame.index[~frame["status"].isin(STATUSES)]
    if len(wrong):
        row = frame.loc[wrong[0]]
        raise VireoError(
            f"{where[wrong[0]]}: {row['id']!r} has the status {row['status']!r}; "
            f"known: {', '.join(STATUSES)}"
        )
    twice = frame.index[frame.duplicated(["id", "view"])]
    if len(twice):
        row = frame.loc[twice[0]]
        first = frame.index[(frame["id"] == row["id"]) & (frame["view"] == row["view"])][0]
        raise VireoError(
            f"{row['id']!r} (view {row['view']}) stands in {where[first]} and again in "
            f"{where[twice[0]]}: were shards of different counts mixed?"
        )
