"""Damaged files of ours are put aside when the workflow starts, so that it makes them again.

And what `kill -9` leaves under temporary names is deleted.

Our files are synced before they are renamed into place and carry a digest (vireo/utils/seal.py), so
an intact file is the rule; disks that lie about syncing, full quotas, half-done copies, bad memory
and files copied over each other are the exceptions. Snakemake sees only names and times: without
this a damaged file would stop every later run, or pass into a result, until somebody deletes it.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path

from vireo.errors import VireoError
from vireo.fetch.receipt import changed, hash_of
from vireo.results import shards
from vireo.tables import predictions
from vireo.utils import seal
from vireo.utils.cli import log
from vireo.utils.files import abandoned


def _json(path: Path) -> bool:
    try:
        json.loads(path.read_bytes())
    except ValueError:
        return False
    return True


def _parquet(path: Path) -> bool:
    size = path.stat().st_size
    with open(path, "rb") as file:
        file.seek(-min(4, size), os.SEEK_END)
        return size >= 12 and file.read() == b"PAR1"


def _safetensors(path: Path) -> bool:
    size = path.stat().st_size
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 + length or not length:
            return False
        try:
            tensors = json.loads(file.read(length))
            ends = [v["data_offsets"][1] for k, v in tensors.items() if k != "__metadata__"]
        except (ValueError, KeyError, TypeError, AttributeError, IndexError):
            return False
    return size == 8 + length + max(ends, default=0)


HASHED_AT_START = 8_000_000  # bytes; a larger file is hashed once per state
COMPLETE_CHECKS: dict[str, Callable[[Path], bool]] = {
    "cache/config/*.json": _json,
    "data/receipts/*.json": _json,
    "cache/items/*.parquet": _parquet,
    "cache/shards/**/*.json": _json,
    "cache/shards/**/*.parquet": _parquet,
    "results/*/*.json": _json,
    "results/*/*/predictions.parquet": _parquet,
    "results/training/*/weights.safetensors": _safetensors,
    "results/training/*/recipe.json": _json,
}


def remove_stale_temp(root: str | Path = ".") -> list[Path]:
    """Delete what killed processes of this machine were writing; returns the paths."""
    found = []
    for folder in ("cache", "results", "data/receipts"):
        for path in abandoned(Path(root, folder)):
            path.unlink(missing_ok=True)
            found.append(path)
    return found


def quarantine_damaged(root: str | Path = ".") -> list[Path]:
    """Rename damaged files below `root` to `<name>.damaged`; returns their paths.

    Only looks at names that rules make. Sealed files are hashed, large ones only when size, time
    of change or inode have changed since; of others the end is looked at.
    """
    found = []
    for pattern, complete in COMPLETE_CHECKS.items():
        for path in Path(root).glob(pattern):
            try:
                if seal.recorded(path) is None:
                    whole = complete(path)
                else:
                    large = path.stat().st_size > HASHED_AT_START
                    whole = seal.intact(path, hash_of(path) if large else None)
                if whole:
                    continue
                seal.put_aside(path)
            except (OSError, VireoError):  # unreadable, or another was faster: the job will say it
                continue
            log.warning("%s is damaged: put aside as .damaged, it will be made again", path)
            found.append(path)
    return found


def quarantine_changed(root: str | Path = ".") -> list[Path]:
    """Rename receipts whose files have been replaced to `<name>.changed`; returns their paths.

    Rule fetch then looks at the files again: what depends on them is made again, unless they are
    downloads that are no longer what was downloaded, which it refuses. Files with the recorded
    size, time and inode are not read.
    """
    found = []
    for path in sorted(Path(root).glob("data/receipts/*.json")):
        try:
            if (why := changed(path)) is None:
                continue
            os.replace(path, path.with_name(f"{path.name}.changed"))
        except (VireoError, OSError, KeyError, TypeError, AttributeError):
            continue  # its reader will say what is wrong with it
        log.warning("%s, so %s is put aside and made again", why, path)
        found.append(path)
    return found


def quarantine_misplaced(root: str | Path = ".") -> list[Path]:
    """Rename shards that were made as another shard to `<name>.wrong`; returns their paths.

    A file copied over another one has a new time and would be scored. Reads the record at each
    file's end; files of earlier versions have none and are judged when they are scored.
    """
    found = []
    for path in sorted(Path(root).glob("cache/shards/*/*/*/*.parquet")):
        try:
            if (why := shards.misplaced(path, predictions.info(path))) is None:
                continue
            shards.put_aside(path)
        except (VireoError, OSError, AttributeError, TypeError):
            continue  # its reader will say what is wrong with it
        log.warning("%s is not what its path says: %s; it is made again", path, why)
        found.append(path)
    return found
