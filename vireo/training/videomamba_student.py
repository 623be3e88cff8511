"""VideoMamba as the student of masked pre-training: visible tokens in, CLIP-like features out.

`build(arch)` has the parameter names of the released `mask_pt` files. Facts and vectors:
docs/reference/videomamba.md section 2 and its parity files.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vireo.errors import VireoError, unknown
from vireo.models import videomamba
from vireo.models.videomamba import Trunk
from vireo.nn import build as fresh
from vireo.nn.clip_teacher import chosen
from vireo.nn.mamba import Block, RMSNorm

DEFAULTS: dict[str, Any] = {
    "output_dim": 512,  # the teacher's
    "return_layers": 1,
    "interval": 1.0,
    "last_mixer": False,
}
LOSSES = ("l2", "mse", "smooth_l1")


class Decoder(nn.Module):
    """One aligned layer: a linear map and a norm, then unit length."""

    def __init__(self, width: int, output: int) -> None:
        super().__init__()
        self.head = nn.Linear(width, output)
        self.norm = nn.LayerNorm(output)

    def forward(self, x: Tensor) -> Tensor:
        """[...,d] -> [...,C] of length 1."""
        return F.normalize(self.norm(self.head(x)), dim=-1)


class Student(Trunk):
    """Clips [B,T,3,H,W] and a mask [B,1+T*g] -> [K,B,V,C] for the V visible tokens."""

    def __init__(self, arch: dict[str, Any]) -> None:
        super().__init__(arch)
        self.norm = RMSNorm(arch["width"])
        self.layers_out = chosen(arch["depth"], arch["return_layers"], arch["interval"])
        self.clip_decoder = nn.ModuleList(
            Decoder(arch["width"], arch["output_dim"]) for _ in self.layers_out
        )
        self._table: Tensor | None = None

    def table(self, count: int, device: torch.device) -> Tensor:
        """Fixed positions [count,d] of the decoders; in no file."""
        if self._table is None or self._table.shape[0] != count or self._table.device != device:
            self._table = sincos(count, self.arch["width"]).to(device)
        return self._table

    def visible(self, clips: Tensor, mask: Tensor) -> Tensor:
        """Features of the aligned layers at the visible tokens [K,B,V,d], positions not added."""
        tokens = self.embed(clips)
        hidden: Tensor = tokens[~mask].unflatten(0, (len(tokens), -1))
        residual: Tensor | None = None
        found = []
        last = len(self.layers) - 1
        for number, block in enumerate(self.layers):
            assert isinstance(block, Block)
            if number == last and not self.arch["last_mixer"]:
                residual = block.residual(hidden, residual)
            else:
                recompute = number < self.arch["checkpoint_num"]
                hidden, residual = block(hidden, residual, recompute=recompute)
            if number - 1 in self.layers_out:
                found.append(self.norm(residual))
        assert residual is not None
        if self.arch["last_mixer"]:
            found.append(self.norm(residual + self.drop_path(hidden)))
        else:
            # parity: the reference's fused path hands on the stream before the last mixer's output
            # is added, and not normalised: the last mixer and norm are never trained | the released
            # student has an untrained last mixer and norm | `arch.last_mixer: true`
            found.append(residual)
        return torch.stack(found)

    def forward(self, clips: Tensor, mask: Tensor) -> Tensor:
        """[K,B,V,C] of unit length, shallow to deep."""
        features = self.visible(clips, mask)
        positions = self.table(mask.shape[1], mask.device).expand(len(mask), -1, -1)
        features = features + positions[~mask].unflatten(0, (len(mask), -1))
        made = [decode(x) for decode, x in zip(self.clip_decoder, features, strict=True)]
        return torch.stack(made)

    def init_weights(self, generator: torch.Generator | None = None) -> None:
        """The authors' initialisation; decoders start by Xavier's rule."""
        self.init_trunk(generator)
        nn.init.ones_(self.norm.weight)
        for decoder in self.clip_decoder:
            assert isinstance(decoder, Decoder)
            nn.init.xavier_uniform_(decoder.head.weight, generator=generator)
            nn.init.zeros_(decoder.head.bias)
            decoder.norm.reset_parameters()


def sincos(count: int, width: int) -> Tensor:
    """Sine in even and cosine in odd columns of position / 10000^(2*(column//2)/width)."""
    columns = np.arange(width)
    angles = np.arange(count)[:, None] / np.power(10000, 2 * (columns // 2) / width)
    table = np.where(columns % 2, np.cos(angles), np.sin(angles))
    return torch.from_numpy(table.astype(np.float32))


def build(arch: dict[str, Any], generator: torch.Generator | None = None) -> Student:
    """The student of `arch`: VideoMamba's keys without `num_classes`, and those of `DEFAULTS`.

    See `fresh.model`. VireoError names wrong keys and sizes.
    """
    defaults = {**videomamba.DEFAULTS, **DEFAULTS}
    full = videomamba.full_arch(arch, defaults, ("width", "depth"))
    if full["image"]:
        raise VireoError("masked pre-training takes clips: a student's arch has no `image: true`")
    return fresh.model(Student, full, generator)


def loss(student: Tensor, teacher: Tensor, kind: str) -> Tensor:
    """Mean over tokens of 2 - 2 cos (`l2`), or over all numbers of `mse` or `smooth_l1`."""
    if kind == "mse":
        return F.mse_loss(student, teacher)
    if kind == "smooth_l1":
        return F.smooth_l1_loss(student, teacher)
    if kind == "l2":
        return (2 - 2 * (student * teacher).sum(-1)).mean()
    raise unknown("loss", kind, LOSSES)
