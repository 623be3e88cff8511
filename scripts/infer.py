"""Predictions of one model on one shard of a benchmark's split (rule infer).

Resumes from the journals under cache/predictions: only what is not final is computed. The commands
for people are `vireo predict` (your own videos) and `vireo show` (one sample of a benchmark); under
their older names:

  infer.py viclip --video my.mp4 --texts "a dog runs" "a man cooks"
  infer.py viclip_ft_k400 --video my.mp4
  infer.py clipbert --video room.mp4 --ask "What is on my left?"
  infer.py viclip videomme --only 001-1 --show page.html
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vireo import config as cfg
from vireo.commands import options, predict, show
from vireo.errors import VireoError
from vireo.inference.controls import CONTROLS
from vireo.utils import cli
from vireo.utils.files import write_json

REQUIRED = ("benchmark", "split", "items", "videos", "out")


def main(argv: list[str] | None = None) -> int:
    """Run a shard, or look at single videos or samples."""
    parser = arguments()
    args = parser.parse_args(argv)
    args.parser = parser
    if args.only or args.show:
        if not (args.show and args.only and args.benchmark) or args.video:
            parser.error("--show FILE needs a benchmark and --only ID")
        args.out = args.show
        return show.run(args)
    if args.video or args.texts or args.ask:
        return predict.run(args)
    if missing := [name for name in REQUIRED if getattr(args, name) is None]:
        names = ", ".join(name if name == "benchmark" else f"--{name}" for name in missing)
        parser.error(f"the following arguments are required: {names} (or --video for your own)")
    return shard(args)


def arguments() -> argparse.ArgumentParser:
    """The parser: the rule's options, and those of the older names."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="name in config/models.yaml")
    parser.add_argument("benchmark", nargs="?", help="name in config/benchmarks.yaml")
    group = parser.add_argument_group("a shard")
    group.add_argument("--split", nargs="+", metavar="SPLIT")
    group.add_argument("--shard", default="1-of-1", metavar="I-of-N", help="default: %(default)s")
    group.add_argument("--items", type=Path, metavar="FILE")
    group.add_argument("--videos", type=Path, metavar="FILE", help="inventory")
    group.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="predictions (Parquet); with --control a list of them (JSON)",
    )
    group.add_argument(
        "--control",
        nargs="+",
        metavar="NAME",
        help=f"perturb something on purpose, each over all splits: {', '.join(CONTROLS)}",
    )
    group.add_argument("--batch-size", type=int, metavar="N", help="videos per forward pass")
    group.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: torch's)")
    group = parser.add_argument_group("your own videos (vireo predict)")
    options.add_inputs(group)
    group = parser.add_argument_group("one sample of a benchmark (vireo show)")
    group.add_argument("--only", metavar="ID", help="item of the benchmark to show")
    group.add_argument("--show", type=Path, metavar="FILE", help="page to write (HTML)")
    options.add_weights(parser.add_argument_group("model"))
    cli.add_common(parser)
    parser.set_defaults(json=False, scores=False, **options.NOT_STREAMING)
    return parser


def shard(args: argparse.Namespace) -> int:
    """Run a shard, or all controls."""
    cli.setup(args.log)
    from vireo.inference import shard as infer

    config = cfg.load(args.config)
    wanted = [(split, args.out, None) for split in args.split]
    if args.control:
        folder = args.out.with_suffix("")
        wanted = [
            (split, folder / f"{control}.{split}.parquet", control)
            for control in args.control
            for split in args.split
        ]
    elif len(wanted) > 1:
        raise VireoError("one --split at a time, unless --control is given")
    for split, out, control in wanted:
        job = infer.Job(
            config=config,
            model=args.model,
            benchmark=args.benchmark,
            split=split,
            shard=args.shard,
            items=args.items,
            videos=args.videos,
            weights=args.weights or "none",
            out=out,
            control=control,
            device=args.device,
            batch_size=args.batch_size,
            threads=args.threads,
        )
        infer.run(job)
    if args.control:
        files = {c: [str(out) for _, out, of in wanted if of == c] for c in args.control}
        write_json(args.out, files, sealed=True)
    return 0


if __name__ == "__main__":
    cli.run(main)
