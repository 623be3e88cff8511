"""Bidirectional Mamba blocks: RMSNorm, a mixer that scans both ways, residual in float32.

The mixer is Vision Mamba's "v2" (Zhu et al., 2024) as VideoMamba uses it: both directions share the
input and output projections, everything else is doubled (names ending in `_b`), and the two outputs
are added, not averaged. Parameter names are the authors'.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from vireo.nn.clip import DropPath
from vireo.nn.scan import choose, selective_scan

STATE = 16
CONV_WIDTH = 4


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight, in float32."""

    def __init__(self, width: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """[...,d] -> [...,d] in float32 (float64 for float64)."""
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * self.weight


class Mixer(nn.Module):
    """Sequence [b,L,d] -> [b,L,d]: project to x and gate z, convolve, scan both ways, gate, add."""

    def __init__(self, width: int, scan: str = "auto") -> None:
        super().__init__()
        inner, rank = 2 * width, math.ceil(width / 16)
        self.inner, self.rank, self.scan = inner, rank, scan
        # Registration order and names are those of the released files.
        self.A_log = nn.Parameter(torch.empty(inner, STATE))
        self.D = nn.Parameter(torch.empty(inner))
        self.A_b_log = nn.Parameter(torch.empty(inner, STATE))
        self.D_b = nn.Parameter(torch.empty(inner))
        self.in_proj = nn.Linear(width, 2 * inner, bias=False)
        for suffix in ("", "_b"):
            conv = nn.Conv1d(inner, inner, CONV_WIDTH, groups=inner, padding=CONV_WIDTH - 1)
            self.add_module(f"conv1d{suffix}", conv)
            x_proj = nn.Linear(inner, rank + 2 * STATE, bias=False)
            self.add_module(f"x_proj{suffix}", x_proj)
            self.add_module(f"dt_proj{suffix}", nn.Linear(rank, inner))
        self.out_proj = nn.Linear(inner, width, bias=False)

    def forward(self, hidden: Tensor, first_only: bool = False) -> Tensor:
        """[b,L,d] -> [b,L,d]; `first_only` gives token 0 alone, [b,1,d], at about half the cost.

        Token 0 is the start of the forward scan, which therefore takes one step, and the end of the
        backward scan, which needs every token's x but no other token's gate or output.
        """
        kernels = compiled_operators(self.scan, hidden)
        if first_only:
            weight_x, weight_z = self.in_proj.weight.chunk(2)
            x, z = F.linear(hidden, weight_x), F.linear(hidden[:, :1], weight_z)
            ahead = self.directions(x[:, :1].unsqueeze(0), ("",))[0]
            if kernels:
                u = self.convolved(kernels, x, ("_b",), (True,))
                back = kernels.scan(*self.scanned(u, ("_b",)), reverse=(True,))[0, :, :1]
            else:
                back = self.directions(x.flip(1).unsqueeze(0), ("_b",))[0, :, -1:]
        else:
            x, z = self.in_proj(hidden).chunk(2, dim=-1)
            if kernels:
                order = (False, True)
                u = self.convolved(kernels, x, ("", "_b"), order)
                return self.out_proj(kernels.gated_scan(*self.scanned(u, ("", "_b")), z, order))
            ahead, back = self.directions(torch.stack([x, x.flip(1)]), ("", "_b"))
            back = back.flip(1)
        # The gate is the same for both directions once the backward one is turned around.
        return self.out_proj((ahead + back) * F.silu(z))

    def directions(self, x: Tensor, suffixes: tuple[str, ...]) -> Tensor:
        """Convolution and scan of x [G,b,L,E], one direction per suffix, each in its own order."""
        conv = self.stacked("conv1d{}.weight", suffixes).squeeze(2)
        u = causal_conv(x, conv, self.stacked("conv1d{}.bias", suffixes))
        return selective_scan(*self.scanned(u, suffixes), backend=self.scan)[0]

    def convolved(
        self, kernels: Any, x: Tensor, suffixes: tuple[str, ...], reverse: tuple[bool, ...]
    ) -> Tensor:
        """Convolutions of x [b,L,E] by the compiled kernels: [G,b,L,E] in the sequence's order."""
        conv = self.stacked("conv1d{}.weight", suffixes).squeeze(2)
        return kernels.conv_silu(x, conv, self.stacked("conv1d{}.bias", suffixes), reverse)

    def scanned(self, u: Tensor, suffixes: tuple[str, ...]) -> tuple[Tensor, ...]:
        """Arguments of the scan, from `u` to `delta_bias`, for convolved inputs u [G,b,L,E]."""
        G, b, L, E = u.shape
        flat = u.reshape(G, b * L, E)
        parts = torch.bmm(flat, self.stacked("x_proj{}.weight", suffixes).transpose(1, 2))
        raw, B, C = parts.split([self.rank, STATE, STATE], dim=-1)
        delta = torch.bmm(raw, self.stacked("dt_proj{}.weight", suffixes).transpose(1, 2))
        names = {"": "A_log", "_b": "A_b_log"}
        A_log = torch.stack([self.get_parameter(names[s]) for s in suffixes])
        A = -torch.exp(A_log.to(torch.promote_types(A_log.dtype, torch.float32)))
        return (
            u,
            delta.view(G, b, L, E),
            A,
            B.reshape(G, b, L, STATE),
            C.reshape(G, b, L, STATE),
            self.stacked("D{}", suffixes),
            self.stacked("dt_proj{}.bias", suffixes),
        )

    def stacked(self, name: str, suffixes: tuple[str, ...]) -> Tensor:
        """A parameter of every direction."""
        return torch.stack([self.get_parameter(name.format(s)) for s in suffixes])

    def init_weights(
        self, depth: int, generator: torch.Generator | None = None, steps: str = "authors"
    ) -> None:
        """The authors' initialisation in a trunk of `depth` blocks.

        `steps`: how delta starts, "authors" at 0.69 or "mamba" spread over 0.001 to 0.1.
        """
        for suffix in ("", "_b"):
            conv = self.get_submodule(f"conv1d{suffix}")
            conv_init(conv, generator)  # type: ignore[arg-type]
            for name in (f"x_proj{suffix}", f"dt_proj{suffix}"):
                linear_init(self.get_submodule(name), generator)  # type: ignore[arg-type]
            # parity: the general rule for linear layers runs after Mamba's own and wipes out its
            # special start of dt_proj, so delta starts at softplus(0) = 0.69, not 0.001 to 0.1 |
            # changes where training from scratch starts; loaded weights are not touched |
            # `arch.steps: mamba`
            if steps == "mamba":
                step_init(self.get_submodule(f"dt_proj{suffix}"), generator)  # type: ignore[arg-type]
        linear_init(self.in_proj, generator)
        nn.init.kaiming_uniform_(self.out_proj.weight, a=math.sqrt(5), generator=generator)
        with torch.no_grad():
            self.out_proj.weight /= math.sqrt(depth)
            states = torch.arange(1, STATE + 1, dtype=torch.float32).log()
            for A_log in (self.A_log, self.A_b_log):
                A_log.copy_(states.expand_as(A_log))
            for D in (self.D, self.D_b):
                D.fill_(1.0)


class Block(nn.Module):
    """Add the last mixer's output to the residual, normalise, mix.

    The sum is taken at the start of the next block, so a trunk ends with one addition left to do.
    """

    def __init__(self, width: int, drop_path: float, scan: str = "auto") -> None:
        super().__init__()
        self.mixer = Mixer(width, scan)
        self.norm = RMSNorm(width)
        self.drop_path = DropPath(drop_path)

    def residual(self, hidden: Tensor, residual: Tensor | None) -> Tensor:
        """The float32 stream that goes into this block's norm."""
        if residual is None:
            return hidden.to(torch.promote_types(hidden.dtype, torch.float32))
        return residual + self.drop_path(hidden)

    def forward(
        self,
        hidden: Tensor,
        residual: Tensor | None,
        first_only: bool = False,
        recompute: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """(last mixer's output, stream) -> (this mixer's output, stream that went into the norm).

        `first_only`: the mixer's output for token 0 only. `recompute`: the mixer gives up its
        activations and runs again in backward.
        """
        kernels = compiled_operators(self.mixer.scan, hidden)
        if kernels and (residual is None or residual.dtype == hidden.dtype):
            if residual is not None:
                hidden = self.drop_path(hidden)
            normed, residual = kernels.add_norm(hidden, residual, self.norm.weight, self.norm.eps)
        else:
            residual = self.residual(hidden, residual)
            normed = self.norm(residual)
        if recompute and self.training and torch.is_grad_enabled():
            return checkpoint(self.mixer, normed, first_only, use_reentrant=False), residual
        return self.mixer(normed, first_only), residual


def compiled_operators(scan: str, x: Tensor) -> Any:
    """The module of fused operators if `x` is for them, else None: PyTorch's own operations."""
    if choose(scan, x) != "numba" or torch.is_autocast_enabled("cpu"):
        return None
    from vireo.nn import scan_numba

    return scan_numba if scan_numba.fits(x) else None


def causal_conv(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """SiLU of a depthwise causal convolution: x [G,b,L,E], weight [G,E,K], bias [G,E] -> as x.

    K shifted products, summed in float32: the layout stays time-major, nothing is transposed.
    """
    K, L = weight.shape[-1], x.shape[2]
    wide = torch.promote_types(x.dtype, torch.float32)
    padded = F.pad(x, (0, 0, K - 1, 0)).to(wide)
    taps = weight.to(wide).permute(2, 0, 1)[:, :, None, None]
    out = bias.to(wide)[:, None, None] + padded[:, :, :L] * taps[0]
    for k in range(1, K):
        out = torch.addcmul(out, padded[:, :, k : k + L], taps[k])
    return F.silu(out).to(x.dtype)


def linear_init(linear: nn.Linear, generator: torch.Generator | None = None) -> None:
    """Truncated normal of width 0.02, bias 0."""
    nn.init.trunc_normal_(linear.weight, std=0.02, generator=generator)
    if linear.bias is not None:
        nn.init.zeros_(linear.bias)


def step_init(linear: nn.Linear, generator: torch.Generator | None = None) -> None:
    """Mamba's start: steps softplus(bias) spread evenly in their logarithm from 0.001 to 0.1."""
    limit = linear.in_features**-0.5
    nn.init.uniform_(linear.weight, -limit, limit, generator=generator)
    with torch.no_grad():
        nn.init.uniform_(linear.bias, math.log(0.001), math.log(0.1), generator=generator)
        steps = linear.bias.exp()
        linear.bias.copy_(steps + torch.log(-torch.expm1(-steps)))  # softplus turned around


def conv_init(conv: nn.Conv1d | nn.Conv2d | nn.Conv3d, generator: torch.Generator | None) -> None:
    """PyTorch's own start of a convolution, from a generator."""
    nn.init.kaiming_uniform_(conv.weight, a=math.sqrt(5), generator=generator)
    assert conv.bias is not None
    bound = 1 / math.sqrt(conv.weight[0].numel())
    nn.init.uniform_(conv.bias, -bound, bound, generator=generator)
