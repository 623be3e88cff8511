"""The toy world's pictures: coloured shapes that do things in front of textured backgrounds.

A `Scene` is a background and a list of timed `Event`s; `render(scene, seconds)` draws one frame.
Everything is a function of the values in the scene, so the same scene gives the same pixels.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np

Array = np.ndarray

# Saturated and far apart, and red <-> blue are each other's image when R and B are swapped.
COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (220, 30, 30),
    "blue": (30, 30, 220),
    "green": (30, 180, 40),
    "yellow": (225, 215, 40),
}

# Low-saturation tints of the backgrounds, so that no background looks like a shape's colour.
TINTS: tuple[tuple[float, float, float], ...] = (
    (1.0, 1.0, 1.0),
    (1.0, 0.92, 0.92),
    (0.92, 0.92, 1.0),
    (0.92, 1.0, 0.92),
    (0.94, 1.0, 1.0),
    (1.0, 0.94, 1.0),
    (1.0, 1.0, 0.92),
    (0.97, 0.94, 1.0),
)


def _circle(radius: float) -> Array:
    angle = 2 * np.pi * np.arange(48) / 48
    return radius * np.stack([np.cos(angle), np.sin(angle)], axis=1)


def _box(half_width: float, half_height: float) -> Array:
    w, h = half_width, half_height
    return np.array([(-w, -h), (w, -h), (w, h), (-w, h)])


# Outlines in units of the shape's radius; a second outline is a hole (filled by the odd-even rule).
# They differ in outline so much that patches of 16 pixels tell them apart.
SHAPES: dict[str, tuple[Array, ...]] = {
    "ball": (_circle(1.0),),
    "ring": (_circle(1.15), _circle(0.6)),
    "bar": (_box(1.45, 0.42),),
    "pole": (_box(0.42, 1.45),),
}


@dataclass(frozen=True)
class Pose:
    """Where a shape is: offset in units of the frame's side, size factor, visible or not."""

    dx: float = 0.0
    dy: float = 0.0
    scale: float = 1.0
    visible: bool = True


# Progress 0..1 -> pose. Both of a pair are each other played backwards.
REACH = 0.27
SWITCH = 0.42  # of an event: early enough for samplers that do not see an event's end
MOTIONS: dict[str, Callable[[float], Pose]] = {
    "left": lambda u: Pose(dx=REACH * (1 - 2 * u)),
    "right": lambda u: Pose(dx=REACH * (2 * u - 1)),
    "up": lambda u: Pose(dy=REACH * (1 - 2 * u)),
    "down": lambda u: Pose(dy=REACH * (2 * u - 1)),
    "grows": lambda u: Pose(scale=0.45 + 1.1 * u),
    "shrinks": lambda u: Pose(scale=1.55 - 1.1 * u),
    "appears": lambda u: Pose(visible=u >= SWITCH),
    "vanishes": lambda u: Pose(visible=u < SWITCH),
}
PAIRS: tuple[tuple[str, str], ...] = tuple(
    (a, b) for i, (a, b) in enumerate(pairwise(MOTIONS)) if i % 2 == 0
)


@dataclass(frozen=True)
class Background:
    """A grey texture with a tint: `pitch` in pixels of a 64-pixel frame, `angle` in radians."""

    texture: str
    tint: int
    pitch: float
    angle: float
    dark: float
    bright: float
    phase: float
    seed: int


@dataclass(frozen=True)
class Event:
    """One shape doing one thing from `start` to `end` (seconds); before and after it stays put."""

    shape: str
    colour: str
    motion: str
    start: float
    end: float
    x: float = 0.5
    y: float = 0.5
    radius: float = 0.15
    turn: float = 0.0
    shade: float = 1.0


@dataclass(frozen=True)
class Scene:
    """What one video shows; `width` and `height` in pixels (both even, for 4:2:0 video)."""

    width: int
    height: int
    background: Background
    events: tuple[Event, ...]


def _stripes(x: Array, y: Array, b: Background) -> Array:
    return np.sin(2 * np.pi * x / b.pitch + b.phase) > 0


def _checks(x: Array, y: Array, b: Background) -> Array:
    across = np.sin(2 * np.pi * x / b.pitch + b.phase) > 0
    return across ^ (np.sin(2 * np.pi * y / b.pitch + b.phase) > 0)


def _dots(x: Array, y: Array, b: Background) -> Array:
    across = (x / b.pitch + b.phase) % 1 - 0.5
    down = (y / b.pitch + b.phase) % 1 - 0.5
    return across**2 + down**2 < 0.09


def _clouds(x: Array, y: Array, b: Background) -> Array:
    rng = np.random.default_rng(b.seed)
    size = max(3, round(64 / b.pitch))
    coarse = rng.random((size, size), dtype=np.float32)
    return cv2.resize(coarse, (x.shape[1], x.shape[0]), interpolation=cv2.INTER_CUBIC).clip(0, 1)


TEXTURES: dict[str, Callable[[Array, Array, Background], Array]] = {
    "stripes": _stripes,
    "checks": _checks,
    "dots": _dots,
    "clouds": _clouds,
}


def paint(background: Background, width: int, height: int) -> Array:
    """Draw a background: uint8 [height, width, 3], RGB."""
    side = 2  # drawn twice as large, then averaged, so that edges are not jagged
    rows, columns = np.mgrid[0 : height * side, 0 : width * side].astype(np.float32)
    x, y = columns * 64 / (width * side), rows * 64 / (height * side)
    c, s = np.cos(background.angle), np.sin(background.angle)
    value = TEXTURES[background.texture](x * c + y * s, y * c - x * s, background)
    value = cv2.resize(value.astype(np.float32), (width, height), interpolation=cv2.INTER_AREA)
    grey = background.dark + (background.bright - background.dark) * value
    tint = np.array(TINTS[background.tint], dtype=np.float32)
    return (255 * grey[..., None] * tint).round().astype(np.uint8)


def draw(frame: Array, event: Event, seconds: float) -> None:
    """Draw one event as it is at `seconds` into a picture, in place."""
    progress = (seconds - event.start) / (event.end - event.start)
    pose = MOTIONS[event.motion](min(max(progress, 0.0), 1.0))
    if not pose.visible:
        return
    height, width = frame.shape[:2]
    c, s = np.cos(event.turn), np.sin(event.turn)
    radius = event.radius * pose.scale
    contours = []
    for outline in SHAPES[event.shape]:
        turned = radius * outline @ np.array([[c, s], [-s, c]])
        centre = np.array([event.x + pose.dx, event.y + pose.dy])
        points = (turned + centre) * (width, height)
        # 4 fractional bits and -0.5: coordinates are of pixel centres, motion is finer than a pixel
        contours.append(np.round((points - 0.5) * 16).astype(np.int32))
    colour = tuple(round(v * event.shade) for v in COLOURS[event.colour])
    cv2.fillPoly(frame, contours, colour, lineType=cv2.LINE_AA, shift=4)


def frames(scene: Scene, times: Array) -> Iterator[Array]:
    """Draw the scene at each of `times` (seconds): uint8 [height, width, 3], RGB.

    An event that has not begun shows nothing, unless it is the scene's first.
    """
    ground = paint(scene.background, scene.width, scene.height)
    for seconds in times:
        frame = ground.copy()
        for i, event in enumerate(scene.events):
            if i == 0 or seconds >= event.start:
                draw(frame, event, float(seconds))
        yield frame
