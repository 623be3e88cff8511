"""Durations of training videos, measured once: cache/training/duet_metadata/<folder's hash>.json.

Several files at a time; what is done is written every minute, so a killed scan goes on where it
stopped. Files that cannot be read are left out, and so are their conversations; the next scan tries
them again.
"""

import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from vireo.media.video import ENGINE, Video
from vireo.utils import files
from vireo.utils.cli import log

FOLDER = Path("cache/training/duet_metadata")
WRITE_S = 60.0


def measure(path: Path) -> dict[str, Any] | None:
    """duration (frames / rate), fps, frame_count of a video; None when it cannot be read."""
    try:
        with Video(path) as video:
            index = video.index
            rate = index.fps  # the average one, as OpenCV 4.10 reports it
            return {"duration": index.F / rate, "fps": rate, "frame_count": index.F}
    except Exception as error:  # a broken file costs itself, not the scan
        log.warning("%s: %s", path, error)
        return None


def scan(root: Path, names: Iterable[str], workers: int = 8) -> dict[str, dict[str, Any]]:
    """Name (a path below `root`) -> metadata with `path`; known files are not read again."""
    store = FOLDER / f"{files.digest([str(root.resolve()), ENGINE])}.json"
    known: dict[str, Any] = files.read_json(store) if store.exists() else {}
    wanted = list(dict.fromkeys(names))
    due = [name for name in wanted if not known.get(name)]
    written = time.monotonic()
    with ThreadPoolExecutor(workers) as pool:
        paths = [files.inside(root, name) for name in due]
        for name, found in zip(due, pool.map(measure, paths), strict=True):
            if found:
                known[name] = {**found, "path": name}
            if time.monotonic() - written > WRITE_S:
                files.write_json(store, known)
                written = time.monotonic()
    if due:
        FOLDER.mkdir(parents=True, exist_ok=True)
        files.write_json(store, known)
    return {name: known[name] for name in wanted if known.get(name)}
