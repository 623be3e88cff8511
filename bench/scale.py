"""300,000 items in 64 shards through prepare, journal, merge and score: seconds and memory.

A Video-MME of that size is generated: the official columns, three questions a video, one empty
file per video. The scripts and functions are those of the workflow; in place of a model there are
made-up rows in the journals, one journal per shard, as 64 jobs would leave them. Every stage runs
in a process of its own, whose peak memory the kernel tells.

    python bench/scale.py [ITEMS] [SHARDS]
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HOME = Path(__file__).resolve().parents[1]
PER_VIDEO = 3
BATCH = 48
ITEMS, VIDEOS = Path("cache/items/videomme.parquet"), Path("cache/items/videomme.videos.parquet")
BLOCK = {
    "family": "viclip", "fulfils": ["DualEncoder"], "arch": {}, "weights": None, "version": 1,
    "mean": [0.5] * 3, "std": [0.5] * 3, "size": 32,
}  # fmt: skip


def generate(count: int) -> None:
    """The data set: parquet, and an empty file for every video."""
    import numpy as np
    import pandas as pd

    folder = Path("data/Video-MME")
    (folder / "videos").mkdir(parents=True)
    n = np.arange(count)
    video = np.char.add("film", np.char.zfill((n // PER_VIDEO).astype(str), 7))
    for name in np.unique(video):
        (folder / "videos" / f"{name}.mp4").touch()
    table = {
        "video_id": video, "duration": "short", "domain": "Knowledge",
        "sub_category": "Geography", "url": "", "videoID": video,
        "question_id": [f"{v}-{k % PER_VIDEO + 1}" for k, v in zip(n, video, strict=True)],
        "task_type": "Counting Problem", "question": [f"What happens in scene {k}?" for k in n],
        "options": [[f"{mark}. statement {k} is true." for mark in "ABCD"] for k in n],
        "answer": np.array(list("ABCD"))[n % 4],
    }  # fmt: skip
    pd.DataFrame(table).to_parquet(folder / "test-00000-of-00001.parquet", row_group_size=50_000)
    root = str(folder.resolve())
    receipt = {"artifact": "videomme", "root": root, "files": {}, "source": "generated"}
    Path("receipt.json").write_text(json.dumps(receipt))
    config = {"models": {"none": BLOCK}, "benchmarks": {"videomme": {"partial": True, "rows": {}}}}
    Path("mine.yaml").write_text(json.dumps(config))


def journals(shards: int) -> None:
    """What `shards` jobs would have journalled, a batch at a time."""
    import numpy as np

    from vireo import config as cfg
    from vireo.inference import cache_key
    from vireo.inference.journal import Journal
    from vireo.tables import items as item_table
    from vireo.tables.shards import shard_of

    key = cache_key.prediction_key(cfg.load(["mine.yaml"]), "none", "videomme", ITEMS, None)
    groups = item_table.groups(ITEMS, "short")
    random = np.random.default_rng(0)
    for i in range(1, shards + 1):
        mine = item_table.read_items(ITEMS, ["short"], shard_of(groups, i, shards))
        found = item_table.read_videos(VIDEOS, set(mine["video"]))
        source = {v.video: [int(v.size), int(v.mtime_ns)] for v in item_table.rows(found)}
        scores = random.random((len(mine), 4), dtype=np.float32)
        rows = [
            {
                "id": item.id, "view": 0, "group": item.group, "status": "ok",
                "prediction": json.dumps(item.options[int(s.argmax())]), "scores": s,
                "frames": list(range(8)), "seconds": 0.1, "error": None, "flags": [],
                "source": source[item.video],
            }
            for item, s in zip(item_table.rows(mine), scores, strict=True)
        ]  # fmt: skip
        with Journal("cache/predictions", key) as journal:
            for at in range(0, len(rows), BATCH):
                journal.append(rows[at : at + BATCH])


def merge(shards: int, only: int | None = None) -> None:
    """Every shard's predictions from the journals, as rule infer writes them."""
    from vireo import config as cfg
    from vireo.inference import shard as infer

    config = cfg.load(["mine.yaml"])
    for i in range(1, (only or shards) + 1):
        out = Path(f"cache/shards/{i}-of-{shards}.parquet")
        shard = f"{i}-of-{shards}"
        done = infer.run(
            infer.Job(config, "none", "videomme", "short", shard, ITEMS, VIDEOS, None, out)
        )
        assert done["computed_videos"] == 0 and set(done["status"]) == {"ok"}


def timed(what: str, command: list[str]) -> None:
    """Run a process; its seconds and its peak memory."""
    began = time.monotonic()
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(HOME), "OMP_NUM_THREADS": "1"},
    )
    assert process.stderr is not None
    said = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{what} failed:\n{said[-3000:]}")
    seconds, peak = time.monotonic() - began, usage.ru_maxrss / 1024
    print(f"{what:<32} {seconds:8.1f} s {peak:8.0f} MB", flush=True)


def main(count: int, shards: int) -> None:
    """All stages in a temporary folder; the table is printed."""
    here = [sys.executable, str(Path(__file__).resolve())]
    script = lambda name: [sys.executable, str(HOME / f"scripts/{name}.py")]  # noqa: E731
    item_table = ["--items", str(ITEMS), "--videos", str(VIDEOS), "--config", "mine.yaml"]
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        print(f"{count} items, {shards} shards")
        timed("generate", [*here, "generate", str(count)])
        sources = ["videomme", "--sources", "data=receipt.json"]
        timed("prepare", [*script("prepare"), *sources, *item_table])
        timed("journal (all shards)", [*here, "journals", str(shards)])
        timed("merge, one shard", [*here, "merge", str(shards), "1"])
        timed("merge, all in one process", [*here, "merge", str(shards)])
        files = sorted(map(str, Path("cache/shards").glob("*.parquet")))
        out = ["--predictions", *files, "--controls", "none", "--weights", "none"]
        run = [
            "none",
            "videomme_short",
            *item_table,
            *out,
            "--out",
            "results/none/videomme_short.json",
        ]
        timed("score", [*script("score"), *run])
        size = sum(p.stat().st_size for p in Path("cache/predictions").rglob("*.jsonl"))
        print(f"journals: {size / 1e6:.0f} MB, {size / count:.0f} bytes an item")
        os.chdir("/")


if __name__ == "__main__":
    stages = {"generate": generate, "journals": journals, "merge": merge}
    if len(sys.argv) > 1 and sys.argv[1] in stages:
        sys.path.insert(0, str(HOME))
        stages[sys.argv[1]](*map(int, sys.argv[2:]))
    else:
        main(*map(int, [*sys.argv[1:], *["300000", "64"][len(sys.argv) - 1 :]]))
