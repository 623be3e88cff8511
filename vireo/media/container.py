"""One opened video file: packets, decoder, seeks. What `vireo.media.video` is built from.

Only real containers are opened, only from the file itself: a playlist under a video's name would
make FFmpeg read other files or hosts. Header limits are checked before anything is decoded.
"""

import io
import os
from collections.abc import Iterator
from io import BufferedIOBase
from pathlib import Path
from typing import Any, Self

import av
import numpy as np

from vireo.errors import VireoError
from vireo.media.color import Converter
from vireo.media.reader import Reader

Source = str | os.PathLike[str] | BufferedIOBase

FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,obu,ivf,flv,asf,"
    "ogg,gif,apng,webp,mxf,rm,nut,dv,wav,mp3,aac,flac"
)
MAX_PIXELS = 8192 * 8192


class MissingVideo(VireoError):
    """No file at the path."""


class UndecodableVideo(VireoError):
    """A file that yields no frame: not a video, no video stream, damaged, or over a limit."""


class TooLarge(UndecodableVideo):
    """More pixels than the configuration allows: another limit may give another answer."""


class Container:
    """A file and the video stream that FFmpeg thinks best. Errors name the file and the reason.

    `decoded` counts pictures since the start, `damage` packets that could not be decoded, `others`
    further video streams that are no cover picture.
    """

    def __init__(
        self, source: Source, max_pixels: int = MAX_PIXELS, reader: Reader | None = None
    ) -> None:
        self.source, self.max_pixels = source, max_pixels
        self.reader = reader or Reader()
        self.name = str(source) if isinstance(source, str | os.PathLike) else "video in memory"
        self.decoded = 0
        self.damage = 0
        self.others = 0
        self._rgb = Converter(self.reader)
        self._open()

    def _file(self, source: Source) -> Any:
        target: Any = source
        if isinstance(source, str | os.PathLike):
            path = Path(source)
            if not path.exists():
                raise MissingVideo(f"no video at {path}")
            if not path.is_file():
                raise UndecodableVideo(f"{path} is not a file")
            if path.stat().st_size == 0:
                raise UndecodableVideo(f"{path} is empty (0 bytes)")
            target = f"file:{path.absolute()}"
        else:
            source.seek(0)  # type: ignore[union-attr]
        options = {"format_whitelist": FORMATS, "protocol_whitelist": "file"}
        try:
            return av.open(target, options=options, metadata_errors="replace")
        except MemoryError:
            raise
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise UndecodableVideo(f"cannot open {self.name} as a video: {_why(error)}") from error

    def _open(self) -> None:
        self.file = self._file(self.source)
        cover = av.stream.Disposition.attached_pic
        films = [s for s in self.file.streams.video if not s.disposition & cover]
        if not films:
            self.close()
            raise UndecodableVideo(f"no video stream in {self.name}")
        # decord's rule too; OpenCV takes the first stream, which may be a still beside the film.
        best = self.file.streams.best("video")
        self.stream: Any = best if best in films else films[0]
        self.others = len(films) - 1
        for other in self.file.streams:
            if other is not self.stream:
                other.discard = av.stream.Discard.all
        context = self.stream.codec_context
        if context is None:
            self.close()
            raise UndecodableVideo(
                f"no decoder for the video stream of {self.name}; PyAV's own wheel has those for "
                "all usual codecs: make setup"
            )
        if context.width * context.height > self.max_pixels:
            size = f"{context.width}x{context.height}"
            self.close()
            raise TooLarge(
                f"{self.name} claims {size} pixels, more than the limit of {self.max_pixels}"
                " (decode.max_pixels)"
            )
        # One thread per process: parallel processes use the cores without frame threading's cost.
        context.thread_count = 1
        context.options = {"max_pixels": str(self.max_pixels)}

    def close(self) -> None:
        """Close the file."""
        self.file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def packets(self) -> Iterator[Any]:
        """Packets until the end; damage at container level ends the list instead of the run."""
        demuxed = self.file.demux(self.stream)
        while True:
            try:
                packet = next(demuxed)
            except StopIteration:
                return
            except MemoryError:
                raise
            except (av.error.FFmpegError, OSError, IndexError):
                return  # IndexError: PyAV at the end of a file that got new streams on its way
            yield packet

    def decode(self, packet: Any) -> list[Any]:
        """Frames out of one packet; a damaged one counts, whatever it gives."""
        self.damage += bool(packet.is_corrupt)
        try:
            frames = packet.decode()
        except MemoryError:
            raise
        except (av.error.FFmpegError, ValueError, OSError):
            self.damage += 1
            return []
        self.decoded += len(frames)
        return frames

    def decode_all(self, rewind: bool = True) -> Iterator[Any]:
        """Frames from the beginning (or from where the file stands) to the end."""
        if rewind:
            self.seek(None)
        for packet in self.packets():
            yield from self.decode(packet)

    def seek(self, to: int | None) -> None:
        """Go to a keyframe's timestamp; None, or a container that cannot seek: start again."""
        if to is not None:
            try:
                self.file.seek(to, backward=True, stream=self.stream)
                return
            except (av.error.FFmpegError, OSError):
                pass
        self.close()
        self._open()

    def picture(self, frame: Any) -> np.ndarray:
        """uint8 RGB [H,W,3], converted and turned as the reader does it (vireo/media/color.py)."""
        return self._rgb(frame)

    def origin(self, first: float) -> float:
        """Seconds of the container's clock at its start; `first` the first picture's there.

        A clock below zero starts there when pictures do (a wrapped transport stream), not when
        only sound has samples before zero that no player gives out.
        """
        start = (self.file.start_time or 0) / av.time_base
        return start if start >= 0 or first < 0 else 0.0

    def last_moment(self) -> float:
        """Seconds on the container's clock at the end of the last packet of any stream."""
        found = 0.0
        # A second reader of the same object in memory would move the first one's place.
        held = self.source
        copy = held if isinstance(held, str | os.PathLike) else io.BytesIO(_bytes(held))
        try:
            with self._file(copy) as file:
                for packet in file.demux():
                    if packet.pts is not None and packet.time_base is not None:
                        end = (packet.pts + (packet.duration or 0)) * packet.time_base
                        found = max(found, float(end))
        except (av.error.FFmpegError, OSError, UndecodableVideo):
            pass
        return found


def _bytes(held: BufferedIOBase) -> bytes:
    at = held.tell()
    held.seek(0)
    data = held.read()
    held.seek(at)
    return data


def hidden(packet: Any, stream: Any) -> bool:
    """VP8 keeps its alternate reference pictures in packets of their own that show nothing."""
    return stream.codec_context.name == "vp8" and not bytes(packet)[0] & 0x10


def _why(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error)
    if "Invalid argument" in text:
        return "its format is not a video container"
    return text
