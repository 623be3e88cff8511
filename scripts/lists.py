"""Lists in the form that VideoMamba's own code reads: train.csv, val.csv, test.csv of `path,label`.

Example:  python scripts/lists.py breakfast --annotations ViS4mer/data/Breakfast --out lists
          --videos BreakfastII_15fps_qvga_sync
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pandas as pd

from vireo import benchmarks
from vireo import config as configuration
from vireo.benchmarks import actions
from vireo.errors import VireoError
from vireo.nn.text_clean import normalise_label
from vireo.utils import cli
from vireo.utils.cli import log
from vireo.utils.files import write_text


def main() -> int:
    """Parse the command line, read the lists of each split, write them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("benchmark", help="breakfast, coin, lvu_scene, ...")
    parser.add_argument("--annotations", required=True, type=Path, help="folder or file")
    parser.add_argument(
        "--videos", type=Path, help="write the paths below it, leave out what lacks"
    )
    parser.add_argument("--out", required=True, type=Path, help="folder for the three lists")
    parser.add_argument("--splits", nargs="+", default=["train", "val", "test"])
    parser.add_argument("--labels", type=Path, help="class names, one a line: their numbers count")
    parser.add_argument("--separator", default=",", help="a blank for SSv2")
    parser.add_argument("--durations", action="store_true", help="third column, for windows")
    cli.add_common(parser)
    args = parser.parse_args()
    cli.setup(args.log)
    block = configuration.benchmark(configuration.load(args.config), args.benchmark)
    if block["module"] not in ("actions", "regression"):
        raise VireoError(f"{args.benchmark} has no classes or targets that a list could hold")
    for split in args.splits:
        lines = rows(args, block, split)
        write_text(args.out / f"{split}.csv", "".join(f"{line}\n" for line in lines))
        log.info("%s: %d rows", args.out / f"{split}.csv", len(lines))
    return 0


def rows(args: argparse.Namespace, block: dict, split: str) -> list[str]:
    """Lines of one split; of a video in windows one line."""
    options = {**(block.get("options") or {}), "split": split, "windows": None}
    own = {**block, "options": options}
    sources = {"annotations": args.annotations, "videos": args.videos or args.annotations}
    module = benchmarks.module(block["module"])
    items = module.items(sources, own)
    number = None if block["module"] == "regression" else numbers(items, args.labels)
    found = None
    if args.videos:
        found = module.videos(sources, items, own).set_index("video")["path"]
    lines = []
    for row in items.to_dict("records"):
        path = _path(row, found, args.videos)
        if path is None:
            continue
        label = row["answer"] if number is None else str(number[normalise_label(row["answer"])])
        cells = [path, label]
        if args.durations:
            seconds = actions.duration(row)
            if seconds is None:
                raise VireoError(f"{row['id']!r}: the annotations say no duration")
            cells.append(f"{seconds:g}")
        if any(args.separator in cell for cell in cells):
            raise VireoError(f"{path!r} holds the separator {args.separator!r}: rename the file")
        lines.append(args.separator.join(cells))
    if len(lines) < len(items):
        log.warning("%s: %d of %d videos are not there", split, len(items) - len(lines), len(items))
    return lines


def _path(row: dict, found: pd.Series | None, root: Path | None) -> str | None:
    if found is None or root is None:
        return actions.listed_path(row)
    here = found.get(row["video"])
    return Path(here).relative_to(root.absolute()).as_posix() if isinstance(here, str) else None


def numbers(items: pd.DataFrame, labels: Path | None) -> dict[str, int]:
    """Plain class name -> number, of a file of names or as the annotations number them."""
    names = actions.classes(items)
    if labels:
        names = labels.read_text(encoding="utf-8").splitlines()
    number = {normalise_label(name): place for place, name in enumerate(names)}
    lacking = sorted({a for a in items["answer"] if normalise_label(a) not in number})
    if lacking:
        raise VireoError(f"{labels}: no class {lacking[0]!r} ({len(lacking)} lack)")
    return number


if __name__ == "__main__":
    cli.run(main)
