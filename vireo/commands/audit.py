"""Check that a result is still exactly what its inputs give.

Reads and hashes the weights, the files beside them and the annotations, makes the items anew,
decodes the videos again and compares their frames, and scores the predictions again. Prints
`exact`, or each input that is not what it was. Run it where the result was made.
"""

import argparse
from pathlib import Path

from vireo.utils import cli

EXAMPLES = """\
  vireo audit results/viclip/videomme.json
  vireo audit --quick results/*/*.json    # videos by size and time, nothing is decoded
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Results."""
    parser.add_argument("results", nargs="+", metavar="RESULT.json", type=Path)
    parser.add_argument(
        "--quick", action="store_true", help="compare videos by size and time, not by their frames"
    )
    cli.add_common(parser)


def run(args: argparse.Namespace) -> int:
    """Print a line per result, or per input that is another; 1 if there is one."""
    cli.setup(args.log)
    from vireo import config as configuration
    from vireo.results.audit import audit

    config, wrong = configuration.load(args.config), 0
    for path in args.results:
        found = audit(path, config, args.quick)
        print("\n".join(f"{path}: {line}" for line in found or ["exact"]))
        wrong |= bool(found)
    return int(wrong)
