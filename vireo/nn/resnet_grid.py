"""MSRA ResNet with frozen batch norm, as grid features use it (detectron2's parameter names).

Pictures -> one grid of stride 32. Unlike torchvision's ResNet, the stride of a stage sits in its
first 1x1 convolution; with the other stride all shapes agree and all numbers are wrong.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BLOCKS = (3, 4, 6, 3)  # ResNet-50
EPS = 1e-5


class FrozenNorm(nn.Module):
    """Statistics and affine parameters of a batch norm as buffers: never trained."""

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def affine(self) -> tuple[Tensor, Tensor]:
        """Scale and shift [C] that the norm amounts to."""
        scale = self.weight * (self.running_var + EPS).rsqrt()
        return scale, self.bias - self.running_mean * scale


class Conv(nn.Conv2d):
    """Convolution without bias whose frozen norm is folded into its kernel: one pass, not two."""

    def __init__(self, inside: int, out: int, kernel: int, stride: int = 1) -> None:
        super().__init__(inside, out, kernel, stride, padding=kernel // 2, bias=False)
        self.norm = FrozenNorm(out)

    def forward(self, x: Tensor) -> Tensor:
        """[B,inside,H,W] -> [B,out,H',W']."""
        scale, shift = self.norm.affine()
        kernel = self.weight * scale[:, None, None, None]
        return F.conv2d(x, kernel, shift, self.stride, self.padding)

    @torch.no_grad()
    def calibrate(self, x: Tensor) -> Tensor:
        """Take mean and variance of this layer's own output on `x`; for training from nothing."""
        raw = F.conv2d(x, self.weight, None, self.stride, self.padding)
        self.norm.running_mean.copy_(raw.mean((0, 2, 3)))
        self.norm.running_var.copy_(raw.var((0, 2, 3)))
        return self.forward(x)


class Bottleneck(nn.Module):
    """1x1 (with the stride), 3x3, 1x1, and a projection where the channels change."""

    def __init__(self, inside: int, middle: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = Conv(inside, middle, 1, stride)
        self.conv2 = Conv(middle, middle, 3)
        self.conv3 = Conv(middle, out, 1)
        self.shortcut = Conv(inside, out, 1, stride) if inside != out else None

    def forward(self, x: Tensor) -> Tensor:
        """[B,inside,H,W] -> [B,out,H/stride,W/stride]."""
        y = F.relu(self.conv2(F.relu(self.conv1(x))))
        return F.relu(self.conv3(y) + (x if self.shortcut is None else self.shortcut(x)))


class Stem(nn.Module):
    """7x7 convolution and max pooling: stride 4."""

    def __init__(self, out: int) -> None:
        super().__init__()
        self.conv1 = Conv(3, out, 7, 2)

    def forward(self, x: Tensor) -> Tensor:
        """[B,3,H,W] -> [B,out,H/4,W/4]."""
        return F.max_pool2d(F.relu(self.conv1(x)), 3, 2, 1)


class ResNet(nn.Module):
    """Stem and stages `res2` .. `res5`; `width`: 3x3 width of res2, doubled from stage to stage."""

    def __init__(
        self, stem: int = 64, out: int = 256, width: int = 64, blocks: Sequence[int] = BLOCKS
    ) -> None:
        super().__init__()
        self.stem = Stem(stem)
        inside = stem
        for number, count in enumerate(blocks):
            stage, wide = [], out * 2**number
            for block in range(count):
                stride = 2 if number and block == 0 else 1
                stage.append(Bottleneck(inside, width * 2**number, wide, stride))
                inside = wide
            self.add_module(f"res{number + 2}", nn.Sequential(*stage))
        self.stages = [f"res{number + 2}" for number in range(len(blocks))]
        self.channels = inside

    def forward(self, x: Tensor) -> Tensor:
        """BGR pictures [B,3,H,W] -> [B,channels,H/32,W/32]."""
        x = self.stem(x)
        for name in self.stages:
            x = getattr(self, name)(x)
        return x

    @torch.no_grad()
    def calibrate(self, x: Tensor) -> None:
        """Fill every norm's statistics from pictures `x`, layer by layer."""
        hooks = []
        for layer in self.modules():
            if isinstance(layer, Conv):
                hooks.append(layer.register_forward_hook(_calibrated))
        try:
            self(x)
        finally:
            for hook in hooks:
                hook.remove()


def _calibrated(layer: nn.Module, inputs: tuple[Tensor], _: Tensor) -> Tensor:
    assert isinstance(layer, Conv)
    return layer.calibrate(inputs[0])
