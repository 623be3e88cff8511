"""Frames extracted beforehand: `output/<videoID>/frames/*.jpg`, read and written.

Two namings are read: the slicer's `<file>_frame_MM:SS.jpg` (docs/reference/viclip.md 3.1) and our
own `<stem>_f000123_t4.920.jpg` (frame number and seconds, no colon). Files are taken in the order
of time, numerically: "100:05" comes after "99:59".
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from vireo.media import sampling
from vireo.media.color import jpeg_file
from vireo.media.container import MAX_PIXELS, TooLarge, UndecodableVideo
from vireo.media.index import Index
from vireo.media.reader import DEFAULT_QUALITY, OPENCV, Reader
from vireo.media.video import Reading, Recounted, Video, collect

# The frame extractor of the Video-MME guide: OpenCV of its time.
GUIDE = Reader(**OPENCV)
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
    """A folder of frames with the interface of `Video`: `index`, `pictures`, context manager."""

    flags: list[str]
    damage = 0

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
        """Frames by position, in the order asked."""
        return collect(self, indices, then)

    def pictures(
        self, numbers: Iterable[int], then: Callable[[np.ndarray], np.ndarray] | None = None
    ) -> Iterator[tuple[int, int, np.ndarray]]:
        """(position asked, position shown, picture), in rising order.

        A picture that cannot be read is replaced by the nearest earlier one, or the next.
        """
        self.flags, self.damage = [], 0
        last: tuple[int, np.ndarray] | None = None
        for i in sorted({int(i) for i in numbers}):
            for at in [*range(i, -1, -1), *range(i + 1, self.index.F)]:
                if last is not None and at == last[0]:
                    break
                try:
                    picture = self._load(self.files[at])
                except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
                    self.damage += 1
                    problem = error
                    continue
                last = at, then(picture) if then else picture
                break
            else:
                raise UndecodableVideo(f"no frame in {self.folder} can be read: {problem}")
            if last[0] != i and "substituted" not in self.flags:
                self.flags.append("substituted")
            yield i, last[0], last[1]
        if self.damage:
            self.flags.append("damaged")

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
    video: str | Path,
    folder: str | Path,
    n: int = 32,
    naming: str = "slicer",
    quality: int = DEFAULT_QUALITY,
    reader: Reader | None = None,
) -> list[int]:
    """Write the slicer's n segment middles of a video to `folder`; return the frame numbers kept.

    `naming` "slicer": its file names, where one frame per second survives; "numbered": ours, all.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    video = Path(video)
    reader = reader or GUIDE
    with Video(video, reader=reader) as opened:
        try:
            return _extracted(opened, video, folder, n, naming, quality)
        except Recounted:
            return _extracted(opened, video, folder, n, naming, quality)


def _extracted(
    opened: Video, video: Path, folder: Path, n: int, naming: str, quality: int
) -> list[int]:
    index = opened.index
    rate = index.rate if opened.reader.rate == "nominal" else index.fps
    wanted = sampling.slicer(index.F, n).indices
    if naming == "slicer":
        wanted = sampling.same_second(wanted, rate)
    for number, _, picture in opened.pictures(wanted):
        file = (
            sampling.slicer_name(video.name, number, rate)
            if naming == "slicer"
            else name(video.stem, number, float(index.times[number]))
        )
        (folder / file).write_bytes(jpeg_file(picture, quality))
    return sorted(set(wanted))
