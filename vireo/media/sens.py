"""ScanNet's .sens files: header, frames and IMU records, read by seeking, never held in memory.

Format (little-endian, no padding, no index): docs/reference/clipbert.md section 1.1, versions 3
(without IMU records) and 4. Everything in the file is treated as data from outside: sizes are
checked against the file before anything is read, and what does not fit raises `SensError` with
frame and byte offset.
"""

import io
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
from PIL import Image

from vireo.errors import VireoError
from vireo.media.intact import why_broken

COLOR = {0: "raw", 1: "png", 2: "jpeg"}
DEPTH = {0: "raw_ushort", 1: "zlib_ushort", 2: "occi_ushort"}
MATRICES = ("intrinsic_color", "extrinsic_color", "intrinsic_depth", "extrinsic_depth")
FRAME = struct.Struct("<64s4Q")  # pose, two times, two payload sizes
IMU = np.dtype(
    [
        *((n, "<f8", 3) for n in ("rotation_rate", "acceleration", "magnetic_field")),
        *((n, "<f8", 3) for n in ("attitude", "gravity")),
        ("timestamp", "<u8"),
    ]
)
MAGIC = {"jpeg": b"\xff\xd8\xff", "png": b"\x89PNG"}
MAX_NAME, MAX_SIDE = 4096, 1 << 15


class SensError(VireoError):
    """A .sens file that is damaged, cut off, or of a kind that cannot be read."""


@dataclass(frozen=True)
class Header:
    """What stands before the frames.

    Matrices are float32 [4,4]; sizes are (width, height); metres = depth value / `depth_shift`;
    `frames` is the number the file claims.
    """

    version: int
    name: str
    intrinsic_color: np.ndarray
    extrinsic_color: np.ndarray
    intrinsic_depth: np.ndarray
    extrinsic_depth: np.ndarray
    color_kind: str
    depth_kind: str
    color_size: tuple[int, int]
    depth_size: tuple[int, int]
    depth_shift: float
    frames: int


@dataclass(frozen=True)
class Frame:
    """One frame: its place in the file, pose and times; payloads are read when asked for.

    `pose` float32 [4,4] camera to world (all -inf where tracking was lost); times in microseconds;
    `offset` of the record, `color_bytes`, `depth_bytes` sizes of the payloads after it.
    """

    file: "Sens"
    index: int
    offset: int
    pose: np.ndarray
    time_color: int
    time_depth: int
    color_bytes: int
    depth_bytes: int

    @property
    def lost(self) -> bool:
        """Whether tracking was lost: no usable pose."""
        return not bool(np.isfinite(self.pose).all())

    @property
    def end(self) -> int:
        """Offset of the first byte after this frame."""
        return self.offset + FRAME.size + self.color_bytes + self.depth_bytes

    def color_payload(self) -> bytes:
        """The colour image as it stands in the file: a whole JPEG or PNG file, or raw RGB."""
        at = self.offset + FRAME.size
        payload = self.file.read(at, self.color_bytes, self._where("colour payload"))
        magic = MAGIC.get(self.file.header.color_kind, b"")
        if not payload.startswith(magic):
            raise self._broken(f"the colour payload is no {self.file.header.color_kind}", at)
        return payload

    def color(self) -> np.ndarray:
        """Decoded colour, uint8 RGB [H,W,3]; SensError when it is damaged or of another size."""
        payload, (width, height) = self.color_payload(), self.file.header.color_size
        at = self.offset + FRAME.size
        if self.file.header.color_kind == "raw":
            return np.frombuffer(payload, np.uint8).reshape(height, width, 3)
        if why := why_broken(payload):
            raise self._broken(f"the colour image is damaged: {why}", at)
        with Image.open(io.BytesIO(payload), formats=("JPEG", "PNG")) as picture:
            if picture.size != (width, height):
                size = f"{picture.size[0]}x{picture.size[1]}"
                raise self._broken(f"colour is {size}, the header says {width}x{height}", at)
            return np.asarray(picture.convert("RGB"))

    def depth(self) -> np.ndarray:
        """Depth, uint16 [H,W] (0 = no measurement, metres = value / depth_shift).

        SensError when the payload is damaged, of another size, or OCCI-compressed (a closed format
        of Occipital's that no published reader has).
        """
        (width, height), kind = self.file.header.depth_size, self.file.header.depth_kind
        wanted = 2 * width * height
        at = self.offset + FRAME.size + self.color_bytes
        if kind == "occi_ushort":
            raise SensError(
                f"{self.file.path}: depth is compressed as occi_ushort, which only Occipital's "
                "closed library reads; colour and poses can be exported (--what color pose info)"
            )
        data = self.file.read(at, self.depth_bytes, self._where("depth payload"))
        if kind == "zlib_ushort":
            stream = zlib.decompressobj()
            try:
                data = stream.decompress(data, wanted + 1)
            except zlib.error as error:
                raise self._broken(f"the depth cannot be decompressed ({error})", at) from error
            if len(data) <= wanted and not stream.eof:
                raise self._broken("the compressed depth is incomplete", at)
        if len(data) != wanted:
            raise self._broken(f"depth has {len(data)} bytes, not {wanted}", at)
        return np.frombuffer(data, "<u2").reshape(height, width).astype(np.uint16, copy=False)

    def _where(self, what: str) -> str:
        return f"frame {self.index}, {what}"

    def _broken(self, what: str, at: int) -> SensError:
        return SensError(f"{self.file.path}: frame {self.index}, byte {at}: {what}")


class Sens:
    """An open .sens file; use as a context manager. SensError when its header cannot be read."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self._fd = os.open(self.path, os.O_RDONLY)
        except OSError as error:
            raise SensError(f"cannot open {path}: {error.strerror}") from error
        self.size = os.fstat(self._fd).st_size
        try:
            self.header, self.first = self._read_header()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def __enter__(self) -> "Sens":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def read(self, at: int, count: int, what: str) -> bytes:
        """`count` bytes from offset `at`; SensError naming `what` when the file ends before."""
        parts, have = [], 0
        while have < count:
            part = os.pread(self._fd, min(count - have, 1 << 26), at + have)
            if not part:
                raise SensError(
                    f"{self.path}: {what}: the file ends at byte {self.size}, bytes {at} to "
                    f"{at + count} are needed; it is cut off, copy or download it again"
                )
            parts.append(part)
            have += len(part)
        return b"".join(parts)

    def frames(self, stride: int = 1, start: int = 0, stop: int | None = None) -> Iterator[Frame]:
        """Every `stride`-th frame from `start` on, before `stop`; the others are seeked over.

        SensError at the first frame whose record or payload the file does not hold.
        """
        at, count = self.first, self.header.frames
        for index in range(min(count, count if stop is None else stop)):
            frame = self._frame(index, at)
            if index >= start and (index - start) % stride == 0:
                yield frame
            at = frame.end

    def imu(self) -> np.ndarray:
        """IMU records, structured array of `IMU`; empty for version 3. Walks over all frames."""
        at = self.first
        for frame in self.frames():
            at = frame.end
        if self.header.version < 4:
            return np.zeros(0, IMU)
        count = int.from_bytes(self.read(at, 8, "number of IMU records"), "little")
        if count * IMU.itemsize > self.size - at - 8:
            raise SensError(
                f"{self.path}: byte {at}: {count} IMU records are announced, the file has room for "
                f"{(self.size - at - 8) // IMU.itemsize}; it is cut off or damaged"
            )
        return np.frombuffer(self.read(at + 8, count * IMU.itemsize, "IMU records"), IMU)

    def _read_header(self) -> tuple[Header, int]:
        def broken(what: str, at: int) -> SensError:
            return SensError(f"{self.path}: header, byte {at}: {what}")

        version, length = struct.unpack("<IQ", self.read(0, 12, "header"))
        if version not in (3, 4):
            old = " (an old .sensor file)" if version < 3 else ""
            raise broken(f"version {version}{old}; 3 and 4 are known, so this is no .sens file", 0)
        if length > MAX_NAME:
            raise broken(f"the sensor's name has {length} bytes", 4)
        name = self.read(12, length, "sensor name").decode("utf-8", "replace")
        at = 12 + length
        body = self.read(at, 256 + 8 + 16 + 4 + 8, "header")
        matrices = np.frombuffer(body, "<f4", 64).reshape(4, 4, 4).astype(np.float32)
        color, depth, *sides, shift, frames = struct.unpack_from("<ii4IfQ", body, 256)
        if color not in COLOR or depth not in DEPTH:
            which = f"colour {color}" if color not in COLOR else f"depth {depth}"
            raise broken(f"unknown compression of {which}", at + 256)
        if max(sides) > MAX_SIDE or min(sides[:2]) == 0:
            raise broken(f"picture sizes {sides} are not plausible", at + 264)
        if frames * FRAME.size > self.size:
            raise broken(f"{frames} frames do not fit into {self.size} bytes", at + 284)
        header = Header(
            version,
            name,
            matrices[0],
            matrices[1],
            matrices[2],
            matrices[3],
            COLOR[color],
            DEPTH[depth],
            (sides[0], sides[1]),
            (sides[2], sides[3]),
            shift,
            frames,
        )
        return header, at + len(body)

    def _frame(self, index: int, at: int) -> Frame:
        """Record `index` at offset `at`, with everything checked that tells a shifted reading."""
        head, what = self.header, f"frame {index}, record"
        magic = MAGIC.get(head.color_kind, b"")
        record = self.read(at, FRAME.size + len(magic), what)
        pose, time_color, time_depth, color, depth = FRAME.unpack_from(record)
        if not self._plausible(color, depth):
            raise self._no_frame(index, at, color, depth)
        frame = Frame(
            self,
            index,
            at,
            np.frombuffer(pose, "<f4").reshape(4, 4).astype(np.float32),
            time_color,
            time_depth,
            color,
            depth,
        )
        if frame.end > self.size:
            raise SensError(
                f"{self.path}: frame {index}, byte {at}: the file ends at byte {self.size}, this "
                f"frame needs it up to {frame.end}; it is cut off, copy or download it again"
            )
        # A payload that begins wrongly is damaged, or is none because a size is: then nothing that
        # looks like a frame follows it.
        begins = record[FRAME.size :] == magic
        if begins and head.depth_kind == "zlib_ushort" and depth:
            mark = self.read(at + FRAME.size + color, 2, what)
            begins = mark[0] & 15 == 8 and int.from_bytes(mark, "big") % 31 == 0
        if not begins and not self._followed(frame):
            raise self._no_frame(index, at, color, depth)
        return frame

    def _plausible(self, color: int, depth: int) -> bool:
        """Whether a frame can have payloads of these sizes."""
        head = self.header
        pixels, deep = np.prod(head.color_size), np.prod(head.depth_size)
        # A compressed picture is never twice the raw one: larger sizes are damage, not data.
        fits = color <= 6 * pixels + 65536 and depth <= 4 * deep + 65536
        if head.color_kind == "raw":
            fits &= color == 3 * pixels
        if head.depth_kind == "raw_ushort":
            fits &= depth == 2 * deep
        return bool(fits)

    def _followed(self, frame: Frame) -> bool:
        """Whether the next frame, or the end of the file, stands where this frame ends."""
        if frame.index + 1 == self.header.frames:
            left = self.size - frame.end
            if self.header.version < 4 or left < 8:
                return left == 0
            count = int.from_bytes(self.read(frame.end, 8, "number of IMU records"), "little")
            return left == 8 + count * IMU.itemsize
        magic = MAGIC.get(self.header.color_kind, b"")
        if frame.end + FRAME.size + len(magic) > self.size:
            return False
        record = self.read(frame.end, FRAME.size + len(magic), "next frame")
        _, _, _, color, depth = FRAME.unpack_from(record)
        return (
            self._plausible(color, depth)
            and record[FRAME.size :] == magic
            and frame.end + FRAME.size + color + depth <= self.size
        )

    def _no_frame(self, index: int, at: int, color: int, depth: int) -> SensError:
        return SensError(
            f"{self.path}: frame {index}, byte {at}: no frame begins here (payloads of {color} "
            f"and {depth} bytes); the file is damaged here or in frame {max(index - 1, 0)}"
        )
