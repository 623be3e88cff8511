"""Clips cut out of long videos: InternVid's rows (video, start, end, caption) -> small mp4 files.

Each source video is cut in a process of its own with a time limit: a file that hangs or kills its
decoder costs its own clips only. Clips that are there already are not cut again.
"""

import csv
import json
import multiprocessing
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from vireo.errors import VireoError
from vireo.media import inventory, views
from vireo.media.video import Recounted, Video
from vireo.utils.files import atomic, write_json

COLUMNS = {
    "video": ("YoutubeID", "youtube_id", "video_id", "video"),
    "start": ("Start_timestamp", "start_timestamp", "start"),
    "end": ("End_timestamp", "end_timestamp", "end"),
    "caption": ("Caption", "caption"),
}


@dataclass(frozen=True, slots=True)
class Row:
    """One clip: source video (file stem), seconds, caption."""

    video: str
    start: float
    end: float
    caption: str

    @property
    def name(self) -> str:
        """File of the clip below the folder of clips."""
        return f"clips/{self.video}_{round(1000 * self.start)}_{round(1000 * self.end)}.mp4"


def seconds(value: Any) -> float:
    """Seconds of a number or of a time stamp like 00:01:02.345; ValueError otherwise."""
    if isinstance(value, int | float):
        return float(value)
    total = 0.0
    for part in str(value).strip().split(":"):
        total = 60 * total + float(part)
    return total


def rows(path: Path) -> Iterator[Row]:
    """Rows of a list: JSON lines, a JSON array, or CSV with InternVid's columns.

    VireoError names the place of a row that does not have a column or ends before it starts.
    """
    for number, entry in enumerate(_entries(path), 1):
        where = f"{path}, row {number}"
        found = {}
        for key, names in COLUMNS.items():
            name = next((n for n in names if n in entry), None)
            if name is None:
                raise VireoError(f"{where}: no column {names[0]}")
            found[key] = entry[name]
        try:
            start, end = seconds(found["start"]), seconds(found["end"])
        except ValueError as error:
            raise VireoError(f"{where}: {error}") from error
        if end <= start:
            raise VireoError(f"{where}: the clip ends at {end} s and starts at {start} s")
        inventory.refuse_paths([str(found["video"])])
        yield Row(str(found["video"]), start, end, str(found["caption"]))


def _entries(path: Path) -> Iterator[dict[str, Any]]:
    if path.suffix == ".csv":
        with open(path, encoding="utf-8-sig", newline="") as handle:
            yield from csv.DictReader(handle)
        return
    with open(path, encoding="utf-8") as handle:
        try:
            if path.suffix == ".json":
                yield from json.load(handle)
            else:
                yield from (json.loads(line) for line in handle if line.strip())
        except json.JSONDecodeError as error:
            raise VireoError(f"{path} is not valid JSON (one object per line): {error}") from error


def cut(source: str, row: Row, target: Path, short: int, rate: float) -> int:
    """Write one clip with at most `rate` frames a second and a short side of at most `short`.

    Returns the number of frames; VireoError when the source cannot be decoded there.
    """

    def shrink(frame: np.ndarray) -> np.ndarray:
        if min(frame.shape[:2]) > short:
            frame = views.short_side(frame[None], short)[0]
        return frame[: frame.shape[0] // 2 * 2, : frame.shape[1] // 2 * 2]

    with Video(source) as video:
        try:
            return _written(video, row, target, rate, shrink)
        except Recounted:
            return _written(video, row, target, rate, shrink)


def _written(video: Video, row: Row, target: Path, rate: float, shrink: Any) -> int:
    """Encode the row's frames as they are decoded; the file appears when it is complete."""
    index = video.index
    if why := index.outside(row.start, row.end):
        raise VireoError(f"{video.name}: {why}")
    first, last = index.span(row.start, row.end)
    step = max(1.0, index.fps / rate)
    chosen = [first + int(i * step) for i in range(int(np.ceil((last - first) / step)))]
    written = Fraction(index.fps / step).limit_denominator(1000)
    count = 0
    with atomic(target, suffix=".mp4") as tmp, av.open(str(tmp), "w", format="mp4") as out:
        stream = out.add_stream("libx264", rate=written, options={"crf": "23", "threads": "1"})
        stream.pix_fmt = "yuv420p"
        for _, _, image in video.pictures([i for i in chosen if i < last], shrink):
            if not count:
                stream.height, stream.width = image.shape[:2]
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            picture.pts, picture.time_base = count, 1 / written
            out.mux(stream.encode(picture))
            count += 1
        out.mux(stream.encode(None))
    return count


def _cut_all(source: str, due: list[Row], out: Path, short: int, rate: float) -> None:
    """What the child process does; the reason of a failure stands beside the clip's place."""
    for row in due:
        target = out / row.name
        try:
            cut(source, row, target, short, rate)
        except Exception as error:
            target.parent.mkdir(parents=True, exist_ok=True)
            reason = re.sub(r"\s+", " ", f"{type(error).__name__}: {error}")[:300]
            target.with_suffix(".failed").write_text(reason, encoding="utf-8")


def make(
    listed: list[Row],
    folder: Path,
    out: Path,
    *,
    workers: int = 1,
    timeout_s: float = 300,
    short: int = 320,
    rate: float = 8.0,
) -> dict[str, str]:
    """Cut every row whose source lies in `folder` into `out`; returns clip -> why not.

    Writes `out/train.json` (`video`, `caption`) of the clips that are there at the end.
    """
    by_video: dict[str, list[Row]] = {}
    for row in listed:
        by_video.setdefault(row.video, []).append(row)
    failed: dict[str, str] = {}
    found = inventory.find(list(by_video), folder).set_index("video")

    def one(video: str) -> None:
        due = [row for row in by_video[video] if not (out / row.name).exists()]
        if not due:
            return
        if found.at[video, "status"] != "found":
            failed.update({row.name: "no source video" for row in due})
            return
        for row in due:
            (out / row.name).with_suffix(".failed").unlink(missing_ok=True)
        arguments = (str(found.at[video, "path"]), due, out, short, rate)
        child = multiprocessing.get_context("spawn").Process(target=_cut_all, args=arguments)
        child.start()
        child.join(timeout_s * len(due))
        late = child.is_alive()
        if late:
            child.kill()
            child.join()
        for row in due:
            note = (out / row.name).with_suffix(".failed")
            if note.exists():
                failed[row.name] = note.read_text(encoding="utf-8")
                note.unlink()
            elif not (out / row.name).exists():
                failed[row.name] = "took too long" if late else f"died ({child.exitcode})"

    with ThreadPoolExecutor(max(1, workers)) as pool:
        list(pool.map(one, by_video))
    good = [row for row in listed if (out / row.name).exists()]
    write_json(out / "train.json", [{"video": r.name, "caption": r.caption} for r in good], None)
    return failed
