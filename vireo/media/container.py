"""One opened video file: packets, decoder, seeks. What `vireo.media.video` is built from.

Only real containers are opened, only from the file itself: a playlist under a video's name would
make FFmpeg read other files or hosts. Header limits are checked before anything is decoded.
"""

import os
from collections.abc import Iterator
from io import BufferedIOBase
from pathlib import Path
from typing import Any, Self

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from vireo.errors import VireoError

Source = str | os.PathLike[str] | BufferedIOBase

FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,obu,ivf,flv,asf,"
    "ogg,gif,mxf,rm,nut,dv,wav,mp3,aac,flac"
)
MAX_PIXELS = 8192 * 8192


class MissingVideo(VireoError):
    """No file at the path."""


class UndecodableVideo(VireoError):
    """A file that yields no frame: not a video, no video stream, damaged, or over a limit."""


class TooLarge(UndecodableVideo):
    """More pixels than the configuration allows: another limit may give another answer."""


class Container:
    """A file and its first real video stream. Errors name the file and the reason.

    `decoded` counts pictures since the start, `damage` packets that could not be decoded.
    """

    def __init__(self, source: Source, max_pixels: int = MAX_PIXELS) -> None:
        self.source, self.max_pixels = source, max_pixels
        self.name = str(source) if isinstance(source, str | os.PathLike) else "video in memory"
        self.decoded = 0
        self.damage = 0
        self._rgb = VideoReformatter()
        self._open()

    def _open(self) -> None:
        target: Any = self.source
        if isinstance(self.source, str | os.PathLike):
            path = Path(self.source)
            if not path.exists():
                raise MissingVideo(f"no video at {path}")
            if not path.is_file():
                raise UndecodableVideo(f"{path} is not a file")
            if path.stat().st_size == 0:
                raise UndecodableVideo(f"{path} is empty (0 bytes)")
            target = f"file:{path.absolute()}"
        else:
            self.source.seek(0)
        options = {"format_whitelist": FORMATS, "protocol_whitelist": "file"}
        try:
            self.file = av.open(target, options=options, metadata_errors="replace")
        except MemoryError:
            raise
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise UndecodableVideo(f"cannot open {self.name} as a video: {_why(error)}") from error
        cover = av.stream.Disposition.attached_pic
        films = [s for s in self.file.streams.video if not s.disposition & cover]
        if not films:
            self.close()
            raise UndecodableVideo(f"no video stream in {self.name}")
        self.stream: Any = films[0]
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
        """Frames out of one packet; a damaged one counts and gives none."""
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
        """uint8 RGB [H,W,3], rotated as a player shows it (PyAV itself never rotates)."""
        picture = self._rgb.reformat(frame, format="rgb24", threads=1).to_ndarray()
        turns = round(frame.rotation / 90) % 4
        return np.ascontiguousarray(np.rot90(picture, turns)) if turns else picture


def hidden(packet: Any, stream: Any) -> bool:
    """VP8 keeps its alternate reference pictures in packets of their own that show nothing."""
    return stream.codec_context.name == "vp8" and not bytes(packet)[0] & 0x10


def _why(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error)
    if "Invalid argument" in text:
        return "its format is not a video container"
    return text
