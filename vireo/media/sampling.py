"""Every named frame rule: how many frames there are in, frame numbers and flags out.

Pure functions of counts and rates, never of pixels. Facts: docs/reference/viclip.md sections 3,
3.1, 5.1 and 7.2; vectors: tests/golden/viclip/misc.json. A protocol names a rule (`rule: middle`)
and its numbers (`n: 8`); `pick` looks the function up by that name, so a new rule is one function
here.
"""

import contextlib
import inspect
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vireo.errors import unknown
from vireo.media import clips as sparse
from vireo.media import reader, views
from vireo.media.mmduet_frames import accumulated as accumulated_clock


@dataclass
class Pick:
    """Frame numbers in the order of time, and what had to be done to get them."""

    indices: list[int]
    flags: list[str] = field(default_factory=list)


def _intervals(frames: int, n: int) -> list[tuple[int, int]]:
    """[0, frames) cut into min(n, frames) parts at rounded-down borders; (first, last) of each."""
    borders = np.linspace(0, frames, min(n, frames) + 1).astype(int)
    return [(int(a), int(b) - 1) for a, b in itertools.pairwise(borders)]


def _padded(indices: list[int], n: int) -> Pick:
    """Repeat the last index up to n, flagged `padded`."""
    short = n - len(indices)
    return Pick(indices + indices[-1:] * short, ["padded"] if short > 0 else [])


def uniform_stride(frames: int, n: int = 8) -> Pick:
    """Frames 0, s, 2s, … with s = frames // n: the demo's step rule.

    Of 8 to 15 frames it takes the first 8, of 300 it never sees the last 40; the released
    demo does so. Fewer than n (where the reference stops) are padded and flagged.
    """
    # parity: frames2tensor's step rule ignores the tail of the video | up to n - 1 eighths of the
    # last step are never seen | `frames: {rule: uniform_stride}`
    step = max(frames // n, 1)
    return _padded(list(range(0, frames, step))[:n], n)


def middle(frames: int, n: int = 8) -> Pick:
    """The middle frame of each of n equal parts; shorter videos repeat their last frame."""
    return _padded([(a + b) // 2 for a, b in _intervals(frames, n)], n)


def rand(frames: int, n: int = 8, seed: int = 0, epoch: int = 0, index: int = 0) -> Pick:
    """One random frame in each of n equal parts, a function of (seed, epoch, index) only."""
    rng = np.random.default_rng([seed, epoch, index])
    parts = _intervals(frames, n)
    # parity: the last frame of a part is never chosen; one part too short to draw from makes the
    # whole choice a sorted random subset | training frames only | none
    if all(b > a for a, b in parts):
        return _padded([int(rng.integers(a, b)) for a, b in parts], n)
    return _padded(sorted(rng.permutation(frames)[: len(parts)].tolist()), n)


def sparse_random(frames: int, n: int = 8, seed: int = 0, epoch: int = 0, index: int = 0) -> Pick:
    """UMT's training choice: one random frame in each of n stretches, both ends included."""
    return Pick(views.sparse_train(frames, n, np.random.default_rng([seed, epoch, index])))


def halves_random(frames: int, n: int = 8, seed: int = 0, epoch: int = 0, index: int = 0) -> Pick:
    """Training choice of SSv2: one random frame in each of n equal whole-number stretches."""
    return Pick(views.halves_train(frames, n, np.random.default_rng([seed, epoch, index])))


def fps(frames: int, fps: float, target: float = 1.0, most: int = 0) -> Pick:
    """`target` frames a second from a video of `fps`, at the middle of its periods; at most `most`.

    Written `fpsX` in the reference (`fps0.5`); may give no frame for a short video, as there.
    """
    period = 1 / target
    duration = frames / fps
    seconds = np.arange(period / 2, duration + period / 2, period)
    indices = [int(i) for i in np.around(seconds * fps) if i < frames]
    return Pick(indices[:most] if most and most > 0 else indices)


def slicer(frames: int, n: int = 32) -> Pick:
    """The frame extractor's segment middles; short videos give the same frame several times."""
    size = (frames - 1) / n
    borders = [int(np.round(size * i)) for i in range(n + 1)]
    return Pick([(a + b) // 2 for a, b in itertools.pairwise(borders)])


def clock(index: int, rate: float) -> str:
    """The extractor's time stamp "MM:SS" of a frame: minutes are not limited to 59."""
    seconds = int(index / rate)
    return f"{seconds // 60:02d}:{seconds % 60:02d}"


def slicer_name(file_name: str, index: int, rate: float) -> str:
    """The extractor's JPEG name: the file name with dots as underscores, then the time."""
    return f"{file_name.replace('.', '_')}_frame_{clock(index, rate)}.jpg"


def same_second(indices: list[int], rate: float) -> list[int]:
    """What is left when frames of one second overwrite each other: the last of each second."""
    return list({clock(i, rate): i for i in sorted(indices)}.values())


def slicer_then_stride(
    frames: int, rate: float, n: int = 8, candidates: int = 32, dedupe: bool = True
) -> Pick:
    """Video-MME's default: 32 segment middles, one per second, then the step rule.

    With `dedupe: false` the segment middles stay as they are. Fewer than n left: padded, flagged.
    """
    chosen = slicer(frames, candidates).indices
    # parity: the extractor names files by second, so later frames overwrite earlier ones | short
    # videos give fewer candidates | `frames: {dedupe: false}`
    kept = same_second(chosen, rate) if dedupe else chosen
    pick = uniform_stride(len(kept), n)
    return Pick([kept[i] for i in pick.indices], pick.flags)


def sparse_clips(
    frames: int,
    fps: float,
    n: int = 2,
    clips: int = 1,
    target: float = 2.0,
    strategy: str = "clips",
) -> Pick:
    """ClipBERT's clips one after the other: `clips` x `n` frames, `target` a second."""
    found = sparse.fixed(frames, fps, n, clips, target, strategy)
    flags = ["padded"] if sparse.short(frames, fps, n, target) and strategy != "uniform" else []
    return Pick([i for clip in found for i in clip], flags)


def sparse_views(frames: int, n: int = 8, segments: int = 1) -> Pick:
    """Test views of Kinetics: `segments` shifted choices of n spread frames, one after another."""
    return Pick([i for s in range(segments) for i in views.sparse(frames, n, segments, s)])


def halves_views(frames: int, n: int = 8, segments: int = 2) -> Pick:
    """Test views of SSv2: starts and middles of n equal parts, dealt out over the segments."""
    return Pick([i for s in range(segments) for i in views.halves(frames, n, segments, s)])


def accumulated(
    frames: int, rate: float, target: float = 2.0, most: int = 400, rounding: str = "ceil"
) -> Pick:
    """MMDuet's clock: `target` frames a second from the start, at most `most` (media/clock.py)."""
    return Pick(accumulated_clock(frames, rate, target, most, rounding))


def every(frames: int) -> Pick:
    """All frames."""
    return Pick(list(range(frames)))


RULES: dict[str, Callable[..., Pick]] = {
    rule.__name__: rule
    for rule in (
        uniform_stride,
        middle,
        rand,
        sparse_random,
        halves_random,
        fps,
        slicer,
        slicer_then_stride,
        sparse_clips,
        sparse_views,
        halves_views,
        accumulated,
        every,
    )
}
RANDOM = ("rand", "sparse_random", "halves_random")  # functions of seed, epoch and index
GIVEN = ("frames", "fps", "rate")  # what the video says, not the protocol


def _split(rule: dict[str, Any]) -> tuple[Callable[..., Pick], dict[str, Any], str]:
    reader.of(rule)
    settings = {k: v for k, v in rule.items() if k not in ("store", "reader")}
    name = str(settings.pop("rule", ""))
    if name.startswith("fps") and name[3:]:
        with contextlib.suppress(ValueError):
            settings["target"], name = float(name[3:]), "fps"
    if name not in RULES:
        raise unknown("frame rule", name, [*RULES, "fpsX (X a number)"])
    function = RULES[name]
    known = [p for p in inspect.signature(function).parameters if p not in GIVEN]
    for key in settings:
        if key not in known:
            raise unknown(f"setting of the frame rule {name}", key, known)
    return function, settings, name


def check(rule: dict[str, Any]) -> None:
    """Raise VireoError when a rule or one of its settings is unknown."""
    _split(rule)


def pick(rule: dict[str, Any], frames: int, fps: float, rate: float | None = None) -> Pick:
    """Apply a protocol's rule: `frames` in the video (or sub-clip), its average rate, and the rate
    that the protocol's reader counts clocks by.

    Raises VireoError for an unknown rule. A rule that finds no frame (one every two seconds in a
    video of one) gives the middle one. `padded` is flagged then, and whenever a view has fewer
    frames to show than the rule's `n`.
    """
    function, settings, _ = _split(rule)
    video = {"frames": frames, "fps": fps, "rate": rate or fps}
    wanted = inspect.signature(function).parameters
    result = function(**{k: v for k, v in video.items() if k in wanted}, **settings)
    if not result.indices:
        return Pick([(frames - 1) // 2], ["padded"])
    asked = settings.get("n", wanted["n"].default if "n" in wanted else 0)
    if frames < asked and "padded" not in result.flags:
        result.flags.append("padded")
    return result


def pick_sliced(rule: dict[str, Any], files: int) -> Pick:
    """Apply a rule to frames that an extractor has already chosen (the JPEG layout).

    `slicer_then_stride` finds its first half done; rules in frames per second see one per second.
    """
    _, settings, name = _split(rule)
    if name == "slicer_then_stride":
        return uniform_stride(files, settings.get("n", 8))
    return pick(rule, files, 1.0)
