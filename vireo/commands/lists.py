"""Write train.csv, val.csv and test.csv of `path,label` for VideoMamba's own code."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vireo.errors import VireoError
from vireo.utils import cli
from vireo.utils.cli import log

if TYPE_CHECKING:
    import pandas as pd

EXAMPLES = """\
  vireo lists breakfast --annotations ViS4mer/data/Breakfast --out lists \\
    --videos BreakfastII_15fps_qvga_sync
  vireo lists ssv2 --annotations ssv2_labels --out lists --separator " "
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Benchmark, folders, form of the lists."""
    parser.add_argument("benchmark", metavar="BENCHMARK", help="breakfast, coin, lvu_scene, ...")
    parser.add_argument(
        "--annotations", required=True, type=Path, metavar="PATH", help="folder or file"
    )
    parser.add_argument(
        "--videos",
        type=Path,
        metavar="FOLDER",
        help="write the paths below it, leave out videos that are missing",
    )
    parser.add_argument(
        "--out", required=True, type=Path, metavar="FOLDER", help="folder for the lists"
    )
    group = parser.add_argument_group("form of the lists")
    group.add_argument(
        "--splits",
        nargs="+",
        default=["train", "val", "test"],
        metavar="SPLIT",
        help="default: train val test",
    )
    group.add_argument(
        "--labels", type=Path, metavar="FILE", help="class names, one a line: their numbers count"
    )
    group.add_argument(
        "--separator", default=",", type=_separator, help="default: a comma; a blank for SSv2"
    )
    group.add_argument("--durations", action="store_true", help="third column, for windows")
    cli.add_common(parser)


def _separator(text: str) -> str:
    if not text or "\n" in text:
        raise argparse.ArgumentTypeError("the separator is one or more letters of a line")
    return text


def run(args: argparse.Namespace) -> int:
    """Read the annotations of each split, write its list."""
    cli.setup(args.log)
    from vireo import config as configuration
    from vireo.utils.files import write_text

    block = configuration.benchmark(configuration.load(args.config), args.benchmark)
    if block.get("module") not in ("actions", "regression"):
        raise VireoError(f"{args.benchmark} has no classes or targets that a list could hold")
    for split in args.splits:
        lines = rows(args, block, split)
        write_text(args.out / f"{split}.csv", "".join(f"{line}\n" for line in lines))
        log.info("%s: %d rows", args.out / f"{split}.csv", len(lines))
    return 0


def rows(args: argparse.Namespace, block: dict[str, Any], split: str) -> list[str]:
    """Lines of one split; of a video in windows one line."""
    from vireo import benchmarks
    from vireo.benchmarks import actions
    from vireo.nn.text_clean import normalise_label

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
                raise VireoError(f"{row['id']!r}: the annotations name no duration")
            cells.append(f"{seconds:g}")
        if any(args.separator in cell for cell in cells):
            raise VireoError(f"{path!r} holds the separator {args.separator!r}: rename the file")
        lines.append(args.separator.join(cells))
    if len(lines) < len(items):
        log.warning("%s: %d of %d videos are not there", split, len(items) - len(lines), len(items))
    return lines


def _path(row: dict[str, Any], found: "pd.Series | None", root: Path | None) -> str | None:
    from vireo.benchmarks import actions

    if found is None or root is None:
        return actions.listed_path(row)
    here = found.get(row["video"])
    return Path(here).relative_to(root.absolute()).as_posix() if isinstance(here, str) else None


def numbers(items: "pd.DataFrame", labels: Path | None) -> dict[str, int]:
    """Plain class name -> number, of a file of names or as the annotations number them."""
    from vireo.benchmarks import actions
    from vireo.nn.text_clean import normalise_label

    names = actions.classes(items)
    if labels:
        names = labels.read_text(encoding="utf-8").splitlines()
    number = {normalise_label(name): place for place, name in enumerate(names)}
    missing = sorted({a for a in items["answer"] if normalise_label(a) not in number})
    if missing:
        raise VireoError(f"{labels}: no class {missing[0]!r} ({len(missing)} are missing)")
    return number
