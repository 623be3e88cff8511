"""VideoMamba-S on one clip of 8 x 224, random weights: our model beside the reference's loop.

Claims: the same logits (1e-4 of the largest), at least 4x less CPU time, one thread.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from bench.reference import videomamba as reference
from vireo.models import videomamba

CLAIM = 4.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="S", choices=sorted(videomamba.SIZES))
    parser.add_argument("--frames", type=int, default=8)
    args = parser.parse_args()
    torch.set_num_threads(1)
    arch = {**videomamba.SIZES[args.size], "num_frames": args.frames, "num_classes": 400}
    cfg = {"arch": arch, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    model = videomamba.load(cfg, None)
    clip = torch.randn(1, args.frames, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    model.classify(clip)
    taken = []
    for _ in range(3):
        began = time.process_time()
        ours = model.classify(clip)
        taken.append(time.process_time() - began)
    fast = statistics.median(taken)
    plain = reference.VideoMamba(arch, model.module.state_dict())
    began = time.process_time()
    theirs = plain(clip.transpose(1, 2).contiguous())
    slow = time.process_time() - began
    gap = ((ours - theirs).abs().max() / theirs.abs().max()).item()
    print(f"VideoMamba-{args.size}, one clip of {args.frames} x 224, CPU seconds of one thread\n"
          f"  reference  {slow:7.2f} s\n"
          f"  vireo      {fast:7.2f} s   {slow / fast:.1f}x (claim {CLAIM:g}x)   logits within "
          f"{gap:.0e}")  # fmt: skip
    return 0 if slow >= CLAIM * fast and gap <= 1e-4 else 1


if __name__ == "__main__":
    sys.exit(main())
