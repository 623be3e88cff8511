"""What a target needs that is not here: files, tokens, terms, disk, memory, GPU, Java, time.

With --slurm: what a profile asks for and this cluster does not give.

Looks and says, downloads and changes nothing. Exit code 1 when a person has something to do first.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vireo import config as configuration
from vireo.doctor import checks, compare, finding, needs, slurm
from vireo.utils import cli


def main() -> int:
    """Parse the command line and print the findings."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "target",
        nargs="*",
        help="results/MODEL/BENCHMARK.json, MODEL/BENCHMARK, a paper, a recipe, an artifact, all",
    )
    parser.add_argument(
        "--compare",
        nargs=2,
        metavar=("A", "B"),
        help="say whether two copies of a data set (folders or files) are the same",
    )
    parser.add_argument(
        "--slurm",
        nargs="?",
        metavar="PROFILE",
        const=str(configuration.HOME / "profiles/slurm"),
        help="check a SLURM profile (default: the shipped one) against the cluster of this machine",
    )
    cli.add_common(parser)
    args = parser.parse_args()
    cli.setup(args.log)
    if not (args.target or args.compare or args.slurm):
        parser.error(
            "name a target, e.g. results/viclip/videomme.json, or use --compare or --slurm"
        )
    code = 0
    if args.slurm:
        found = list(slurm.check(Path(args.slurm)))
        lines = finding.lines(found) or ["  here     SLURM: the profile fits this site"]
        print("\n".join([args.slurm, "", *lines]))
        code |= int(any(one.kind == "problem" for one in found))
    if args.compare:
        copies = compare.compare(*args.compare)
        print(compare.text(copies))
        code |= int(not copies.same)
    config = configuration.load(args.config) if args.target else {}
    for number, target in enumerate(args.target):
        report = checks.examine(config, needs.resolve(config, target))
        print(("\n" if number else "") + checks.text(report))
        code |= int(report.blocked)
    return code


if __name__ == "__main__":
    cli.run(main)
