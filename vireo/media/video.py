"""Exact frame access with PyAV: seek to the keyframe before a target, decode, stop early.

Which frames there are says the index (vireo/media/index.py). Where its times turn out not to be
the decoder's, frames are counted in order of output instead.
"""

import itertools
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import av
import numpy as np

from vireo.media import index
from vireo.media.container import MAX_PIXELS, Container, MissingVideo, Source, UndecodableVideo
from vireo.media.engine import ENGINE
from vireo.media.index import Index

__all__ = ["ENGINE", "MAX_PIXELS", "Index", "MissingVideo", "Reading", "UndecodableVideo", "Video"]
MAX_DELAY = 64  # packets a decoder may take before its first picture
MOVED = (av.video.frame.PictureType.P, av.video.frame.PictureType.B)


class _OtherClock(Exception):
    """The decoder's timestamps are not the packets', or do not rise."""


class Recounted(Exception):
    """The index was wrong and has been made again by counting the decoder's pictures."""


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
    flags: list[str]

    @property
    def index(self) -> Index:
        """The index, made once by demuxing (or by decoding where timestamps are of no use)."""
        if self._index is None:
            self._index = index.make(self)
        return self._index

    def read(
        self, indices: Sequence[int], then: Callable[[np.ndarray], np.ndarray] | None = None
    ) -> Reading:
        """Frames by number, in the order asked (repeats allowed), each passed through `then`.

        A frame that cannot be produced is replaced by the nearest earlier one (by the next one if
        there is none) and flagged `substituted`; `damaged` is flagged when packets were unreadable
        or the decoder marks a returned picture as corrupt. No frame at all: UndecodableVideo.
        """
        try:
            return collect(self, indices, then)
        except Recounted:
            last = self.index.F - 1
            return collect(self, [min(int(i), last) for i in indices], then)

    def pictures(
        self, numbers: Iterable[int], then: Callable[[np.ndarray], np.ndarray] | None = None
    ) -> Iterator[tuple[int, int, np.ndarray]]:
        """(number asked, number shown, picture) for each distinct number, in rising order.

        Holds one picture at a time, whatever is asked for. `flags` are complete at the end.
        Recounted when the index has turned out wrong on the way: ask again by the new one.
        """
        wanted = sorted({int(i) for i in numbers})
        if wanted and not 0 <= wanted[0] <= wanted[-1] < self.index.F:
            raise IndexError(f"frames {wanted[0]}..{wanted[-1]} of {self.index.F} in {self.name}")
        self.damage = 0
        self.flags = []
        found = (self._timed if self.index.timed else self._untimed)(wanted)
        shown: tuple[int, Any, np.ndarray] | None = None  # number, frame, picture
        corrupt, place = False, 0
        try:
            for target, used, frame in found:
                while wanted[place] < target and shown is not None:
                    self._flag("substituted")
                    yield wanted[place], shown[0], shown[2]
                    place += 1
                if shown is None or shown[1] is not frame:
                    picture = self.picture(frame)
                    shown = used, frame, then(picture) if then else picture
                corrupt |= bool(frame.is_corrupt) or used < self.index.unsound
                while place < len(wanted) and wanted[place] <= target:
                    if wanted[place] != used:
                        self._flag("substituted")
                    yield wanted[place], used, shown[2]
                    place += 1
        except _OtherClock:
            self._index = index.counted(self)
            raise Recounted(self.name) from None
        if wanted and shown is None:
            raise UndecodableVideo(
                f"no frame of {self.name} can be decoded ({self.damage} damaged packets)"
            )
        for number in wanted[place:]:
            assert shown is not None
            self._flag("substituted")
            yield number, shown[0], shown[2]
        if corrupt or self.damage:
            self._flag("damaged")

    def _flag(self, name: str) -> None:
        if name not in self.flags:
            self.flags.append(name)

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
                frames, ahead, at = self._from_key(slot), None, None
            if ahead is not None and ahead.pts <= t:
                held, ahead = ahead, None
            while (held is None or held.pts < t) and ahead is None:
                frame = next(frames, None)
                if frame is None:
                    break
                place = int(np.searchsorted(times, frame.pts))
                if place == len(times) or times[place] != frame.pts:
                    raise _OtherClock
                if at is not None and frame.pts < at and not self.damage:
                    raise _OtherClock  # pictures come in another order than that of their times
                at = frame.pts if at is None else max(at, frame.pts)
                if frame.pts <= t:
                    held = frame
                else:
                    ahead = frame
            best = held if held is not None else ahead  # the next one where none is earlier
            if best is not None:
                yield target, int(np.searchsorted(times, best.pts)), best

    def _from_key(self, slot: int) -> Iterator[Any]:
        """Frames decoded from keyframe number `slot` on, or from the nearest earlier usable one.

        A keyframe from which decoding does not start cleanly (damaged, behind the place where the
        demuxer lands, or a refresh point that does not have its references) is struck off the list.
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
        spot = self.index.spots.get(first.pts)
        if spot is not None and first.pos is not None and first.pos != spot:
            return None  # a damaged container numbers its packets in another way after a seek
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


def collect(
    video: Any, indices: Sequence[int], then: Callable[[np.ndarray], np.ndarray] | None = None
) -> Reading:
    """What `video.pictures` gives, in the order of `indices`, all at once."""
    shown = {number: (used, picture) for number, used, picture in video.pictures(indices, then)}
    pairs = [shown[int(i)] for i in indices]
    return Reading([p for _, p in pairs], [u for u, _ in pairs], video.flags, video.damage)


def read(
    source: Source, indices: Sequence[int], then: Callable[[np.ndarray], np.ndarray] | None = None
) -> Reading:
    """Open, read frames by number, close."""
    with Video(source) as video:
        return video.read(indices, then)
