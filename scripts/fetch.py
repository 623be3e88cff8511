"""Fetch one artifact (or find the copy that `paths` names) and write its receipt."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vireo import config as configuration
from vireo.fetch.artifact import fetch, listing
from vireo.utils import cli


def main() -> int:
    """Parse the command line and fetch."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("artifact", nargs="?", help="name in config/artifacts.yaml")
    parser.add_argument(
        "--receipt",
        metavar="FILE",
        help="where to write what was found (default: data/receipts/ARTIFACT.json)",
    )
    parser.add_argument(
        "--accept-change",
        action="store_true",
        help="forget the hashes recorded in data/lock.json for this artifact first",
    )
    parser.add_argument("--list", action="store_true", help="show what is known and what is here")
    cli.add_common(parser)
    args = parser.parse_args()
    cli.setup(args.log)
    config = configuration.load(args.config)
    if args.list:
        print(listing(config))
        return 0
    if not args.artifact:
        parser.error("name an artifact, or use --list")
    block = configuration.artifact(config, args.artifact)
    receipt = args.receipt or f"data/receipts/{args.artifact}.json"
    fetch(args.artifact, block, config, receipt, accept_change=args.accept_change)
    return 0


if __name__ == "__main__":
    cli.run(main)
