"""Differentiable operators of a Mamba block made of compiled kernels, for the CPU.

`selective_scan` is one backend of `vireo.nn.scan`. `conv_silu`, `gated_scan` and `add_norm` do the
same as the PyTorch code in `vireo/nn/mamba.py`, fused; they want float32 or float64 and widths that
are multiples of 32 (`fits`).
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vireo.nn import mamba_kernels, scan_kernels
from vireo.nn.compiled import parts, spread
from vireo.nn.scan_chunked import LOG2E, compute_dtype
from vireo.nn.simd import LANES


def fits(x: Tensor) -> bool:
    """Whether the fused operators take tensors of this dtype and width."""
    return x.dtype in (torch.float32, torch.float64) and x.shape[-1] % LANES == 0


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    softplus: bool,
) -> tuple[Tensor, Tensor]:
    """Arguments and results as `vireo.nn.scan.selective_scan`."""
    dtype, out_dtype, E = compute_dtype(u), u.dtype, u.shape[-1]
    more = -E % LANES  # channels of zeros that fill the last vector
    u, delta, A, B, C = (x.to(dtype) for x in (u, delta, A, B, C))
    D, bias = (u.new_zeros(u.shape[0], E) if x is None else x.to(dtype) for x in (D, delta_bias))
    if more:
        u, delta, D, bias = (F.pad(x, (0, more)) for x in (u, delta, D, bias))
        A = F.pad(A, (0, 0, 0, more))
    reverse = (False,) * u.shape[0]
    y, last = CompiledScan.apply(u, delta, A, B, C, D, bias, None, reverse, softplus)
    return y[..., :E].to(out_dtype), last[:, :, :E]


def scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    delta_bias: Tensor,
    reverse: Sequence[bool],
) -> Tensor:
    """`gated_scan` without adding and gating: y [G,b,L,E]."""
    return CompiledScan.apply(u, delta, A, B, C, D, delta_bias, None, tuple(reverse), True)[0]


def gated_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    delta_bias: Tensor,
    z: Tensor,
    reverse: Sequence[bool],
) -> Tensor:
    """Scans of G directions, added and multiplied by SiLU(z): [b,L,E].

    As `vireo.nn.scan.selective_scan`, but in the order of the sequence: the scans with `reverse`
    run from its end. z [b,L,E]. B, C and z may be slices of wider tensors.
    """
    y, _ = CompiledScan.apply(u, delta, A, B, C, D, delta_bias, z, tuple(reverse), True)
    return y


def conv_silu(x: Tensor, weight: Tensor, bias: Tensor, reverse: Sequence[bool]) -> Tensor:
    """SiLU of depthwise causal convolutions of x [b,L,E], one per direction: [G,b,L,E].

    weight [G,E,K], bias [G,E]. The results are in the order of the sequence; a direction with
    `reverse` sees what comes after a position in place of what comes before. x may be a slice.
    """
    return _ConvSilu.apply(x, weight, bias, tuple(reverse))


def add_norm(
    hidden: Tensor, residual: Tensor | None, weight: Tensor, eps: float
) -> tuple[Tensor, Tensor]:
    """(RMS norm of hidden + residual, the sum); no residual: the sum is `hidden`."""
    if residual is None:
        return _AddNorm.apply(hidden, None, weight, eps)[0], hidden
    return _AddNorm.apply(hidden, residual, weight, eps)


@functools.cache
def chunk_steps(states: int) -> int:
    """Steps between the states that are kept for backward.

    Backward rebuilds the decays and states of so many steps of 32 channels in a buffer that takes a
    quarter of the second-level cache: the more steps, the fewer states to keep.
    """
    try:
        text = Path("/sys/devices/system/cpu/cpu0/cache/index2/size").read_text().strip()
        size = int(text.removesuffix("K")) * 1024
    except (OSError, ValueError):
        size = 512 * 1024
    steps = size // 4 // (2 * 4 * LANES * states)
    return max(16, min(steps, 128))


def _array(x: Tensor) -> np.ndarray:
    """The numbers of a contiguous tensor, flat, not copied."""
    return x.detach().view(-1).numpy()


def _rows(x: Tensor) -> tuple[np.ndarray, int]:
    """(numbers from the first element on, flat, and how far apart rows begin) of [...,L,K].

    A slice of a wider contiguous tensor is used as it is, anything else is copied.
    """
    x = x.detach()
    wide = x.stride(-2)
    even = all(
        x.stride(i) == x.stride(i + 1) * x.shape[i + 1] for i in range(x.ndim - 2) if x.shape[i] > 1
    )
    if x.stride(-1) != 1 or not even or wide < x.shape[-1]:
        x = x.contiguous()
        wide = x.shape[-1]
    count = x[..., 0].numel()
    span = (count - 1) * wide + x.shape[-1]
    return x.as_strided((span,), (1,)).numpy(), wide


def _pair(B: Tensor, C: Tensor) -> tuple[np.ndarray, np.ndarray, int]:
    """`_rows` of two tensors with rows equally far apart."""
    (Bs, narrow), (Cs, other) = _rows(B), _rows(C)
    if narrow != other:
        (Bs, narrow), (Cs, _) = _rows(B.contiguous()), _rows(C.contiguous())
    return Bs, Cs, narrow


def _flags(reverse: Sequence[bool]) -> np.ndarray:
    return np.array(reverse, dtype=np.bool_)


class CompiledScan(torch.autograd.Function):
    """`selective_scan` without z, `gated_scan` with it; saves inputs and some states."""

    @staticmethod
    def forward(ctx: Any, *args: Any) -> tuple[Tensor, Tensor]:
        """u, delta, A, B, C, D, bias, z, reverse, softplus -> outputs and last state."""
        u, delta, A, B, C, D, bias, z, reverse, softplus = args
        needs = any(ctx.needs_input_grad)
        G, b, L, E = u.shape
        N, blocks = A.shape[-1], E // LANES
        u, delta, D, bias = (x.contiguous() for x in (u, delta, D, bias))
        A2 = (A * LOG2E).view(G, blocks, LANES, N).transpose(2, 3).contiguous()
        chunk = chunk_steps(N)
        out = u.new_empty((G, b, L, E) if z is None else (b, L, E))
        states = u.new_empty(G, b, blocks, N, LANES)
        starts = u.new_empty(-(-L // chunk) if needs else 0, *states.shape)
        keep_y = needs and z is not None
        y = torch.empty_like(out) if keep_y else out
        Bs, Cs, narrow = _pair(B, C)
        zs, wide = (_array(out), 0) if z is None else _rows(z)
        spread(
            scan_kernels.forward, parts(blocks), blocks,
            *map(_array, (u, delta, A2)), Bs, Cs, _array(D), _array(bias), zs,
            *map(_array, (y, out, states, starts)), _flags(reverse),
            G, b, L, blocks, N, chunk, narrow, wide, softplus, z is not None, needs, keep_y,
        )  # fmt: skip
        if needs:
            ctx.save_for_backward(u, delta, A2, B, C, D, bias, z, y if keep_y else None, starts)
            ctx.options = reverse, softplus, chunk
        last = states.transpose(3, 4).reshape(G, b, E, N)
        ctx.mark_non_differentiable(last)
        return out, last

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dout: Tensor, dlast: Tensor) -> tuple[Tensor | None, ...]:
        """Gradient of the outputs -> one per argument of `forward`."""
        u, delta, A2, B, C, D, bias, z, y, starts = ctx.saved_tensors
        reverse, softplus, chunk = ctx.options
        G, b, L, E = u.shape
        N, blocks = A2.shape[2], E // LANES
        count = parts(blocks)
        dout = dout.contiguous()
        dy, dz = dout, None
        if z is not None:
            dy, dz = torch.empty_like(dout), torch.empty_like(dout)
            zs, wide = _rows(z)
            spread(
                scan_kernels.gate_backward, count, blocks,
                *map(_array, (dout, y)), zs, *map(_array, (dy, dz)), b * L, blocks, wide,
            )  # fmt: skip
        du, ddelta = torch.empty_like(u), torch.empty_like(u)
        dA, dD, dbias = torch.empty_like(A2), torch.empty_like(D), torch.empty_like(bias)
        dB, dC = (u.new_empty(count, G, b, L, N) for _ in range(2))
        Bs, Cs, narrow = _pair(B, C)
        spread(
            scan_kernels.backward, count, blocks,
            *map(_array, (u, delta, A2)), Bs, Cs, *map(_array, (D, bias, dy, starts)),
            *map(_array, (du, ddelta, dA, dB, dC, dD, dbias)), _flags(reverse),
            G, b, L, blocks, N, chunk, narrow, z is not None, softplus,
        )  # fmt: skip
        dA = dA.transpose(2, 3).reshape(G, E, N)
        return du, ddelta, dA, dB.sum(0), dC.sum(0), dD, dbias, dz, None, None


class _ConvSilu(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, reverse: tuple[bool, ...]
    ) -> Tensor:
        b, L, E = x.shape
        G, _, K = weight.shape
        taps, bias = weight.transpose(1, 2).contiguous(), bias.contiguous()
        u = x.new_empty(G, b, L, E)
        xs, wide = _rows(x)
        blocks = E // LANES
        spread(
            mamba_kernels.conv_silu, parts(blocks), blocks,
            xs, *map(_array, (taps, bias, u)), _flags(reverse), G, b, L, blocks, K, wide,
        )  # fmt: skip
        ctx.save_for_backward(x, taps, bias)
        ctx.reverse = reverse
        return u

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, du: Tensor) -> tuple[Tensor | None, ...]:
        x, taps, bias = ctx.saved_tensors
        b, L, E = x.shape
        G, K, _ = taps.shape
        dx = x.new_empty(b, L, E)
        dw, dbias = torch.empty_like(taps), torch.empty_like(bias)
        xs, wide = _rows(x)
        blocks = E // LANES
        spread(
            mamba_kernels.conv_silu_backward, parts(blocks), blocks,
            xs, *map(_array, (taps, bias, du.contiguous(), dx, dw, dbias)), _flags(ctx.reverse),
            G, b, L, blocks, K, wide,
        )  # fmt: skip
        return dx, dw.transpose(1, 2), dbias, None


class _AddNorm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, residual: Tensor | None, weight: Tensor, eps: float
    ) -> tuple[Tensor, Tensor | None]:
        hidden, weight = hidden.contiguous(), weight.contiguous()
        d = hidden.shape[-1]
        rows = hidden.numel() // d
        total = hidden if residual is None else torch.empty_like(hidden)
        other = hidden if residual is None else residual.contiguous()
        normed, scales = torch.empty_like(hidden), hidden.new_empty(rows)
        spread(
            mamba_kernels.add_norm, parts(rows), rows,
            *map(_array, (hidden, other, weight, total, normed, scales)),
            d, eps, residual is not None,
        )  # fmt: skip
        ctx.save_for_backward(total, weight, scales)
        ctx.add = residual is not None
        return normed, total if ctx.add else None

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dnormed: Tensor, dtotal: Tensor | None) -> tuple[Tensor | None, ...]:
        total, weight, scales = ctx.saved_tensors
        d = total.shape[-1]
        rows = total.numel() // d
        count = parts(rows)
        dnormed = dnormed.contiguous()
        other = dtotal.contiguous() if ctx.add and dtotal is not None else None
        dx, dw = torch.empty_like(total), total.new_empty(count, d)
        spread(
            mamba_kernels.add_norm_backward, count, rows,
            _array(dnormed), _array(dnormed if other is None else other),
            *map(_array, (total, weight, scales, dx, dw)), d, other is not None,
        )  # fmt: skip
        return dx, dx if ctx.add else None, dw.sum(0), None
