"""Chosen frames of one shard of a benchmark's videos, decoded into the store (rule frames).

Broken videos are listed in the manifest and never stop the run; what the store has is not decoded
again. A protocol whose frames are not stored gives a manifest that says so.
"""

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vireo import config as cfg
from vireo.errors import unknown
from vireo.inference.pending import clip_tasks
from vireo.media import pool, resize, sampling
from vireo.media.decode import DecodeRequest
from vireo.media.store import Store, spec, spec_key, stored
from vireo.tables import items as item_table
from vireo.tables.shards import parse, shard_of
from vireo.utils import cli
from vireo.utils.cli import Progress, log
from vireo.utils.files import write_json

SHOWN = 20


def main() -> int:
    """Parse the command line, fill the store, write the manifest."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="name in config/models.yaml")
    parser.add_argument("benchmark", help="name in config/benchmarks.yaml")
    parser.add_argument("--split", required=True)
    parser.add_argument("--shard", default="1-of-1", metavar="I-of-N")
    parser.add_argument("--items", required=True, type=Path, metavar="FILE")
    parser.add_argument("--videos", required=True, type=Path, metavar="FILE", help="inventory")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE.json", help="manifest")
    parser.add_argument("--store", type=Path, default=Path("cache/frames"), metavar="FOLDER")
    parser.add_argument(
        "--workers", type=int, metavar="N", help="decoding processes where the config says null"
    )
    cli.add_common(parser)
    args = parser.parse_args()
    cli.setup(args.log)
    config = cfg.load(args.config)
    block = cfg.benchmark(config, args.benchmark)
    if args.split not in block["splits"]:
        raise unknown("split", args.split, block["splits"], f"(benchmark {args.benchmark})")
    protocol = cfg.protocol(config, args.model, args.benchmark)
    manifest = {
        "model": args.model,
        "benchmark": args.benchmark,
        "split": args.split,
        "shard": args.shard,
    }
    rule = {k: v for k, v in protocol.get("frames", {}).items() if k != "store"}
    sampling.check(rule)
    resize.check(protocol.get("resize"))
    if not stored(protocol):
        log.info("%s × %s: frames are decoded directly, not stored", args.model, args.benchmark)
        write_json(args.out, {**manifest, "store": None, "note": "decoded directly"}, sealed=True)
        return 0
    groups = shard_of(item_table.groups(args.items, args.split), *parse(args.shard))
    mine = item_table.read_items(args.items, [args.split], groups)
    videos = item_table.read_videos(args.videos, set(mine["video"]))
    size = resize.before_store(protocol.get("resize"))
    work = clip_tasks(mine, videos)
    requests = [DecodeRequest(w.span[0], w.path, w.kind, rule, size, *w.span[1:]) for w in work]
    limits = dict(config["decode"])
    if limits.get("workers") is None and args.workers is not None:
        limits["workers"] = args.workers
    name = f"frames {args.benchmark} {args.split} {args.shard}"
    manifest |= {
        "store": str(args.store),
        "key": spec_key(rule, size),
        "spec": spec(rule, size),
        **fill(requests, limits, args.store, name),
    }
    write_json(args.out, manifest, sealed=True)
    return 0


def fill(requests: list[DecodeRequest], limits: dict, folder: Path, name: str) -> dict:
    """Decode what the store does not have; counts by status and flag, and reasons of failures."""
    began = time.monotonic()
    status: Counter[str] = Counter()
    flags: Counter[str] = Counter()
    failed = []
    there = 0
    with Progress(len(requests), name, "video") as bar:
        for sample in pool.decode(requests, limits, Store(folder, limits), pixels=False):
            status[sample.status] += 1
            flags.update(sample.flags)
            there += sample.from_store
            if sample.status != "ok":
                failed.append(
                    {"video": sample.video, "status": sample.status, "error": sample.error}
                )
            bar.update(note=f"{len(failed)} failed" if failed else "")
    failed.sort(key=lambda entry: str(entry["video"]))
    seconds = time.monotonic() - began
    counts = ", ".join(f"{n} {s}" for s, n in sorted(status.items())) or "no videos"
    log.info("%s: %s (%d were stored already) in %.1f s", name, counts, there, seconds)
    for entry in failed[:SHOWN]:
        log.warning("%s: %s", entry["video"], entry["error"])
    if len(failed) > SHOWN:
        log.warning("and %d more, listed in the manifest", len(failed) - SHOWN)
    return {
        "videos": len(requests),
        "status": dict(status),
        "flags": dict(flags),
        "failed": failed,
        "from_store": there,
        "seconds": round(seconds, 3),
    }


if __name__ == "__main__":
    cli.run(main)
