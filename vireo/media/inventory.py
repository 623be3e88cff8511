"""Which videos are there: ids looked up in a folder tree; a cheap check whether it changed.

Ids come from annotations, that is from outside: one that looks like a path is refused, and nothing
is ever opened under a name made from an id; the tree is listed once and ids are looked up in it.
"""

import fnmatch
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pandas as pd

from vireo.errors import VireoError
from vireo.media.jpegs import SUFFIXES

VIDEOS = (
    *(".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".flv", ".mpg", ".mpeg", ".ts", ".wmv"),
    *(".3gp", ".3g2", ".mts", ".m2ts"),
)
PATTERNS = ("{id}.*", "{id}/frames/*.jpg")
COLUMNS = ["video", "path", "kind", "size", "mtime_ns", "status"]


def _walk(root: Path) -> Iterator[tuple[str, list[os.DirEntry[str]]]]:
    """(folder relative to root, its files) at any depth; links are followed, never in a circle."""
    stack, seen = [""], set()
    while stack:
        relative = stack.pop()
        files = []
        try:
            with os.scandir(root / relative) as entries:
                for entry in entries:
                    if entry.is_dir():
                        place = entry.stat() if entry.is_symlink() else None
                        if place and (place.st_dev, place.st_ino) in seen:
                            continue
                        if place:
                            seen.add((place.st_dev, place.st_ino))
                        stack.append(os.path.join(relative, entry.name))
                    elif entry.is_file():
                        files.append(entry)
        except OSError:
            continue  # vanished or forbidden: as good as not there
        yield relative, files


def videos(root: str | Path) -> Iterator[tuple[str, os.stat_result]]:
    """(absolute path, stat) of every video file below `root`, at any depth."""
    for relative, files in _walk(Path(root)):
        for entry in files:
            if entry.name.lower().endswith(VIDEOS):
                yield os.path.join(Path(root).absolute(), relative, entry.name), entry.stat()


def files(root: str | Path) -> Iterator[tuple[str, os.stat_result]]:
    """(absolute path, stat) of every file below `root` that may be a video: also those whose name
    ends in a bare dot."""
    for relative, entries in _walk(Path(root)):
        for entry in entries:
            if entry.name.lower().endswith((*VIDEOS, ".")):
                yield os.path.join(Path(root).absolute(), relative, entry.name), entry.stat()


def refuse_paths(ids: Iterable[str]) -> None:
    """Raise VireoError for ids that are no plain names."""
    for name in ids:
        if not name or name in (".", "..") or any(c in name for c in "/\\\0"):
            raise VireoError(
                f"video id {name!r} is refused: it must be a plain name without '/', '\\' or NUL;"
                " fix the annotation file"
            )


def find(ids: Iterable[str], root: str | Path, patterns: Sequence[str] = PATTERNS) -> pd.DataFrame:
    """Look ids up under `root`; one row per distinct id, in their order.

    Columns: video, path (None if missing), kind (file | jpegs), size, mtime_ns, status (found |
    missing). A pattern is `{id}.*` (any video ending, in capitals too), `{id}.mp4` (one ending), or
    `{id}/frames/*.jpg` / `{id}/*.jpg` (a folder of frames); a fixed folder may stand before it
    (`videos/{id}.*`), otherwise any depth counts. Earlier patterns are preferred, then files that
    are not empty, then the shallowest.
    """
    names = list(dict.fromkeys(map(str, ids)))
    refuse_paths(names)
    wanted, root = set(names), Path(root)
    best: dict[str, tuple[tuple[int, bool, int, str], str, str, int, int]] = {}

    def offer(name: str, rank: int, path: str, kind: str, size: int, mtime: int) -> None:
        order = (rank, size == 0, path.count(os.sep), path)
        if name not in best or order < best[name][0]:
            best[name] = (order, path, kind, size, mtime)

    parsed = [_parse(p) for p in patterns]
    for relative, files in _walk(root):
        parts = Path(relative).parts
        for rank, (before, inner, ending) in enumerate(parsed):
            if inner is None:
                if before and not f"{relative}/".endswith(before):
                    continue
                for entry in files:
                    stem, suffix = os.path.splitext(entry.name)
                    if stem in wanted and _fits(suffix.lower(), ending):
                        seen = entry.stat()
                        path = os.path.join(relative, entry.name)
                        offer(stem, rank, path, "file", seen.st_size, seen.st_mtime_ns)
                continue
            depth = len(inner)
            if len(parts) <= depth or parts[len(parts) - depth :] != inner:
                continue
            name = parts[-1 - depth]
            above = "/".join(parts[: -1 - depth])
            if name not in wanted or (before and not f"{above}/".endswith(before)):
                continue
            seen_all = [e.stat() for e in files if e.name.lower().endswith(SUFFIXES)]
            if seen_all:
                size = sum(s.st_size for s in seen_all)
                newest = max(s.st_mtime_ns for s in seen_all)
                offer(name, rank, relative, "jpegs", size, newest)
    rows: list[tuple[str, str | None, str, int, int, str]] = []
    for name in names:
        if name in best:
            _, path, kind, size, mtime = best[name]
            rows.append((name, str((root / path).absolute()), kind, size, mtime, "found"))
        else:
            rows.append((name, None, "file", 0, 0, "missing"))
    table = pd.DataFrame(rows, columns=COLUMNS)
    return table.astype({"size": "int64", "mtime_ns": "int64"})


def _parse(pattern: str) -> tuple[str, tuple[str, ...] | None, str]:
    """(fixed folder before the id with '/', folders between id and frames or None, file ending)."""
    before, mark, after = pattern.partition("{id}")
    if not mark or (before and not before.endswith("/")):
        raise VireoError(f"pattern {pattern!r}: write {{id}} once, alone or after a folder")
    if after.startswith("/"):
        *inner, last = after[1:].split("/")
        return before, tuple(inner), os.path.splitext(last)[1]
    if not after.startswith("."):
        raise VireoError(f"pattern {pattern!r}: an ending (.* or .mp4) or a folder follows {{id}}")
    return before, None, after.lower()


def _fits(suffix: str, ending: str) -> bool:
    return suffix in VIDEOS if ending == ".*" else fnmatch.fnmatchcase(suffix, ending)


def fingerprint(root: str | Path) -> str:
    """Hash of every file's relative path, size and time of change, at any depth.

    Reads no file; a third of a million files take a few seconds. A missing root has one, too.
    """
    lines = []
    for relative, files in _walk(Path(root)):
        for entry in files:
            try:
                seen = entry.stat()
            except OSError:
                continue
            lines.append(f"{relative}/{entry.name}\0{seen.st_size}\0{seen.st_mtime_ns}")
    lines.sort()
    text = "\n".join(lines).encode("utf-8", "surrogateescape")
    return hashlib.sha256(text).hexdigest()[:16]
