"""Say why two results differ: inputs, settings, items and answers.

Names the copy of the data, frames, prompt, decoder, number format, missing and flipped items, and
tests the difference (McNemar's exact test, intervals clustered by video).
"""

import argparse
from pathlib import Path

from vireo.utils import cli

EXAMPLES = """\
  vireo diff results/viclip/videomme.json other/results/viclip/videomme.json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Two results."""
    parser.add_argument("results", nargs=2, metavar="RESULT.json", type=Path)
    cli.add_common(parser)


def run(args: argparse.Namespace) -> int:
    """Print what differs."""
    cli.setup(args.log)
    from vireo import config as configuration
    from vireo.report import diff

    print(diff.text(args.results, configuration.load(args.config)))
    return 0
