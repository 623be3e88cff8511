"""Compare results of one benchmark: paired difference with interval and test.

The first result is the baseline; each other is compared with it on the items that both scored.
Right/wrong metrics get McNemar's exact test (adjusted by Holm's procedure for more than two
results) and an interval clustered by video, other means a paired bootstrap over videos. The items
are read from cache/items of the working directory, predictions beside each result.
"""

import argparse
import json
from pathlib import Path

from vireo.utils import cli

EXAMPLES = """\
  vireo compare results/viclip/videomme.json results/clip_l14/videomme.json
  vireo compare results/*/videomme.json --json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Two results or more."""
    parser.add_argument("baseline", metavar="BASELINE.json", type=Path)
    parser.add_argument("results", nargs="+", metavar="RESULT.json", type=Path)
    parser.add_argument("--json", action="store_true", help="everything as one JSON object")
    cli.add_common(parser)


def run(args: argparse.Namespace) -> int:
    """Print the comparison."""
    cli.setup(args.log)
    from vireo import config as configuration
    from vireo.report import compare

    facts = compare.compare([args.baseline, *args.results], configuration.load(args.config))
    print(json.dumps(facts, indent=1) if args.json else compare.text(facts))
    return 0
