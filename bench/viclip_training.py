"""ViCLIP-L/14, one training step at full size on random clips, on the CPU in float32.

Claim: each of the three recipes (pre-training masked and unmasked, fine-tuning) stays below 20 GB
of memory with its recomputed blocks. The step is the shipped recipe's, through the training loop
with AdamW and the checkpoint on disk; weights are random and the batch is two clips.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from vireo import config as cfg
from vireo.fetch import receipt
from vireo.toy import video
from vireo.utils.files import write_json, write_text

LIMIT_GB = 20.0
CLIPS = 2
STEPS = {
    "pre-training, 90 % masked": "viclip_l14_stage1",
    "pre-training, unmasked": "viclip_l14_stage2",
    "fine-tuning": "viclip_ft_k400",
}


def data(folder: Path) -> None:
    """Clips of noise with captions and with class numbers, and their receipt."""
    rng = np.random.default_rng(0)
    for number in range(CLIPS):
        coarse = rng.integers(0, 256, (16, 8, 8, 3), np.uint8).repeat(32, 1).repeat(32, 2)
        video.write(folder / f"{number}.mp4", coarse, video.Encoding())
    captions = [{"video": f"{n}.mp4", "caption": f"noise number {n}"} for n in range(CLIPS)]
    write_json(folder / "train.json", captions)
    write_text(folder / "train.csv", "".join(f"{n}.mp4,{n}\n" for n in range(CLIPS)))
    write_text(folder / "labels.txt", "".join(f"noise {n}\n" for n in range(CLIPS)))
    receipt.write(folder / "data/receipts/clips.json", "clips", folder, {}, "bench")


def small(name: str) -> dict[str, Any]:
    """The shipped recipe with random initial weights, for one step on the clips at hand."""
    recipe: dict[str, Any] = json.loads(json.dumps(cfg.recipe(cfg.load(), name)))
    recipe |= {"init": None, "steps": 1, "epochs": None, "batch_size": CLIPS, "micro_batch": None}
    recipe |= {"precision": "float32", "workers": 0}
    if recipe["task"] == "viclip_finetune":
        recipe["sources"] = {"annotations": "clips", "videos": "clips"}
        lists = {"format": "list", "list": "train.csv", "labels": "labels.txt", "classes": CLIPS}
        recipe["data"] = {**lists, "repeats": 1, "validate": False}
        recipe["arch"]["num_classes"] = CLIPS
    else:
        recipe["sources"] = {"train": "clips"}
    return recipe


def step(name: str) -> None:
    """In a process of its own: train one step, print seconds and the largest memory in GB."""
    from vireo.training import loop

    began = time.process_time()
    loop.train(name, small(name), {"device": "cpu"}, threads=int(os.environ.get("THREADS", 1)))
    spent = time.process_time() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    print(json.dumps({"seconds": spent, "gigabytes": peak}))


def main() -> int:
    """Parse the command line, run the steps one after the other, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=list(STEPS), help="one of the steps")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.step:
        step(args.step)
        return 0
    good = True
    for title, name in STEPS.items():
        if args.only not in (None, title):
            continue
        with tempfile.TemporaryDirectory() as folder:
            data(Path(folder))
            done = subprocess.run(
                [sys.executable, str(Path(__file__).resolve()), "--step", name],
                cwd=folder, stdout=subprocess.PIPE, text=True, check=True,
            )  # fmt: skip
        told = json.loads(done.stdout.splitlines()[-1])
        fits = told["gigabytes"] < LIMIT_GB
        good &= fits
        print(
            f"ViCLIP-L/14 {title}, {CLIPS} clips, < {LIMIT_GB:g} GB | {told['gigabytes']:.1f} GB | "
            f"{told['seconds']:.0f} CPU s | {'yes' if fits else 'NO'}",
            flush=True,
        )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
