"""ScanNet scans (.sens) of a benchmark's scenes -> its videos (rule scans).

Which scans: artifact `options: {scans: ...}` of the benchmark's block, or ScanNet's own download
script under `options: {download: {script, accept_terms}}`. Also makes ClipBERT's folders:
`--clipbert` writes txt_db/*.jsonl and the LMDB vis_db beside the videos.
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vireo import benchmarks
from vireo import config as configuration
from vireo.benchmarks.annotations import sqa3d_items as annotations
from vireo.errors import VireoError
from vireo.fetch import receipt
from vireo.media import lmdb, scans
from vireo.utils import cli
from vireo.utils.cli import log


def main() -> int:
    """Parse the command line, make the videos, write the receipt."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("benchmark", help="name in config/benchmarks.yaml")
    parser.add_argument("--questions", required=True, metavar="RECEIPT", help="annotations")
    parser.add_argument("--scans", metavar="RECEIPT", help="folder of scans; else downloaded")
    parser.add_argument("--out", required=True, type=Path, help="folder for the videos")
    parser.add_argument("--receipt", type=Path, help="JSON file that says where they are")
    parser.add_argument("--workers", type=int, help="processes (default: the processors)")
    parser.add_argument("--all", action="store_true", help="every scan ending in _00")
    parser.add_argument("--clipbert", action="store_true", help="also txt_db and vis_db")
    cli.add_common(parser)
    args = parser.parse_args()
    cli.setup(args.log)
    config = configuration.load(args.config)
    block = configuration.benchmark(config, args.benchmark)
    questions = receipt.place(args.questions)
    source = Path(receipt.read(args.scans)["root"]) if args.scans else None
    limits = {**config["decode"], "workers": args.workers or config["decode"]["workers"]}
    options = block.get("options") or {}
    every = int(options.get("every", scans.EVERY))
    videos = args.out.absolute() / "video"
    if args.all and source:
        scenes = sorted(path.stem for path in source.rglob("*_00.sens"))
    else:
        module = benchmarks.module(block.get("module") or args.benchmark)
        # Also the training questions' scenes, whatever splits the benchmark scores.
        every_split = {**block, "splits": list(annotations.SPLITS)}
        items = module.items({"questions": questions}, every_split)
        scenes = list(dict.fromkeys(items["video"]))
    if source:
        status = scans.make(scenes, source, videos, limits, every)
    else:
        status = scans.download(scenes, videos, options.get("download") or {}, limits, every)
    good = [scene for scene in scenes if status[scene]["status"] == "ok"]
    if not good:
        raise VireoError(f"none of {len(scenes)} scans gave a video; see {videos / scans.STATUS}")
    if args.clipbert:
        clipbert_folders(questions, args.out.absolute(), videos, good)
    if args.receipt:
        found = {"videos of the scenes": len(good)}
        receipt.write(args.receipt, f"{args.benchmark}_mp4", videos, {}, "scans", found)
    return 0


def clipbert_folders(questions: Path, out: Path, videos: Path, scenes: list[str]) -> None:
    """`txt_db/sqa/*.jsonl`, `train_ans2label.json` and the LMDB `vis_db/sqa`, made anew."""
    counts = annotations.convert(questions, out / "txt_db/sqa")
    folder = out / "vis_db/sqa"
    for name in ("data.mdb", "lock.mdb", lmdb.MANIFEST):
        (folder / name).unlink(missing_ok=True)
    lmdb.write(folder, [(scene, videos / f"{scene}.mp4") for scene in scenes])
    log.info("%s and %s: questions %s, %d videos", out / "txt_db", folder, counts, len(scenes))


if __name__ == "__main__":
    cli.run(main)
