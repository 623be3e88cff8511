"""Selective scan on the CPU: the chunked one against the plain loop, one direction of one layer.

Claims, for VideoMamba-S and M: forward at least 5x faster with at most a quarter of the memory at
8 and 32 frames, forward and backward at least 10x faster at 400 tokens, and growing linearly from
there on (the loop's backward grows with the square of the length and is not run longer). CPU
seconds of one thread, median of 5; growth of peak memory of a process of its own.
"""

import argparse
import ctypes
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
from vireo.nn import scan

SIZES = {"S": 768, "M": 1152}  # inner width
LENGTHS = (1569, 6273)  # 8 and 32 frames of 224 pixels
SHORT = 400
FORWARD, BOTH, MEMORY, GROWTH = 5.0, 10.0, 0.25, 1.5
NAMES = ("u", "delta", "A", "B", "C", "D", "z", "bias")


def problem(width: int, length: int) -> list[Tensor]:
    """Inputs in the loop's layout, delta near the model's initial 0.7."""
    g = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=g)

    A = -torch.arange(1.0, 17).expand(width, 16).contiguous()
    return [normal(1, width, length), 0.3 * normal(1, width, length), A, normal(1, 16, length),
            normal(1, 16, length), torch.ones(width), normal(1, width, length),
            torch.zeros(width)]  # fmt: skip


def turned(inputs: list[Tensor]) -> list[Tensor]:
    """The same in ours: time before channels, one group in front."""
    return [(x.mT if x.ndim == 3 else x)[None].contiguous() for x in inputs]


def ours(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, z: Tensor,
         bias: Tensor) -> Tensor:  # fmt: skip
    """The chunked scan with skip and gate."""
    return scan.selective_scan(u, delta, A, B, C, D, bias, backend="chunked")[0] * F.silu(z)


def seconds(work: Callable[[], object], times: int = 5) -> float:
    """Median CPU seconds."""
    taken = []
    for _ in range(times):
        began = time.process_time()
        work()
        taken.append(time.process_time() - began)
    return statistics.median(taken)


def peak(work: Callable[[], object]) -> float:
    """MB by which the peak memory of a forked process grows."""
    read, write = os.pipe()
    if os.fork() == 0:
        ctypes.CDLL(None).malloc_trim(0)  # what is free already would hide growth
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before = _status("VmRSS")
        work()
        os.write(write, str(_status("VmHWM") - before).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        grown = float(pipe.read())
    os.wait()
    return grown


def _status(key: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return int(line.split()[1]) / 1000
    raise KeyError(key)


def train(run: Callable[..., Tensor], inputs: list[Tensor], dy: Tensor) -> list[Tensor]:
    """Forward and backward: gradients of all inputs."""
    leaves = [x.detach().requires_grad_() for x in inputs]
    return list(torch.autograd.grad((run(*leaves) * dy).sum(), leaves))


def apart(got: Tensor, want: Tensor) -> float:
    """Greatest difference over the greatest number."""
    return ((got - want).abs().max() / want.abs().max()).item()


def forward(width: int, length: int) -> bool:
    """One line of the table; whether the claims hold."""
    theirs = problem(width, length)
    mine = turned(theirs)
    with torch.no_grad():
        slow, fast = seconds(lambda: reference.scan(*theirs)), seconds(lambda: ours(*mine))
        much, little = peak(lambda: reference.scan(*theirs)), peak(lambda: ours(*mine))
        gap = apart(ours(*mine)[0].mT, reference.scan(*theirs))
    print(f"    {length:5d}  {slow:8.3f} s {much:6.0f} MB   {fast:7.3f} s {little:5.0f} MB   "
          f"{slow / fast:5.1f}x (claim {FORWARD:g}x)   memory {little / much:.2f} (claim "
          f"{MEMORY})   within {gap:.0e}")  # fmt: skip
    return slow >= FORWARD * fast and little <= MEMORY * much and gap <= 1e-5


def backward(width: int) -> bool:
    """Forward and backward at 400 tokens, ours alone beyond."""
    theirs = problem(width, SHORT)
    mine = turned(theirs)
    dy = torch.randn(1, width, SHORT, generator=torch.Generator().manual_seed(1))
    slow = seconds(lambda: train(reference.scan, theirs, dy))
    fast = seconds(lambda: train(ours, mine, dy.mT[None]))
    wanted = turned(train(reference.scan, theirs, dy))
    gap = max(map(apart, train(ours, mine, dy.mT[None]), wanted))
    print(f"    {SHORT:5d}  {slow:8.3f} s             {fast:7.3f} s            "
          f"{slow / fast:5.1f}x (claim {BOTH:g}x)   gradients within {gap:.0e}")  # fmt: skip
    longer = []
    for length in LENGTHS:
        more = turned(problem(width, length))
        ones = torch.ones_like(more[0])
        longer.append(seconds(lambda more=more, ones=ones: train(ours, more, ones)))
        grown = peak(lambda more=more, ones=ones: train(ours, more, ones))
        print(f"    {length:5d}  {'':8s}                {longer[-1]:7.3f} s {grown:5.0f} MB")
    growth = longer[1] / longer[0] / (LENGTHS[1] / LENGTHS[0])
    print(f"    seconds a token at {LENGTHS[1]} over those at {LENGTHS[0]}: {growth:.2f} "
          f"(claim: linear, at most {GROWTH})")  # fmt: skip
    return slow >= BOTH * fast and gap <= 1e-4 and growth <= GROWTH


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.parse_args()
    torch.set_num_threads(1)
    met = True
    for name, width in SIZES.items():
        print(f"VideoMamba-{name} (E = {width}, N = 16), forward: loop, chunked")
        for length in LENGTHS:
            met &= forward(width, length)
        print(f"VideoMamba-{name}, forward and backward: loop, chunked")
        met &= backward(width)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
