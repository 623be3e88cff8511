"""A .sens file -> pictures, depth maps, poses and calibration, as ScanNet's own readers write them.

Layout `cpp`: `_info.txt` and `frame-000000.color.jpg|.depth.pgm|.pose.txt` (ScanNet's C++ reader).
Layout `python`: `color/0.jpg`, `depth/0.png`, `pose/0.txt`, `intrinsic/*.txt` (its Python reader,
except that JPEG files are copied, not encoded again). Numbers in names are those of the sensor.
"""

import io
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from vireo.errors import VireoError, unknown
from vireo.media.sens import MATRICES, Frame, Header, Sens

PARTS = ("color", "depth", "pose", "info")
LAYOUTS = ("cpp", "python")
ENDING = {"jpeg": "jpg", "png": "png", "raw": "png"}


@dataclass
class Done:
    """How many frames were written, and how many of them have no pose."""

    frames: int = 0
    lost: int = 0


def export(
    path: str | Path,
    out: str | Path,
    parts: Collection[str] = PARTS,
    stride: int = 1,
    layout: str = "cpp",
    depth: str | None = None,
) -> Done:
    """Write the chosen parts of every `stride`-th frame into folder `out`.

    `depth`: "pgm" or "png" (16 bit); None = what the layout's reader writes. SensError when the
    file is damaged (what was written before stays), VireoError for an unknown part or layout.
    """
    for part in parts:
        if part not in PARTS:
            raise unknown("part of a .sens file", part, PARTS)
    if layout not in LAYOUTS:
        raise unknown("layout", layout, LAYOUTS)
    if stride < 1:
        raise VireoError(f"stride {stride}: 1 means every frame, 20 every twentieth")
    depth = depth or ("pgm" if layout == "cpp" else "png")
    out, done = Path(out), Done()
    with Sens(path) as sens:
        names = _names(sens.header, layout, depth)
        for name in names if layout == "python" else ("",):
            if not name or name in parts or (name == "intrinsic" and "info" in parts):
                (out / name).mkdir(parents=True, exist_ok=True)
        if "info" in parts:
            _write_info(sens.header, out, layout)
        for frame in sens.frames(stride):
            done.frames += 1
            done.lost += frame.lost
            if "color" in parts:
                (out / names["color"].format(frame.index)).write_bytes(color_file(frame))
            if "depth" in parts:
                (out / names["depth"].format(frame.index)).write_bytes(depth_file(frame, depth))
            if "pose" in parts:
                text = pose_text(frame.pose, layout)
                (out / names["pose"].format(frame.index)).write_text(text, encoding="ascii")
    return done


def _names(header: Header, layout: str, depth: str) -> dict[str, str]:
    ending = ENDING[header.color_kind]
    if layout == "cpp":
        frame = "frame-{:06d}"
        return {
            "color": f"{frame}.color.{ending}",
            "depth": f"{frame}.depth.{depth}",
            "pose": f"{frame}.pose.txt",
        }
    return {
        "color": f"color/{{}}.{ending}",
        "depth": f"depth/{{}}.{depth}",
        "pose": "pose/{}.txt",
        "intrinsic": "",
    }


def color_file(frame: Frame) -> bytes:
    """A JPEG or PNG file: the payload itself; raw colour becomes a PNG."""
    if frame.file.header.color_kind != "raw":
        return frame.color_payload()
    return _png(frame.color())


def depth_file(frame: Frame, kind: str) -> bytes:
    """Depth of a frame as a 16-bit PNG or as the PGM that ScanNet's C++ reader writes."""
    values = frame.depth()
    if kind == "png":
        return _png(values)
    if kind != "pgm":
        raise unknown("depth format", kind, ("pgm", "png"))
    height, width = values.shape
    shift = f"{frame.file.header.depth_shift:g}"
    head = f"P5\n# data values are 16-bit each; depth shift is {shift}\n{width} {height}\n65535\n"
    return head.encode() + values.astype(">u2").tobytes()


def _png(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG")
    return buffer.getvalue()


def pose_text(pose: np.ndarray, layout: str = "cpp") -> str:
    """Four lines of four numbers; -inf stays as it is."""
    if layout == "cpp":
        return "\n".join(_numbers(row) for row in pose)
    return "".join(" ".join(f"{value:f}" for value in row) + "\n" for row in pose)


def _numbers(values: Iterable[float]) -> str:
    return " ".join(f"{float(value):g}" for value in values)


def info_text(header: Header) -> str:
    """`_info.txt` of ScanNet's C++ reader."""
    (width, height), (deep_width, deep_height) = header.color_size, header.depth_size
    lines = [
        f"m_versionNumber = {header.version}",
        f"m_sensorName = {header.name}",
        f"m_colorWidth = {width}",
        f"m_colorHeight = {height}",
        f"m_depthWidth = {deep_width}",
        f"m_depthHeight = {deep_height}",
        f"m_depthShift = {header.depth_shift:g}",
    ]
    for name in MATRICES:
        kind, what = name.split("_")
        title = f"m_calibration{what.title()}{kind.title()}"
        lines.append(f"{title} = {_numbers(getattr(header, name).ravel())} ")
    return "\n".join([*lines, f"m_frames.size = {header.frames}", ""])


def _write_info(header: Header, out: Path, layout: str) -> None:
    if layout == "cpp":
        (out / "_info.txt").write_text(info_text(header), encoding="utf-8")
        return
    for name in MATRICES:
        text = pose_text(getattr(header, name), "python")
        (out / "intrinsic" / f"{name}.txt").write_text(text, encoding="ascii")
