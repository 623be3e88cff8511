"""Exact frame access with PyAV: index by demuxing, seek to a keyframe, stop early.

Made from packets' timestamps only; the algorithm and the hazards it answers (edit lists, variable
rates, missing timestamps, damage, rotation, splices) are in docs/reference/media.md section 4.5.
"""

import itertools
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import av
import numpy as np

from vireo.media.container import (
    MAX_PIXELS,
    Container,
    MissingVideo,
    Source,
    UndecodableVideo,
    hidden,
)
from vireo.media.engine import ENGINE

__all__ = ["ENGINE", "MAX_PIXELS", "Index", "MissingVideo", "Reading", "UndecodableVideo", "Video"]
MAX_DELAY = 64  # packets a decoder may take before its first picture
MOVED = (av.video.frame.PictureType.P, av.video.frame.PictureType.B)


class _OtherClock(Exception):
    """The decoder's timestamps are not the packets'."""


@dataclass(frozen=True)
class Index:
    """What the packets say: F presented frames, their times, and the header's facts.

    `times` [F] float64 seconds from the container's start; `fps` the average rate, `rate` the
    nominal one (what OpenCV reports); `timed` False when packets carry no usable timestamps
    (frames are then counted by decoding and times are number / rate).
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
    pts: np.ndarray = field(repr=False, default_factory=lambda: np.zeros(0, np.int64))
    keys: list[int] = field(repr=False, default_factory=list)
    sent: dict[int, int] = field(repr=False, default_factory=dict)  # decoding times of the keys

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


@dataclass
class Reading:
    """`frames`: one uint8 RGB array per index; `used`: the frame numbers really shown."""

    frames: list[np.ndarray]
    used: list[int]
    flags: list[str]
    damage: int = 0


class Video(Container):
    """One opened video with its index; use as a context manager."""

    _index: Index | None = None

    @property
    def index(self) -> Index:
        """The index, made once by demuxing (or by decoding when timestamps are missing)."""
        if self._index is None:
            self._index = self._make_index()
        return self._index

    def _make_index(self) -> Index:
        stream = self.stream
        pts: list[int] = []
        keys: dict[int, int] = {}
        # AVI stores no presentation times; with B-frames the demuxer's guesses are wrong.
        timed = not (self.file.format.name == "avi" and stream.codec_context.has_b_frames)
        sent: int | None = None
        for packet in self.packets() if timed else ():
            if packet.size == 0 or hidden(packet, stream):
                continue
            if packet.pts is None or (sent is not None and (packet.dts or sent) < sent):
                timed = False  # no times, or a clock that starts again (joined transport streams)
                break
            sent = packet.dts if packet.dts is not None else sent
            if packet.is_keyframe:
                keys[packet.pts] = packet.pts if packet.dts is None else packet.dts
            if not packet.is_discard:  # before the edit list's start: decoded but never shown
                pts.append(packet.pts)
        order = np.sort(np.array(pts, np.int64))
        if timed and len(order) > 1 and np.any(np.diff(order) == 0):
            timed = False  # two packets for one moment (fields, broken muxers): only decoding tells
        base = float(stream.time_base or Fraction(1, 1))
        average = float(stream.average_rate or stream.guessed_rate or 0)
        nominal = float(stream.guessed_rate or stream.average_rate or 0)
        if timed:
            origin = max(self.file.start_time or 0, 0) / av.time_base
            times = np.maximum(order * base - origin, 0.0)
            if not average and len(times) > 1:
                average = (len(times) - 1) / max(times[-1] - times[0], 1e-9)
            average = average or 25.0
            total = len(order)
        else:
            total = sum(1 for _ in self.decode_all())
            average = average or 25.0
            times = np.arange(total) / average
            order, keys = np.zeros(0, np.int64), {}
        if total == 0:
            raise UndecodableVideo(f"no frame in {self.name}")
        nominal = nominal or average
        step = 1 / average if average else 0.0
        context = self.stream.codec_context  # the file may have been opened again
        return Index(
            F=total,
            fps=average,
            rate=nominal,
            times=times,
            width=context.width,
            height=context.height,
            duration=float(times[-1]) + step,
            codec=context.name,
            timed=timed,
            rotation=self._rotation(min(keys, default=None)),
            pts=order,
            keys=sorted(keys),
            sent=keys,
        )

    def _rotation(self, key: int | None) -> int:
        """Degrees of the display matrix; it stands in the stream's side data of the first frame."""
        try:
            self.seek(key)
            frame = next(self.decode_all(rewind=False), None)
        except UndecodableVideo:
            return 0
        return int(round((frame.rotation if frame else 0) / 90) * 90)

    def read(
        self, indices: Sequence[int], then: Callable[[np.ndarray], np.ndarray] | None = None
    ) -> Reading:
        """Frames by number, in the order asked (repeats allowed), each passed through `then`.

        A frame that cannot be produced is replaced by the nearest earlier one (by the next one if
        there is none) and flagged `substituted`; `damaged` is flagged when packets were unreadable
        or the decoder marks a returned picture as corrupt. No frame at all: UndecodableVideo.
        """
        wanted = sorted({int(i) for i in indices})
        if wanted and not 0 <= wanted[0] <= wanted[-1] < self.index.F:
            raise IndexError(f"frames {wanted[0]}..{wanted[-1]} of {self.index.F} in {self.name}")
        self.damage = 0
        try:
            shown, corrupt = self._show(
                (self._timed if self.index.timed else self._untimed)(wanted), then
            )
        except _OtherClock:
            shown, corrupt = self._show(self._untimed(wanted), then)
        for i in wanted:
            if i in shown:
                continue
            earlier = [j for j in shown if j < i]
            if not shown:
                raise UndecodableVideo(
                    f"no frame of {self.name} can be decoded ({self.damage} damaged packets)"
                )
            shown[i] = shown[max(earlier) if earlier else min(shown)]
        flags = []
        if any(used != i for i, (_, used) in shown.items()):
            flags.append("substituted")
        if corrupt or self.damage:
            flags.append("damaged")
        pairs = [shown[int(i)] for i in indices]
        return Reading([p for p, _ in pairs], [u for _, u in pairs], flags, self.damage)

    def _show(
        self, found: Iterator[tuple[int, int, Any]], then: Callable[[np.ndarray], np.ndarray] | None
    ) -> tuple[dict[int, tuple[np.ndarray, int]], bool]:
        shown: dict[int, tuple[np.ndarray, int]] = {}
        corrupt = False
        last: tuple[Any, np.ndarray] | None = None
        for target, used, frame in found:
            if last is None or last[0] is not frame:
                picture = self.picture(frame)
                last = (frame, then(picture) if then else picture)
            corrupt |= bool(frame.is_corrupt)
            shown[target] = (last[1], used)
        return shown, corrupt

    def _untimed(self, wanted: list[int]) -> Iterator[tuple[int, int, Any]]:
        """Sequential decode, frames counted in output order."""
        left = set(wanted)
        for number, frame in enumerate(self.decode_all()):
            if number in left:
                left.discard(number)
                yield number, number, frame
            if not left:
                return

    def _timed(self, wanted: list[int]) -> Iterator[tuple[int, int, Any]]:
        """Seek forward where a later keyframe helps; yields (target, number used, frame)."""
        times, keys = self.index.pts, self.index.keys
        frames: Iterator[Any] = iter(())
        at: int | None = None  # timestamp of the newest decoded frame
        held: Any = None  # newest decoded frame not after the target
        ahead: Any = None  # decoded frame after the target, kept for the next one
        for target in wanted:
            t = int(times[target])
            slot = bisect_right(keys, t) - 1
            if at is None or (slot >= 0 and keys[slot] > at):
                frames, ahead = self._from_key(slot), None
            if ahead is not None and ahead.pts <= t:
                held, ahead = ahead, None
            while (held is None or held.pts < t) and ahead is None:
                frame = next(frames, None)
                if frame is None:
                    break
                place = int(np.searchsorted(times, frame.pts))
                if place == len(times) or times[place] != frame.pts:
                    raise _OtherClock
                at = frame.pts if at is None else max(at, frame.pts)
                if frame.pts <= t:
                    held = frame
                else:
                    ahead = frame
            if held is not None:
                yield target, int(np.searchsorted(times, held.pts)), held

    def _from_key(self, slot: int) -> Iterator[Any]:
        """Frames decoded from keyframe number `slot` on, or from the nearest earlier usable one.

        A keyframe from which decoding does not start cleanly (damaged, behind the place where the
        demuxer lands, or a refresh point that lacks its references) is struck off the list.
        """
        keys = self.index.keys
        while slot >= 0:
            # Some demuxers seek by decoding time, which is earlier where pictures are reordered.
            for stamp in sorted({keys[slot], self.index.sent[keys[slot]]}, reverse=True):
                self.seek(stamp)
                frames = self._landed(keys[slot])
                if frames is not None:
                    return frames
            del keys[slot]
            slot -= 1
        return (f for f in self.decode_all() if f.pts is not None)

    def _landed(self, key: int) -> Iterator[Any] | None:
        """Frames from here on if they start with a whole picture not after `key`, else None.

        Pictures shown before the keyframe landed on may lack their references and are left out.
        """
        packets = self.packets()
        first = next((p for p in packets if p.is_keyframe and p.pts is not None), None)
        if first is None or first.pts > key:
            return None
        lead = first.pts

        def usable(packet: Any) -> list[Any]:
            return [f for f in self.decode(packet) if f.pts is not None and f.pts >= lead]

        start = usable(first)
        sent = 1
        while not start and sent < MAX_DELAY and (packet := next(packets, None)) is not None:
            start = usable(packet)
            sent += 1
        hidden = first.is_discard  # before an edit list's start: decoded, never returned
        if not hidden and not (start and start[0].pts == lead and start[0].pict_type not in MOVED):
            return None
        return itertools.chain(start, itertools.chain.from_iterable(map(usable, packets)))


def read(
    source: Source, indices: Sequence[int], then: Callable[[np.ndarray], np.ndarray] | None = None
) -> Reading:
    """Open, read frames by number, close."""
    with Video(source) as video:
        return video.read(indices, then)
