"""Train a recipe: weights, metrics and a curve in results/training/RECIPE (rule train).

Goes on from the last checkpoint under cache/training; a finished run is left as it is. On several
GPUs or nodes start it with `torchrun`, or with --processes on one machine.
"""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vireo import config as cfg
from vireo.run import console


def main() -> int:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", help="name in config/recipes.yaml")
    parser.add_argument("--device", help="auto, cpu or cuda (default: the configuration's)")
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="CPU threads")
    parser.add_argument(
        "--processes", type=int, default=1, metavar="N", help="data-parallel processes here"
    )
    console.add_common(parser)
    args = parser.parse_args()
    if args.processes > 1 and "WORLD_SIZE" not in os.environ:
        launcher = ["-m", "torch.distributed.run", "--standalone"]
        launcher.append(f"--nproc-per-node={args.processes}")
        os.execv(sys.executable, [sys.executable, *launcher, *sys.argv])
    console.setup(args.log if os.environ.get("RANK", "0") == "0" else None)
    config = cfg.load(args.config)
    recipe = cfg.recipe(config, args.recipe)
    if args.device:
        config["device"] = args.device
    from vireo.training.loop import train

    train(args.recipe, recipe, config, args.threads)
    return 0


if __name__ == "__main__":
    console.run(main)
