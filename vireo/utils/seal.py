"""Digests of the files we write, so that a reader notices a flipped bit, a cut or a swapped file.

`.<name>.sha256` lies next to a sealed file, in the format of `sha256sum -c`. A file without one
(written by an earlier version, or by a process killed between the two) is taken as it is.
"""

import hashlib
import os
from functools import lru_cache
from pathlib import Path

from vireo.errors import VireoError

SUFFIX = ".sha256"
ASIDE = ".damaged"


def sidecar(path: str | Path) -> Path:
    """Where the digest of `path` is kept."""
    path = Path(path)
    return path.with_name(f".{path.name}{SUFFIX}")


def write(path: Path, sha256: str) -> None:
    """Record the digest of a file that has just been written; a full disk leaves it unsealed."""
    target = sidecar(path)
    tmp = target.with_name(f"{target.name}.{os.getpid()}")
    try:
        tmp.write_text(f"{sha256}  {path.name}\n", encoding="utf-8")
        os.replace(tmp, target)
    except OSError:
        tmp.unlink(missing_ok=True)


def recorded(path: str | Path) -> str | None:
    """The digest that was recorded for a file, None where none was."""
    try:
        text = sidecar(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    words = text.split()
    return words[0] if words else ""


def intact(path: str | Path, sha256: str | None = None) -> bool:
    """Whether a file is what was written; True for a file that is not sealed.

    sha256: its digest, where the caller has it already. Read once per process and state of the
    file.
    """
    wanted = recorded(path)
    if wanted is None:
        return True
    if sha256 is None:
        stat = os.stat(path)
        sha256 = _digest(str(path), stat.st_size, stat.st_mtime_ns, stat.st_ino)
    return sha256 == wanted


def check(path: str | Path, sha256: str | None = None) -> None:
    """Put a damaged file aside and raise VireoError; the same command then makes it again."""
    try:
        if intact(path, sha256):
            return
    except FileNotFoundError:
        return  # its reader says that it is not there
    aside = put_aside(path)
    raise VireoError(
        f"{path} is damaged: it is not what was written (its sha256 is another one). It was put "
        f"aside as {aside.name}; give the same command again, which makes it anew"
    )


def put_aside(path: str | Path) -> Path:
    """Rename a damaged file to `<name>.damaged` and drop its digest; returns the new path."""
    aside = Path(f"{path}{ASIDE}")
    os.replace(path, aside)
    sidecar(path).unlink(missing_ok=True)
    return aside


@lru_cache(maxsize=4096)
def _digest(path: str, size: int, mtime_ns: int, inode: int) -> str:
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
