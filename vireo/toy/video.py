"""Toy frames -> real video files, through the encoders that PyAV brings along."""

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np


@dataclass(frozen=True)
class Encoding:
    """How a file is written: `container` mp4 | matroska, `gop` = most frames between keyframes."""

    codec: str = "libx264"
    container: str = "mp4"
    fps: Fraction = Fraction(8)
    gop: int = 12
    b_frames: int = 0

    def options(self) -> dict[str, str]:
        """Encoder options; the quality is high enough that the shapes' colours survive."""
        common = {"g": str(self.gop)}
        if self.codec == "libx264":
            # keyint_min: an encoder that may place keyframes by itself ignores small GOPs
            common |= {"crf": "16", "preset": "veryfast", "bf": str(self.b_frames)}
            return common | {"threads": "1", "x264-params": "rc-lookahead=8:sync-lookahead=0"}
        if self.codec == "mpeg4":
            return common | {"qmin": "2", "qmax": "4", "bf": str(self.b_frames)}
        if self.codec == "libvpx-vp9":
            speed = {"deadline": "realtime", "cpu-used": "8", "lag-in-frames": "0"}
            return common | speed | {"crf": "20", "b": "0", "threads": "1"}
        raise ValueError(f"no options for the encoder {self.codec!r}")


def write(path: Path, frames: Iterable[np.ndarray], encoding: Encoding) -> int:
    """Encode uint8 RGB frames [H, W, 3] of one size (even sides) into `path`; returns the count."""
    count = 0
    with av.open(str(path), "w", format=encoding.container) as out:
        # no time of writing and no encoder's signature: the same frames give the same bytes
        out.metadata["creation_time"] = "2000-01-01T00:00:00Z"
        stream = out.add_stream(encoding.codec, rate=encoding.fps, options=encoding.options())
        assert isinstance(stream, av.VideoStream)
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        for count, image in enumerate(frames, start=1):
            if count == 1:
                stream.height, stream.width = image.shape[:2]
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = count - 1
            frame.time_base = 1 / encoding.fps
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return count
