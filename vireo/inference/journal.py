"""Predictions as they are made, so that `kill -9` loses at most the batch in flight.

One folder per key (`cache/predictions/<key>/`), one file per process start, one line a prediction.
The key hashes everything that changes predictions and nothing else (not shards, machine, batch
size, device), so any number of processes, shards and restarts share what was computed. The first
line of each file tells a person what the key stands for.
"""

import json
import os
import re
import socket
import time
import uuid
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from vireo.errors import VireoError
from vireo.utils.files import digest

Row = dict[str, Any]
RowKey = tuple[str, int]
Source = tuple[int, int] | None

# Higher wins among the lines of one (id, view).
RANK = {"ok": 3, "undecodable": 2, "error": 1, "missing": 0}
# Frames that were produced in spite of damage: never taken over to a file with another time.
DAMAGE_FLAGS = frozenset({"damaged", "substituted"})

_HEAD = b'{"crc":"%08x","row":'
# The first such text of a line is its key: within strings quotes are escaped.
_ID = re.compile(rb'"id":"([^"\\]*)"')
_LINE = re.compile(rb'\{"crc":"([0-9a-f]{8})","row":(\{.*\})\}', re.DOTALL)


def key_name(description: dict[str, Any]) -> str:
    """Folder name of a key: words for people, then the digest of the whole description."""
    words = [description.get(k) for k in ("family", "benchmark", "dtype", "control")]
    prefix = ".".join(re.sub(r"[^A-Za-z0-9_-]+", "-", str(w)) for w in words if w)
    return f"{prefix or 'key'}.{digest(description)}"


class Journal:
    """All journals under one key: read what is there, append to a file of this process's own."""

    def __init__(self, root: str | Path, description: dict[str, Any], fsync_s: float = 30.0):
        self.description = description
        self.folder = Path(root) / key_name(description)
        self.path = self.folder / f"{uuid.uuid4().hex}.jsonl"
        self.fsync_s = fsync_s
        self.facts: dict[str, Any] = {}  # written into this process's header (device, versions)
        self._fd: int | None = None
        self._synced = 0.0

    def read(self, wanted: Callable[[str], bool] | None = None) -> dict[RowKey, list[Row]]:
        """Every distinct readable row by (id, view); the order of the files plays no part."""
        found: dict[RowKey, dict[bytes, Row]] = {}
        for path in self._files():
            for body, row in _rows(path, wanted):
                found.setdefault((row["id"], row["view"]), {})[body] = row
        return {key: [same[body] for body in sorted(same)] for key, same in found.items()}

    def statuses(self, wanted: Collection[str]) -> dict[str, frozenset[str]]:
        """Which statuses the first view of each wanted item has been given (few bytes an item)."""
        found: dict[str, frozenset[str]] = {}
        for path in self._files():
            for _, row in _rows(path, wanted.__contains__):
                if row["view"] == 0:
                    found[row["id"]] = _union(found.get(row["id"], frozenset()), row["status"])
        return found

    def said(self, name: str) -> list[str]:
        """What the headers of all journals under the key say of `name`, without repeats."""
        heads = (header(path) or {} for path in self._files())
        return sorted({str(head[name]) for head in heads if name in head})

    def _files(self) -> list[Path]:
        return list(self.folder.glob("*.jsonl")) if self.folder.is_dir() else []

    def append(self, rows: Iterable[Row]) -> None:
        """Write a batch of rows with one system call; VireoError when the disk is full.

        `scores` may be a NumPy float32 array: it is written so that the same float32 values return.
        """
        data = b"".join(_encode(row) for row in rows)
        if not data:
            return
        if self._fd is None:
            self._fd = self._open()
        self._write(data)
        if time.monotonic() - self._synced >= self.fsync_s:
            self.sync()

    def sync(self) -> None:
        """Force what was appended to the disk (a dead machine, not only a dead process)."""
        if self._fd is not None:
            os.fsync(self._fd)
            self._synced = time.monotonic()

    def close(self) -> None:
        """Sync and close this process's file."""
        if self._fd is not None:
            self.sync()
            os.close(self._fd)
            self._fd = None

    def _open(self) -> int:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o666)
        except OSError as error:
            raise VireoError(f"cannot write the journal {self.path}: {error.strerror}") from error
        self._fd, self._synced = fd, time.monotonic()
        here = {"host": socket.gethostname(), "pid": os.getpid(), "started": int(time.time())}
        self._write(_encode({"journal": 1, "key": self.description, **self.facts, **here}))
        return fd

    def _write(self, data: bytes) -> None:
        assert self._fd is not None
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as error:
            raise VireoError(
                f"cannot write the journal {self.path}: {error.strerror}; what was written before "
                "stays valid: make room and run the same command again"
            ) from error

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def rows_of(path: str | Path) -> Iterator[Row]:
    """Prediction rows of one file; truncated, foreign and damaged lines are passed over."""
    for _, row in _rows(path):
        yield row


def header(path: str | Path) -> dict[str, Any] | None:
    """First line of a journal file (`key`, `host`, `pid`, `started`), None when it is truncated."""
    return next((row for _, row in _lines(path) if row.get("journal") == 1), None)


def is_final(row: Row, source: Source) -> bool:
    """Whether `row` need not be computed again for a video of `source` = (size, mtime_ns).

    `ok` and `undecodable` are final for exactly that size and time, `ok` also when the file is
    absent (None); `missing` and `error` are always tried again. See `may_hold` for new times.
    """
    if row["status"] == "ok" and source is None:
        return True
    return row["status"] in ("ok", "undecodable") and source is not None and _source(row) == source


def may_hold(row: Row, source: Source) -> bool:
    """Whether `row` holds for a file of the same size and another time, if its frames are the same.

    Rows of earlier versions have no checksum of their frames: nothing can tell, they do not hold.
    """
    then = _source(row)
    return bool(
        row["status"] == "ok"
        and source is not None
        and then is not None
        and then[0] == source[0]
        and then != source
        and row.get("pixels")
        and not DAMAGE_FLAGS.intersection(row.get("flags") or ())
    )


def resolve(rows: Iterable[Row], source: Source) -> Row | None:
    """The one final row among duplicates: best status, newest copy, then a total order on the text.

    With the file absent rows of several copies may be final: that of the newest file is taken for
    every item, so that one copy answers all it can.
    """
    final = [row for row in rows if is_final(row, source)]
    if len(final) <= 1:
        return final[0] if final else None
    return min(final, key=order)


def order(row: Row) -> tuple[int, tuple[int, int, str], str]:
    """Sorts rows of one item: best status, newest file, text; the same on every machine."""
    return -RANK[row["status"]], _age(row), _text(row)


def _source(row: Row) -> Source:
    return tuple(row["source"]) if row.get("source") else None


def _age(row: Row) -> tuple[int, int, str]:
    """Orders copies of a file: newest, then largest, then by path."""
    size, changed = _source(row) or (0, 0)
    return -changed, -size, str(row.get("path") or "")


@cache
def _union(statuses: frozenset[str], more: str) -> frozenset[str]:
    """One object per combination, however many items have it."""
    return statuses | {more}


def _rows(
    path: str | Path, wanted: Callable[[str], bool] | None = None
) -> Iterator[tuple[bytes, Row]]:
    for body, row in _lines(path, wanted):
        if (
            isinstance(row.get("id"), str)
            and isinstance(row.get("view"), int)
            and row.get("status") in RANK
            and (wanted is None or wanted(row["id"]))
        ):
            row["scores"] = np.asarray(row.get("scores") or [], dtype=np.float32)
            yield body, row


def _lines(
    path: str | Path, wanted: Callable[[str], bool] | None = None
) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """Whole lines; most of those with another id than the `wanted` ones are not parsed."""
    with open(path, "rb") as handle:
        for line in handle:
            match = _LINE.fullmatch(line.rstrip(b"\n"))
            if match is None or zlib.crc32(match[2]) != int(match[1], 16):
                continue
            name = _ID.search(match[2]) if wanted else None
            if wanted and name and not wanted(name[1].decode("utf-8", "replace")):
                continue
            try:
                value = json.loads(match[2])
            except (ValueError, RecursionError):
                continue
            if isinstance(value, dict):
                yield match[2], value


def _text(row: dict[str, Any]) -> str:
    def plain(value: Any) -> Any:
        if isinstance(value, (np.ndarray, np.generic)):
            return value.tolist()
        raise TypeError(f"a journal cannot hold {type(value).__name__}")

    # float32 -> float64 -> shortest decimal that returns the same float64: exact.
    return json.dumps(row, sort_keys=True, separators=(",", ":"), default=plain)


def _encode(row: dict[str, Any]) -> bytes:
    if isinstance(row.get("scores"), np.ndarray) and row["scores"].dtype != np.float32:
        raise TypeError("scores in a journal are float32")
    body = _text(row).encode()
    return _HEAD % zlib.crc32(body) + body + b"}\n"
