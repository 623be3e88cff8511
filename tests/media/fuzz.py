"""Bar-coded videos of every container x codec x cut x remux that people have; one check of all.

Each frame shows its number (tests/media/clips.py), so a frame that is not the one that its place
says is found without a second decoder. `python -m tests.media.fuzz` makes and checks all and prints
the table of docs/reliability.md; the tests take a sample, and all under the marker `faults`.
"""

import itertools
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av

from tests.media import clips
from vireo.errors import VireoError
from vireo.media.video import Video

COUNT, RATE, SECONDS = 60, 25, 30
SMALL = {"width": 64, "height": 32, "gop": 12}
HEVC = "log-level=0:keyint=12:min-keyint=12:bframes={}:open-gop={}:pools=1:frame-threads=1"
OPEN = "keyint=12:min-keyint=12:scenecut=0:bframes=3:open-gop=1:b-adapt=0"


def _h264(path: Path, b: int = 0, **more: Any) -> Path:
    return clips.clip(path, COUNT, bframes=b, **SMALL, **more)


def _hevc(path: Path, b: int, open_gop: int, **more: Any) -> Path:
    options = {"preset": "ultrafast", "x265-params": HEVC.format(b, open_gop)}
    return clips.clip(path, COUNT, codec="libx265", options=options, **SMALL, **more)


def _other(path: Path, codec: str, b: int = 0, **more: Any) -> Path:
    quality = {"qscale": "4"} if codec in ("mpeg4", "mpeg2video", "mjpeg", "msmpeg4v3") else {}
    if codec.startswith("libvpx"):
        quality = {"deadline": "realtime", "cpu-used": "8", "auto-alt-ref": "1"}
        quality |= {"lag-in-frames": "16"} if codec == "libvpx" else {}
    fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    return clips.clip(
        path, COUNT, codec=codec, bframes=b, options=quality, pix_fmt=fmt, **SMALL, **more
    )


# codec's name -> how to encode it, containers that take it
CODECS: dict[str, tuple[Callable[..., Path], tuple[str, ...]]] = {
    "h264": (_h264, ("mp4", "mov", "mkv", "avi", "flv", "ts")),
    "h264_b": (lambda p, **m: _h264(p, 3, **m), ("mp4", "mov", "mkv", "avi", "flv", "ts", "mpg")),
    "h264_open": (
        lambda p, **m: _h264(p, 3, options={"x264-params": OPEN}, **m),
        ("mp4", "mkv", "ts"),
    ),
    "hevc_b": (lambda p, **m: _hevc(p, 3, 0, **m), ("mp4", "mkv", "ts")),
    "hevc_open": (lambda p, **m: _hevc(p, 3, 1, **m), ("mp4", "mkv", "ts")),
    "mpeg4": (lambda p, **m: _other(p, "mpeg4", **m), ("mp4", "mkv", "avi", "ts")),
    "mpeg4_b": (lambda p, **m: _other(p, "mpeg4", 2, **m), ("mp4", "mkv", "avi")),
    "mpeg2_b": (lambda p, **m: _other(p, "mpeg2video", 2, **m), ("mpg", "ts", "mkv")),
    "msmpeg4": (lambda p, **m: _other(p, "msmpeg4v3", **m), ("avi", "asf")),
    "vp8": (lambda p, **m: _other(p, "libvpx", **m), ("webm",)),
    "vp9": (lambda p, **m: _other(p, "libvpx-vp9", **m), ("webm", "mkv", "mp4")),
    "mjpeg": (lambda p, **m: _other(p, "mjpeg", **m), ("avi", "mov")),
}
RAW = {"h264": "h264", "h264_b": "h264", "hevc_b": "hevc", "mpeg4_b": "m4v"}
CUTS = (0.3, 0.6, 0.9)


def remux(path: Path, source: Path, how: str) -> Path:
    """Stream copy: `copy` as it is; `decode_order` with times as copied from AVI or raw streams;
    `late` without the first 20 packets; `shift` by -3 s."""
    with av.open(str(source)) as opened, av.open(str(path), "w") as out:
        track = opened.streams.video[0]
        stream = out.add_stream_from_template(track)
        base = track.time_base
        assert base is not None
        step = max(int(1 / (RATE * base)), 1)
        number = 0
        for packet in opened.demux(track):
            if packet.size == 0:
                continue
            number += 1
            if how == "late" and number <= 20:
                continue
            if how == "decode_order" or packet.pts is None or packet.dts is None:
                packet.pts = packet.dts = (number - 1) * step
            elif how == "shift":
                packet.pts, packet.dts = packet.pts - 75 * step, packet.dts - 75 * step
            packet.time_base, packet.stream = base, stream
            out.mux(packet)
    return path


def _hole(path: Path, source: Path) -> Path:
    data = bytearray(source.read_bytes())
    a, b = len(data) * 45 // 100, len(data) * 60 // 100
    data[a:b] = bytes(b - a)
    path.write_bytes(data)
    return path


def _headless(path: Path, source: Path) -> Path:
    data = source.read_bytes()
    unit = 188 if path.suffix == ".ts" else 2048
    path.write_bytes(data[len(data) // 10 // unit * unit :])
    return path


@dataclass
class Case:
    """One file: `make(folder)` writes it; `damaged`: numbers follow from times, not from order."""

    name: str
    make: Callable[[Path], Path]
    damaged: bool = False
    kind: str = ""


def cases() -> Iterator[Case]:
    """All of them, in a fixed order."""
    for codec, (encode, containers) in CODECS.items():
        for ending in containers:
            moov = {"container": {"movflags": "faststart"}} if ending in ("mp4", "mov") else {}

            def whole(
                folder: Path,
                encode: Any = encode,
                name: str = f"{codec}.{ending}",
                moov: Any = moov,
            ) -> Path:
                return encode(folder / name, **moov)

            yield Case(f"{codec}.{ending}", whole, kind="as encoded")
            yield (
                Case(
                    f"{codec}.sound.{ending}",
                    lambda f, e=encode, n=f"{codec}.s.{ending}", m=moov: e(f / n, audio=True, **m),
                    kind="with sound",
                )
                if ending not in ("mjpeg", "mpg", "webm", "asf")
                else Case(f"{codec}.again.{ending}", whole, kind="as encoded")
            )
            for share in CUTS:
                yield Case(
                    f"{codec}.cut{share}.{ending}",
                    lambda f, w=whole, s=share, e=ending: clips.truncate(f / f"cut.{e}", w(f), s),
                    True,
                    "cut",
                )
            yield Case(
                f"{codec}.hole.{ending}",
                lambda f, w=whole, e=ending: _hole(f / f"hole.{e}", w(f)),
                True,
                "hole of zeros",
            )
            if ending in ("ts", "mpg"):
                yield Case(
                    f"{codec}.headless.{ending}",
                    lambda f, w=whole, e=ending: _headless(f / f"headless.{e}", w(f)),
                    True,
                    "without its beginning",
                )
            for target in ("mp4", "mkv", "ts", "mov"):
                for how in ("copy", "decode_order", "late", "shift"):
                    if target == ending and how == "copy":
                        continue
                    if target in ("ts", "mov") and how in ("copy", "shift"):
                        continue
                    yield Case(
                        f"{codec}.{ending}.{how}.{target}",
                        lambda f, w=whole, h=how, t=target: remux(f / f"{h}.{t}", w(f), h),
                        how == "late",
                        f"remuxed: {how}",
                    )
    for (codec, form), target in itertools.product(RAW.items(), ("mp4", "mkv", "mov")):
        yield Case(
            f"raw.{codec}.{target}",
            lambda f, c=codec, r=form, t=target: remux(
                f / f"raw.{t}", CODECS[c][0](f / f"raw.{r}", format=r), "decode_order"
            ),
            kind="remuxed from a raw stream",
        )
    for a, b in itertools.permutations(
        ("", "cabac=0:ref=1", "qp=30:weightp=0", "bframes=2:ref=4"), 2
    ):
        yield Case(f"splice.{a}+{b}.mp4", lambda f, a=a, b=b: _spliced(f, a, b), kind="spliced")


def _spliced(folder: Path, a: str, b: str) -> Path:
    """Two differently coded streams joined by packet copy under the first one's header."""
    parts = []
    for number, more in enumerate((a, b)):
        options = {"x264-params": f"keyint=12:min-keyint=12:scenecut=0:bframes=0:{more}".strip(":")}
        parts.append(
            clips.clip(
                folder / f"part{number}.ts", COUNT // 2, first=number * COUNT // 2,
                options=options, **SMALL,
            )
        )  # fmt: skip
    return clips.splice(folder / "spliced.mp4", parts)


@dataclass
class Outcome:
    """What one file gave: frames checked, wrong ones without a flag, flags seen."""

    status: str
    checked: int = 0
    wrong: list[str] = field(default_factory=list)
    flags: set[str] = field(default_factory=set)


def check(case: Case, folder: Path) -> Outcome:
    """Make a file, read it singly, sparsely and as a whole; TimeoutError when it takes too long."""
    try:
        path = case.make(folder)
    except (av.error.FFmpegError, ValueError, NotImplementedError):
        return Outcome("not made")  # a container that does not take the codec

    def late(*_: Any) -> None:
        raise TimeoutError(case.name)

    signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        return _checked(case, path)
    finally:
        signal.alarm(0)


def _checked(case: Case, path: Path) -> Outcome:
    try:
        truth = [clips.number(f) for f in clips.sequential(str(path))]
    except (av.error.FFmpegError, StopIteration):
        truth = []
    try:
        with Video(path) as video:
            outcome = Outcome("ok")
            known = [number - place for place, number in enumerate(truth) if number >= 0]
            first = known[0] if known else 0
            for wanted in _requests(video.index.F):
                got = video.read(wanted)
                index = video.index
                flags = {*got.flags, *index.flags}
                outcome.flags |= flags
                for i, picture in zip(wanted, got.frames, strict=True):
                    outcome.checked += 1
                    shown = clips.number(picture)
                    right = truth[i] if i < len(truth) else None
                    if case.damaged and index.timed:  # lost frames leave gaps in time, not in order
                        right = first + round(float(index.times[i] - index.times[0]) * RATE)
                    # A hole may take times away with it: then the order of output counts.
                    alike = case.kind == "hole of zeros" and (
                        truth[i : i + 1] == [shown] or "short" in index.flags
                    )
                    if shown != right and not alike and not got.flags:
                        outcome.wrong.append(
                            f"{case.name}: {i} of {wanted[:4]} shows {shown}, not {right}"
                        )
            count = video.index.F
            if not case.damaged and count != len(truth):
                outcome.wrong.append(f"{case.name}: {count} frames counted, {len(truth)} shown")
            cut = case.kind == "cut" and count < COUNT * 0.9 and path.suffix in WITH_LENGTH
            if cut and "short" not in video.index.flags:
                outcome.wrong.append(f"{case.name}: {count} of {COUNT} frames and not short")
            return outcome
    except VireoError as error:
        lost = [f"{case.name}: {len(truth)} frames come out, but {error}"] if truth else []
        return Outcome(type(error).__name__, wrong=lost)


WITH_LENGTH = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".flv")


def _requests(count: int) -> Iterator[list[int]]:
    for i in range(0, count, 7 if count > 30 else 3):
        yield [i]
    yield [count - 1]
    yield sorted({int((i + 0.5) * count / 8) for i in range(8)})
    yield list(range(count))


def main() -> int:
    """Check all cases; print counts by kind and everything wrong."""
    av.logging.set_level(None)
    table: dict[str, Counter[str]] = {}
    wrong: list[str] = []
    step = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    for case in itertools.islice(cases(), 0, None, step):
        row = table.setdefault(case.kind, Counter())
        with tempfile.TemporaryDirectory() as folder:
            try:
                outcome = check(case, Path(folder))
            except TimeoutError:
                row["late"] += 1
                wrong.append(f"{case.name}: took more than {SECONDS} s")
                continue
        row["files"] += outcome.status != "not made"
        row[outcome.status] += 1
        row["frames"] += outcome.checked
        row["wrong"] += len(outcome.wrong)
        for flag in outcome.flags:
            row[flag] += 1
        wrong += outcome.wrong[:2]
    for kind, row in table.items():
        print(kind, dict(row))
    print(
        "files",
        sum(r["files"] for r in table.values()),
        "frames",
        sum(r["frames"] for r in table.values()),
    )
    print(*wrong[:150], sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
