"""Score predictions made elsewhere, in a benchmark's official format, with its official flags."""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vireo import benchmarks
from vireo.utils import cli


def main() -> int:
    """Parse the command line, hand over to the benchmark's file, print what it returns."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="`evaluate.py BENCHMARK --help` lists the benchmark's own flags.",
        add_help=False,
    )
    parser.add_argument("benchmark", metavar="BENCHMARK", help="videomme, ... (vireo/benchmarks)")
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        parser.print_help(sys.stdout if {"-h", "--help"} & set(sys.argv) else sys.stderr)
        return 0 if {"-h", "--help"} & set(sys.argv) else 2
    cli.setup()
    name = sys.argv[1]
    module = benchmarks.module(name)
    own = argparse.ArgumentParser(prog=f"evaluate.py {name}", description=module.evaluate.__doc__)
    module.add_arguments(own)
    # The official printout goes to standard output alone, so that it can be compared as bytes.
    sys.stdout.write(module.evaluate(own.parse_args(sys.argv[2:])))
    return 0


if __name__ == "__main__":
    cli.run(main)
