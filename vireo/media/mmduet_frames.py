"""MMDuet's frames: a clock that walks the source, and the black borders around what it takes.

Facts: docs/reference/mmduet.md section 2.1 (`test/datasets.py`). The clock is a running float sum,
not i / rate: over thousands of frames the two differ by a frame, so the sum is kept.
"""

import math

import cv2
import numpy as np

from vireo.errors import unknown

ROUNDINGS = ("ceil", "floor")


def accumulated(
    frames: int, rate: float, target: float = 2.0, most: int = 400, rounding: str = "ceil"
) -> list[int]:
    """Frame numbers at `target` a second, at most `most`, of a video of `frames` at nominal `rate`.

    A source frame is taken once the clock has reached the next wanted time, one at a time, so that
    a video slower than `target` gives fewer frames than asked. `target` <= 0: `most` frames over
    the whole video. `rounding`: of duration x target, `ceil` in evaluation, `floor` in training and
    the demo.
    """
    if rounding not in ROUNDINGS:
        raise unknown("rounding", rounding, ROUNDINGS)
    duration = frames / rate
    wanted_rate = target if target > 0 else most / duration
    number = (math.ceil if rounding == "ceil" else math.floor)(duration * wanted_rate)
    chosen: list[int] = []
    now = 0.0
    for frame in range(frames):
        if len(chosen) >= number or (most and len(chosen) >= most):
            break
        if now >= len(chosen) / wanted_rate:
            chosen.append(frame)
        now += 1 / rate
    # parity: frames are later stamped i / target, also where the source gave fewer | times of
    # replies in videos slower than the target rate | none
    return chosen


def letterbox(picture: np.ndarray, size: int) -> np.ndarray:
    """uint8 [H,W,3] -> [size,size,3]: longer side to `size` (OpenCV bilinear), black borders.

    Of an odd number of border rows the bottom (right) gets one more.
    """
    height, width = picture.shape[:2]
    if (height, width) == (size, size):
        return picture
    if width > height:
        wide, high = size, max(1, int(height / width * size))
    else:
        high, wide = size, max(1, int(width / height * size))
    small = cv2.resize(picture, (wide, high), interpolation=cv2.INTER_LINEAR)
    result = np.zeros((size, size, picture.shape[2]), picture.dtype)
    top, left = (size - high) // 2, (size - wide) // 2
    result[top : top + high, left : left + wide] = small
    return result
