"""InternVid's list and a folder of its source videos -> clips for training (rule clips).

The list has the columns YoutubeID, Start_timestamp, End_timestamp and Caption (JSON lines, JSON or
CSV). Clips that are there already are kept; those that cannot be made are named in failed.tsv.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vireo import config as configuration
from vireo.errors import VireoError
from vireo.fetch import receipt
from vireo.media import cut
from vireo.utils import cli
from vireo.utils.cli import log
from vireo.utils.files import write_text

LISTS = ("*.jsonl", "*.json", "*.csv")


def main() -> int:
    """Parse the command line, cut, write train.json and the receipt."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("corpus", help="name before _list, _videos and _clips")
    parser.add_argument("--list", required=True, metavar="RECEIPT", help="artifact with the list")
    parser.add_argument("--videos", required=True, metavar="RECEIPT", help="source videos")
    parser.add_argument("--out", required=True, type=Path, help="folder for clips and train.json")
    parser.add_argument("--receipt", type=Path, help="JSON file that says where they are")
    parser.add_argument("--short", type=int, default=320, help="largest short side in pixels")
    parser.add_argument("--rate", type=float, default=8.0, help="most frames per second")
    parser.add_argument("--workers", type=int, default=1)
    cli.add_common(parser)
    args = parser.parse_args()
    cli.setup(args.log)
    config = configuration.load(args.config)
    root = Path(receipt.read(args.list)["root"])
    found = [root] if root.is_file() else [p for kind in LISTS for p in sorted(root.rglob(kind))]
    if not found:
        raise VireoError(f"no list in {root}: expected {', '.join(LISTS)}")
    rows = list(cut.rows(found[0]))
    out = args.out.absolute()
    failed = cut.make(
        rows,
        Path(receipt.read(args.videos)["root"]),
        out,
        workers=args.workers,
        timeout_s=config["decode"]["timeout_s"],
        short=args.short,
        rate=args.rate,
    )
    lines = ["clip\treason", *(f"{name}\t{reason}" for name, reason in sorted(failed.items()))]
    write_text(out / "failed.tsv", "\n".join(lines) + "\n")
    made = len(rows) - len(failed)
    log.info("%s: %d of %d clips, %d failed", args.corpus, made, len(rows), len(failed))
    if not made:
        raise VireoError(f"none of {len(rows)} clips could be made; see {out / 'failed.tsv'}")
    if args.receipt:
        files = {"train.json": {"size": (out / "train.json").stat().st_size, "sha256": None}}
        receipt.write(args.receipt, f"{args.corpus}_clips", out, files, "clips", {"clips": made})
    return 0


if __name__ == "__main__":
    cli.run(main)
