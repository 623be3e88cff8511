"""What stands around the scan in a Mamba block, as compiled kernels for the CPU.

Convolution with SiLU for all directions at once, and residual sum with RMS norm; forward and
backward. Each reads and writes every number once, where PyTorch's element-wise operations make a
pass over memory for each step.
"""

from typing import Any

import numpy as np
from numba import njit

from vireo.nn.compiled import Kernel
from vireo.nn.simd import LANES, fma, load, sigmoid, splat, store


@njit
def _first_tap(t: int, L: int, K: int, backwards: bool) -> Any:
    """The first of K taps at position t that lies inside the sequence."""
    before = L - 1 - t if backwards else t
    return max(0, K - 1 - before)


@njit
def _convolve(x: Any, w: Any, total: Any, here: int, taps: int, first: int, K: int, step: int,
              E: int) -> Any:  # fmt: skip
    """total + sum of w[k] x[t - (K-1) + k]; x[t] is at `here`, earlier ones `step` before."""
    for k in range(first, K):
        total = fma(load(w, taps + k * E), load(x, here + (k - (K - 1)) * step), total)
    return total


@Kernel
def conv_silu(
    part: int, first: int, last: int, x: Any, w: Any, bias: Any, u: Any, reverse: Any,
    G: int, b: int, L: int, blocks: int, K: int, wide: int,
) -> None:  # fmt: skip
    """u [G,b,L,E] = SiLU of the causal convolution of x [b,L,E], rows of which are `wide` apart.

    w [G,K,E], bias [G,E].
    """
    E = blocks * LANES
    for g in range(G):
        step = -wide if reverse[g] else wide
        for row in range(b):
            for t in range(L):
                k = _first_tap(t, L, K, reverse[g])
                for block in range(first, last):
                    e = block * LANES
                    here = (row * L + t) * wide + e
                    start = load(bias, g * E + e)
                    total = _convolve(x, w, start, here, g * K * E + e, k, K, step, E)
                    store(u, ((g * b + row) * L + t) * E + e, total * sigmoid(total))


@Kernel
def conv_silu_backward(
    part: int, first: int, last: int,
    x: Any, w: Any, bias: Any, du: Any, dx: Any, dw: Any, dbias: Any, reverse: Any,
    G: int, b: int, L: int, blocks: int, K: int, wide: int,
) -> None:  # fmt: skip
    """Gradients of x [b,L,E], w [G,K,E] and bias [G,E] from du [G,b,L,E]."""
    E = blocks * LANES
    span = (last - first) * LANES
    left = first * LANES
    # Gradients before the SiLU, of the last K positions of one direction.
    ring = np.empty(K * span, x.dtype)
    for g in range(G):
        step = -wide if reverse[g] else wide
        for block in range(first, last):
            e = block * LANES
            store(dbias, g * E + e, splat(x, 0.0))
            for k in range(K):
                store(dw, (g * K + k) * E + e, splat(x, 0.0))
        for row in range(b):
            ring[:] = 0
            # Position i in the direction's order; what it gives to x is complete K - 1 steps later.
            for i in range(L + K - 1):
                t = L - 1 - i if reverse[g] else i
                tap = max(0, K - 1 - i)
                done = i - (K - 1)
                there = (row * L + (L - 1 - done if reverse[g] else done)) * E
                for block in range(first, last):
                    e = block * LANES
                    taps = g * K * E + e
                    place = i % K * span + e - left
                    if i < L:
                        here = (row * L + t) * wide + e
                        total = _convolve(x, w, load(bias, g * E + e), here, taps, tap, K, step, E)
                        s = sigmoid(total)
                        slope = fma(total * s, splat(s, 1.0) - s, s)
                        grad = load(du, ((g * b + row) * L + t) * E + e) * slope
                        store(ring, place, grad)
                        store(dbias, g * E + e, load(dbias, g * E + e) + grad)
                        for k in range(tap, K):
                            xs = load(x, here + (k - (K - 1)) * step)
                            store(dw, taps + k * E, fma(grad, xs, load(dw, taps + k * E)))
                    else:
                        store(ring, place, splat(x, 0.0))
                    if done >= 0:
                        total = splat(x, 0.0)
                        for k in range(K):
                            slot = (done + K - 1 - k) % K * span + e - left
                            total = fma(load(w, taps + k * E), load(ring, slot), total)
                        if g > 0:
                            total = total + load(dx, there + e)
                        store(dx, there + e, total)


@njit
def _sum(v: Any, scratch: Any) -> Any:
    store(scratch, 0, v)
    total = scratch[0]
    for j in range(1, LANES):
        total += scratch[j]
    return total


@Kernel
def add_norm(
    part: int, first: int, last: int, hidden: Any, residual: Any, w: Any, total: Any, normed: Any,
    scales: Any, d: int, eps: float, add: bool,
) -> None:  # fmt: skip
    """Rows first to last: total = hidden + residual, normed = total / sqrt(mean(total^2) + eps) w.

    Without `add`, total is hidden and is not written. scales [rows] is what total is multiplied by.
    """
    scratch = np.empty(LANES, hidden.dtype)
    for row in range(first, last):
        squares = splat(hidden, 0.0)
        for e in range(row * d, (row + 1) * d, LANES):
            x = load(hidden, e)
            if add:
                x = x + load(residual, e)
                store(total, e, x)
            squares = fma(x, x, squares)
        scale = 1.0 / np.sqrt(_sum(squares, scratch) / d + eps)
        scales[row] = scale
        factor = splat(hidden, scale)
        source = total if add else hidden
        for e in range(0, d, LANES):
            store(normed, row * d + e, load(source, row * d + e) * factor * load(w, e))


@Kernel
def add_norm_backward(
    part: int, first: int, last: int, dnormed: Any, dtotal: Any, total: Any, w: Any, scales: Any,
    dx: Any, dw: Any, d: int, add: bool,
) -> None:  # fmt: skip
    """dx: the gradient of total and so of both summands; dw [parts,d]. Without `add` no dtotal."""
    scratch = np.empty(LANES, total.dtype)
    for e in range(part * d, (part + 1) * d):
        dw[e] = 0
    for row in range(first, last):
        scale = splat(total, scales[row])
        along = splat(total, 0.0)
        for e in range(0, d, LANES):
            here, there = row * d + e, part * d + e
            grad, x = load(dnormed, here), load(total, here)
            store(dw, there, fma(grad * x, scale, load(dw, there)))
            along = fma(grad * load(w, e), x, along)
        pull = splat(total, _sum(along, scratch) / d) * scale * scale * scale
        for e in range(0, d, LANES):
            here = row * d + e
            grad = load(dnormed, here) * load(w, e) * scale - load(total, here) * pull
            if add:
                grad = grad + load(dtotal, here)
            store(dx, here, grad)
