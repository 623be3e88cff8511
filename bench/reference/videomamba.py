"""VideoMamba as its authors run it where there is no CUDA, written plainly, without vireo.

The scan first makes the decay and the input of every step as whole tensors [B,E,L,N], then walks
the steps one by one with ordinary autograd; each direction of each block is a scan of its own.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    z: Tensor,
    bias: Tensor,
) -> Tensor:
    """u, delta, z [b,E,L]; A [E,N]; B, C [b,N,L]; D, bias [E] -> gated output [b,E,L]."""
    delta = F.softplus(delta + bias[:, None])
    decay = torch.exp(torch.einsum("bel,en->beln", delta, A))
    given = torch.einsum("bel,bnl,bel->beln", delta, B, u)
    h = u.new_zeros(u.shape[0], u.shape[1], A.shape[1])
    steps = []
    for t in range(u.shape[2]):
        h = decay[:, :, t] * h + given[:, :, t]
        steps.append(torch.einsum("ben,bn->be", h, C[:, :, t]))
    return (torch.stack(steps, 2) + u * D[:, None]) * F.silu(z)


def rms(x: Tensor, weight: Tensor) -> Tensor:
    return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * weight


class VideoMamba:
    """The classifier on a state dict in the authors' names."""

    def __init__(self, arch: dict[str, Any], state: dict[str, Tensor]) -> None:
        self.depth, self.width, self.state = arch["depth"], arch["width"], state

    def direction(self, x: Tensor, z: Tensor, layer: str, b: str) -> Tensor:
        p = self.state
        conv = p[f"{layer}.conv1d{b}.weight"], p[f"{layer}.conv1d{b}.bias"]
        c = F.silu(F.conv1d(x, *conv, padding=3, groups=x.shape[1])[..., : x.shape[2]])
        parts = p[f"{layer}.x_proj{b}.weight"] @ c
        rank = math.ceil(self.width / 16)
        r, B, C = parts.split([rank, 16, 16], 1)
        delta = p[f"{layer}.dt_proj{b}.weight"] @ r
        A = -torch.exp(p[f"{layer}.A{b}_log"])
        return scan(c, delta, A, B, C, p[f"{layer}.D{b}"], z, p[f"{layer}.dt_proj{b}.bias"])

    @torch.inference_mode()
    def __call__(self, clips: Tensor) -> Tensor:
        """[B,3,T,H,W] -> logits."""
        p = self.state
        conv = p["patch_embed.proj.weight"]
        x = F.conv3d(clips, conv, p["patch_embed.proj.bias"], stride=conv.shape[2:])
        batch, _, frames = x.shape[:3]
        x = x.flatten(3).permute(0, 2, 3, 1) + p["pos_embed"][:, None, 1:]
        x = (x + p["temporal_pos_embedding"][:, :frames, None]).flatten(1, 2)
        first = (p["cls_token"] + p["pos_embed"][:, :1]).expand(batch, -1, -1)
        hidden, residual = torch.cat([first, x], 1), torch.zeros(())
        for i in range(self.depth):
            residual = residual + hidden
            u = rms(residual, p[f"layers.{i}.norm.weight"])
            layer = f"layers.{i}.mixer"
            x, z = (p[f"{layer}.in_proj.weight"] @ u.transpose(1, 2)).chunk(2, 1)
            ahead = self.direction(x, z, layer, "")
            back = self.direction(x.flip(2), z.flip(2), layer, "_b").flip(2)
            hidden = nn.functional.linear((ahead + back).mT, p[f"{layer}.out_proj.weight"])
        feature = rms(residual + hidden, p["norm_f.weight"])[:, 0]
        return feature @ p["head.weight"].T + p["head.bias"]
