"""Frames -> a .sens file, for the toy world, the tests and the measurements."""

import struct
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from vireo.media.sens import COLOR, DEPTH, FRAME, IMU, MATRICES, Header
from vireo.utils.files import atomic

_COLOR = {name: number for number, name in COLOR.items()}
_DEPTH = {name: number for number, name in DEPTH.items()}


def header(color_size: tuple[int, int], depth_size: tuple[int, int], **others: Any) -> Header:
    """A header with ScanNet's usual values; `frames` is counted by `write`."""
    fields: dict[str, Any] = {
        "version": 4,
        "name": "StructureSensor",
        **dict.fromkeys(MATRICES, np.eye(4, dtype=np.float32)),
        "color_kind": "jpeg",
        "depth_kind": "zlib_ushort",
        "depth_shift": 1000.0,
        "frames": 0,
    }
    return Header(color_size=color_size, depth_size=depth_size, **{**fields, **others})


def write(
    path: str | Path,
    head: Header,
    frames: Iterable[tuple[np.ndarray, bytes, np.ndarray]],
    imu: np.ndarray | None = None,
    interval: int = 33_333,
) -> int:
    """Write frames (pose [4,4], colour payload, depth uint16 [H,W]) `interval` microseconds apart.

    Depth is compressed as the header says; returns the number of frames. Atomic.
    """
    name, count = head.name.encode(), 0
    with atomic(path) as tmp, open(tmp, "wb") as out:
        out.write(struct.pack("<IQ", head.version, len(name)) + name)
        for matrix in MATRICES:
            out.write(np.asarray(getattr(head, matrix), "<f4").tobytes())
        out.write(struct.pack("<ii", _COLOR[head.color_kind], _DEPTH[head.depth_kind]))
        out.write(struct.pack("<4If", *head.color_size, *head.depth_size, head.depth_shift))
        place = out.tell()
        out.write(bytes(8))
        for pose, color, depth in frames:
            deep = np.asarray(depth, "<u2").tobytes()
            if head.depth_kind == "zlib_ushort":
                deep = zlib.compress(deep, 1)
            when = count * interval
            matrix_bytes = np.asarray(pose, "<f4").tobytes()
            out.write(FRAME.pack(matrix_bytes, when, when, len(color), len(deep)))
            out.write(color)
            out.write(deep)
            count += 1
        if head.version >= 4:
            records = np.zeros(0, IMU) if imu is None else imu.astype(IMU)
            out.write(struct.pack("<Q", len(records)) + records.tobytes())
        out.seek(place)
        out.write(struct.pack("<Q", count))
    return count
