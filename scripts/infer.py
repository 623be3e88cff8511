"""Predictions of one model on one shard of a benchmark's split (rule infer).

Resumes from the journals under cache/predictions: only what is not final is computed.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vireo import config as cfg
from vireo.errors import VireoError
from vireo.run import console
from vireo.run.controls import CONTROLS
from vireo.run.files import write_json


def main() -> int:
    """Parse the command line and run the shard."""
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
        help=f"spoil something on purpose, each over all splits: {', '.join(CONTROLS)}",
    )
    parser.add_argument("--device", help="auto, cpu or cuda (default: the configuration's)")
    parser.add_argument("--batch-size", type=int, metavar="N", help="videos per forward pass")
    parser.add_argument("--threads", type=int, metavar="N", help="CPU threads (default: torch's)")
    console.add_common(parser)
    args = parser.parse_args()
    console.setup(args.log)
    from vireo.run import infer

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
    console.run(main)
