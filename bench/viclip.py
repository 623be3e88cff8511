"""ViCLIP on Video-MME: our inference against the seed guide's procedure, same random weights.

Claims: at least 2.8x less CPU time in float32 with three questions a video (each video embedded
once, texts in batches, fused attention), at least 5x in bfloat16 on a CPU that computes it.
The reference gets its pictures for nothing; our time includes decoding the clips.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("VIREO_TRUST_DEVICES", "1")

import av
import numpy as np
import pandas as pd
import torch

from bench.reference import viclip as reference
from vireo import config as cfg
from vireo import models
from vireo.inference import shard
from vireo.models import viclip
from vireo.tables import items as item_table
from vireo.tables import predictions

CLAIMS = {"float32": 2.8, "bfloat16": 5.0}
WORDS = ("red", "green", "house", "ball", "runs", "falls", "left", "of", "the", "door", "cat")


def film(path: Path, seed: int) -> None:
    """Forty seconds of coarse coloured noise, 360p, H.264."""
    rng = np.random.default_rng(seed)
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream("libx264", rate=10, options={"preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 640, 360, "yuv420p"
        for n in range(400):
            if n % 20 == 0:
                picture = rng.integers(0, 256, (9, 16, 3), np.uint8).repeat(40, 0).repeat(40, 1)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode(None))


def benchmark(folder: Path, videos: int, questions: int) -> pd.DataFrame:
    """Clips, items and inventory; returns the items."""
    rng = np.random.default_rng(0)
    rows, files = [], []
    for v in range(videos):
        path = folder / f"film{v}.mp4"
        film(path, v)
        facts = path.stat()
        files.append({"video": path.stem, "path": str(path), "kind": "file", "status": "found",
                      "size": facts.st_size, "mtime_ns": facts.st_mtime_ns})  # fmt: skip
        for q in range(questions):
            options = [f"{x}. {' '.join(rng.choice(WORDS, 6))}." for x in "ABCD"]
            rows.append({"id": f"{v}-{q}", "split": "short", "video": path.stem, "start": np.nan,
                         "end": np.nan, "question": "", "options": options, "answer": "A",
                         "group": path.stem, "meta": "{}"})  # fmt: skip
    items = pd.DataFrame(rows)
    item_table.write(items, folder / "items.parquet")
    item_table.write(pd.DataFrame(files), folder / "videos.parquet")
    return items


def ours(config: cfg.Config, folder: Path, dtype: str, loaded: Any) -> tuple[pd.DataFrame, float]:
    """Predictions of the real driver and its CPU seconds; the model is loaded beforehand."""
    config = {**config, "dtype": dtype}
    models.family = lambda name: SimpleNamespace(load=lambda *arguments: loaded)
    out = folder / f"{dtype}.parquet"
    job = shard.Job(config, "viclip", "videomme", "short", "1-of-1", folder / "items.parquet",
                    folder / "videos.parquet", None, out, threads=1)  # fmt: skip
    began = time.process_time()
    shard.run(job)
    return predictions.read(out).set_index("id"), time.process_time() - began


def theirs(model: Any, folder: Path, items: pd.DataFrame) -> tuple[dict[str, Any], float]:
    """Answers of the reference procedure and its CPU seconds, without reading the videos."""
    answers, seconds = {}, 0.0
    for video, asked in items.groupby("video"):
        pictures = reference.slicer(folder / f"{video}.mp4")
        began = time.process_time()
        for item in asked.itertuples():
            answers[item.id] = reference.answer(model, pictures, item.options)
        seconds += time.process_time() - began
    return answers, seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=int, default=3)
    parser.add_argument("--questions", type=int, default=3)
    parser.add_argument("--full", action="store_true", help="L/14 instead of B/16 (minutes)")
    args = parser.parse_args()
    torch.set_num_threads(1)
    size = "L/14" if args.full else "B/16"
    config = cfg.load()
    block = config["models"]["viclip"]
    block.update(arch=viclip.SIZES[size], weights=None)
    config["decode"]["workers"] = 0  # so that decoding counts as time of this process
    config["benchmarks"]["videomme"]["protocol"]["frames"]["store"] = False
    config["device"] = "cpu"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.chdir(folder)
        items = benchmark(folder, args.videos, args.questions)
        model = viclip.load(block, None)
        plain = reference.ViCLIP(viclip.SIZES[size], model.module.state_dict())
        answers, seconds = theirs(plain, folder, items)
        del plain
        print(f"ViCLIP {size} x Video-MME: {args.videos} videos x {args.questions} questions, "
              "random weights, CPU seconds of one thread")  # fmt: skip
        print(f"  reference  float32   {seconds:8.1f} s")
        met = report("float32", *ours(config, folder, "float32", model), answers, seconds)
        if has_bfloat16():
            model.module.to(torch.bfloat16)
            met &= report("bfloat16", *ours(config, folder, "bfloat16", model), answers, seconds)
        else:
            print("  vireo      bfloat16  not measured: this CPU has neither avx512_bf16 nor amx")
        os.chdir("/")
    return 0 if met else 1


def report(
    dtype: str, rows: pd.DataFrame, used: float, answers: dict[str, Any], seconds: float
) -> bool:
    """Print one line; whether the outputs agree and the claim holds."""
    texts = {id: f'"{text}"' for id, (text, _) in answers.items()}
    agree = [id for id in texts if rows.loc[id, "prediction"] == texts[id]]
    gap = max(np.abs(rows.loc[id, "scores"] - s.numpy()).max() for id, (_, s) in answers.items())
    ratio = seconds / used
    equal = dtype != "float32" or (len(agree) == len(answers) and gap <= 1e-4)
    print(f"  vireo      {dtype:9s} {used:8.1f} s   {ratio:.2f}x (claim {CLAIMS[dtype]}x)   "
          f"{len(agree)} of {len(answers)} answers agree, scores within {gap:.1e}")  # fmt: skip
    for id in sorted(set(answers) - set(agree)):
        print(f"    differs: {id}: {texts[id]} -> {rows.loc[id, 'prediction']}")
    if not equal:
        print("    NOT EQUAL: float32 must give the same answers, scores within 1e-4")
    return equal and ratio >= CLAIMS[dtype]


def has_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 matrices in hardware."""
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    return "avx512_bf16" in flags or "amx_bf16" in flags


if __name__ == "__main__":
    sys.exit(main())
