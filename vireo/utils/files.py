"""Writing files so that nothing half-written ever stands under its final name."""

import errno
import hashlib
import json
import os
import re
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

from vireo.errors import VireoError
from vireo.utils import seal

TMP = ".tmp"
_OWNER = re.compile(r"\.([0-9a-f]{8})-(\d+)\.[a-z0-9_]{8}\.[a-z0-9]+$")


@contextmanager
def atomic(path: str | Path, suffix: str = "", sealed: bool = False) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it over `path` if the block succeeds.

    Two copies of one job may run at once (a killed launcher leaves orphans), so the temporary name
    is unique, and names the process: `abandoned` finds what a killed one left. `sealed` records
    the file's digest next to it (vireo/utils/seal.py). Raises VireoError naming the file when the
    disk is full or not writable.
    """
    path = Path(path)
    tmp: Path | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        prefix = f".{path.name[:48]}.{_here()}-{os.getpid()}."
        fd, name = tempfile.mkstemp(prefix=prefix, suffix=suffix or TMP, dir=path.parent)
        os.close(fd)
        tmp = Path(name)
        yield tmp
        with open(tmp, "rb") as handle:
            os.fsync(handle.fileno())
        os.chmod(tmp, 0o666 & ~_umask())
        value = sha256(tmp) if sealed else ""
        # Without its digest while the two do not belong together: a kill in between costs no file.
        seal.sidecar(path).unlink(missing_ok=True)
        os.replace(tmp, path)
        if sealed:
            seal.write(path, value)
    except OSError as error:
        if error.filename is None or str(path.parent) in str(error.filename):
            full = error.errno == errno.ENOSPC or os.strerror(errno.ENOSPC) in str(error)
            fix = "; make room and run the same command again" if full else ""
            raise VireoError(f"cannot write {path}: {error.strerror or error}{fix}") from error
        raise
    finally:
        if tmp is not None:
            tmp.unlink(missing_ok=True)


@cache
def _here() -> str:
    """This machine since it was started, and this container: where a process number means one."""
    place = [socket.gethostname()]
    for read in (
        lambda: Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii"),
        lambda: os.readlink("/proc/self/ns/pid"),
    ):
        with suppress(OSError):
            place.append(read())
    return digest(place, 8)


def abandoned(folder: str | Path) -> Iterator[Path]:
    """Temporary files below `folder` of processes of this machine that are no more."""
    for parent, _, names in os.walk(folder):
        for name in names:
            owner = _OWNER.search(name) if name.startswith(".") else None
            if owner and owner[1] == _here() and not _runs(int(owner[2])):
                yield Path(parent, name)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: str | Path, text: str) -> None:
    """Write text atomically as UTF-8."""
    with atomic(path) as tmp:
        tmp.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any, indent: int | None = 2, sealed: bool = False) -> None:
    """Write JSON atomically; NaN and infinities are refused (other readers cannot parse them).

    sealed: as in `atomic`; `read_sealed_json` is the reader.
    """
    with atomic(path, sealed=sealed) as tmp, open(tmp, "w", encoding="utf-8") as handle:
        json.dump(value, handle, indent=indent, ensure_ascii=False, allow_nan=False)
        handle.write("\n")


def read_json(path: str | Path, what: str = "JSON file") -> Any:
    """Read JSON; VireoError names the file and the place of a syntax error."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise VireoError(f"{what} not found: {path}") from error
    except (ValueError, RecursionError) as error:
        raise VireoError(f"{what} {path} is not valid JSON: {error}") from error
    except OSError as error:
        raise VireoError(f"cannot read {what} {path}: {error.strerror}") from error


def read_sealed_json(path: str | Path, what: str = "JSON file") -> Any:
    """`read_json` of a file of ours; a damaged one is put aside (VireoError says so)."""
    seal.check(path)
    return read_json(path, what)


def sha256(path: str | Path) -> str:
    """Hex digest of a file's content."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def digest(value: Any, length: int = 16) -> str:
    """Short stable hash of a JSON-like value (key order does not matter)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def portable(path: str | Path) -> str:
    """A path relative to the working directory where it lies inside, absolute elsewhere.

    What is written with such paths still means the project's own files when it is copied or moved.
    """
    full, here = os.path.abspath(path), os.getcwd()
    return os.path.relpath(full, here) if Path(full).is_relative_to(here) else full


def inside(root: str | Path, name: str) -> Path:
    """`root / name`, refusing any name from outside that would leave `root` (ids, members)."""
    root = Path(root)
    if not name or "\0" in name:
        raise VireoError(f"refusing the file name {name!r} (empty or with a NUL byte)")
    target = Path(os.path.normpath(root / name))
    if os.path.isabs(name) or not target.is_relative_to(os.path.normpath(root)):
        raise VireoError(f"refusing the file name {name!r}: it leaves {root}")
    return target
