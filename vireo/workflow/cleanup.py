"""What a power cut may leave under a final name is put aside, so that the workflow makes it again.

And what `kill -9` leaves under temporary names is deleted.

Our files are synced before they are renamed into place, so a whole file is the rule; disks that lie
about syncing, full quotas and half-done copies are the exceptions. Snakemake sees only names and
times: without this a torn file would stop every later run until somebody deletes it.
"""

import json
import os
from collections.abc import Callable
from pathlib import Path

from vireo.errors import VireoError
from vireo.fetch.receipt import changed
from vireo.results import shards
from vireo.tables import predictions
from vireo.utils.cli import log
from vireo.utils.files import abandoned


def _json(path: Path) -> bool:
    with open(path, "rb") as file:
        # Written by files.write_json, a whole one ends so; anything else is read to be sure.
        file.seek(-min(3, path.stat().st_size), os.SEEK_END)
        if file.read() == b"\n}\n":
            return True
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


COMPLETE_CHECKS: dict[str, Callable[[Path], bool]] = {
    "cache/config/*.json": _json,
    "data/receipts/*.json": _json,
    "cache/items/*.parquet": _parquet,
    "cache/shards/**/*.json": _json,
    "cache/shards/**/*.parquet": _parquet,
    "results/*/*.json": _json,
    "results/*/*/predictions.parquet": _parquet,
    "results/training/*/weights.safetensors": _safetensors,
}


def remove_stale_temp(root: str | Path = ".") -> list[Path]:
    """Delete what killed processes of this machine were writing; returns the paths."""
    found = []
    for folder in ("cache", "results", "data/receipts"):
        for path in abandoned(Path(root, folder)):
            path.unlink(missing_ok=True)
            found.append(path)
    return found


def quarantine_truncated(root: str | Path = ".") -> list[Path]:
    """Rename torn files below `root` to `<name>.torn`; returns their paths.

    Only looks at names that rules make, and only at their ends: about 20 microseconds a file.
    """
    found = []
    for pattern, whole in COMPLETE_CHECKS.items():
        for path in Path(root).glob(pattern):
            try:
                if whole(path):
                    continue
                os.replace(path, path.with_name(f"{path.name}.torn"))
            except OSError:  # unreadable, or somebody else was faster: the job will say it
                continue
            log.warning("%s is cut short: put aside as .torn, it will be made again", path)
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
