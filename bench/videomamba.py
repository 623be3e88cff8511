"""VideoMamba on the CPU, random weights: compiled kernels, PyTorch's operations and a plain loop.

Claims for one clip (default S, 8 x 224), CPU seconds of one thread, medians of five interleaved
runs: forward and training step (forward and backward) at least 1.7x faster than the PyTorch path
(`VIREO_SCAN=torch`), a forward at most 1.8x its own matrix products, the same logits (1e-5 of the
largest) and gradients (1e-4), no more memory; and at least 4x faster than the authors' loop where
there is no CUDA, which is run once (--no-loop leaves it out).
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.reference import videomamba as reference
from bench.scan import apart, peak
from vireo.models import videomamba
from vireo.nn import compiled
from vireo.nn.mamba import STATE, Block

LOOP, FASTER, PRODUCTS = 4.0, 1.7, 1.8
RUNS = 5


def on(way: str, work: Callable[[], object]) -> Callable[[], object]:
    """`work` with the scan that `way` names."""

    def run() -> object:
        os.environ["VIREO_SCAN"] = way
        return work()

    return run


def medians(works: dict[str, Callable[[], object]], runs: int = RUNS) -> dict[str, float]:
    """Median CPU seconds of each, in turns, so that a busy machine slows all alike."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(runs):
        for name, work in works.items():
            began = time.process_time()
            work()
            taken[name].append(time.process_time() - began)
    return {name: statistics.median(times) for name, times in taken.items()}


def products(model: videomamba.VideoMamba, tokens: int) -> Callable[[], object]:
    """Only the matrix products of a forward, with the model's weights and shapes."""
    width = model.arch["width"]
    g = torch.Generator().manual_seed(0)
    hidden = torch.randn(1, tokens, width, generator=g)
    wide = torch.randn(2, tokens, 2 * width, generator=g)
    clip = torch.randn(1, model.arch["num_frames"], 3, 224, 224, generator=g)

    @torch.inference_mode()
    def run() -> None:
        model.patch_embed(clip)
        last = len(model.layers) - 1
        for i, block in enumerate(model.layers):
            assert isinstance(block, Block)
            mixer, directions = block.mixer, ("_b",) if i == last else ("", "_b")
            if i == last:  # for the first token alone, no gates and outputs of the others
                F.linear(hidden, mixer.in_proj.weight.chunk(2)[0])
            else:
                F.linear(hidden, mixer.in_proj.weight)
            u = wide[: len(directions)]
            parts = torch.bmm(u, mixer.stacked("x_proj{}.weight", directions).transpose(1, 2))
            raw = parts[..., : parts.shape[-1] - 2 * STATE]
            torch.bmm(raw, mixer.stacked("dt_proj{}.weight", directions).transpose(1, 2))
            if i != last:
                F.linear(wide[:1], mixer.out_proj.weight)

    return run


def forward(model: videomamba.Model, clip: Tensor, loop: bool) -> bool:
    """The table of the forward; whether its claims hold."""
    ways = {way: on(way, lambda: model.classify(clip)) for way in ("torch", "numba")}
    theirs, ours = (ways[way]() for way in ("torch", "numba"))
    assert isinstance(theirs, Tensor) and isinstance(ours, Tensor)
    tokens = model.module.embed(clip).shape[1]
    took = medians({**ways, "products": products(model.module, tokens)})
    memory = {way: peak(work) for way, work in ways.items()}
    gap, ratio = apart(ours, theirs), took["torch"] / took["numba"]
    share = took["numba"] / took["products"]
    print(f"  forward        PyTorch {took['torch']:7.2f} s {memory['torch']:5.0f} MB   compiled "
          f"{took['numba']:6.2f} s {memory['numba']:5.0f} MB   {ratio:.2f}x (claim {FASTER:g}x)   "
          f"logits within {gap:.0e}\n"
          f"                 its matrix products {took['products']:.2f} s: {share:.2f}x of them "
          f"(claim {PRODUCTS:g}x)")  # fmt: skip
    met = ratio >= FASTER and share <= PRODUCTS and gap <= 1e-5
    met &= memory["numba"] <= memory["torch"]
    if loop:
        plain = reference.VideoMamba(model.module.arch, model.module.state_dict())
        began = time.process_time()
        wanted = plain(clip.transpose(1, 2).contiguous())
        slow = time.process_time() - began
        gap = apart(ours, wanted)
        print(f"                 the loop {slow:.2f} s: {slow / took['numba']:.1f}x (claim "
              f"{LOOP:g}x)   logits within {gap:.0e}")  # fmt: skip
        met &= slow >= LOOP * took["numba"] and gap <= 1e-4
    return met


def training(arch: dict[str, int], clip: Tensor) -> bool:
    """The table of forward and backward; whether its claims hold."""
    model = videomamba.build({**arch, "drop_path": 0.0}, torch.Generator().manual_seed(0)).train()

    def step() -> list[Tensor]:
        model.zero_grad()
        F.cross_entropy(model(clip), torch.tensor([3])).backward()
        return [p.grad for p in model.parameters() if p.grad is not None]

    ways = {way: on(way, step) for way in ("torch", "numba")}
    grads = {way: [g.clone() for g in work()] for way, work in ways.items()}  # type: ignore
    gap = max(map(apart, grads["numba"], grads["torch"]))
    grads.clear()
    took = medians(ways)
    model.zero_grad()
    memory = {way: peak(work) for way, work in ways.items()}
    ratio = took["torch"] / took["numba"]
    print(f"  training step  PyTorch {took['torch']:7.2f} s {memory['torch']:5.0f} MB   compiled "
          f"{took['numba']:6.2f} s {memory['numba']:5.0f} MB   {ratio:.2f}x (claim {FASTER:g}x)   "
          f"gradients within {gap:.0e}")  # fmt: skip
    return ratio >= FASTER and gap <= 1e-4 and memory["numba"] <= memory["torch"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", default="S", choices=sorted(videomamba.SIZES))
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--no-loop", action="store_true", help="leave out the authors' loop")
    parser.add_argument("--no-training", action="store_true", help="leave out the training step")
    args = parser.parse_args()
    if reason := compiled.missing():
        print(f"VideoMamba: not measured, there are no compiled kernels here: {reason}")
        return 0
    torch.set_num_threads(1)
    arch = {**videomamba.SIZES[args.size], "num_frames": args.frames, "num_classes": 400}
    cfg = {"arch": arch, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    clip = torch.randn(1, args.frames, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    print(f"VideoMamba-{args.size}, one clip of {args.frames} x 224, CPU seconds of one thread")
    met = forward(videomamba.load(cfg, None), clip, not args.no_loop)
    if not args.no_training:
        met &= training(arch, clip)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
