"""A decoded frame -> uint8 RGB, with matrix, range and orientation as a protocol's reader has them.

FFmpeg's own converter does the work; every one of its choices is made here. Equality with the
readers of the time (OpenCV 4.8 to 4.12, PyAV 12 to 16, decord 0.6) is in tests/media/test_color.py.
"""

from typing import Any

import av
import cv2
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from vireo.media.reader import Reader

BT601 = 5
# AVColorSpace -> swscale's table; the others (none, reserved, RGB, YCgCo) are BT.601 there too.
TABLES = {1: 1, 4: 4, 7: 7, 9: 9, 10: 9}
LIMITED, FULL = 1, 2
# Formats whose conversion does not depend on where the chroma samples lie.
FAST = {f"yuv{j}{s}p" for j in ("", "j") for s in ("420", "422", "444")}
KERNELS = {"bilinear": int(Interpolation.BILINEAR), "bicubic": int(Interpolation.BICUBIC)}


class Converter:
    """Converts the frames of one video; keeps FFmpeg's tables between them."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self._scaler = VideoReformatter()

    def __call__(self, frame: Any) -> np.ndarray:
        """uint8 RGB [H,W,3], turned (and through JPEG) as the reader does it."""
        picture = oriented(self._rgb(frame), frame, self.reader.orientation)
        if self.reader.jpeg is not None:
            picture = through_jpeg(picture, self.reader.jpeg)
        return picture

    def _rgb(self, frame: Any) -> np.ndarray:
        reader = self.reader
        table = BT601 if reader.matrix == "bt601" else TABLES.get(int(frame.colorspace), BT601)
        # The yuvj formats are full range to FFmpeg whatever is asked for here.
        full = reader.range == "tagged" and int(frame.color_range) == FULL
        settings = {
            "src_colorspace": table,
            "dst_colorspace": table,
            "src_color_range": FULL if full else LIMITED,
            "interpolation": KERNELS[reader.kernel],
            "threads": 1,
        }
        name = frame.format.name
        if reader.chroma == "center" and name not in FAST and not frame.format.is_rgb:
            # parity: readers before FFmpeg 8 know no chroma location, and OpenCV converts to BGR |
            # 1 to 4 levels at 10 bits | `reader: {chroma: tagged}`
            made = self._scaler.reformat(_untagged(frame), format="bgr24", **settings)
            return np.ascontiguousarray(made.to_ndarray()[..., ::-1])
        return self._scaler.reformat(frame, format="rgb24", **settings).to_ndarray()


def _untagged(frame: Any) -> Any:
    """The same picture without its chroma location, which PyAV cannot change."""
    made = av.VideoFrame(frame.width, frame.height, frame.format.name)
    for target, source in zip(made.planes, frame.planes, strict=True):
        rows = np.frombuffer(source, np.uint8).reshape(-1, source.line_size)[: target.height]
        held = np.zeros((target.height, target.line_size), np.uint8)
        width = min(target.line_size, source.line_size)
        held[:, :width] = rows[:, :width]
        target.update(held.tobytes())
    return made


def display_matrix(frame: Any) -> tuple[float, float, float, float] | None:
    """a, b, c, d of a frame's display matrix; None without one, or one that shows nothing."""
    found = frame.side_data.get("DISPLAYMATRIX")
    if found is None:
        return None
    a, b, _, c, d = (np.frombuffer(found, np.int32)[:5] / 65536).tolist()
    return None if a * d == b * c else (a, b, c, d)


def mirrored(frame: Any) -> bool:
    """Whether the display matrix mirrors the picture, which an angle cannot say."""
    matrix = display_matrix(frame)
    return matrix is not None and matrix[0] * matrix[3] < matrix[1] * matrix[2]


def quarter_turns(frame: Any) -> int:
    """Counter-clockwise quarter turns of a frame; an angle of no whole number of them counts 0.

    An all-zero display matrix has no angle: PyAV then says some number far outside a circle.
    """
    angle = round(frame.rotation)
    return angle // 90 % 4 if abs(angle) <= 360 and angle % 90 == 0 else 0


def oriented(picture: np.ndarray, frame: Any, orientation: str) -> np.ndarray:
    """A picture as a player shows it, by the display matrix's angle or by the whole matrix."""
    matrix = display_matrix(frame) if orientation == "matrix" else None
    if matrix is None or matrix[0] * matrix[3] > matrix[1] * matrix[2]:
        # parity: OpenCV reads only the display matrix's angle | a left-right mirror becomes a half
        # turn | `reader: {orientation: matrix}`
        turns = quarter_turns(frame)
        return np.ascontiguousarray(np.rot90(picture, turns)) if turns else picture
    a, b, c, d = matrix
    if abs(a) + abs(d) >= abs(b) + abs(c):
        across, down = a < 0, d < 0
    else:
        picture, across, down = np.swapaxes(picture, 0, 1), c < 0, b < 0
    picture = picture[:, ::-1] if across else picture
    return np.ascontiguousarray(picture[::-1] if down else picture)


def jpeg_file(picture: np.ndarray, quality: int) -> bytes:
    """uint8 RGB [H,W,3] -> a JPEG file as cv2.imwrite makes it."""
    swapped = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".jpg", swapped, [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done
    return data.tobytes()


def through_jpeg(picture: np.ndarray, quality: int) -> np.ndarray:
    """What is left of a picture that was kept as a JPEG file."""
    held = np.frombuffer(jpeg_file(picture, quality), np.uint8)
    found = cv2.imdecode(held, cv2.IMREAD_COLOR)
    assert found is not None
    return cv2.cvtColor(found, cv2.COLOR_BGR2RGB)
