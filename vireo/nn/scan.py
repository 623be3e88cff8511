"""Selective scan of Mamba blocks: h_t = exp(d_t A) h_(t-1) + d_t B_t u_t,  y_t = C_t h_t + D u_t.

One function, `selective_scan`, chooses the way it is computed:

* `chunked`: any device, PyTorch only, `vireo/nn/scan_chunked.py`.
* `numba`: CPU, compiled where it runs, `vireo/nn/scan_numba.py`; x86 processors with AVX2.
* `triton`: CUDA, `vireo/nn/scan_triton.py`.
* `mamba_ssm`: the kernels of an installed `mamba-ssm`, only when asked for.
* `loop`: the plain reference, one step at a time. Its backward is quadratic in length: tests only.

`auto` takes `triton` on CUDA, `numba` on the CPU where it works and `chunked` elsewhere;
`VIREO_SCAN=torch|numba|triton` (`torch` is `chunked`) takes that one instead.

Both scan directions of a block run in one call, stacked on the first axis. Everything inside is
float32 (float64 for float64 input) whatever the input or autocast says: a bfloat16 state is wrong
by percents.

Source: Gu & Dao, Mamba (arXiv 2312.00752), section 3; simplified Euler rule for B.
"""

import importlib.util
import os

import torch
import torch.nn.functional as F
from torch import Tensor

from vireo.errors import VireoError, unknown
from vireo.nn import compiled
from vireo.nn.scan_chunked import CHUNK, SOFTPLUS_THRESHOLD, ChunkedScan, compute_dtype

BACKENDS = ("auto", "chunked", "numba", "triton", "mamba_ssm", "loop")
VARIABLE = "VIREO_SCAN"
FORCED = {"torch": "chunked", "numba": "numba", "triton": "triton"}  # values of the variable


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
    *,
    softplus: bool = True,
    backend: str = "auto",
) -> tuple[Tensor, Tensor]:
    """Scan G independent directions along time; each sees the sequence in its own order.

    u, delta [G,b,L,E]; A [G,E,N] (negative); B, C [G,b,L,N]; D, delta_bias [G,E] or None.
    `softplus` turns delta into softplus(delta + delta_bias). Returns y [G,b,L,E] in u's dtype and
    the last state [G,b,E,N] in float32, which carries no gradient. VireoError for an unknown or
    unavailable backend.
    """
    _check(u, delta, A, B, C)
    args = (u, delta, A, B, C, D, delta_bias)
    backend = choose(backend, u)
    if backend == "loop":
        return loop_scan(*args, softplus=softplus)
    if backend == "mamba_ssm":
        return _mamba_ssm_scan(*args, softplus=softplus)
    if backend == "triton":
        from vireo.nn import scan_triton

        return scan_triton.selective_scan(*args, softplus)
    if backend == "numba":
        from vireo.nn import scan_numba

        return scan_numba.selective_scan(*args, softplus)
    y, last = ChunkedScan.apply(*args, softplus, CHUNK)
    return y, last


def available(backend: str) -> str | None:
    """Why `backend` cannot be used here, or None if it can."""
    if backend == "triton":
        if importlib.util.find_spec("triton") is None:
            return "Triton is not installed"
        return None if torch.cuda.is_available() else "no CUDA device"
    if backend == "mamba_ssm":
        # Recent mamba-ssm wheels leave the Mamba-1 kernel out unless asked at build time.
        if importlib.util.find_spec("mamba_ssm") is None:
            return "mamba-ssm is not installed"
        if importlib.util.find_spec("selective_scan_cuda") is None:
            return "this mamba-ssm was built without its kernel (MAMBA_KEEP_CUDA_BUILD=TRUE)"
        return None
    if backend == "numba":
        return compiled.missing()
    return None if backend in BACKENDS else f"unknown backend {backend!r}"


def forced() -> str | None:
    """The backend that the environment variable VIREO_SCAN asks for; VireoError for a wrong value.

    An empty value counts as not set.
    """
    value = os.environ.get(VARIABLE)
    if not value:
        return None
    if value not in FORCED:
        raise unknown(f"value of {VARIABLE}", value, FORCED)
    return FORCED[value]


def check(backend: str) -> None:
    """VireoError for an unknown backend or a wrong value of VIREO_SCAN."""
    if backend not in BACKENDS:
        raise unknown("scan backend", backend, BACKENDS)
    forced()


def choose(backend: str, u: Tensor) -> str:
    """The backend to use for input `u`, never "auto"; VireoError if it cannot be used here."""
    check(backend)
    asked = f"`scan: {backend}`"
    if backend == "auto" and (wanted := forced()):
        backend, asked = wanted, f"{VARIABLE}={os.environ[VARIABLE]}"
    if backend == "auto":
        return _best(u)
    reason = available(backend)
    if backend == "triton" and u.device.type == "cpu" and importlib.util.find_spec("triton"):
        return backend  # its CPU registration is the chunked scan
    if backend == "numba" and u.device.type != "cpu":
        reason = f"it is for the CPU, the model is on {u.device.type}"
    if reason:
        raise VireoError(
            f"scan backend {backend!r} ({asked}) cannot be used: {reason}; use `scan: auto`"
            + ("" if asked.startswith("`") else f" and unset {VARIABLE}")
        )
    return backend


def _best(u: Tensor) -> str:
    if u.is_cuda and u.dtype != torch.float64 and available("triton") is None:
        return "triton"
    if torch.compiler.is_compiling():
        # The registered operator is opaque to the compiler, on the CPU too.
        return "triton" if importlib.util.find_spec("triton") is not None else "chunked"
    if u.device.type == "cpu" and u.dtype != torch.float64 and available("numba") is None:
        return "numba"
    return "chunked"


def _check(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> None:
    G, b, L, E = u.shape
    N = A.shape[-1]
    want = {"delta": (G, b, L, E), "A": (G, E, N), "B": (G, b, L, N), "C": (G, b, L, N)}
    for name, tensor in zip(want, (delta, A, B, C), strict=True):
        if tuple(tensor.shape) != want[name]:
            raise ValueError(f"selective_scan: {name} is {tuple(tensor.shape)}, not {want[name]}")


def loop_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
    *,
    softplus: bool = True,
) -> tuple[Tensor, Tensor]:
    """The definition, one step at a time with ordinary autograd. Arguments as `selective_scan`."""
    dtype, out_dtype = compute_dtype(u), u.dtype
    with torch.autocast(u.device.type, enabled=False):
        u, delta, A, B, C = (x.to(dtype) for x in (u, delta, A, B, C))
        if delta_bias is not None:
            delta = delta + delta_bias.to(dtype)[:, None, None]
        if softplus:
            delta = F.softplus(delta, threshold=SOFTPLUS_THRESHOLD)
        h = u.new_zeros(u.shape[0], u.shape[1], u.shape[3], A.shape[-1])
        ys = []
        for t in range(u.shape[2]):
            d = delta[:, :, t, :, None]
            h = torch.exp(d * A[:, None]) * h + d * B[:, :, t, None] * u[:, :, t, :, None]
            ys.append((h * C[:, :, t, None]).sum(-1))
        y = torch.stack(ys, 2)
        if D is not None:
            y = y + D.to(dtype)[:, None, None] * u
    return y.to(out_dtype), h.detach()


def _mamba_ssm_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    delta_bias: Tensor | None,
    *,
    softplus: bool,
) -> tuple[Tensor, Tensor]:
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

    ys, lasts = [], []
    for g in range(u.shape[0]):  # its layout is [b,E,L] with L contiguous, one direction a call
        us, dt, Bs, Cs = (x[g].transpose(1, 2).contiguous() for x in (u, delta, B, C))
        y, last = selective_scan_fn(
            us,
            dt.to(us.dtype),
            A[g].float().contiguous(),
            Bs.to(us.dtype),
            Cs.to(us.dtype),
            None if D is None else D[g].float(),
            z=None,
            delta_bias=None if delta_bias is None else delta_bias[g].float(),
            delta_softplus=softplus,
            return_last_state=True,
        )
        ys.append(y.transpose(1, 2))
        lasts.append(last)
    return torch.stack(ys), torch.stack(lasts).detach()
