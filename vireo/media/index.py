"""The index of a video: which frames there are and when, from one pass over its packets.

Packets are trusted only as far as a decoder agrees: times in decoding order, clocks that start
again, spliced parameter sets and pictures without references are found here, and such files are
counted by decoding instead. The hazards are in docs/reliability.md.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import av
import numpy as np

from vireo.media import color
from vireo.media.container import Container, UndecodableVideo, hidden
from vireo.media.parameter_sets import ParameterSets

DEFAULT_RATE = 25.0
ODD = 3.0  # a header's rate so many times off its time stamps is not believed
HEAD = 8  # pictures decoded to see whether they come in the order of their times
# Formats whose header states a length; the others' is FFmpeg's own estimate.
WITH_LENGTH = {"mov", "matroska", "avi", "flv", "asf", "ogg", "mxf", "nut", "rm"}


@dataclass(frozen=True)
class Index:
    """What the packets say: F presented frames, their times, and the header's facts.

    `times` [F] float64 seconds from the container's start; `fps` the average rate (what OpenCV
    reports, except 4.8), `rate` the nominal one; `timed` False when packets carry no usable
    timestamps (frames are then counted by decoding and times are number / rate). `flags` of the
    file: short (its header says clearly more than is there), odd_rate (header and time stamps
    differ several times; `fps` is the time stamps'), several_streams (it has other films, too),
    mirrored (its display matrix mirrors, which is not shown).
    """

    F: int
    fps: float
    rate: float
    times: np.ndarray
    width: int
    height: int
    duration: float
    codec: str
    timed: bool
    rotation: int = 0
    flags: tuple[str, ...] = ()
    unsound: int = 0  # first frames, before any keyframe: their references may be missing
    note: str = ""  # what a short file says and has
    pts: np.ndarray = field(repr=False, default_factory=lambda: np.zeros(0, np.int64))
    keys: list[int] = field(repr=False, default_factory=list)
    sent: dict[int, int] = field(repr=False, default_factory=dict)  # decoding times of the keys
    spots: dict[int, int] = field(repr=False, default_factory=dict)  # their places in the file

    def span(self, start: float | None = None, end: float | None = None) -> tuple[int, int]:
        """Frames [first, last) shown in `start` to `end` seconds; at least one frame.

        The first is the last frame not after `start`, as a player would show it.
        """
        first, last = 0, self.F
        if start is not None and start == start and start > 0:
            first = max(int(np.searchsorted(self.times, start + 1e-6, "right")) - 1, 0)
        if end is not None and end == end:
            last = int(np.searchsorted(self.times, end - 1e-6, "left"))
        return first, min(max(last, first + 1), self.F)

    def outside(self, start: float | None = None, end: float | None = None) -> str | None:
        """Why a span of seconds shows nothing of the video; None when it shows something."""
        a = 0.0 if start is None or start != start else start
        b = float("inf") if end is None or end != end else end
        if b < a:
            return f"the span from {a:g} to {b:g} s ends before it starts"
        if a >= self.duration or b < 0:
            return f"the span from {a:g} to {b:g} s lies outside its {self.duration:.2f} s"
        return None


@dataclass
class _Packets:
    """One pass over the packets of a stream."""

    timed: bool = True
    count: int = 0  # with hidden ones
    pts: list[int] = field(default_factory=list)  # of shown packets
    keys: dict[int, int] = field(default_factory=dict)  # pts -> dts of keyframes
    spots: dict[int, int] = field(default_factory=dict)  # pts -> place of keyframes
    ordered: bool = True  # pts rise from packet to packet
    headless: bool = False  # packets come before the first keyframe
    respliced: bool = False  # parameter sets change, and not every keyframe brings its own
    end: int = 0  # pts after the last packet


def make(video: Container) -> Index:
    """The index of an opened video. UndecodableVideo when it shows no frame."""
    found = _scan(video)
    stream = video.stream
    reorders, base = bool(stream.codec_context.has_b_frames), float(stream.time_base or 1)
    times = np.sort(np.array(found.pts, np.int64))
    timed = found.timed and bool(found.keys) and not found.respliced
    if timed and len(times) > 1 and np.any(np.diff(times) == 0):
        timed = False  # two packets for one moment (fields, broken muxers): only decoding tells
    head: list[Any] = []
    if timed:
        # Where packets have their times in decoding order, the pictures come out of order.
        suspicious = reorders and found.ordered and len(times) > 2
        head = list(_head(video, None if suspicious else HEAD if reorders else 1))
        if _falls(head) and not video.damage:
            timed = False
        elif found.headless or (len(times) and _late(head, int(times[0])) and not video.damage):
            start = head[0].pts if head and head[0].pts is not None else min(found.keys)
            times = _without_ghosts(video, max(min(found.keys), start), times)
    if not timed:
        return counted(video)
    seconds = times * base - video.origin(times[0] * base if len(times) else 0.0)
    index = _assemble(video, np.maximum(seconds, 0.0), True, head)
    note = _shortfall(video, found)
    flags = index.flags + (("short",) if note else ())
    return replace(
        index,
        unsound=int(np.searchsorted(times, min(found.keys))),
        pts=times,
        keys=sorted(found.keys),
        sent=found.keys,
        spots=found.spots,
        flags=flags,
        note=note,
    )


def counted(video: Container) -> Index:
    """The index by decoding everything: frames are numbered in the order of output."""
    found = _scan(video, times=False)
    first: list[Any] = []
    total, unsound = 0, -1
    for frame in video.decode_all():
        first = first or [_Glance(frame)]
        if unsound < 0 and frame.key_frame:
            unsound = total
        total += 1
    average, _ = _rates(video)
    index = _assemble(video, np.arange(total) / (average or DEFAULT_RATE), False, first)
    note = _shortfall(video, found)
    flags = index.flags + (("short",) if note else ())
    return replace(index, unsound=max(unsound, 0), flags=flags, note=note)


def _assemble(video: Container, times: np.ndarray, timed: bool, head: list[Any]) -> Index:
    if not len(times):
        raise UndecodableVideo(f"no frame in {video.name}")
    average, nominal = _rates(video)
    flags = []
    if timed and len(times) > 2:
        measured = (len(times) - 1) / max(times[-1] - times[0], 1e-9)
        if average and not 1 / ODD <= average / measured <= ODD:
            flags.append("odd_rate")
            average = nominal = measured
        average = average or measured
    average = average or DEFAULT_RATE
    if video.others:
        flags.append("several_streams")
    if head and head[0].mirrored and video.reader.orientation == "angle":
        flags.append("mirrored")
    context = video.stream.codec_context  # the file may have been opened again
    return Index(
        F=len(times),
        fps=average,
        rate=nominal or average,
        times=times,
        width=context.width,
        height=context.height,
        duration=float(times[-1]) + 1 / average,
        codec=context.name,
        timed=timed,
        rotation=head[0].turns * 90 if head else 0,
        flags=tuple(flags),
    )


def _rates(video: Container) -> tuple[float, float]:
    stream = video.stream
    return (
        float(stream.average_rate or stream.guessed_rate or 0),
        float(stream.guessed_rate or stream.average_rate or 0),
    )


def _scan(video: Container, times: bool = True) -> _Packets:
    """One pass over the packets; without `times` only how many there are and where they end."""
    found, stream = _Packets(), video.stream
    # AVI stores no presentation times; with B-frames the demuxer's guesses are wrong. Program
    # streams have one for some packets only, and are guessed too far behind a hole.
    guessed = video.file.format.name == "avi" and stream.codec_context.has_b_frames
    if times and (guessed or video.file.format.name == "mpeg"):
        return _Packets(timed=False)
    sets = ParameterSets(stream.codec_context)
    sent: int | None = None
    before: int | None = None
    if not times:
        video.seek(None)
    for packet in video.packets():
        found.count += 1
        if packet.pts is not None:
            found.end = max(found.end, packet.pts + (packet.duration or 0))
        if not times or packet.size == 0 or hidden(packet, stream):
            continue
        pts, dts = packet.pts, packet.dts
        if pts is None or (sent is not None and (dts or sent) < sent):
            found.timed = False  # no times, or a clock that starts again (joined streams)
            return found
        sent = dts if dts is not None else sent
        if packet.is_keyframe:
            found.keys[pts] = pts if dts is None else dts
            if packet.pos is not None:
                found.spots[pts] = packet.pos
            sets.see(packet)
        elif not found.keys:
            found.headless = True
        found.ordered &= before is None or pts > before
        before = pts
        if not packet.is_discard:  # before the edit list's start: decoded but never shown
            found.pts.append(pts)
    found.respliced = sets.changed
    if found.keys and found.pts and min(found.pts) < min(found.keys):
        found.headless = True
    return found


@dataclass(frozen=True)
class _Glance:
    """What the index keeps of a decoded frame (frames themselves are large)."""

    pts: int | None
    turns: int
    mirrored: bool

    def __init__(self, frame: Any) -> None:
        object.__setattr__(self, "pts", frame.pts)
        object.__setattr__(self, "turns", color.quarter_turns(frame))
        object.__setattr__(self, "mirrored", color.mirrored(frame))


def _head(video: Container, most: int | None) -> Iterator[_Glance]:
    """The first decoded frames (all with None), in order of output."""
    video.seek(None)
    for number, frame in enumerate(video.decode_all(rewind=False)):
        yield _Glance(frame)
        if most is not None and number + 1 >= most:
            return


def _falls(head: list[_Glance]) -> bool:
    """Whether pictures come out in another order than that of their times."""
    stamps = [glance.pts for glance in head]
    return any(b is None or a is None or b <= a for a, b in itertools.pairwise(stamps))


def _late(head: list[_Glance], first: int) -> bool:
    """Whether the first picture comes after the first packet's time: some give no picture."""
    return bool(head) and head[0].pts is not None and head[0].pts > first


def _without_ghosts(video: Container, first: int, times: np.ndarray) -> np.ndarray:
    """Times without those before `first` that no picture has: their references are not there."""
    shown: set[int] = set()
    video.seek(None)
    for frame in video.decode_all(rewind=False):
        if frame.pts is not None:
            shown.add(frame.pts)
            if frame.pts >= first:
                break
    keep = (times >= first) | np.isin(times, list(shown))
    return times[keep]


def _shortfall(video: Container, found: _Packets) -> str:
    """What the header says and what is there, when that is clearly less; else empty."""
    stream = video.stream
    average, _ = _rates(video)
    claimed = int(stream.frames or stream.metadata.get("NUMBER_OF_FRAMES") or 0)
    if found.count and claimed - found.count > max(2, claimed // 100):
        return f"the header says {claimed} frames, the file holds {found.count}"
    if video.file.duration is None or not WITH_LENGTH & set(video.file.format.name.split(",")):
        return ""
    base = float(stream.time_base or 1)
    start = (video.file.start_time or 0) / av.time_base
    claimed_s = video.file.duration / av.time_base
    margin = max(0.2, claimed_s / 50, 1.5 / (average or DEFAULT_RATE))
    held_s = found.end * base - start
    if claimed_s - held_s > margin:
        held_s = max(held_s, video.last_moment() - start)  # of any stream: sound may be longer
    if claimed_s - held_s > margin:
        return f"the header says {claimed_s:.2f} s, the file holds {max(held_s, 0):.2f} s"
    return ""
