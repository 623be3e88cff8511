"""Results -> one page for people (rule report), or a few lines on the terminal (--summary).

`report.py diff a.json b.json` says why two results differ; `report.py check RESULT.json …` exits
with 1 if a published number was missed.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vireo import config as configuration
from vireo.report import diff, page
from vireo.report.load import read_result
from vireo.utils import cli
from vireo.utils.cli import log


def main() -> int:
    """Parse the command line and write the page, or print."""
    if sys.argv[1:2] == ["diff"]:
        return compare(sys.argv[2:])
    if sys.argv[1:2] == ["check"]:  # short for --check
        sys.argv[1] = "--check"
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", nargs="+", metavar="RESULT.json", type=Path)
    parser.add_argument("--out", metavar="FILE", type=Path, help="page to write (HTML)")
    parser.add_argument(
        "--table", metavar="FILE", type=Path, help="with --out: also one row per run and metric"
    )
    parser.add_argument("--summary", action="store_true", help="print the numbers as text")
    parser.add_argument(
        "--check",
        action="store_true",
        help="exit with 1 if a verdict is `not reproduced`",
    )
    cli.add_common(parser)
    args = parser.parse_args()
    cli.setup(args.log)
    if not (args.out or args.summary or args.check):
        parser.error("nothing to do: give --out, --summary or --check")
    if args.summary:
        print(page.summary(args.results))
    if args.out:
        page.write(args.results, configuration.load(args.config), args.out, args.table)
    return check(args.results) if args.check else 0


def compare(arguments: list[str]) -> int:
    """Print what differs between two results."""
    parser = argparse.ArgumentParser(prog="report.py diff", description=diff.__doc__)
    parser.add_argument("results", nargs=2, metavar="RESULT.json", type=Path)
    cli.add_common(parser)
    args = parser.parse_args(arguments)
    cli.setup(args.log)
    print(diff.text(args.results, configuration.load(args.config)))
    return 0


def check(paths: list[Path]) -> int:
    """1 if a published number was missed."""
    missed = 0
    for path in paths:
        for name, metric in read_result(path)["metrics"].items():
            if metric["verdict"] == "not reproduced":
                log.error("%s: %s: %s", path, name, "; ".join(metric["reasons"]))
                missed = 1
    return missed


if __name__ == "__main__":
    cli.run(main)
