"""Fitting stored position tables and 2-D patch convolutions to another number of frames or pixels.

The rules are those of ViCLIP's training code; growing interpolates, shrinking in time or text cuts.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from vireo.errors import VireoError


def resize_temporal(table: Tensor, count: int) -> Tensor:
    """[1,T,W] -> [1,count,W]: linear along time when longer, the first rows when shorter."""
    if count <= table.shape[1]:
        # parity: the reference truncates, it does not resample | a model with fewer frames sees the
        # first rows of the time table | none
        return table[:, :count]
    return linear(table, count)


def resize_text(table: Tensor, count: int) -> Tensor:
    """[L,W] -> [count,W]: linear along positions when longer, the first rows when shorter."""
    if count <= table.shape[0]:
        # parity: CLIP's 77 rows are cut to their first 32 | texts end at 32 tokens |
        # `arch.context_length`
        return table[:count]
    return linear(table[None], count)[0]


def resize_spatial(table: Tensor, rows: int) -> Tensor:
    """[1+g*g,W] -> [rows,W] (rows = 1 + new grid squared): bicubic, the class row untouched."""
    old, new = math.isqrt(table.shape[0] - 1), math.isqrt(rows - 1)
    if old * old + 1 != table.shape[0] or new * new + 1 != rows:
        raise VireoError(
            f"a position table of {table.shape[0]} rows cannot become one of {rows} rows: "
            "both must be a square grid plus one class row"
        )
    if old == new:
        return table
    grid = table[1:].float().reshape(1, old, old, -1).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, size=(new, new), mode="bicubic", align_corners=False)
    cells = grid.permute(0, 2, 3, 1).reshape(new * new, -1).to(table.dtype)
    return torch.cat([table[:1], cells])


def inflate_2d(weight: Tensor, depth: int, centre: bool = True) -> Tensor:
    """[O,I,p,p] -> [O,I,depth,p,p]: in the middle slice, or spread evenly over all slices."""
    if depth == 1:
        return weight.unsqueeze(2)
    if not centre:
        return weight.unsqueeze(2).repeat(1, 1, depth, 1, 1) / depth
    out = weight.new_zeros(*weight.shape[:2], depth, *weight.shape[2:])
    out[:, :, depth // 2] = weight
    return out


def linear(table: Tensor, count: int) -> Tensor:
    """[B,T,W] -> [B,count,W] float32: linear along T, up or down, ends aligned by pixel edges."""
    moved = table.float().transpose(1, 2)
    return F.interpolate(moved, size=count, mode="linear", align_corners=False).transpose(1, 2)
