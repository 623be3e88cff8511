"""Show one sample of a benchmark on a page, as the model sees it.

Frames, transformed input, prompt, scores and answer, made from the prepared items
(`snakemake cache/items/BENCHMARK.parquet`) by the very steps of inference.
"""

import argparse
from pathlib import Path

from vireo.commands import options
from vireo.utils import cli

EXAMPLES = """\
  vireo show viclip videomme --only 001-1 --out page.html
  vireo show toy_viclip toy_videomme --only 000-1 --out page.html --weights none
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Model, benchmark, item, page."""
    parser.add_argument("model", metavar="MODEL", help="name in config/models.yaml")
    parser.add_argument("benchmark", metavar="BENCHMARK", help="name in config/benchmarks.yaml")
    parser.add_argument(
        "--only", required=True, metavar="ID", help="item of the benchmark (--only=-x for `-x`)"
    )
    parser.add_argument(
        "--out", required=True, type=Path, metavar="FILE", help="page to write (HTML)"
    )
    options.add_weights(parser)
    cli.add_common(parser)


def run(args: argparse.Namespace) -> int:
    """Write the page."""
    cli.setup(args.log)
    from vireo import config as cfg
    from vireo.report import sample

    asked = sample.SampleRequest(args.model, args.benchmark, args.only, args.weights, args.device)
    sample.write(cfg.load(args.config), asked, args.out)
    return 0
