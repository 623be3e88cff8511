"""Train a recipe: weights, metrics and a curve in results/training/RECIPE (rule train).

Goes on from the last checkpoint under cache/training, begun on any number of processes; a finished
run is left as it is. One process per GPU that the recipe's `hardware.gpu` asks for and that is
there; inside a SLURM job of several machines, that many on each. `torchrun` works too.
"""

import argparse
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vireo import config as cfg
from vireo.utils import cli


def main() -> int:
    """Parse the command line and train."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", help="name in config/recipes.yaml")
    parser.add_argument("--device", help="auto, cpu or cuda (default: the configuration's)")
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="CPU threads")
    parser.add_argument(
        "--processes", type=int, metavar="N", help="data-parallel processes on each machine"
    )
    parser.add_argument(
        "--minutes",
        type=float,
        metavar="N",
        help="time limit of a scheduler's job: save and stop shortly before it",
    )
    cli.add_common(parser)
    args = parser.parse_args()
    cli.setup(args.log if os.environ.get("RANK", "0") == "0" else None)
    config = cfg.load(args.config)
    recipe = cfg.recipe(config, args.recipe)
    if args.device:
        config["device"] = args.device
    if "WORLD_SIZE" not in os.environ:  # not started by torchrun
        from vireo.training import launch
        from vireo.utils import device

        kind = device.resolve_device(config["device"])
        count, hosts = launch.processes(args.processes, recipe, kind), launch.machines(os.environ)
        if count > 1 or len(hosts) > 1:
            return launch.run(sys.argv, count, hosts, kind)
    from vireo.training.loop import train

    train(args.recipe, recipe, config, args.threads, args.minutes)
    return 0


if __name__ == "__main__":
    cli.run(main)
