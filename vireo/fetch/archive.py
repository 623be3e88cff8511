"""Unpacking zip and tar files that nobody has checked.

Made from an archive: files under a folder. Members are written to a staging folder and moved into
place when the whole archive was good, so a killed or refused extraction leaves nothing behind under
a final name. Names are data from outside: absolute, parent, link, device, duplicate and
case-colliding members are refused, and the unpacked size is bounded before and while writing.
"""

import os
import shutil
import stat
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from vireo.errors import VireoError
from vireo.utils.files import inside

# Videos do not shrink, annotations shrink 20-fold at most; beyond this it is a bomb.
MAX_RATIO = 100
ALWAYS_ALLOWED = 1 << 28
MAX_MEMBERS = 2_000_000
RESERVE = 1 << 26
CHUNK = 1 << 20
# Litter of other operating systems' packers.
_LITTER = ("__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini")

Report = Callable[[int], None]


@dataclass
class _Member:
    name: str
    size: int
    handle: Any


def extract(
    archive: Path,
    target: Path,
    flatten: bool = False,
    limit: int | None = None,
    report: Report | None = None,
) -> list[str]:
    """Unpack `archive` into the folder `target`; returns the written names relative to it.

    `flatten` drops the folders inside the archive; `limit` is the greatest number of bytes it may
    unpack to (default: 100 times its own size). Raises VireoError naming the archive and the
    member; then nothing has been added to `target`.
    """
    report = report or (lambda n: None)
    budget = _budget(archive, target, limit)
    staging = target / f".unpacking-{archive.name}"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        names = _unpack(archive, staging, flatten, budget, report)
        for name in names:
            final = target / name
            final.parent.mkdir(parents=True, exist_ok=True)
            if final.is_dir():
                raise VireoError(f"{archive}: member {name!r} would replace a folder")
            os.replace(staging / name, final)
    except OSError as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise VireoError(
            f"cannot unpack {archive} into {target}: {error.strerror or error}"
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return names


def _budget(archive: Path, target: Path, limit: int | None) -> "_Budget":
    size = archive.stat().st_size
    allowed = limit if limit is not None else max(ALWAYS_ALLOWED, MAX_RATIO * size)
    target.mkdir(parents=True, exist_ok=True)
    free = max(shutil.disk_usage(target).free - RESERVE, 0)
    return _Budget(archive, allowed, free)


class _Budget:
    """Counts members and bytes, declared and real."""

    def __init__(self, archive: Path, allowed: int, free: int) -> None:
        self.archive, self.allowed, self.free = archive, allowed, free
        self.written = self.members = 0

    def declare(self, total: int) -> None:
        """Refuse a total that an archive states itself."""
        if total > self.allowed:
            raise VireoError(
                f"{self.archive}: would unpack to {total} bytes, at most {self.allowed} are "
                "expected; refused (an archive bomb, or not the expected file)"
            )
        if total > self.free:
            raise VireoError(
                f"{self.archive}: needs {total} bytes to unpack, {self.free} are free on its disk"
            )

    def member(self) -> None:
        """Count one member."""
        self.members += 1
        if self.members > MAX_MEMBERS:
            raise VireoError(f"{self.archive}: more than {MAX_MEMBERS} members; refused")

    def write(self, count: int) -> None:
        """Count bytes about to be written."""
        self.written += count
        self.declare(self.written)


def _unpack(
    archive: Path, staging: Path, flatten: bool, budget: _Budget, report: Report
) -> list[str]:
    taken: dict[str, str] = {}
    names: list[str] = []
    try:
        with closing(_members(archive, budget)) as members:
            for member in members:
                name = _safe_name(archive, member.name, flatten)
                if name is None:
                    continue
                _claim(archive, name, taken)
                path = inside(staging, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                _copy(archive, member, path, budget, report)
                names.append(name)
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, ValueError) as error:
        raise VireoError(
            f"{archive} is damaged or not an archive: {error}. If its download or copy broke off, "
            "delete it and run the same command again"
        ) from error
    except (RuntimeError, NotImplementedError) as error:
        raise VireoError(f"{archive} cannot be unpacked here: {error}") from error
    return names


def _members(archive: Path, budget: _Budget) -> Generator[_Member]:
    if archive.name.lower().endswith(".zip"):
        return _zip_members(archive, budget)
    return _tar_members(archive, budget)


def _zip_members(archive: Path, budget: _Budget) -> Generator[_Member]:
    with zipfile.ZipFile(archive) as opened:
        infos = opened.infolist()
        budget.declare(sum(info.file_size for info in infos))
        for info in infos:
            budget.member()
            kind = stat.S_IFMT(info.external_attr >> 16)
            if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise VireoError(
                    f"{archive}: member {info.filename!r} is a link or device; refused"
                )
            if info.orig_filename != info.filename:
                # zipfile cuts at a NUL byte and turns the other slash round.
                _safe_name(archive, info.orig_filename, flatten=False)
            if info.is_dir():
                _safe_name(archive, info.filename.rstrip("/") or "/", flatten=False)
                continue
            with opened.open(info) as handle:
                yield _Member(info.filename, info.file_size, handle)


def _tar_members(archive: Path, budget: _Budget) -> Generator[_Member]:
    # The stream mode reads once from front to back, also when compressed. tarfile's `data` filter
    # replaces none of these checks: it cuts the slash off absolute names, follows links inside the
    # folder, and knows neither of names that collide nor of sizes; zip files have no filter.
    with tarfile.open(archive, "r|*") as opened:
        for info in opened:
            budget.member()
            if info.isdir():
                _safe_name(archive, info.name, flatten=False)
                continue
            if not info.isreg():
                raise VireoError(f"{archive}: member {info.name!r} is a link or device; refused")
            handle = opened.extractfile(info)
            assert handle is not None
            yield _Member(info.name, info.size, handle)


def _safe_name(archive: Path, name: str, flatten: bool) -> str | None:
    """The member's path under the target; None for litter; VireoError for a hostile name."""
    drive = len(name) > 1 and name[1] == ":"
    control = any(unicodedata.category(c) in ("Cc", "Cs") for c in name)
    if not name or name.startswith("/") or "\\" in name or drive or control:
        raise VireoError(f"{archive}: member name {name!r} is not a plain relative path; refused")
    parts = PurePosixPath(name).parts
    if ".." in parts:
        raise VireoError(f"{archive}: member {name!r} would leave the folder; refused")
    if any(len(os.fsencode(part)) > 255 for part in parts):
        raise VireoError(f"{archive}: member name {name[:60]!r}… is too long; refused")
    if not parts or any(part in _LITTER or part.startswith("._") for part in parts):
        return None
    return parts[-1] if flatten else "/".join(parts)


def _claim(archive: Path, name: str, taken: dict[str, str]) -> None:
    """Refuse two members that are one file on a Mac or Windows, or a file and a folder."""
    pieces = name.split("/")
    for depth in range(1, len(pieces) + 1):
        piece = "/".join(pieces[:depth])
        key = unicodedata.normalize("NFC", piece).casefold()
        folder = depth < len(pieces)
        other = taken.get(key)
        if other is not None and not (folder and other == piece + "/"):
            raise VireoError(
                f"{archive}: member {name!r} collides with {other!r} "
                "(same name twice, or differing only in case); refused"
            )
        taken[key] = piece + "/" if folder else piece


def _copy(archive: Path, member: _Member, path: Path, budget: _Budget, report: Report) -> None:
    count = 0
    source: IO[bytes] = member.handle
    with open(path, "xb") as out:
        while chunk := source.read(CHUNK):
            count += len(chunk)
            budget.write(len(chunk))
            out.write(chunk)
            report(len(chunk))
    if count != member.size:
        raise VireoError(
            f"{archive}: member {member.name!r} holds {count} bytes and declares {member.size}"
        )
