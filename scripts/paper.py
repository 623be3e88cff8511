"""A paper's tables with ours beside the published numbers (rule paper): HTML, .tsv and .json."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vireo import config as configuration
from vireo.report import paper
from vireo.utils import cli


def main() -> int:
    """Parse the command line and write the page and its tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("paper", help="as in the column `paper` of config/published.tsv")
    parser.add_argument("results", nargs="*", metavar="RESULT.json", type=Path)
    parser.add_argument(
        "--out", required=True, metavar="FILE", type=Path, help="page; .tsv and .json beside it"
    )
    cli.add_common(parser)
    args = parser.parse_args()
    cli.setup(args.log)
    paper.write(configuration.load(args.config), args.paper, args.results, args.out)
    return 0


if __name__ == "__main__":
    cli.run(main)
