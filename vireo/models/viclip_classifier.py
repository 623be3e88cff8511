"""ViCLIP fine-tuned for action recognition: its vision tower and a linear head.

The head reads the class token after `ln_post`; `proj` is left out. The authors released neither
code nor weights of this (Table 2 of arXiv:2307.06942); the form follows the same group's UMT.
Names: `vision_encoder.*` as in ViCLIP, `head.{weight,bias}`; class names of the head's rows stand
in the file's metadata (`labels`).
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vireo.media import views
from vireo.models import viclip
from vireo.nn import build as fresh
from vireo.nn import checkpoint, clip_weights
from vireo.nn.formats import loaded
from vireo.utils.device import set_precision

HEAD_SCALE = 0.001  # of the initial head, so that training starts from even probabilities
_NOT_HERE = ("embed_dim", "text_width", "text_layers", "text_heads")
REQUIRED = (*(key for key in viclip.SIZES["L/14"] if key not in _NOT_HERE), "num_classes")


class ViCLIPClassifier(nn.Module):
    """[B,T,3,H,W] -> logits [B,K]."""

    def __init__(self, arch: dict[str, Any]) -> None:
        super().__init__()
        self.arch = arch
        self.vision_encoder = viclip.VisionEncoder({**arch, "embed_dim": 1})
        del self.vision_encoder.proj
        self.head = nn.Linear(arch["width"], arch["num_classes"])

    def forward(self, video: Tensor) -> Tensor:
        """Logits of the class token."""
        return self.head(self.vision_encoder.last(video.transpose(1, 2)))[:, 0]

    def init_weights(self, generator: torch.Generator | None = None) -> None:
        """CLIP's initialisation of the tower, and a fresh head."""
        self.vision_encoder.init_rest(generator)
        self.vision_encoder.transformer.init_weights(generator)
        self.init_head(generator)

    def init_head(self, generator: torch.Generator | None = None) -> None:
        """A fresh head: normal, scaled down; no bias."""
        nn.init.trunc_normal_(self.head.weight, std=0.02, generator=generator)
        self.head.weight.data.mul_(HEAD_SCALE)
        nn.init.zeros_(self.head.bias)


def build(arch: dict[str, Any], generator: torch.Generator | None = None) -> ViCLIPClassifier:
    """The model of `arch` (ViCLIP's vision keys and `num_classes`), initialised, in train mode.

    See `fresh.model`. VireoError names wrong keys and sizes.
    """
    full = viclip.full_arch("a viclip_classifier arch", arch, REQUIRED)
    return fresh.model(ViCLIPClassifier, full, generator)


class Transform:
    """Picklable callable `(frames uint8 [T,H,W,3] RGB, view) -> float32 [T,3,size,size]`.

    The short side to `size` (OpenCV bilinear), then crop `view["crop"]` of `views.crops` along the
    long side; one crop is the middle.
    """

    def __init__(self, mean: list[float], std: list[float], size: int) -> None:
        self.mean, self.std, self.size = tuple(mean), tuple(std), size

    def __call__(self, frames: np.ndarray, view: dict[str, Any] | None = None) -> Tensor:
        """Resize, crop, normalise."""
        view = view or {}
        crops = int((view.get("views") or {}).get("crops", 1))
        small = views.short_side(frames, self.size)
        small = views.long_side_crop(small, self.size, crops, int(view.get("crop", 0)))
        return torch.from_numpy(views.normalise(small, self.mean, self.std))


class Model:
    """A `Classifier` on one device, in one dtype, without gradients."""

    def __init__(
        self, module: ViCLIPClassifier, transform: Transform, labels: list[str] | None
    ) -> None:
        self.module = module.eval().requires_grad_(False)
        self.transform, self.labels = transform, labels
        self._like = module.head.weight

    @torch.inference_mode()
    def classify(self, clips: Tensor) -> Tensor:
        """[B,T,3,H,W] as `transform` makes it -> logits [B,K] float32."""
        return self.module(clips.to(self._like.device, self._like.dtype)).float()


def load(
    cfg: dict[str, Any],
    weights: str | Path | None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | str = torch.float32,
) -> Model:
    """A model block and a file of rule train (None: seeded random weights) -> `Model`."""
    dtype = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    set_precision(bool(cfg.get("tf32")))
    names = None
    module = fresh.from_block(build, cfg, weights)
    if weights is None:
        module.to(device, dtype)
    else:
        named = viclip.fit(dict(checkpoint.tensors(weights)), module)
        checkpoint.load_into(module, named, weights, dtype, device)
        names = checkpoint.labels(weights)
    size = cfg.get("size") or module.arch["image_size"]
    return Model(module, Transform(cfg["mean"], cfg["std"], size), names)


def start_from(module: ViCLIPClassifier, path: str | Path, classes: list[str] | None = None) -> str:
    """A ViCLIP, CLIP or fine-tuned file into a model before training; says what became of the head.

    The head is taken over when the file has one with names for all of `classes`, else left as is.
    """
    named: dict[str, Any] = dict(checkpoint.tensors(path))
    if clip_weights.is_clip(named):
        named = {**clip_weights.rename(named), viclip.TIME: module.state_dict()[viclip.TIME]}
    wanted = module.state_dict().keys()
    named = {name: value for name, value in viclip.fit(named, module).items() if name in wanted}
    head: dict[str, Any] = {
        name: named.pop(name) for name in ("head.weight", "head.bias") if name in named
    }
    said = "the head is new"
    rows = checkpoint.labels(path) if head else None
    if rows and classes:
        place = {name: number for number, name in enumerate(rows)}
        if all(name in place for name in classes):
            index = torch.tensor([place[name] for name in classes])
            named |= {name: loaded(value)[index] for name, value in head.items()}
            said = f"the head has {len(classes)} of {len(rows)} rows of the file, by name"
    if "head.weight" not in named:
        named["head.weight"] = module.head.weight.detach()
        named["head.bias"] = module.head.bias.detach()
    checkpoint.load_into(module, named, path, device=module.head.weight.device)
    return said
