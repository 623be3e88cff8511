"""A visitor's video on the live page: read frame by frame at its pace, asked at any time.

What happens at a frame is `plain.Session`, the engine that the benchmarks' fast one is tested
against. Nothing here knows of the page (`page.py`).
"""

import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from vireo.errors import VireoError
from vireo.media import pool
from vireo.media.decode import DecodeRequest
from vireo.media.reader import OPENCV
from vireo.models.mmduet.chat import Settings

SHOWN = 384  # pixels of the picture on the page
PAUSE_S = 900.0  # a longer pause ends the reading


@dataclass(frozen=True)
class Limits:
    """What one visitor may ask for."""

    megabytes: int = 200
    seconds: float = 1800.0
    frames: int = 400
    letters: int = 500  # of a question
    visitors: int = 4  # that are read to at the same time


@dataclass
class Footage:
    """Frames of a video: for the model [T,S,S,3] and, no smaller than `SHOWN`, for people."""

    seen: np.ndarray
    shown: np.ndarray
    duration: float
    cut: bool  # more frames are in the file than may be read


def footage(
    path: str, size: int, fps: float, limits: Limits, decode: dict[str, Any] | None = None
) -> Footage:
    """Decode a video in child processes; VireoError says why it cannot be shown."""
    rule = {
        "rule": "accumulated",
        "target": fps,
        "most": limits.frames,
        "rounding": "floor",
        "reader": OPENCV,
    }
    sizes = dict.fromkeys((size, max(size, SHOWN)))
    asked = [
        DecodeRequest(
            str(side), path, "file", rule, {"library": "cv2", "fit": "letterbox", "size": side}
        )
        for side in sizes
    ]
    # What is uploaded is not to be trusted: few seconds, one process.
    settings = {**(decode or {}), "workers": 1, "timeout_s": 60.0}
    found = {sample.video: sample for sample in pool.decode(asked, settings)}
    for sample in found.values():
        if sample.frames is None:
            raise VireoError(sample.error or "this video cannot be read")
        if sample.info["duration"] > limits.seconds:
            raise VireoError(
                f"the video lasts {sample.info['duration']:.0f} s; at most {limits.seconds:.0f} s "
                "are shown here"
            )
    whole = found[str(size)]
    assert whole.frames is not None
    shown = found[str(max(size, SHOWN))].frames
    assert shown is not None
    duration = float(whole.info["duration"])
    cut = len(whole.frames) == limits.frames and limits.frames / fps < duration
    return Footage(whole.frames, shown, duration, cut)


class Viewer:
    """One reading of one video. `play` runs in one thread, everything else in any."""

    def __init__(
        self, model: Any, settings: Settings, video: Footage, turn: threading.Lock
    ) -> None:
        self.video, self.settings, self.turn = video, settings, turn
        self.model = model
        self.session = model.open(settings)
        self.waiting: deque[str] = deque()
        self.going, self.halt = threading.Event(), threading.Event()
        self.going.set()
        self.over = False
        self.note = ""
        self.chat: list[dict[str, Any]] = []
        self.sums: list[float] = []  # running sum of scores at each frame

    @property
    def frames(self) -> list[dict[str, float]]:
        """Time and both scores of every frame that was read."""
        return self.session.outcome.frames

    @property
    def state(self) -> str:
        """`playing`, `paused`, `stopped` or `over`."""
        if self.halt.is_set():
            return "stopped"
        return "over" if self.over else "playing" if self.going.is_set() else "paused"

    def ask(self, text: str) -> None:
        """Ask before the next frame."""
        self.waiting.append(text)

    def pause(self) -> None:
        """Stop for a while, or go on."""
        if self.going.is_set():
            self.going.clear()
        else:
            self.going.set()

    def stop(self) -> None:
        """End the reading; its thread notices at once unless it is in the model."""
        self.halt.set()
        self.going.set()

    def play(self, pace: float) -> Iterator[None]:
        """Read frame by frame, one every `pace` seconds at most; yields after each."""
        for number in range(len(self.video.seen)):
            began = time.monotonic()
            if not self.going.wait(PAUSE_S):
                self.stop()
            if self.halt.is_set():
                return
            if not self._read(number):
                break
            yield
            self.halt.wait(max(0.0, pace - (time.monotonic() - began)))
        self.over = True

    def _read(self, number: int) -> bool:
        """One frame; False when the model's memory is full."""
        with self.turn:  # the model is shared
            while self.waiting:
                self.session.ask(self.waiting.popleft())
            frame = self.model.transform(self.video.seen[number][None])
            before = self.session.trigger.total
            try:
                self.chat += self.session.feed(frame)
            except VireoError as error:
                self.note = str(error)
                return False
        last = self.frames[-1]
        self.sums.append(before + sum(last[head] for head in self.settings.heads))
        return True

    def turns(self) -> list[dict[str, Any]]:
        """Turns in the order they happened, then questions that wait for their frame."""
        queued = [turn["content"] for turn in list(self.session.queue)] + list(self.waiting)
        later = [{"role": "user", "content": text, "time": None} for text in queued]
        return list(self.chat) + later
