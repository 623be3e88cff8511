"""Videos in an LMDB folder, as ClipBERT keeps them: key = file stem, value = the file's bytes.

Written with a manifest that comes last, so that a folder without one is known to be unfinished.
Opened lazily and once per process, and closed before every fork: py-lmdb 2 and later refuse a
second open in a process, also in a child that was forked while its parent held the environment.
"""

import os
import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import lmdb
import pandas as pd

from vireo.errors import VireoError
from vireo.media.inventory import COLUMNS
from vireo.utils.files import write_json

MANIFEST = "vireo.json"
ROOM = 1 << 26  # beyond what the values need
BATCH = 100  # videos per transaction


def write(folder: str | Path, videos: Iterable[tuple[str, Path]]) -> dict[str, str]:
    """Put video files into a new LMDB folder; returns key -> reason for those left out.

    VireoError when the folder already holds one, or a key occurs twice.
    """
    folder = Path(folder)
    listed = list(videos)
    keys = [key for key, _ in listed]
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice:
        raise VireoError(f"{twice[0]!r} occurs twice among the videos ({len(twice)} such names)")
    if (folder / "data.mdb").exists():
        raise VireoError(f"{folder} holds an LMDB already; give an empty folder")
    folder.mkdir(parents=True, exist_ok=True)
    total = sum(path.stat().st_size + 8192 for _, path in listed if path.is_file())
    failed: dict[str, str] = {}
    with lmdb.open(str(folder), map_size=2 * total + ROOM) as env:
        for first in range(0, len(listed), BATCH):
            with env.begin(write=True) as txn:
                for key, path in listed[first : first + BATCH]:
                    try:
                        held = path.read_bytes()
                    except OSError as error:
                        failed[key] = error.strerror or str(error)
                        continue
                    if held:
                        txn.put(key.encode(), held)
                    else:
                        failed[key] = "the file is empty"
    write_json(folder / MANIFEST, {"videos": len(listed) - len(failed), "failed": failed})
    return failed


_lock = threading.RLock()  # held by every read and over a fork, so that none loses its environment
_opened: dict[str, lmdb.Environment] = {}


def _environment(folder: str) -> lmdb.Environment:
    """The environment of a folder, opened at most once; the caller holds `_lock`."""
    if folder not in _opened:
        _opened[folder] = _open(folder)
    return _opened[folder]


def _open(folder: str) -> lmdb.Environment:
    try:
        found = lmdb.open(folder, readonly=True, create=False, lock=False, readahead=False)
    except lmdb.Error as error:
        raise VireoError(f"{folder} cannot be opened as an LMDB: {error}") from error
    # Reading a page that a cut file does not have would end the process with SIGBUS.
    size = (Path(folder) / "data.mdb").stat().st_size
    whole = (found.info()["last_pgno"] + 1) * found.stat()["psize"]
    if size < whole:
        found.close()
        raise VireoError(
            f"{folder}/data.mdb is cut short ({size} bytes of at least {whole}); copy or make it "
            "again"
        )
    return found


def close() -> None:
    """Close what this process has opened; the next read opens it again."""
    with _lock:
        while _opened:
            _opened.popitem()[1].close()


def _before_fork() -> None:
    _lock.acquire()
    close()


os.register_at_fork(
    before=_before_fork, after_in_parent=_lock.release, after_in_child=_lock.release
)


def _get(txn: lmdb.Transaction, folder: str | Path, key: str) -> Any:
    try:
        return txn.get(key.encode())
    except lmdb.Error as error:
        raise VireoError(
            f"{folder}/data.mdb is damaged at the key {key!r} ({error}); copy or make it again"
        ) from error


def value(folder: str | Path, key: str) -> bytes | None:
    """The video under a key; None when there is none. VireoError when it is no whole LMDB."""
    with _lock, _environment(str(Path(folder).resolve())).begin() as txn:
        return _get(txn, folder, key)


def find(ids: Iterable[str], folder: str | Path) -> pd.DataFrame:
    """Inventory of ids in an LMDB folder (columns of vireo.media.inventory, kind `lmdb`)."""
    folder = Path(folder).absolute()
    changed = (folder / "data.mdb").stat().st_mtime_ns
    rows: list[tuple[str, str | None, str, int, int, str]] = []
    with _lock, _environment(str(folder.resolve())).begin(buffers=True) as txn:
        for name in dict.fromkeys(map(str, ids)):
            held = _get(txn, folder, name)
            if held is None:
                rows.append((name, None, "file", 0, 0, "missing"))
            else:
                rows.append((name, str(folder), "lmdb", len(held), changed, "found"))
    table = pd.DataFrame(rows, columns=COLUMNS)
    return table.astype({"size": "int64", "mtime_ns": "int64"})
