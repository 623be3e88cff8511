"""Random crop and flip of a clip, one draw for all its frames.

The crop follows torchvision's RandomResizedCrop; its resize is bicubic without antialiasing on
uint8 values, as torchvision 0.15 did with tensors.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
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


def resize(clip: Tensor, size: int) -> Tensor:
    """uint8 [T,3,H,W] -> uint8 [T,3,size,size], bicubic without antialiasing."""
    if clip.shape[-2:] == (size, size):
        return clip
    # parity: torchvision before 0.17 did not antialias tensors
    grown = F.interpolate(
        clip.float(), size=(size, size), mode="bicubic", align_corners=False, antialias=False
    )
    return grown.round_().clamp_(0, 255).to(torch.uint8)


def augment(
    frames: np.ndarray, rng: np.random.Generator, size: int, scale: Sequence[float], flip: float
) -> Tensor:
    """uint8 RGB [T,H,W,3] -> uint8 [T,3,size,size]; `scale` (1, 1) takes the whole picture."""
    height, width = frames.shape[1:3]
    box = (0, 0, height, width)
    if tuple(scale) != (1, 1):
        box = crop_box(rng, height, width, scale)
    top, left, h, w = box
    clip = torch.from_numpy(frames[:, top : top + h, left : left + w]).permute(0, 3, 1, 2)
    clip = resize(clip, size)
    return (clip.flip(-1) if rng.uniform() < flip else clip).contiguous()
