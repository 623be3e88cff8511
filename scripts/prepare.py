"""Annotations -> items; folders of videos -> an inventory of what is there."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pandas as pd

from vireo import benchmarks
from vireo import config as configuration
from vireo.errors import VireoError
from vireo.fetch import receipt
from vireo.tables import items as item_table
from vireo.utils import cli
from vireo.utils.cli import log
from vireo.utils.files import portable

SHOWN = 5


def main() -> int:
    """Parse the command line, read the data's receipts, write both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("benchmark", help="name in config/benchmarks.yaml")
    parser.add_argument(
        "--sources",
        nargs="+",
        required=True,
        metavar="ROLE=RECEIPT",
        help="receipt of the artifact for each role of the benchmark",
    )
    parser.add_argument("--items", required=True, metavar="FILE", help="items to write (Parquet)")
    parser.add_argument("--videos", required=True, metavar="FILE", help="inventory to write")
    cli.add_common(parser)
    args = parser.parse_args()
    cli.setup(args.log)
    block = configuration.benchmark(configuration.load(args.config), args.benchmark)
    module = benchmarks.module(block.get("module") or args.benchmark)
    sources = roots(args.sources, block)
    items = module.items(sources, block)
    item_table.check_items(items, args.benchmark)
    folders = {role: root.parent if root.is_file() else root for role, root in sources.items()}
    videos = module.videos(folders, items, block)
    log.info("%s: %d items on %d videos", args.benchmark, len(items), items["video"].nunique())
    report(items, videos)
    videos["path"] = [portable(p) if isinstance(p, str) else None for p in videos["path"]]
    item_table.write(videos, args.videos)
    item_table.write(items, args.items)
    return 0


def roots(pairs: list[str], block: dict) -> dict[str, Path]:
    """Role -> folder (or file), read from the receipts; every role of the block must be there."""
    result = {}
    for pair in pairs:
        role, _, path = pair.partition("=")
        if not path:
            raise VireoError(f"--sources {pair!r}: write ROLE=RECEIPT")
        result[role] = receipt.place(path)
    missing = [role for role in block["sources"] if role not in result]
    if missing:
        raise VireoError(f"--sources does not have the role {', '.join(missing)}")
    return result


def report(items: pd.DataFrame, videos: pd.DataFrame) -> None:
    """Log how many videos of each split are there, and the first of those that are not."""
    splits = items.drop_duplicates("video").set_index("video")["split"]
    split = videos["video"].map(splits)
    for name in splits.unique():
        here = videos.loc[split == name, "status"] == "found"
        log.info("%s: %d of %d videos found", name, here.sum(), len(here))
    gone = videos.loc[videos["status"] != "found", "video"]
    if len(gone):
        rest = f" and {len(gone) - SHOWN} more" if len(gone) > SHOWN else ""
        log.warning("no file for %s%s", ", ".join(gone[:SHOWN]), rest)


if __name__ == "__main__":
    cli.run(main)
