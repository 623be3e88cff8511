"""CLIP's vision tower as a teacher: frames in, normalised features of some layers out.

Every frame is read on its own. VideoMamba's masked pre-training aligns with the outputs of the last
blocks, without the last norm, projected and normalised, and lets the last block's attention of the
class token say which patches stay visible. Parameter names are OpenAI's without `visual.`.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vireo.errors import VireoError
from vireo.nn import build, checkpoint, clip_weights
from vireo.nn.clip import Attention, ResidualAttentionBlock, Transformer

B16 = {
    "width": 768,
    "layers": 12,
    "heads": 12,
    "output_dim": 512,
    "image_size": 224,
    "patch_size": 16,
    "return_layers": 1,
    "interval": 1.0,
}


def chosen(layers: int, count: int, interval: float = 1.0) -> list[int]:
    """Numbers of the blocks whose outputs are aligned, shallow to deep; the last is among them."""
    return sorted(layers - int(i * interval) - 1 for i in range(count))


class Teacher(nn.Module):
    """[B,T,3,H,W] -> features [K,B,1+T*g,C] and attention [B,T,g] of the class token."""

    def __init__(self, arch: dict[str, Any]) -> None:
        super().__init__()
        self.arch = arch
        width, patch = arch["width"], arch["patch_size"]
        grid = arch["image_size"] // patch
        self.class_embedding = nn.Parameter(torch.zeros(width))
        self.positional_embedding = nn.Parameter(torch.zeros(grid * grid + 1, width))
        self.proj = nn.Parameter(torch.zeros(width, arch["output_dim"]))
        size = (1, patch, patch)
        self.conv1 = nn.Conv3d(3, width, size, size, bias=False)
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = Transformer(width, arch["layers"], arch["heads"])
        self.ln_post = nn.LayerNorm(width)  # in the files, not used here
        self.layers = chosen(arch["layers"], arch["return_layers"], arch["interval"])

    @torch.no_grad()
    def forward(self, clips: Tensor) -> tuple[Tensor, Tensor]:
        """Clips normalised as the student's; other sizes than `image_size` are resampled."""
        size = self.arch["image_size"]
        count = clips.shape[1]
        if clips.shape[-1] != size:
            flat = F.interpolate(clips.flatten(0, 1), (size, size), mode="bicubic")
            clips = flat.unflatten(0, (-1, count))
        x = self.conv1(clips.transpose(1, 2)).flatten(3).permute(0, 2, 3, 1).flatten(0, 1)
        first = self.class_embedding.to(x.dtype).expand(len(x), 1, -1)
        x = self.ln_pre(torch.cat([first, x], 1) + self.positional_embedding)
        kept = []
        last = len(self.transformer.resblocks) - 1
        for number, block in enumerate(self.transformer.resblocks):
            assert isinstance(block, ResidualAttentionBlock)
            if number == last:
                attention = looks(block.attn, block.ln_1(x))
            x = block(x)
            if number in self.layers:
                kept.append(x)
        features = torch.stack(kept).unflatten(1, (-1, count)).float()
        classes = features[:, :, :, 0].mean(2, keepdim=True)
        joined = torch.cat([classes, features[:, :, :, 1:].flatten(2, 3)], 2)
        # In float32 whatever autocast says: these are the targets.
        with torch.autocast(joined.device.type, enabled=False):
            targets = F.normalize(joined @ self.proj.float(), dim=-1)
        return targets, attention.unflatten(0, (-1, count))


def looks(attention: Attention, x: Tensor) -> Tensor:
    """Attention of token 0 to the others, mean over heads: [N,1+g,W] -> [N,g] float32."""
    weight, bias, width = attention.in_proj_weight, attention.in_proj_bias, x.shape[-1]
    q = F.linear(x[:, :1], weight[:width], bias[:width])
    k = F.linear(x, weight[width : 2 * width], bias[width : 2 * width])
    q, k = (t.unflatten(-1, (attention.heads, -1)).transpose(1, 2).float() for t in (q, k))
    scores = (q * q.shape[-1] ** -0.5) @ k.mT
    return scores.softmax(-1)[:, :, 0, 1:].mean(1)


def load(path: str | Path, arch: dict[str, Any] | None = None) -> Teacher:
    """A CLIP file (OpenAI, Hugging Face, open_clip) or a ViCLIP's vision tower -> frozen teacher.

    `arch`: keys of `B16` that differ. VireoError for unknown keys and files that do not fit.
    """
    teacher = Teacher(build.arch("a CLIP teacher", arch or {}, B16))
    named: dict[str, Any] = dict(checkpoint.tensors(path))
    if clip_weights.is_clip(named):
        named = clip_weights.rename(named)
    prefix = "vision_encoder."
    tower = {k.removeprefix(prefix): v for k, v in named.items() if k.startswith(prefix)}
    if not tower:
        raise VireoError(f"{path} holds no vision tower of CLIP or ViCLIP")
    tower.pop("temporal_positional_embedding", None)  # of ViCLIP: frames are read one by one
    checkpoint.load_into(teacher, tower, path)
    return teacher.eval().requires_grad_(False)
