"""H.264 and HEVC parameter sets inside packets: whether a stream changes them on its way.

A file spliced from differently coded parts has them in the middle. A decoder that jumps behind the
change keeps the old ones and may show wrong pictures without an error, so that such files are read
in order, unless every keyframe brings its own.
"""

from collections.abc import Iterator
from typing import Any

START = b"\x00\x00\x01"
KINDS = {"h264": {7, 8}, "hevc": {32, 33, 34}}


class ParameterSets:
    """Looks at the keyframes of one stream; `changed` is the answer."""

    def __init__(self, context: Any) -> None:
        self.codec = str(context.name)
        extra = context.extradata or b""
        self.prefix = 0  # bytes of a unit's length; 0: start codes
        if self.codec in KINDS and extra[:1] == b"\x01":
            at = 4 if self.codec == "h264" else 21
            self.prefix = (extra[at] & 3) + 1 if len(extra) > at else 4
        self.known = self._configured(extra)
        self._differs = self._bare = False

    @property
    def changed(self) -> bool:
        """Whether parameter sets change and some keyframe comes without any."""
        return self._differs and self._bare

    def see(self, packet: Any) -> None:
        """Look at a keyframe's packet."""
        if self.codec not in KINDS:
            return
        held = set(self._leading(bytes(packet)))
        if not held:
            self._bare = True
        elif self.known and not held <= self.known:
            self._differs, self.known = True, held
        else:
            self.known |= held

    def _configured(self, extra: bytes) -> set[bytes]:
        """Parameter sets of a container's own record (avcC, hvcC), or of start-code extradata."""
        if self.codec not in KINDS or not extra:
            return set()
        if not self.prefix:
            return set(self._leading(extra))
        found, at = set(), 5 if self.codec == "h264" else 22
        groups = 2 if self.codec == "h264" else int.from_bytes(extra[at : at + 1], "big")
        at += self.codec != "h264"
        for _ in range(groups):
            if self.codec == "h264":
                count, at = int.from_bytes(extra[at : at + 1], "big") & 31, at + 1
            else:
                count, at = int.from_bytes(extra[at + 1 : at + 3], "big"), at + 3
            for _ in range(min(count, 64)):
                size = int.from_bytes(extra[at : at + 2], "big")
                found.add(extra[at + 2 : at + 2 + size])
                at += 2 + size
        return found - {b""}

    def _leading(self, data: bytes) -> Iterator[bytes]:
        """Parameter sets before the picture itself."""
        for unit in self._units(data):
            kind = unit[0] & 31 if self.codec == "h264" else unit[0] >> 1 & 63
            if kind in KINDS[self.codec]:
                yield unit
            elif kind in (1, 5) if self.codec == "h264" else kind < 32:
                return

    def _units(self, data: bytes) -> Iterator[bytes]:
        at = data.find(START) if not self.prefix else 0
        while not self.prefix and at >= 0:
            end = data.find(START, at + 3)
            unit = data[at + 3 : end if end >= 0 else len(data)].rstrip(b"\x00")
            if unit:
                yield unit
            at = end
        while self.prefix and at + self.prefix < len(data):
            size = int.from_bytes(data[at : at + self.prefix], "big")
            unit = data[at + self.prefix : at + self.prefix + size]
            if unit:
                yield unit
            at += self.prefix + size
