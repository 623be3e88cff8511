"""The selective scan as compiled kernels for the CPU.

Thirty-two channels are one vector; their states stay in the first-level cache, decay, state, output
and gate of a step are computed in registers, and nothing of the size [L,E,N] is ever stored.
Forward walks stretches of time, in each all channels. Backward keeps the state at the start of each
stretch, rebuilds the others in a buffer of one stretch and 32 channels and walks it
backwards. Directions are given in the order of the sequence, with a flag for those that run
from its end, so nothing is flipped.

Tested against `scan_chunked` and `loop_scan` (tests/nn/test_scan.py).
"""

from typing import Any

import numpy as np
from numba import njit

from vireo.nn.compiled import Kernel
from vireo.nn.simd import (
    FOLD,
    LANES,
    LN2,
    add_dot,
    broadcast,
    exp2,
    fma,
    load,
    sigmoid,
    softplus,
    splat,
    store,
)


@njit
def _step(raw: Any, soft: Any) -> Any:
    """(step size, its derivative)."""
    if soft:
        return softplus(raw)
    return raw, splat(raw, 1.0)


@Kernel
def forward(
    part: int, first: int, last: int,
    u: Any, delta: Any, A2: Any, B: Any, C: Any, D: Any, bias: Any,
    z: Any, y: Any, out: Any, states: Any, starts: Any, reverse: Any,
    G: int, b: int, L: int, blocks: int, N: int, chunk: int, narrow: int, wide: int,
    soft: bool, gate: bool, keep: bool, keep_y: bool,
) -> None:  # fmt: skip
    """Fill out, states and, if kept, starts and y, for the channel blocks of this part.

    u, delta [G,b,L,E]; A2 [G,E/32,N,16] in units of log 2; B, C: row (g,b,t) begins at
    (g b L + t) * narrow; D, bias [G,E]; states as A2 with b after G; starts [chunks,] before that.
    Without gate: out [G,b,L,E]. With it out [b,L,E] is the directions' sum times SiLU(z), and y the
    sum before the gate; row (b,t) of z begins at (b L + t) * wide.
    """
    E = blocks * LANES
    plane = N * LANES
    for g in range(G):
        backwards = reverse[g]
        for row in range(g * b, (g + 1) * b):
            batch = row - g * b
            for block in range(first, last):
                home = (row * blocks + block) * plane
                for n in range(N):
                    store(states, home + n * LANES, splat(u, 0.0))
            for start in range(0, L, chunk):
                stop = min(start + chunk, L)
                for block in range(first, last):
                    e = block * LANES
                    home = (row * blocks + block) * plane
                    rates = (g * blocks + block) * plane
                    shift, skip = load(bias, g * E + e), load(D, g * E + e)
                    if keep:
                        away = start // chunk * (G * b * blocks * plane) + home
                        for n in range(N):
                            store(starts, away + n * LANES, load(states, home + n * LANES))
                    for i in range(start, stop):
                        t = L - 1 - i if backwards else i
                        here = (row * L + t) * E + e
                        small = (row * L + t) * narrow
                        us = load(u, here)
                        dt, _ = _step(load(delta, here) + shift, soft)
                        given = dt * us
                        total = skip * us
                        for n in range(N):
                            place = home + n * LANES
                            a = exp2(load(A2, rates + n * LANES) * dt)
                            h = fma(a, load(states, place), given * broadcast(B, small + n))
                            store(states, place, h)
                            total = fma(h, broadcast(C, small + n), total)
                        if gate:
                            here = (batch * L + t) * E + e
                            if g > 0:
                                total = total + load(out, here)
                            if g == G - 1:
                                if keep_y:
                                    store(y, here, total)
                                zs = load(z, (batch * L + t) * wide + e)
                                total = total * zs * sigmoid(zs)
                        store(out, here, total)


@Kernel
def gate_backward(
    part: int, first: int, last: int, dout: Any, y: Any, z: Any, dy: Any, dz: Any,
    rows: int, blocks: int, wide: int,
) -> None:  # fmt: skip
    """Gradients of y and z from that of y * SiLU(z); all [rows,E], rows of z `wide` apart."""
    E = blocks * LANES
    for row in range(rows):
        for block in range(first, last):
            here = row * E + block * LANES
            grad, zs = load(dout, here), load(z, row * wide + block * LANES)
            s = sigmoid(zs)
            silu = zs * s
            store(dy, here, grad * silu)
            slope = fma(silu, splat(s, 1.0) - s, s)
            store(dz, here, grad * load(y, here) * slope)


@Kernel
def backward(
    part: int, first: int, last: int,
    u: Any, delta: Any, A2: Any, B: Any, C: Any, D: Any, bias: Any, dy: Any, starts: Any,
    du: Any, ddelta: Any, dA: Any, dB: Any, dC: Any, dD: Any, dbias: Any, reverse: Any,
    G: int, b: int, L: int, blocks: int, N: int, chunk: int, narrow: int, shared: bool, soft: bool,
) -> None:  # fmt: skip
    """Gradients of everything from dy, [b,L,E] if `shared` by all directions, else [G,b,L,E].

    Layouts as in `forward`. dB, dC [parts,G,b,L,N] are filled for this part; dA as A2, dD and
    dbias [G,E] are summed over the batch.
    """
    E = blocks * LANES
    plane = N * LANES
    a_s = np.empty(chunk * plane, u.dtype)
    h_s = np.empty((chunk + 1) * plane, u.dtype)
    dB_s = np.empty(chunk * N * FOLD, u.dtype)
    dC_s = np.empty(chunk * N * FOLD, u.dtype)
    dt_s = np.empty(chunk * LANES, u.dtype)
    slope_s = np.empty(chunk * LANES, u.dtype)
    carries = np.empty((last - first) * plane, u.dtype)
    zero = splat(u, 0.0)
    for g in range(G):
        backwards = reverse[g]
        for block in range(first, last):
            for n in range(N):
                store(dA, (g * blocks + block) * plane + n * LANES, zero)
            store(dD, g * E + block * LANES, zero)
            store(dbias, g * E + block * LANES, zero)
        for row in range(g * b, (g + 1) * b):
            batch = row - g * b
            carries[:] = 0
            for start in range((L - 1) // chunk * chunk, -1, -chunk):
                steps = min(chunk, L - start)
                dB_s[:] = 0
                dC_s[:] = 0
                for block in range(first, last):
                    e = g * E + block * LANES
                    rates = (g * blocks + block) * plane
                    carry = (block - first) * plane
                    home = (row * blocks + block) * plane
                    away = start // chunk * (G * b * blocks * plane) + home
                    for n in range(N):
                        store(h_s, n * LANES, load(starts, away + n * LANES))
                    shift = load(bias, e)
                    for i in range(steps):
                        t = L - 1 - start - i if backwards else start + i
                        here = (row * L + t) * E + block * LANES
                        small = (row * L + t) * narrow
                        dt, slope = _step(load(delta, here) + shift, soft)
                        store(dt_s, i * LANES, dt)
                        store(slope_s, i * LANES, slope)
                        given = dt * load(u, here)
                        for n in range(N):
                            k = i * plane + n * LANES
                            a = exp2(load(A2, rates + n * LANES) * dt)
                            h = fma(a, load(h_s, k), given * broadcast(B, small + n))
                            store(a_s, k, a)
                            store(h_s, k + plane, h)
                    skip, d_skip, d_shift = load(D, e), load(dD, e), load(dbias, e)
                    for i in range(steps - 1, -1, -1):
                        t = L - 1 - start - i if backwards else start + i
                        here = (row * L + t) * E + block * LANES
                        small = (row * L + t) * narrow
                        if shared:
                            grad = load(dy, (batch * L + t) * E + block * LANES)
                        else:
                            grad = load(dy, here)
                        us, dt = load(u, here), load(dt_s, i * LANES)
                        given = dt * us
                        d_given, d_rate = zero, zero
                        for n in range(N):
                            k = i * plane + n * LANES
                            r = carry + n * LANES
                            # the gradient of the state, and of the one before through the decay
                            gh = fma(grad, broadcast(C, small + n), load(carries, r))
                            before = load(a_s, k) * gh
                            store(carries, r, before)
                            add_dot(dC_s, (i * N + n) * FOLD, grad, load(h_s, k + plane))
                            add_dot(dB_s, (i * N + n) * FOLD, given, gh)
                            d_given = fma(gh, broadcast(B, small + n), d_given)
                            q = before * load(h_s, k)
                            place = rates + n * LANES
                            store(dA, place, fma(dt, q, load(dA, place)))
                            d_rate = fma(load(A2, place), q, d_rate)
                        d_raw = fma(us, d_given, d_rate * splat(u, LN2)) * load(slope_s, i * LANES)
                        store(ddelta, here, d_raw)
                        d_shift = d_shift + d_raw
                        d_skip = fma(grad, us, d_skip)
                        store(du, here, fma(d_given, dt, grad * skip))
                    store(dD, e, d_skip)
                    store(dbias, e, d_shift)
                for i in range(steps):
                    t = L - 1 - start - i if backwards else start + i
                    small = ((part * G * b + row) * L + t) * N
                    for n in range(N):
                        k = (i * N + n) * FOLD
                        total_B = dB_s[k]
                        total_C = dC_s[k]
                        for j in range(1, FOLD):
                            total_B += dB_s[k + j]
                            total_C += dC_s[k + j]
                        dB[small + n] = total_B
                        dC[small + n] = total_C
