"""The selective scan as Triton kernels, one operator with forward, backward, fake and CPU forms.

Forward: one program per 32 channels, batch row and stretch of time walks its steps with the state
[N,32] in registers, so the sum over N needs no exchange between threads. When there are too few
rows to fill the card, time is cut into segments: each is first run from zero for its final state,
a carry joins those (the decay over a segment is the exp of A times its summed delta, at most 1),
and the outputs follow from the true initial states.

Backward keeps nothing but the inputs. The same walk stores the state at every 16th step, once
forwards (h) and once backwards (a g), and a last kernel takes each tile of 16 steps apart from the
others, recomputing inside by an associative scan. Sums over channels and time leave per-program
partial sums that PyTorch adds: the result is deterministic, there are no atomics.

Sources: Gu & Dao (arXiv 2312.00752), section 3.3.2, for the recomputation.
Checked on the CPU by Triton's interpreter (tests/nn/test_scan.py).
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.library import custom_op, triton_op, wrap_triton

from vireo.nn import scan_chunked

LOG2E = tl.constexpr(scan_chunked.LOG2E)
THRESHOLD = tl.constexpr(scan_chunked.SOFTPLUS_THRESHOLD)
CHANNELS = 32  # per program: one warp, one thread per channel
TILE = 16  # steps per tile of the backward pass
# Programs per multiprocessor below which time is cut into segments.
_WARPS_WANTED = 12


@triton.jit
def _step_size(x, SOFTPLUS: tl.constexpr):
    """softplus(x), accurate to rounding for very negative x, and x itself above 20."""
    if SOFTPLUS:
        e = tl.exp(tl.minimum(x, THRESHOLD))
        w = 1.0 + e
        # log1p without losing e where 1 + e rounds: scale e by log(w) / (w - 1).
        soft = tl.where(w == 1.0, e, e * (tl.log(w) / tl.where(w == 1.0, 1.0, w - 1.0)))
        x = tl.where(x > THRESHOLD, x, soft)
    return x


@triton.jit
def _walk(
    u_ptr, dt_ptr, A_ptr, B_ptr, C_ptr, D_ptr, bias_ptr, dy_ptr,
    y_ptr, init_ptr, final_ptr, total_ptr, tiles_ptr,
    length, rows, batch, E, steps,
    N: tl.constexpr, N_PAD: tl.constexpr, BE: tl.constexpr, TILE_: tl.constexpr,
    HAS_D: tl.constexpr, HAS_BIAS: tl.constexpr, SOFTPLUS: tl.constexpr,
    HAS_INIT: tl.constexpr, REVERSE: tl.constexpr,
    STORE_Y: tl.constexpr, STORE_FINAL: tl.constexpr, STORE_TOTAL: tl.constexpr,
    STORE_TILES: tl.constexpr,
):  # fmt: skip
    """Run one segment of `steps` steps for BE channels of one row (direction x batch).

    Forwards h = a h + dt u B; reversed r = a (C dy + r), which is a_t g_t, to be added to g_(t-1).
    """
    e = tl.program_id(0) * BE + tl.arange(0, BE)
    segment = tl.program_id(1)
    row = tl.program_id(2).to(tl.int64)
    direction = row // batch
    n = tl.arange(0, N_PAD)
    in_e = e < E
    in_n = n < N
    both = in_n[:, None] & in_e[None, :]
    plane = n[:, None] * E + e[None, :]
    A2 = tl.load(A_ptr + direction * N * E + plane, mask=both, other=0.0) * LOG2E
    state = tl.zeros([N_PAD, BE], dtype=tl.float32)
    total = tl.zeros([BE], dtype=tl.float32)
    if HAS_INIT:
        state = tl.load(init_ptr + (segment * rows + row) * N * E + plane, mask=both, other=0.0)
    if HAS_BIAS:
        bias = tl.load(bias_ptr + direction * E + e, mask=in_e, other=0.0).to(tl.float32)
    if HAS_D:
        D = tl.load(D_ptr + direction * E + e, mask=in_e, other=0.0).to(tl.float32)
    start = segment * steps
    count = tl.minimum(steps, length - start)
    for i in range(0, count):
        t = start + i
        if REVERSE:
            t = start + count - 1 - i
        wide = (row * length + t) * E + e
        narrow = (row * length + t) * N + n
        dt = tl.load(dt_ptr + wide, mask=in_e, other=0.0).to(tl.float32)
        if HAS_BIAS:
            dt += bias
        dt = _step_size(dt, SOFTPLUS)
        a = tl.exp2(A2 * dt[None, :])
        if STORE_TOTAL:
            total += dt
        if STORE_TILES:
            at_edge = t % TILE_ == 0
            if REVERSE:
                at_edge = (t % TILE_ == TILE_ - 1) | (t == length - 1)
            if at_edge:
                where = (t // TILE_ * rows + row) * N * E + plane
                tl.store(tiles_ptr + where, state, mask=both)
        if REVERSE:
            dy = tl.load(dy_ptr + wide, mask=in_e, other=0.0).to(tl.float32)
            C = tl.load(C_ptr + narrow, mask=in_n, other=0.0).to(tl.float32)
            state = a * (C[:, None] * dy[None, :] + state)
        else:
            u = tl.load(u_ptr + wide, mask=in_e, other=0.0).to(tl.float32)
            B = tl.load(B_ptr + narrow, mask=in_n, other=0.0).to(tl.float32)
            state = a * state + (dt * u)[None, :] * B[:, None]
            if STORE_Y:
                C = tl.load(C_ptr + narrow, mask=in_n, other=0.0).to(tl.float32)
                y = tl.sum(state * C[:, None], axis=0)
                if HAS_D:
                    y += D * u
                tl.store(y_ptr + wide, y.to(y_ptr.dtype.element_ty), mask=in_e)
    if STORE_FINAL:
        tl.store(final_ptr + (segment * rows + row) * N * E + plane, state, mask=both)
    if STORE_TOTAL:
        tl.store(total_ptr + (segment * rows + row) * E + e, total, mask=in_e)


@triton.jit
def _carry(
    A_ptr, state_ptr, total_ptr, last_ptr,
    segments, rows, batch, E,
    N: tl.constexpr, N_PAD: tl.constexpr, BE: tl.constexpr, REVERSE: tl.constexpr,
    STORE_LAST: tl.constexpr,
):  # fmt: skip
    """Replace each segment's final state (run from zero) by the true state at its start."""
    e = tl.program_id(0) * BE + tl.arange(0, BE)
    row = tl.program_id(1).to(tl.int64)
    n = tl.arange(0, N_PAD)
    in_e = e < E
    both = (n < N)[:, None] & in_e[None, :]
    plane = n[:, None] * E + e[None, :]
    A2 = tl.load(A_ptr + row // batch * N * E + plane, mask=both, other=0.0) * LOG2E
    state = tl.zeros([N_PAD, BE], dtype=tl.float32)
    for i in range(0, segments):
        s = i
        if REVERSE:
            s = segments - 1 - i
        total = tl.load(total_ptr + (s * rows + row) * E + e, mask=in_e, other=0.0)
        where = state_ptr + (s * rows + row) * N * E + plane
        own = tl.load(where, mask=both, other=0.0)
        tl.store(where, state, mask=both)
        state = tl.exp2(A2 * total[None, :]) * state + own
    if STORE_LAST:
        tl.store(last_ptr + row * N * E + plane, state, mask=both)


@triton.jit
def _compose(a1, b1, a2, b2):
    """Apply (a1, b1), then (a2, b2): both decays are at most 1, nothing is ever divided."""
    return a1 * a2, a2 * b1 + b2


@triton.jit
def _gradients(
    u_ptr, dt_ptr, A_ptr, B_ptr, C_ptr, D_ptr, bias_ptr, dy_ptr,
    h_ptr, r_ptr,
    du_ptr, ddt_ptr, dB_ptr, dC_ptr, dD_ptr, dbias_ptr,
    length, rows, batch, E,
    N: tl.constexpr, BE: tl.constexpr, TILE_: tl.constexpr,
    HAS_D: tl.constexpr, HAS_BIAS: tl.constexpr, SOFTPLUS: tl.constexpr,
):  # fmt: skip
    """All gradients of one tile of steps; h_ptr holds the states at tile starts, then dA's parts.

    Inside, s_t = a_t h_(t-1) follows from s_t = a_t (s_(t-1) + b_(t-1)), so that neither the
    product a h nor h itself is got by subtraction.
    """
    block = tl.program_id(0)
    tile = tl.program_id(1)
    row = tl.program_id(2).to(tl.int64)
    direction = row // batch
    e = block * BE + tl.arange(0, BE)
    i = tl.arange(0, TILE_)
    t = tile * TILE_ + i
    in_e = e < E
    in_t = t < length
    both = in_t[:, None] & in_e[None, :]
    wide = (row * length + t)[:, None] * E + e[None, :]
    before = both & (i > 0)[:, None]
    after = (t + 1 < length)[:, None] & (i < TILE_ - 1)[:, None] & in_e[None, :]

    u = tl.load(u_ptr + wide, mask=both, other=0.0).to(tl.float32)
    dy = tl.load(dy_ptr + wide, mask=both, other=0.0).to(tl.float32)
    raw = tl.load(dt_ptr + wide, mask=both, other=0.0).to(tl.float32)
    u_before = tl.load(u_ptr + wide - E, mask=before, other=0.0).to(tl.float32)
    raw_before = tl.load(dt_ptr + wide - E, mask=before, other=0.0).to(tl.float32)
    raw_after = tl.load(dt_ptr + wide + E, mask=after, other=0.0).to(tl.float32)
    if HAS_BIAS:
        bias = tl.load(bias_ptr + direction * E + e, mask=in_e, other=0.0).to(tl.float32)
        raw += bias[None, :]
        raw_before += bias[None, :]
        raw_after += bias[None, :]
    # Steps past the end get dt = 0 (decay 1, no input), so they change nothing.
    dt = tl.where(both, _step_size(raw, SOFTPLUS), 0.0)
    dtu_before = tl.where(before, _step_size(raw_before, SOFTPLUS), 0.0) * u_before
    dt_after = tl.where(after, _step_size(raw_after, SOFTPLUS), 0.0)
    dtu = dt * u
    ddtu = tl.zeros([TILE_, BE], dtype=tl.float32)
    ddt = tl.zeros([TILE_, BE], dtype=tl.float32)
    first = (i == 0)[:, None]
    final = (i == TILE_ - 1)[:, None]
    narrow = (row * length + t) * N
    for n in range(0, N):
        A = tl.load(A_ptr + (direction * N + n) * E + e, mask=in_e, other=0.0)
        B = tl.load(B_ptr + narrow + n, mask=in_t, other=0.0).to(tl.float32)
        B_before = tl.load(B_ptr + narrow - N + n, mask=in_t & (i > 0), other=0.0).to(tl.float32)
        C = tl.load(C_ptr + narrow + n, mask=in_t, other=0.0).to(tl.float32)
        edge = ((tile * rows + row) * N + n) * E + e
        h0 = tl.load(h_ptr + edge, mask=in_e, other=0.0)
        r0 = tl.load(r_ptr + edge, mask=in_e, other=0.0)
        a = tl.exp2(dt * (A * LOG2E)[None, :])
        own = tl.where(first, h0[None, :], dtu_before * B_before[:, None])
        _, s = tl.associative_scan((a, a * own), 0, _compose)
        h = s + dtu * B[:, None]
        # g_t = C_t dy_t + a_(t+1) g_(t+1); what comes from beyond the tile is r0 = a g already.
        a_after = tl.exp2(dt_after * (A * LOG2E)[None, :])
        v = C[:, None] * dy + tl.where(final, r0[None, :], 0.0)
        _, g = tl.associative_scan((a_after, v), 0, _compose, reverse=True)
        x = g * s
        ddtu += g * B[:, None]
        ddt += x * A[None, :]
        part = (block.to(tl.int64) * rows * length + row * length + t) * N + n
        tl.store(dB_ptr + part, tl.sum(dtu * g, axis=1), mask=in_t)
        tl.store(dC_ptr + part, tl.sum(dy * h, axis=1), mask=in_t)
        tl.store(h_ptr + edge, tl.sum(dt * x, axis=0), mask=in_e)
    ddt += u * ddtu
    if SOFTPLUS:
        ddt *= tl.where(raw > THRESHOLD, 1.0, tl.sigmoid(raw))
    du = dt * ddtu
    if HAS_D:
        D = tl.load(D_ptr + direction * E + e, mask=in_e, other=0.0).to(tl.float32)
        du += D[None, :] * dy
    tl.store(du_ptr + wide, du.to(du_ptr.dtype.element_ty), mask=both)
    tl.store(ddt_ptr + wide, ddt.to(ddt_ptr.dtype.element_ty), mask=both)
    edge = (tile * rows + row) * E + e
    tl.store(dD_ptr + edge, tl.sum(dy * u, axis=0), mask=in_e)
    tl.store(dbias_ptr + edge, tl.sum(tl.where(both, ddt, 0.0), axis=0), mask=in_e)


def _launch(kernel: Any, grid: tuple[int, ...], *args: Any, **meta: Any) -> None:
    """Launch so that tracing sees the kernel; under the interpreter there is nothing to trace."""
    if isinstance(kernel, triton.runtime.JITFunction):
        kernel = wrap_triton(kernel)
        meta["num_warps"] = 1
    kernel[grid](*args, **meta)


def _segment_steps(u: Tensor, programs: int) -> int:
    """Steps per segment of time (a multiple of TILE): all of them where programs fill the card."""
    length = u.shape[2]
    if not u.is_cuda:
        return length
    wanted = torch.cuda.get_device_properties(u.device).multi_processor_count * _WARPS_WANTED
    segments = max(1, min(wanted // programs, length // (4 * TILE)))
    return triton.cdiv(triton.cdiv(length, segments), TILE) * TILE


class _Problem:
    """Contiguous inputs, sizes and the flags that every kernel of one call shares."""

    def __init__(
        self,
        u: Tensor,
        delta: Tensor,
        A: Tensor,
        B: Tensor,
        C: Tensor,
        D: Tensor | None,
        delta_bias: Tensor | None,
        softplus: bool,
    ) -> None:
        self.G, self.b, self.L, self.E = u.shape
        self.N, self.rows = A.shape[-1], self.G * self.b
        self.u, self.delta, self.B, self.C = (x.contiguous() for x in (u, delta, B, C))
        self.A = A.float().transpose(1, 2).contiguous()  # [G,N,E]: neighbours in E load together
        self.D = None if D is None else D.contiguous()
        self.bias = None if delta_bias is None else delta_bias.contiguous()
        self.blocks = triton.cdiv(self.E, CHANNELS)
        self.steps = _segment_steps(u, self.blocks * self.rows)
        self.segments = triton.cdiv(self.L, self.steps)
        self.pad = triton.next_power_of_2(self.N)
        self.flags = {
            "HAS_D": D is not None,
            "HAS_BIAS": delta_bias is not None,
            "SOFTPLUS": softplus,
        }

    def floats(self, *shape: int) -> Tensor:
        return self.u.new_empty(shape, dtype=torch.float32)

    def walk(
        self,
        dy: Tensor | None = None,
        y: Tensor | None = None,
        last: Tensor | None = None,
        tiles: Tensor | None = None,
    ) -> None:
        """Fill y and the last state (forwards), or the states at tile edges (reversed with dy)."""
        reverse = dy is not None
        state = total = None
        if self.segments > 1:
            state = self.floats(self.segments, self.rows, self.N, self.E)
            total = self.floats(self.segments, self.rows, self.E)
            self._walk(dy, None, None, state, total, None)
            _launch(
                _carry,
                (self.blocks, self.rows),
                *(self.A, state, total, self.A if last is None else last),
                *(self.segments, self.rows, self.b, self.E),
                N=self.N,
                N_PAD=self.pad,
                BE=CHANNELS,
                REVERSE=reverse,
                STORE_LAST=last is not None,
            )
            last = None
        self._walk(dy, y, state, last, None, tiles)

    def _walk(
        self,
        dy: Tensor | None,
        y: Tensor | None,
        init: Tensor | None,
        final: Tensor | None,
        total: Tensor | None,
        tiles: Tensor | None,
    ) -> None:
        unused = self.A  # a pointer is passed for every argument, its flag says whether it is used
        pointers = (self.D, self.bias, dy, y, init, final, total, tiles)
        _launch(
            _walk,
            (self.blocks, self.segments, self.rows),
            *(self.u, self.delta, self.A, self.B, self.C),
            *(unused if x is None else x for x in pointers),
            *(self.L, self.rows, self.b, self.E, self.steps),
            N=self.N,
            N_PAD=self.pad,
            BE=CHANNELS,
            TILE_=TILE,
            HAS_INIT=init is not None,
            REVERSE=dy is not None,
            STORE_Y=y is not None,
            STORE_FINAL=final is not None,
            STORE_TOTAL=total is not None,
            STORE_TILES=tiles is not None,
            **self.flags,
        )


def forward_kernels(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    softplus: bool,
) -> tuple[Tensor, Tensor]:
    """y [G,b,L,E] and the last state [G,b,E,N], by the kernels."""
    p = _Problem(u, delta, A, B, C, D, delta_bias, softplus)
    y = torch.empty_like(p.u)
    last = p.floats(p.G, p.b, p.N, p.E)
    p.walk(y=y, last=last)
    return y, last.transpose(2, 3).contiguous()


def backward_kernels(
    dy: Tensor,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    softplus: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of u, delta, A, B, C, D, delta_bias by the kernels (the last two in float32)."""
    p = _Problem(u, delta, A, B, C, D, delta_bias, softplus)
    dy = dy.contiguous()
    tiles = triton.cdiv(p.L, TILE)
    h, r = (p.floats(tiles, p.G, p.b, p.N, p.E) for _ in range(2))
    p.walk(tiles=h)
    p.walk(dy=dy, tiles=r)
    du, ddelta = torch.empty_like(p.u), torch.empty_like(p.delta)
    dB, dC = (p.floats(p.blocks, p.G, p.b, p.L, p.N) for _ in range(2))
    dD, dbias = (p.floats(tiles, p.G, p.b, p.E) for _ in range(2))
    _launch(
        _gradients,
        (p.blocks, tiles, p.rows),
        *(p.u, p.delta, p.A, p.B, p.C),
        *(p.A if x is None else x for x in (p.D, p.bias)),
        *(dy, h, r, du, ddelta, dB, dC, dD, dbias),
        *(p.L, p.rows, p.b, p.E),
        N=p.N,
        BE=CHANNELS,
        TILE_=TILE,
        **p.flags,
    )
    dA = h.sum((0, 2)).transpose(1, 2).to(A.dtype).contiguous()
    return (
        du,
        ddelta,
        dA,
        dB.sum(0).to(B.dtype),
        dC.sum(0).to(C.dtype),
        dD.sum((0, 2)),
        dbias.sum((0, 2)),
    )


@custom_op("vireo::chunked_scan", mutates_args=())
def _chunked_op(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    softplus: bool,
) -> tuple[Tensor, Tensor]:
    y, last, _ = scan_chunked.chunked_forward(u, delta, A, B, C, D, delta_bias, softplus)
    return y, last.transpose(2, 3).contiguous()


@_chunked_op.register_fake
def _(u: Tensor, delta: Tensor, A: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    G, b, _L, E = u.shape
    last = u.new_empty(G, b, E, A.shape[-1], dtype=scan_chunked.compute_dtype(u))
    return u.new_empty(u.shape), last


@custom_op("vireo::chunked_scan_backward", mutates_args=())
def _chunked_backward_op(
    dy: Tensor,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    softplus: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    args = (u, delta, A, B, C, D, delta_bias, softplus)
    starts = scan_chunked.chunked_forward(*args, keep_starts=True)[2]
    assert starts is not None
    du, ddelta, dA, dB, dC, dD, dbias = scan_chunked.chunked_backward(dy, *args, starts)
    return du, ddelta, dA.contiguous(), dB, dC, dD, dbias


@_chunked_backward_op.register_fake
def _(
    dy: Tensor, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, *_: Any
) -> tuple[Tensor, ...]:
    same = (x.new_empty(x.shape) for x in (u, delta, A, B, C))
    sums = (
        u.new_empty(u.shape[0], u.shape[3], dtype=scan_chunked.compute_dtype(u)) for _ in range(2)
    )
    return *same, *sums


@triton_op("vireo::selective_scan", mutates_args=())
def _forward_op(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    softplus: bool,
) -> tuple[Tensor, Tensor]:
    if u.device.type == "cpu":
        return _chunked_op(u, delta, A, B, C, D, delta_bias, softplus)
    return forward_kernels(u, delta, A, B, C, D, delta_bias, softplus)


@triton_op("vireo::selective_scan_backward", mutates_args=())
def _backward_op(
    dy: Tensor,
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    softplus: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    if u.device.type == "cpu":
        return _chunked_backward_op(dy, u, delta, A, B, C, D, delta_bias, softplus)
    return backward_kernels(dy, u, delta, A, B, C, D, delta_bias, softplus)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs[:7])
    ctx.softplus = inputs[7]
    ctx.mark_non_differentiable(output[1])


def _backward(ctx: Any, dy: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    tensors = ctx.saved_tensors
    grads = _backward_op(dy, *tensors, ctx.softplus)
    return *scan_chunked.cast_optional(grads, tensors[5], tensors[6]), None


_forward_op.register_autograd(_backward, setup_context=_setup)


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
    """The registered operator; arguments as `vireo.nn.scan.selective_scan`, differentiable."""
    return _forward_op(u, delta, A, B, C, D, delta_bias, softplus)
