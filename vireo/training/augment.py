"""Random crop and flip of a clip, one draw for all its frames.

`augment` follows torchvision's RandomResizedCrop; its resize is bicubic without antialiasing on
uint8 values, as torchvision 0.15 did with tensors. `multi_scale` takes one of a few sizes at one of
13 places, as in temporal segment networks (Wang et al., 2016), resized by Pillow.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

RATIO = (3 / 4, 4 / 3)
TRIES = 10


def crop_box(
    rng: np.random.Generator, height: int, width: int, scale: Sequence[float]
) -> tuple[int, int, int, int]:
    """(top, left, height, width) of a crop with `scale` of the area and a ratio in 3/4..4/3."""
    area = height * width
    for _ in range(TRIES):
        wanted = area * rng.uniform(scale[0], scale[1])
        ratio = math.exp(rng.uniform(math.log(RATIO[0]), math.log(RATIO[1])))
        w, h = round(math.sqrt(wanted * ratio)), round(math.sqrt(wanted / ratio))
        if 0 < w <= width and 0 < h <= height:
            top, left = int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1))
            return top, left, h, w
    # No crop fitted: the largest central one with an allowed ratio.
    w = min(width, round(height * RATIO[1]))
    h = min(height, round(width / RATIO[0]))
    return (height - h) // 2, (width - w) // 2, h, w


def resize(clip: Tensor, size: int, how: str = "bicubic") -> Tensor:
    """uint8 [T,3,H,W] -> uint8 [T,3,size,size], bicubic or bilinear, without antialiasing."""
    if clip.shape[-2:] == (size, size):
        return clip
    # parity: torchvision before 0.17 did not antialias tensors | training frames are sharper and
    # noisier than antialiased ones | none
    grown = F.interpolate(
        clip.float(), size=(size, size), mode=how, align_corners=False, antialias=False
    )
    return grown.round_().clamp_(0, 255).to(torch.uint8)


def augment(
    frames: np.ndarray,
    rng: np.random.Generator,
    size: int,
    scale: Sequence[float],
    flip: float,
    how: str = "bicubic",
) -> Tensor:
    """uint8 RGB [T,H,W,3] -> uint8 [T,3,size,size]; `scale` (1, 1) takes the whole picture.

    how: "bicubic" or "bilinear".
    """
    height, width = frames.shape[1:3]
    box = (0, 0, height, width)
    if tuple(scale) != (1, 1):
        box = crop_box(rng, height, width, scale)
    top, left, h, w = box
    clip = torch.from_numpy(frames[:, top : top + h, left : left + w]).permute(0, 3, 1, 2)
    clip = resize(clip, size, how)
    return (clip.flip(-1) if rng.uniform() < flip else clip).contiguous()


def multi_scale_box(
    rng: np.random.Generator, height: int, width: int, size: int, scales: Sequence[float]
) -> tuple[int, int, int, int]:
    """(top, left, height, width): sides are shares of the short one, at most one step apart."""
    sides = [int(min(height, width) * scale) for scale in scales]
    sides = [size if abs(side - size) < 3 else side for side in sides]
    pairs = [(h, w) for i, h in enumerate(sides) for j, w in enumerate(sides) if abs(i - j) <= 1]
    h, w = pairs[int(rng.integers(len(pairs)))]
    # Corners, middles of the edges, the centre, and four places halfway to the corners.
    quarters = [(y, x) for y in (0, 2, 4) for x in (0, 2, 4)]
    quarters += [(y, x) for y in (1, 3) for x in (1, 3)]
    down, across = quarters[int(rng.integers(len(quarters)))]
    return down * max(0, (height - h) // 4), across * max(0, (width - w) // 4), h, w


def multi_scale(
    frames: np.ndarray, rng: np.random.Generator, size: int, scales: Sequence[float], flip: float
) -> Tensor:
    """uint8 RGB [T,H,W,3] -> uint8 [T,3,size,size]."""
    height, width = frames.shape[1:3]
    top, left, h, w = multi_scale_box(rng, height, width, size, scales)
    cut = frames[:, top : top + h, left : left + w]
    small = [Image.fromarray(one).resize((size, size), Image.Resampling.BILINEAR) for one in cut]
    clip = torch.from_numpy(np.stack([np.asarray(one) for one in small])).permute(0, 3, 1, 2)
    return (clip.flip(-1) if rng.uniform() < flip else clip).contiguous()


def normalised(clip: Tensor, data: dict[str, Any]) -> Tensor:
    """uint8 [B,T,3,H,W] -> float32, by `data`'s mean and std of values in 0..1."""
    shape = (1, 1, 3, 1, 1)
    mean = torch.tensor(data["mean"], device=clip.device).view(shape)
    std = torch.tensor(data["std"], device=clip.device).view(shape)
    return clip.float().div_(255).sub_(mean).div_(std)
