"""Score predictions made elsewhere, in a benchmark's official format.

BENCHMARK is a file of vireo/benchmarks; everything after it is given to the benchmark's own parser,
which takes the official scorer's flags. Prints what the official scorer prints.
"""

import argparse
import sys

from vireo.utils import cli

EXAMPLES = """\
  vireo evaluate videomme --help                   # a benchmark's own flags
  vireo evaluate videomme --results_file viclip_output_test.json \\
    --video_duration_type short,medium,long --return_categories_accuracy
  vireo evaluate views --dir DIR --ranks 8
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """A benchmark, and whatever it takes."""
    from vireo import benchmarks

    parser.usage = "%(prog)s [-h] BENCHMARK ..."
    parser.add_argument(
        "benchmark", metavar="BENCHMARK", help=f"one of: {', '.join(benchmarks.names())}"
    )
    parser.add_argument(
        "arguments", nargs=argparse.REMAINDER, metavar="...", help="flags of the official scorer"
    )


def run(args: argparse.Namespace) -> int:
    """Hand over to the benchmark's file, print what it returns."""
    cli.setup()
    from vireo import benchmarks

    module = benchmarks.module(args.benchmark)
    # As the official scripts' parsers do, this one takes shortened flags.
    flags = argparse.ArgumentParser(
        prog=f"vireo evaluate {args.benchmark}", description=module.evaluate.__doc__
    )
    module.add_arguments(flags)
    # The official printout goes to standard output alone, so that it can be compared as bytes.
    sys.stdout.write(module.evaluate(flags.parse_args(args.arguments)))
    return 0
