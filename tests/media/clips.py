"""Bar-coded test clips, encoded here with PyAV's own codecs: each frame carries its number.

A frame shows sixteen columns, one per bit of its number (upper half: the bit, lower half: its
inverse), so "which frame did I get" is an exact question even after lossy coding, a resize or a
rotation. The variants are the hazards of media.md sections 4.6, 4.7 and 7.
"""

import wave
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

BITS = 16


def frame(number: int, width: int = 128, height: int = 64) -> np.ndarray:
    """uint8 RGB [height,width,3] showing `number` (< 65536) as a bar code with a tint."""
    bits = np.array([(number >> b) & 1 for b in range(BITS)], bool)
    columns = bits[np.arange(width) * BITS // width]
    rows = np.arange(height)[:, None] < height // 2
    lit = np.where(rows, columns[None, :], ~columns[None, :])
    picture = np.where(lit[..., None], (235, 225, 215), (20, 30, 40)).astype(np.uint8)
    return np.ascontiguousarray(picture)


def number(picture: np.ndarray) -> int:
    """The number that `frame` drew; -1 if the bar code cannot be read."""
    height, width = picture.shape[:2]
    luma = picture.astype(float).mean(-1)
    at = ((np.arange(BITS) + 0.5) * width / BITS).astype(int)
    upper = luma[: height // 2][height // 8 : -max(height // 8, 1)][:, at].mean(0)
    lower = luma[(height + 1) // 2 :][height // 8 : -max(height // 8, 1)][:, at].mean(0)
    if np.any(np.abs(upper - lower) < 60):
        return -1
    return int(sum(1 << b for b in range(BITS) if upper[b] > lower[b]))


def clip(
    path: str | Path,
    count: int,
    *,
    rate: Fraction | int = 25,
    width: int = 128,
    height: int = 64,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    gop: int = 12,
    bframes: int = 0,
    pts: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    rotation: int = 0,
    first: int = 0,
    options: dict[str, str] | None = None,
    container: dict[str, str] | None = None,
    format: str | None = None,
    audio: bool = False,
) -> Path:
    """Encode frames `first .. first + count - 1` to `path`; `pts` in units of `time_base`."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format=format, options=container or {}) as out:
        stream: Any = out.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        stream.codec_context.gop_size = gop
        stream.codec_context.max_b_frames = bframes
        stream.codec_context.thread_count = 1
        if rotation:
            stream.set_display_rotation(rotation)
        base = time_base or 1 / Fraction(rate)
        stream.codec_context.time_base = base
        settings: dict[str, str] = {}
        if codec == "libx264":
            settings = {
                "preset": "ultrafast",
                "crf": "20",
                "x264-params": f"keyint={gop}:min-keyint={gop}:scenecut=0:bframes={bframes}"
                ":b-adapt=0:b-pyramid=none",
            }
        stream.options = settings | (options or {})
        sound = _sound_stream(out) if audio else None
        for i in range(count):
            picture = av.VideoFrame.from_ndarray(frame(first + i, width, height), format="rgb24")
            picture.pts = pts[i] if pts is not None else i
            picture.time_base = base
            out.mux(stream.encode(picture))
        out.mux(stream.encode(None))
        if sound is not None:
            _silence(out, sound)
    return path


def _sound_stream(out: Any) -> Any:
    stream = out.add_stream("aac", rate=16000)
    stream.layout = "mono"
    return stream


def _silence(out: Any, stream: Any, seconds: float = 1.0) -> None:
    samples = np.zeros((1, int(16000 * seconds)), np.float32)
    sound = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
    sound.sample_rate, sound.pts, sound.time_base = 16000, 0, Fraction(1, 16000)
    out.mux(stream.encode(sound))
    out.mux(stream.encode(None))


def vfr(path: str | Path, count: int = 90) -> Path:
    """Thirds at 30, 6 and 15 frames per second, in milliseconds, with B-frames."""
    gaps = [33] * (count // 3) + [167] * (count // 3) + [67] * (count - 2 * (count // 3))
    pts = [0, *np.cumsum(gaps)[:-1].tolist()]
    return clip(path, count, rate=30, pts=pts, time_base=Fraction(1, 1000), bframes=2)


def sound_only(path: str | Path) -> Path:
    """An MP4 with one audio track."""
    with av.open(str(path), "w") as out:
        _silence(out, _sound_stream(out))
    return Path(path)


def wav(path: str | Path) -> Path:
    """A WAV file (used under a video's name)."""
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(8000)
        out.writeframes(b"\0\0" * 800)
    return Path(path)


def splice(path: str | Path, parts: Sequence[str | Path]) -> Path:
    """Join streams by packet copy, each shifted to follow the one before (no re-encoding)."""
    with av.open(str(path), "w") as out:
        stream = None
        offset = 0
        for part in parts:
            with av.open(str(part)) as source:
                track = source.streams.video[0]
                if stream is None:
                    stream = out.add_stream_from_template(track)
                step = int(1 / (track.average_rate * track.time_base))
                base = track.time_base
                last = offset
                for packet in source.demux(track):
                    if packet.pts is None:
                        continue
                    packet.pts += offset
                    packet.dts += offset
                    packet.time_base = base
                    last = max(last, packet.pts + step)
                    packet.stream = stream
                    out.mux(packet)
                offset = last
    return Path(path)


def cut(path: str | Path, source: str | Path, skip: int) -> Path:
    """Copy packets so that the first `skip` frames stand before an edit list's start."""
    with (
        av.open(str(source)) as opened,
        av.open(str(path), "w", options={"avoid_negative_ts": "disabled"}) as out,
    ):
        track = opened.streams.video[0]
        stream = out.add_stream_from_template(track)
        shift = int(skip / (track.average_rate * track.time_base))
        for packet in opened.demux(track):
            if packet.pts is None:
                continue
            packet.pts -= shift
            packet.dts -= shift
            packet.stream = stream
            out.mux(packet)
    return Path(path)


def damage(path: str | Path, source: str | Path, bytes_: int, seed: int = 0) -> Path:
    """Change random bytes in the middle third of a file (the index box is elsewhere)."""
    data = bytearray(Path(source).read_bytes())
    rng = np.random.default_rng(seed)
    for at in rng.integers(len(data) // 3, 2 * len(data) // 3, bytes_):
        data[at] = int(rng.integers(256))
    Path(path).write_bytes(data)
    return Path(path)


def truncate(path: str | Path, source: str | Path, share: float = 0.5) -> Path:
    """The first `share` of a file's bytes."""
    data = Path(source).read_bytes()
    Path(path).write_bytes(data[: int(len(data) * share)])
    return Path(path)


def empty_mp4(path: str | Path) -> Path:
    """An MP4 whose movie box holds no track."""
    mvhd = bytes(4) + bytes(8) + (1000).to_bytes(4, "big") + bytes(4)
    mvhd += (0x10000).to_bytes(4, "big") + (0x100).to_bytes(2, "big") + bytes(10)
    for value in (0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000):
        mvhd += value.to_bytes(4, "big")
    mvhd += bytes(24) + (1).to_bytes(4, "big")
    box = lambda name, body: (len(body) + 8).to_bytes(4, "big") + name + body  # noqa: E731
    data = box(b"ftyp", b"isom\0\0\2\0isommp41") + box(b"moov", box(b"mvhd", mvhd))
    Path(path).write_bytes(data + box(b"mdat", b""))
    return Path(path)


def huge_header(path: str | Path) -> Path:
    """A raw-video AVI whose header claims 16000 x 16000 pixels."""
    made = clip(path, 3, codec="rawvideo", pix_fmt="yuv420p", format="avi")
    data = bytearray(made.read_bytes())
    at = data.index(b"strf") + 8
    data[at + 4 : at + 12] = (16000).to_bytes(4, "little") * 2
    made.write_bytes(data)
    return made


def with_cover(path: str | Path, count: int = 12) -> Path:
    """An MP4 with a cover picture (a video stream of one attached frame) beside the film."""
    with av.open(str(path), "w", format="mp4") as out:
        cover: Any = out.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 128, 64, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        film: Any = out.add_stream("libx264", rate=25)
        film.width, film.height, film.pix_fmt = 128, 64, "yuv420p"
        film.options = {"preset": "ultrafast"}
        for stream, numbers in ((cover, [9999]), (film, range(count))):
            for at, value in enumerate(numbers):
                picture = av.VideoFrame.from_ndarray(frame(value), format="rgb24")
                picture.pts = at
                out.mux(stream.encode(picture))
            out.mux(stream.encode(None))
    return Path(path)


def sequential(source: Any) -> list[np.ndarray]:
    """Every presented frame in output order, by the plainest loop there is (tolerant of damage)."""
    frames = []
    with av.open(source) as opened:
        film = next(
            s
            for s in opened.streams.video
            if not s.disposition & av.stream.Disposition.attached_pic
        )
        film.codec_context.thread_count = 1
        for packet in opened.demux(film):
            try:
                frames += [f.to_ndarray(format="rgb24") for f in packet.decode()]
            except av.error.FFmpegError:
                continue
    return frames
