"""Predictions of one model on one shard of a benchmark's split (rule infer).

Resumes from the journals under cache/predictions: only what is not final is computed.

On a video of your own, or a folder of them:
  infer.py viclip --video my.mp4 --texts "a dog runs" "a man cooks"
  infer.py viclip_ft_k400 --video my.mp4
  infer.py clipbert --video room.mp4 --ask "What is on my left?"
One sample of a benchmark on a page, with frames, input, prompt, scores and answer:
  infer.py viclip videomme --only 001-1 --show page.html
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vireo import config as cfg
from vireo.errors import VireoError
from vireo.inference.controls import CONTROLS
from vireo.utils import cli
from vireo.utils.files import write_json


def main() -> int:
    """Run a shard, or look at single videos or samples."""
    given = {argument.partition("=")[0] for argument in sys.argv}
    if given & {"--video", "--show", "--only", "--texts", "--ask"}:
        return look()
    return shard()


def look() -> int:
    """Videos of the user's own, or one sample of a benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="name in config/models.yaml")
    parser.add_argument("benchmark", nargs="?", help="whose frames and views to use")
    parser.add_argument("--video", type=Path, metavar="FILE", help="a video, or a folder of them")
    parser.add_argument("--texts", nargs="+", default=[], metavar="TEXT", help="to be ranked")
    parser.add_argument("--ask", action="append", default=[], metavar="QUESTION")
    parser.add_argument("--only", metavar="ID", help="item of the benchmark to show")
    parser.add_argument("--show", type=Path, metavar="FILE", help="page to write (HTML)")
    parser.add_argument("--weights", metavar="FILE", help="default: where the block points")
    parser.add_argument("--device", help="auto, cpu or cuda (default: the configuration's)")
    cli.add_common(parser)
    args = parser.parse_args()
    cli.setup(args.log)
    config = cfg.load(args.config)
    if args.show or args.only:
        if not args.show or not (args.only and args.benchmark) or args.video:
            parser.error("--show FILE needs a benchmark and --only ID")
        from vireo.report import sample

        what = sample.SampleRequest(
            args.model, args.benchmark, args.only, args.weights, args.device
        )
        sample.write(config, what, args.show)
        return 0
    if not args.video:
        parser.error("--video FILE (or a folder) says what to look at")
    from vireo.inference import video

    paths = video.videos(args.video)
    video.check(config, args.model, args.benchmark, {"texts": args.texts, "ask": args.ask})
    with video.open_model(config, args.model, args.benchmark, args.weights, args.device) as held:
        return video.predict(config, held, paths, args.texts, args.ask)


def shard() -> int:
    """Parse the rule's command line and run the shard."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="name in config/models.yaml")
    parser.add_argument("benchmark", help="name in config/benchmarks.yaml")
    parser.add_argument("--split", required=True, nargs="+", metavar="SPLIT")
    parser.add_argument("--shard", default="1-of-1", metavar="I-of-N")
    parser.add_argument("--items", required=True, type=Path, metavar="FILE")
    parser.add_argument("--videos", required=True, type=Path, metavar="FILE", help="inventory")
    parser.add_argument(
        "--weights", default="none", metavar="FILE", help="receipt, checkpoint file, or none"
    )
    parser.add_argument(
        "--out",
        required=True,
        type=Path,
        metavar="FILE",
        help="predictions (Parquet); with --control a list of them (JSON)",
    )
    parser.add_argument(
        "--control",
        nargs="+",
        metavar="NAME",
        help=f"perturb something on purpose, each over all splits: {', '.join(CONTROLS)}",
    )
    parser.add_argument("--device", help="auto, cpu or cuda (default: the configuration's)")
    parser.add_argument("--batch-size", type=int, metavar="N", help="videos per forward pass")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: torch's)")
    cli.add_common(parser)
    args = parser.parse_args()
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
            weights=args.weights,
            out=out,
            control=control,
            device=args.device,
            batch_size=args.batch_size,
            threads=args.threads,
        )
        infer.run(job)
    if args.control:
        files = {c: [str(out) for _, out, of in wanted if of == c] for c in args.control}
        write_json(args.out, files)
    return 0


if __name__ == "__main__":
    cli.run(main)
