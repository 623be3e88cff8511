"""Pictures -> the small mp4 of a scan, as SQA3D's script writes it: mp4v, 20 fps, 224 x 224."""

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from vireo.errors import VireoError
from vireo.utils.files import atomic

RATE, SIZE = 20.0, 224


def decoded(payload: bytes) -> np.ndarray | None:
    """uint8 BGR [H,W,3] of a picture file as OpenCV shows it; None when it shows none."""
    return cv2.imdecode(np.frombuffer(payload, np.uint8), cv2.IMREAD_COLOR)


def write(pictures: Iterable[bytes], path: str | Path, size: int = SIZE) -> int:
    """JPEG or PNG files in order of time -> one mp4, atomically; returns the number of frames.

    Every picture is squeezed into a square. VireoError for a picture that cannot be decoded, for
    none at all, and when OpenCV has no mp4v encoder.
    """
    count = 0
    with atomic(path, suffix=".mp4") as tmp:
        # parity: the aspect ratio is not kept, and bilinear resizing does not antialias | SQA3D's
        # videos are squeezed and aliased | `size`
        fourcc = cv2.VideoWriter.fourcc(*"mp4v")
        film = cv2.VideoWriter(str(tmp), fourcc, RATE, (size, size))
        if not film.isOpened():
            raise VireoError(
                "OpenCV cannot write mp4v; install opencv-python-headless from PyPI (its wheels "
                "bring the encoder)"
            )
        try:
            for payload in pictures:
                picture = decoded(payload)
                if picture is None:
                    raise VireoError(f"{path}: picture number {count} cannot be decoded")
                film.write(cv2.resize(picture, (size, size)))
                count += 1
        finally:
            film.release()
        if not count:
            raise VireoError(f"{path}: no pictures")
    return count
