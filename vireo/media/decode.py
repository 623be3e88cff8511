"""One request for frames and its answer; `take` makes the answer in this process.

A request always gives exactly one sample, whatever the video is: `ok`, `missing` or `undecodable`.
"""

import io
import os
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from vireo.errors import VireoError
from vireo.media import reader as readers
from vireo.media import resize, sampling
from vireo.media.container import MAX_PIXELS, MissingVideo, TooLarge, UndecodableVideo
from vireo.media.jpegs import SUFFIXES, Jpegs
from vireo.media.video import Recounted, Video


@dataclass(frozen=True)
class DecodeRequest:
    """Which frames of which video.

    `video` the id; `path` file or folder (None: nowhere found); `kind` "file", "jpegs" or "lmdb"
    (the value under the id in an LMDB folder); `rule` the protocol's `frames` block with its
    `reader` (vireo/media/reader.py); `resize` a storable resize or None (native size); `start`,
    `end` seconds of a sub-clip, None or NaN = the whole.
    """

    video: str
    path: str | None
    kind: str = "file"
    rule: dict[str, Any] = field(default_factory=lambda: {"rule": "every"})
    resize: dict[str, Any] | None = None
    start: float | None = None
    end: float | None = None


@dataclass
class DecodedClip:
    """Frames of one request: uint8 RGB [N,H,W,3] when `status` is ok, else None and an `error`.

    `indices` [N] frame numbers shown, `times` [N] seconds, `flags`: padded (fewer frames than
    asked, some repeated), substituted (a neighbour stands for an unreadable frame), damaged,
    resized (the picture size changes inside the video), and those of the file's index (short,
    odd_rate, several_streams, mirrored). `source`: path, size, mtime_ns as read;
    `info`: what the file says of itself; `limit`: it failed at a limit of the configuration.
    """

    video: str
    status: str
    frames: np.ndarray | None = None
    indices: list[int] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    flags: list[str] = field(default_factory=list)
    error: str | None = None
    source: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    from_store: bool = False
    limit: bool = False
    info: dict[str, Any] = field(default_factory=dict)
    request: DecodeRequest | None = None

    def facts(self) -> dict[str, Any]:
        """Everything but the pixels and the request, for JSON."""
        return asdict(replace(self, frames=None, request=None))


def stat(path: str | os.PathLike[str] | None, kind: str = "file") -> dict[str, Any]:
    """path, size, mtime_ns of a video file, or of a folder's pictures taken together."""
    if path is None:
        return {}
    try:
        if kind != "jpegs":
            seen = os.stat(path if kind == "file" else Path(path, "data.mdb"))
            return {"path": str(path), "size": seen.st_size, "mtime_ns": seen.st_mtime_ns}
        size, newest, count = 0, 0, 0
        with os.scandir(path) as entries:
            for entry in entries:
                if entry.name.lower().endswith(SUFFIXES):
                    seen = entry.stat()
                    count += 1
                    size, newest = size + seen.st_size, max(newest, seen.st_mtime_ns)
        return {"path": str(path), "size": size, "mtime_ns": newest} if count else {}
    except OSError:
        return {}


def decode_one(request: DecodeRequest, max_pixels: int = MAX_PIXELS) -> DecodedClip:
    """Decode one request in this process; broken videos become a status, mistakes in the protocol
    raise VireoError."""
    sampling.check(request.rule)
    shrink = resize.make(request.resize)
    began = time.perf_counter()
    source = stat(request.path, request.kind)
    try:
        if not source or request.path is None:
            raise MissingVideo(
                f"no video {request.video!r}" + (f" at {request.path}" if request.path else "")
            )
        sample = _read(request, max_pixels, shrink)
    except MissingVideo as error:
        sample = DecodedClip(request.video, "missing", error=str(error))
    except UndecodableVideo as error:
        limit = isinstance(error, TooLarge)
        sample = DecodedClip(request.video, "undecodable", error=str(error), limit=limit)
    except MemoryError:
        raise
    except VireoError:
        raise
    except (
        Exception
    ) as error:  # whatever a hostile file provokes is the file's fault, not the run's
        reason = f"{type(error).__name__}: {error}"
        sample = DecodedClip(
            request.video, "undecodable", error=f"cannot decode {request.path}: {reason}"
        )
    sample.source, sample.request = source, request
    sample.seconds = time.perf_counter() - began
    return sample


def _read(request: DecodeRequest, max_pixels: int, shrink: Any) -> DecodedClip:
    with opened(request, max_pixels) as video:
        try:
            return _frames(request, video, shrink)
        except Recounted:
            return _frames(request, video, shrink)


def _frames(request: DecodeRequest, video: Any, shrink: Any) -> DecodedClip:
    index, reader = video.index, readers.of(request.rule)
    if index.note and reader.short == "refuse":
        raise UndecodableVideo(f"{request.path} is cut short: {index.note} (reader: short: refuse)")
    if why := index.outside(request.start, request.end):
        raise MissingVideo(f"video {request.video!r} at {request.path}: {why}")
    first, last = index.span(request.start, request.end)
    if request.kind == "jpegs":
        pick = sampling.pick_sliced(request.rule, last - first)
    else:
        rate = index.rate if reader.rate == "nominal" else index.fps
        pick = sampling.pick(request.rule, last - first, index.fps, rate)
    places: dict[int, list[int]] = {}
    for place, i in enumerate(pick.indices):
        places.setdefault(first + i, []).append(place)
    frames, used = None, [0] * len(pick.indices)
    resized = False
    for number, shown, picture in video.pictures(places, shrink):
        if frames is None:  # one array and one picture at a time, however many are asked for
            frames = np.empty((len(used), *picture.shape), np.uint8)
        if picture.shape != frames.shape[1:]:
            picture, resized = _fitted(picture, frames.shape[1:3]), True
        for place in places[number]:
            frames[place], used[place] = picture, shown
    numbers = getattr(video, "numbers", None)
    return DecodedClip(
        request.video,
        "ok",
        frames=frames,
        indices=[numbers[i] if numbers else i for i in used],
        times=[round(float(index.times[i]), 6) for i in used],
        flags=pick.flags + video.flags + ["resized"] * resized + list(index.flags),
        info={
            "frames": index.F,
            "fps": round(index.fps, 6),
            "width": index.width,
            "height": index.height,
            "rotation": index.rotation,
            "duration": round(index.duration, 6),
            "codec": index.codec,
            "timed": index.timed,
            "damaged_packets": video.damage,
            "note": index.note,
        },
    )


def opened(request: DecodeRequest, max_pixels: int = MAX_PIXELS) -> Any:
    """The request's video or folder of pictures, opened: `index` and `read`; a context manager."""
    assert request.path is not None
    if request.kind == "jpegs":
        return Jpegs(Path(request.path), max_pixels)
    source = _value(request) if request.kind == "lmdb" else request.path
    return Video(source, max_pixels, readers.of(request.rule))


def _value(request: DecodeRequest) -> io.BytesIO:
    """A video that is the value of a key."""
    from vireo.media import lmdb

    assert request.path is not None
    held = lmdb.value(request.path, request.video)
    if held is None:
        raise MissingVideo(f"no key {request.video!r} in {request.path}")
    if not held:
        raise UndecodableVideo(f"the value of {request.video!r} in {request.path} is empty")
    return io.BytesIO(held)


def _fitted(picture: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """A picture of a video whose size changes, at the size of the first."""
    return resize.make({"library": "cv2", "size": list(size)})(picture)
