"""The seed guide's way of answering Video-MME with ViCLIP, written plainly, without vireo.

Read every frame of the video, keep the slicer's, then for every question again: make the input
tensor, encode the video, encode the option texts one at a time, softmax of 100 x cosine.
The model is PyTorch's own attention module with the checkpoint's parameter names.
"""

from collections import OrderedDict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor, nn

MEAN = np.array([0.485, 0.456, 0.406])
STD = np.array([0.229, 0.224, 0.225])


class QuickGELU(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, heads)
        self.ln_1 = nn.LayerNorm(width)
        names = ("c_fc", nn.Linear(width, 4 * width)), ("gelu", QuickGELU())
        self.mlp = nn.Sequential(OrderedDict([*names, ("c_proj", nn.Linear(4 * width, width))]))
        self.ln_2 = nn.LayerNorm(width)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        y = self.ln_1(x)
        x = x + self.attn(y, y, y, need_weights=False, attn_mask=mask)[0]
        return x + self.mlp(self.ln_2(x))


class Tower(nn.Module):
    def __init__(self, width: int, layers: int, heads: int) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(Block(width, heads) for _ in range(layers))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = x.transpose(0, 1)  # [L,N,W], as PyTorch's attention wants it
        for block in self.resblocks:
            x = block(x, mask)
        return x.transpose(0, 1)


class Vision(nn.Module):
    def __init__(self, a: dict[str, int]) -> None:
        super().__init__()
        width, patch = a["width"], a["patch_size"]
        self.conv1 = nn.Conv3d(3, width, (1, patch, patch), (1, patch, patch), bias=False)
        self.class_embedding = nn.Parameter(torch.zeros(width))
        places = (a["image_size"] // patch) ** 2 + 1
        self.positional_embedding = nn.Parameter(torch.zeros(places, width))
        self.temporal_positional_embedding = nn.Parameter(torch.zeros(1, a["num_frames"], width))
        self.ln_pre, self.ln_post = nn.LayerNorm(width), nn.LayerNorm(width)
        self.transformer = Tower(width, a["layers"], a["heads"])
        self.proj = nn.Parameter(torch.zeros(width, a["embed_dim"]))

    def forward(self, video: Tensor) -> Tensor:
        x = self.conv1(video.transpose(1, 2)).flatten(3).permute(0, 3, 2, 1)  # [B,places,T,W]
        x = x + self.positional_embedding[1:, None] + self.temporal_positional_embedding
        first = (self.class_embedding + self.positional_embedding[0]).expand(len(x), 1, -1)
        x = self.transformer(self.ln_pre(torch.cat([first, x.flatten(1, 2)], 1)))
        return self.ln_post(x[:, 0]) @ self.proj


class Text(nn.Module):
    def __init__(self, a: dict[str, int]) -> None:
        super().__init__()
        width = a["text_width"]
        self.token_embedding = nn.Embedding(49408, width)
        self.positional_embedding = nn.Parameter(torch.zeros(32, width))
        self.transformer = Tower(width, a["text_layers"], a["text_heads"])
        self.ln_final = nn.LayerNorm(width)
        self.text_projection = nn.Parameter(torch.zeros(width, a["embed_dim"]))

    def forward(self, ids: Tensor) -> Tensor:
        mask = torch.full((32, 32), float("-inf"), dtype=self.text_projection.dtype).triu(1)
        x = self.transformer(self.token_embedding(ids) + self.positional_embedding, mask)
        return self.ln_final(x)[range(len(ids)), ids.argmax(-1)] @ self.text_projection


class ViCLIP(nn.Module):
    def __init__(self, a: dict[str, int], state: dict[str, Tensor]) -> None:
        super().__init__()
        self.temp = nn.Parameter(torch.zeros(()))
        self.vision_encoder, self.text_encoder = Vision(a), Text(a)
        self.load_state_dict(state)
        self.size, self.frames = a["image_size"], a["num_frames"]
        self.tokenizer = SimpleTokenizer(context_length=32)
        self.eval().requires_grad_(False)


def read_everything(path: str | Path) -> tuple[list[np.ndarray], float]:
    """All frames (BGR) and the frame rate."""
    film = cv2.VideoCapture(str(path))
    frames = []
    while True:
        there, frame = film.read()
        if not there:
            return frames, film.get(cv2.CAP_PROP_FPS)
        frames.append(frame)


def slicer(path: str | Path) -> list[np.ndarray]:
    """The extractor's up to 32 pictures (without its JPEG loss), in the order of their names."""
    frames, rate = read_everything(path)
    length = (len(frames) - 1) / 32
    kept: dict[str, np.ndarray] = {}
    for i in range(32):
        number = (int(np.round(length * i)) + int(np.round(length * (i + 1)))) // 2
        second = int(number / rate)
        kept[f"{second // 60:02d}:{second % 60:02d}"] = frames[number]
    return [kept[name] for name in sorted(kept)]


def frames2tensor(pictures: list[np.ndarray], count: int, size: int) -> Tensor:
    """BGR pictures -> [1,count,3,size,size]: every (n // count)-th, resized, normalised."""
    step = len(pictures) // count
    chosen = [cv2.resize(p[:, :, ::-1], (size, size)) for p in pictures[::step][:count]]
    cube = (np.stack(chosen) / 255.0 - MEAN) / STD
    return torch.from_numpy(cube.transpose(0, 3, 1, 2)[None]).float()


@torch.inference_mode()
def answer(model: ViCLIP, pictures: list[np.ndarray], options: list[str]) -> tuple[str, Tensor]:
    """One question: (chosen option, 100 x cosine of each option)."""
    dtype = model.vision_encoder.proj.dtype
    tensor = frames2tensor(pictures, model.frames, model.size).to(dtype)
    video = nn.functional.normalize(model.vision_encoder(tensor).float(), dim=-1)
    texts = []
    for option in options:
        feature = model.text_encoder(model.tokenizer([option]))
        texts.append(nn.functional.normalize(feature.float(), dim=-1))
    scores = (100.0 * video @ torch.cat(texts).T)[0]
    return options[int(scores.softmax(-1).argmax())], scores


def questions(model: ViCLIP, path: str | Path, asked: list[list[str]]) -> list[Any]:
    """All questions on one video, whose pictures were extracted once."""
    pictures = slicer(path)
    return [answer(model, pictures, options) for options in asked]
