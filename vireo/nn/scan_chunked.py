"""The selective scan in PyTorch alone: a recurrence over chunks of time with two reused buffers.

Backward rebuilds the states of one chunk at a time from the state at its start. No form that
divides by cumulative products or exponentiates cumulative sums is used: with d = 0.7 and A = -16
those overflow float32 after eight steps.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

CHUNK = 32  # steps per chunk; 8 to 128 differ by less than a fifth


LOG2E = 1.0 / math.log(2.0)


SOFTPLUS_THRESHOLD = 20.0


# Floats per time step in one CPU chunk buffer: 32 steps of this are 4 MB, which stays in cache.
CPU_STEP = 32768


def compute_dtype(u: Tensor) -> torch.dtype:
    """The dtype of states and sums for input `u`."""
    return torch.float64 if u.dtype == torch.float64 else torch.float32


def chunked_forward(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    softplus: bool,
    chunk: int = CHUNK,
    keep_starts: bool = False,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """y [G,b,L,E], last state [G,b,N,E] and, if kept, the state at each chunk's start [n,G,b,N,E].

    The inner axes are (N, E), not (E, N): products with delta and B then run along E, in whole
    vectors.
    """
    G, b, L, E = u.shape
    N, dtype = A.shape[-1], compute_dtype(u)
    chunk = min(chunk, L)
    y = u.new_empty(G, b, L, E)
    last = u.new_empty(G, b, N, E, dtype=dtype)
    starts = u.new_empty(math.ceil(L / chunk), G, b, N, E, dtype=dtype) if keep_starts else None
    A2 = _log2_decay(A, dtype)
    rows = _batch_rows(u, N)
    decay, state = (u.new_empty(chunk, G, min(rows, b), N, E, dtype=dtype) for _ in range(2))
    with torch.autocast(u.device.type, enabled=False):
        for i in range(0, b, rows):
            part = slice(i, min(i + rows, b))
            h = torch.zeros_like(last[:, part])
            for index, start in enumerate(range(0, L, chunk)):
                time = slice(start, min(start + chunk, L))
                if starts is not None:
                    starts[index, :, part] = h
                us, dt = (_chunk(x, part, time, dtype) for x in (u, delta))
                Bs, Cs = (_chunk(x, part, time, dtype) for x in (B, C))
                dt = _positive(dt, delta_bias, softplus)[0]
                n, w = us.shape[0], us.shape[2]
                a, s = decay[:n, :, :w], state[:n, :, :w]
                _states(a, s, us, dt, A2, Bs, h)
                h = s[-1].clone()
                out = _sum_n(Cs, s)
                if D is not None:
                    out.addcmul_(us, D.to(dtype).unsqueeze(1))
                y[:, part, time] = out.permute(1, 2, 0, 3)
            last[:, part] = h
    return y, last, starts


def chunked_backward(
    dy: Tensor,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    softplus: bool,
    starts: Tensor,
    chunk: int = CHUNK,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of u, delta, A, B, C, D, delta_bias (the last two [G,E] in float).

    Chunks in reverse; in each, states are rebuilt with the same operations as in forward, then
    g_t = C_t dy_t + a_(t+1) g_(t+1) runs backwards.
    """
    G, b, L, E = u.shape
    N, dtype = A.shape[-1], compute_dtype(u)
    chunk = min(chunk, L)
    du, ddelta = torch.empty_like(u), torch.empty_like(delta)
    dB, dC = torch.empty_like(B), torch.empty_like(C)
    dA = u.new_zeros(G, N, E, dtype=dtype)
    dD, dbias = (u.new_zeros(G, E, dtype=dtype) for _ in range(2))
    An = A.to(dtype).transpose(1, 2).contiguous().unsqueeze(1)
    A2 = _log2_decay(A, dtype)
    rows = _batch_rows(u, N)
    width = min(rows, b)
    decay, grad = (u.new_empty(chunk, G, width, N, E, dtype=dtype) for _ in range(2))
    state = u.new_empty(chunk + 1, G, width, N, E, dtype=dtype)
    with torch.autocast(u.device.type, enabled=False):
        for i in range(0, b, rows):
            part = slice(i, min(i + rows, b))
            carry = torch.zeros_like(starts[0, :, part])
            for index in reversed(range(starts.shape[0])):
                time = slice(index * chunk, min((index + 1) * chunk, L))
                us, raw = (_chunk(x, part, time, dtype) for x in (u, delta))
                Bs, Cs = (_chunk(x, part, time, dtype) for x in (B, C))
                dys = _chunk(dy, part, time, dtype)
                dt, slope = _positive(raw, delta_bias, softplus)
                n, w = us.shape[0], us.shape[2]
                a, s, g = decay[:n, :, :w], state[: n + 1, :, :w], grad[:n, :, :w]
                s[0] = starts[index, :, part]
                _states(a, s[1:], us, dt, A2, Bs, s[0])
                torch.mul(dys.unsqueeze(-2), Cs.unsqueeze(-1), out=g)
                g[-1].add_(carry)
                at, gt = a.unbind(0), g.unbind(0)
                for t in range(n - 2, -1, -1):
                    gt[t].addcmul_(at[t + 1], gt[t + 1])
                carry = at[0] * gt[0]
                dtu = dt * us
                _put(dC, part, time, _sum_e(dys, s[1:]))
                _put(dB, part, time, _sum_e(dtu, g))
                ddtu = _sum_n(Bs, g)
                # dL/d(dt*A) = g_t a_t h_(t-1), in place of g; `a` is then free for products.
                g.mul_(a).mul_(s[:-1])
                dA += torch.mul(g, dt.unsqueeze(-2), out=a).sum((0, 2))
                ddt = torch.mul(g, An, out=a).sum(-2).addcmul_(us, ddtu)
                if slope is not None:
                    ddt *= slope
                dbias += ddt.sum((0, 2))
                dD += (dys * us).sum((0, 2))
                dus = ddtu.mul_(dt)
                if D is not None:
                    dus.addcmul_(dys, D.to(dtype).unsqueeze(1))
                _put(du, part, time, dus)
                _put(ddelta, part, time, ddt)
    return du, ddelta, dA.transpose(1, 2).to(A.dtype), dB, dC, dD, dbias


class ChunkedScan(torch.autograd.Function):
    """`chunked_forward` that saves its inputs and one state per chunk."""

    @staticmethod
    def forward(ctx: Any, *args: Any) -> tuple[Tensor, Tensor]:
        """Inputs of `chunked_forward` -> outputs and last state."""
        u, delta, A, B, C, D, delta_bias, softplus, chunk = args
        needs = any(ctx.needs_input_grad)
        y, last, starts = chunked_forward(
            u, delta, A, B, C, D, delta_bias, softplus, chunk, keep_starts=needs
        )
        if needs:
            ctx.save_for_backward(*args[:7], starts)
            ctx.softplus, ctx.chunk = softplus, chunk
        last = last.transpose(-1, -2)
        ctx.mark_non_differentiable(last)
        return y, last

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dy: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        """Gradient of the outputs -> one per argument of `forward`."""
        u, delta, A, B, C, D, delta_bias, starts = ctx.saved_tensors
        grads = chunked_backward(
            dy, u, delta, A, B, C, D, delta_bias, ctx.softplus, starts, ctx.chunk
        )
        return *cast_optional(grads, D, delta_bias), None, None


def cast_optional(
    grads: tuple[Tensor, ...], D: Tensor | None, delta_bias: Tensor | None
) -> tuple[Tensor | None, ...]:
    """The seven gradients with those of D and delta_bias in their dtype, None where absent."""
    *rest, dD, dbias = grads
    return (
        *rest,
        None if D is None else dD.to(D.dtype),
        None if delta_bias is None else dbias.to(delta_bias.dtype),
    )


def _chunk(x: Tensor, part: slice, time: slice, dtype: torch.dtype) -> Tensor:
    """[G,b,L,K] -> the chunk [T,G,b',K], time first."""
    return x[:, part, time].permute(2, 0, 1, 3).to(dtype)


def _put(x: Tensor, part: slice, time: slice, value: Tensor) -> None:
    x[:, part, time] = value.permute(1, 2, 0, 3)


def _positive(raw: Tensor, bias: Tensor | None, softplus: bool) -> tuple[Tensor, Tensor | None]:
    """Step sizes and the derivative of softplus; identity above 20, as in the kernels."""
    if bias is not None:
        raw = raw + bias.to(raw.dtype).unsqueeze(1)
    if not softplus:
        return raw, None
    slope = torch.where(raw > SOFTPLUS_THRESHOLD, 1.0, torch.sigmoid(raw))
    return F.softplus(raw, threshold=SOFTPLUS_THRESHOLD), slope


def _log2_decay(A: Tensor, dtype: torch.dtype) -> Tensor:
    """A in units of log 2, [G,1,N,E]: exp2 costs a third of exp on the CPU."""
    return (A.to(dtype) * LOG2E).transpose(1, 2).contiguous().unsqueeze(1)


def _batch_rows(u: Tensor, n: int) -> int:
    """How many batch rows to run at once so that the chunk buffers stay in the CPU's cache."""
    if u.device.type != "cpu":
        return u.shape[1]
    return max(1, CPU_STEP // (u.shape[0] * n * u.shape[3]))


def _states(a: Tensor, s: Tensor, u: Tensor, dt: Tensor, A2: Tensor, B: Tensor, h: Tensor) -> None:
    """Fill a with exp(dt A) and s with the states of one chunk that starts from h."""
    torch.mul(dt.unsqueeze(-2), A2, out=a)
    torch.exp2(a, out=a)
    torch.mul((dt * u).unsqueeze(-2), B.unsqueeze(-1), out=s)
    for at, st in zip(a.unbind(0), s.unbind(0), strict=True):
        h = st.addcmul_(at, h)


def _sum_n(x: Tensor, s: Tensor) -> Tensor:
    """x [T,G,b,N], s [T,G,b,N,E] -> their product summed over N, [T,G,b,E]."""
    return torch.matmul(x.unsqueeze(-2), s).squeeze(-2)


def _sum_e(x: Tensor, s: Tensor) -> Tensor:
    """x [T,G,b,E], s [T,G,b,N,E] -> their product summed over E, [T,G,b,N]."""
    return torch.matmul(x.unsqueeze(-2), s.transpose(-1, -2)).squeeze(-2)
