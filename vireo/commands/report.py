"""Write results on one page, print them, or check them against published numbers."""

import argparse
from pathlib import Path

from vireo.utils import cli
from vireo.utils.cli import log

EXAMPLES = """\
  vireo report results/*/*.json --out report.html --table summary.tsv
  vireo report results/viclip/videomme.json --summary
  vireo report results/viclip/k400.json --check    # exit code 1 if a published number was missed
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Results and what to make of them."""
    parser.add_argument("results", nargs="+", metavar="RESULT.json", type=Path)
    group = parser.add_argument_group("output (at least one)")
    group.add_argument("--out", metavar="FILE", type=Path, help="page to write (HTML)")
    group.add_argument(
        "--table", metavar="FILE", type=Path, help="with --out: also one row per run and metric"
    )
    group.add_argument("--summary", action="store_true", help="print the numbers as text")
    group.add_argument(
        "--check", action="store_true", help="exit with 1 if a verdict is `not reproduced`"
    )
    cli.add_common(parser)


def run(args: argparse.Namespace) -> int:
    """Print, write, check."""
    if not (args.out or args.summary or args.check):
        args.parser.error("nothing to do: give --out, --summary or --check")
    if args.table and not args.out:
        args.parser.error("--table is written with --out")
    cli.setup(args.log)
    from vireo import config as configuration
    from vireo.report import page

    if args.summary:
        print(page.summary(args.results))
    if args.out:
        page.write(args.results, configuration.load(args.config), args.out, args.table)
    return check(args.results) if args.check else 0


def check(paths: list[Path]) -> int:
    """1 if a published number was missed."""
    from vireo.report.load import read_result

    missed = 0
    for path in paths:
        for name, metric in read_result(path)["metrics"].items():
            if metric["verdict"] == "not reproduced":
                log.error("%s: %s: %s", path, name, "; ".join(metric["reasons"]))
                missed = 1
    return missed
