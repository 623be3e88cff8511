"""VideoMamba's own per-rank text files -> top-1 and top-5, or MSE: `vireo evaluate views`.

Each rank writes `<rank>.txt`: a first line that is skipped, then one line per view,
`id [logit, ...] label chunk crop`, for regression `id prediction label chunk crop`. Nothing else of
a benchmark is here. Facts: docs/reference/videomamba.md section 3.4.
"""

import logging
import math
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vireo.errors import VireoError
from vireo.metrics import topk
from vireo.metrics import views as merging
from vireo.metrics.views import Video, View

log = logging.getLogger("vireo")


def read(folder: Path, ranks: int, regression: bool = False) -> Iterator[View]:
    """Views in the order of ranks and lines; VireoError names the file and line that is wrong."""
    classes: int | None = None
    for rank in range(ranks):
        path = folder / f"{rank}.txt"
        try:
            lines = path.read_text(encoding="utf-8").split("\n")
        except FileNotFoundError as error:
            there = sorted(p.name for p in folder.glob("*.txt"))
            raise VireoError(
                f"{path} is not there ({len(there)} text files are); --ranks is the number of "
                "processes of the evaluation"
            ) from error
        except (OSError, UnicodeDecodeError) as error:
            raise VireoError(f"{path} is no text file: {error}") from error
        for number, line in enumerate(lines[1:], 2):
            if not line.strip():
                continue
            where = f"{path}, line {number}"
            view = _number_view(line, where) if regression else _class_view(line, where)
            if classes not in (None, len(view.scores)):
                raise VireoError(
                    f"{where}: {len(view.scores)} logits, {classes} in the lines before"
                )
            classes = len(view.scores)
            yield view


def _class_view(line: str, where: str) -> View:
    # ids may hold blanks and brackets, logits never do
    head, opened, rest = line.rpartition("[")
    inside, closed, tail = rest.partition("]")
    cells = tail.split()
    name = head.strip()
    if not (opened and closed and name and len(cells) == 3):
        raise VireoError(
            f"{where}: not `id [logits] label chunk crop`: a line cut off? "
            "(--regression for numbers)"
        )
    scores = _floats(inside.split(","), where)
    label = cells[0]
    if not label.isdigit() or int(label) >= len(scores):
        raise VireoError(f"{where}: label {label!r} is none of {len(scores)} classes")
    return View(name, scores, label, cells[1], cells[2])


def _number_view(line: str, where: str) -> View:
    cells = line.rsplit(maxsplit=4)
    if len(cells) != 5 or "]" in line:
        raise VireoError(f"{where}: not `id prediction label chunk crop`: a line cut off?")
    _floats([cells[2]], where)
    return View(cells[0].strip(), _floats([cells[1]], where), *cells[2:])


def _floats(texts: list[str], where: str) -> np.ndarray:
    try:
        values = np.array([float(text) for text in texts])
    except ValueError as error:
        raise VireoError(f"{where}: {error}") from error
    if not np.isfinite(values).all():
        raise VireoError(f"{where}: a value is not finite")
    return values


def merged(folder: Path, ranks: int, regression: bool, all_windows: bool) -> dict[str, Video]:
    """Views of each id. Videos that share an id are an error, in faithful mode a warning."""
    if ranks < 1:
        raise VireoError(f"--ranks {ranks}: must be at least 1")
    if not folder.is_dir():
        raise VireoError(f"{folder} is no folder")
    found = merging.gather(read(folder, ranks, regression), all_windows)
    if not found:
        raise VireoError(f"{folder}: no view in {ranks} files")
    mixed = [id for id, video in found.items() if len(video.labels) > 1]
    if mixed:
        said = (
            f"{len(mixed)} ids have several labels, the first is {mixed[0]!r}: videos of one name "
            "in different folders, or names cut at their first dot"
        )
        if all_windows:
            raise VireoError(f"{folder}: {said}")
        log.warning("%s. They are merged and the last label counts, as in the reference", said)
    return found


def add_arguments(parser: ArgumentParser) -> None:
    """Flags of `vireo evaluate views`."""
    parser.add_argument("--dir", required=True, type=Path, help="folder with 0.txt, 1.txt, ...")
    parser.add_argument("--ranks", required=True, type=int, help="number of these files")
    parser.add_argument("--regression", action="store_true", help="numbers instead of classes")
    parser.add_argument(
        "--ties",
        choices=topk.TIES,
        default="lowest",
        help="which of equally scored classes wins (default: %(default)s, the arg-max)",
    )
    parser.add_argument(
        "--all_windows",
        action="store_true",
        help="mean over all windows of a video, instead of the first one met (the reference)",
    )


def evaluate(args: Namespace) -> str:
    """Merge the views that VideoMamba's evaluation wrote, one text file per process."""
    found = merged(args.dir, args.ranks, args.regression, args.all_windows)
    text = f"videos: {len(found)}\nviews: {sum(len(v.views) for v in found.values())}\n"
    if args.regression:
        values = [np.mean([float(view[0]) for view in video.views]) for video in found.values()]
        targets = [float(video.labels[-1]) for video in found.values()]
        errors = [(a - b) ** 2 for a, b in zip(values, targets, strict=True)]
        return text + f"mse: {math.fsum(errors) / len(errors):.6f}\n"
    scores = np.stack([merging.merge(video.views) for video in found.values()])
    # parity: the merge takes the arg-max, so of equal scores the lowest class wins | bfloat16
    # logits tie often | `--ties highest`
    place = topk.ranks(scores, [int(v.labels[-1]) for v in found.values()], args.ties)
    log.info("%s", topk.note(args.ties, scores))
    return text + "".join(f"top-{k}: {100 * (place < k).mean():.4f}\n" for k in (1, 5))
