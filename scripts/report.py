"""Results -> one page for people (rule report). People use `vireo report`.

`report.py check RESULT.json …` and `report.py diff A.json B.json` are `vireo report --check` and
`vireo diff` under their older names; `report.py audit RESULT.json …` is `vireo audit`.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vireo.commands import audit, diff, report
from vireo.utils import cli


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and write the page, or print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    report.add_arguments(parser)
    args = parser.parse_args(argv)
    args.parser = parser
    first, *others = args.results
    if first == Path("diff"):
        if len(others) != 2:
            parser.error("diff compares two results")
        args.results = others
        return diff.run(args)
    if first == Path("audit"):
        if not others:
            parser.error("audit needs at least one result")
        args.results, args.quick = others, False
        return audit.run(args)
    if first == Path("check"):
        if not others:
            parser.error("check needs at least one result")
        args.results, args.check = others, True
    return report.run(args)


if __name__ == "__main__":
    cli.run(main)
