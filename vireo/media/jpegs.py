"""Frames extracted beforehand: `output/<videoID>/frames/*.jpg`, read and written.

Two namings are read: the slicer's `<file>_frame_MM:SS.jpg` (docs/reference/viclip.md 3.1) and our
own `<stem>_f000123_t4.920.jpg` (frame number and seconds, no colon). Files are taken in the order
of time, numerically: "100:05" comes after "99:59".
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps

from vireo.media import sampling
from vireo.media.container import MAX_PIXELS, TooLarge, UndecodableVideo
from vireo.media.video import Index, Reading, Video

SUFFIXES = (".jpg", ".jpeg", ".png")
_SLICER = re.compile(r"_frame_(\d+)[:_-](\d\d)$")
_OURS = re.compile(r"_f(\d+)_t(\d+(?:\.\d+)?)$")


def name(stem: str, number: int, seconds: float) -> str:
    """Our own file name of a frame."""
    return f"{stem}_f{number:06d}_t{seconds:.3f}.jpg"


def _place(path: Path) -> tuple[float, int | None, list[int]]:
    """(seconds, frame number or None, digits of the name) of a file, for sorting."""
    digits = [int(d) for d in re.findall(r"\d+", path.stem)]
    if match := _OURS.search(path.stem):
        return float(match[2]), int(match[1]), digits
    if match := _SLICER.search(path.stem):
        return int(match[1]) * 60.0 + int(match[2]), None, digits
    return 0.0, None, digits


class Jpegs:
    """A folder of frames with the interface of `Video`: `index`, `read`, context manager."""

    def __init__(self, folder: str | Path, max_pixels: int = MAX_PIXELS) -> None:
        self.folder, self.max_pixels = Path(folder), max_pixels
        found = [
            p for p in self.folder.iterdir() if p.suffix.lower() in SUFFIXES and p.name[0] != "."
        ]
        if not found:
            raise UndecodableVideo(f"no frame (*.jpg) in {self.folder}")
        placed = sorted(((*_place(p), p.name, p) for p in found), key=lambda entry: entry[:4])
        self.files = [entry[4] for entry in placed]
        numbers = [entry[1] for entry in placed]
        # Frame numbers of the video where the names tell them, else positions in the folder.
        self.numbers = (
            [n for n in numbers if n is not None] if None not in numbers else [*range(len(placed))]
        )
        times = np.array([entry[0] for entry in placed])
        self.index = Index(
            F=len(self.files),
            fps=1.0,
            rate=1.0,
            times=times,
            width=0,
            height=0,
            duration=float(times[-1]) + 1.0,
            codec="jpegs",
            timed=True,
        )

    def __enter__(self) -> "Jpegs":
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def read(
        self, indices: Sequence[int], then: Callable[[np.ndarray], np.ndarray] | None = None
    ) -> Reading:
        """Frames by position; one that cannot be read is replaced by the nearest earlier one."""
        shown: dict[int, tuple[np.ndarray, int]] = {}
        damage = 0
        for i in sorted({int(i) for i in indices}):
            for earlier in [*range(i, -1, -1), *range(i + 1, self.index.F)]:
                if earlier in shown:
                    shown[i] = shown[earlier]
                    break
                try:
                    picture = self._load(self.files[earlier])
                except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
                    damage += 1
                    problem = error
                    continue
                shown[i] = (then(picture) if then else picture, earlier)
                break
            else:
                raise UndecodableVideo(f"no frame in {self.folder} can be read: {problem}")
        flags = ["substituted"] if any(u != i for i, (_, u) in shown.items()) else []
        pairs = [shown[int(i)] for i in indices]
        return Reading(
            [p for p, _ in pairs],
            [u for _, u in pairs],
            flags + (["damaged"] if damage else []),
            damage,
        )

    def _load(self, path: Path) -> np.ndarray:
        """uint8 RGB [H,W,3]; Pillow refuses cut files, which OpenCV returns half grey."""
        with Image.open(path) as picture:
            if picture.width * picture.height > self.max_pixels:
                raise TooLarge(
                    f"{path} claims {picture.width}x{picture.height} pixels, more than the limit"
                    f" of {self.max_pixels} (decode.max_pixels)"
                )
            return np.array(ImageOps.exif_transpose(picture).convert("RGB"))


def extract(
    video: str | Path, folder: str | Path, n: int = 32, naming: str = "slicer", quality: int = 95
) -> list[int]:
    """Write the slicer's n segment middles of a video to `folder`; return the frame numbers kept.

    `naming` "slicer": its file names, where one frame per second survives; "numbered": ours, all.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    video = Path(video)
    with Video(video) as opened:
        index = opened.index
        wanted = sampling.slicer(index.F, n).indices
        if naming == "slicer":
            wanted = sampling.same_second(wanted, index.rate)
        wanted = sorted(set(wanted))
        pictures = opened.read(wanted).frames
    for number, picture in zip(wanted, pictures, strict=True):
        seconds = float(index.times[number])
        file = (
            sampling.slicer_name(video.name, number, index.rate)
            if naming == "slicer"
            else name(video.stem, number, seconds)
        )
        done, data = cv2.imencode(
            ".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality]
        )
        assert done
        (folder / file).write_bytes(data.tobytes())
    return wanted
