"""uint8 RGB frames -> the float tensor a CLIP-like model was trained on.

Two procedures of the ViCLIP code, chosen by the protocol's resize block: the demo's (OpenCV on
uint8, normalised in float64) and the evaluation's (torch bicubic on uint8, normalised in float32).
Resizes that OpenCV and Pillow do are those of `vireo.media.resize`, so that frames resized in the
store and frames resized here are the same bytes.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vireo.errors import VireoError, unknown
from vireo.media import resize as uint8_resize

DEMO = {"library": "cv2", "interpolation": "bilinear"}


class Preprocess:
    """Picklable callable `(frames uint8 [T,H,W,3] RGB, view) -> float32 [T,3,size,size]`.

    `view["resize"]`: a block of `vireo.media.resize`, by default the demo's; with `library: torch`,
    `{interpolation: bilinear | bicubic, antialias: false | true}` straight to the size. `size` is
    the model's unless given; frames that have it already are not resized again.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], size: int) -> None:
        self.size = size
        # A uint8 has 256 values, so both procedures are tables: exact, and faster than arithmetic.
        wide = (np.arange(256) / 255.0 - np.array(mean)[:, None]) / np.array(std)[:, None]
        self.float64_rule = wide.astype(np.float32)
        narrow = torch.arange(256).float().div(255).sub(torch.tensor(mean)[:, None])
        self.float32_rule = narrow.div(torch.tensor(std)[:, None]).numpy()

    def __call__(self, frames: np.ndarray, view: dict[str, Any] | None = None) -> Tensor:
        """Resize if needed, then normalise."""
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3:
            raise VireoError(
                f"frames must be uint8 [T,H,W,3], not {frames.dtype} {list(frames.shape)}"
            )
        spec = (view or {}).get("resize") or DEMO
        frames = self.resize(frames, spec)
        table = self.float32_rule if spec["library"] == "torch" else self.float64_rule
        channels = [table[c][frames[..., c]] for c in range(3)]
        return torch.from_numpy(np.stack(channels, axis=1))

    def resize(self, frames: np.ndarray, spec: dict[str, Any]) -> np.ndarray:
        """uint8 [T,H,W,3] -> uint8 [T,size,size,3]."""
        spec = {"size": self.size, **spec}
        uint8_resize.check(spec)
        if spec["library"] == "torch":
            return self._torch(frames, spec)
        if not uint8_resize.storable(spec):
            return frames
        change = uint8_resize.make(spec)
        return np.stack([change(frame) for frame in frames])

    def _torch(self, frames: np.ndarray, spec: dict[str, Any]) -> np.ndarray:
        from torchvision.transforms import InterpolationMode
        from torchvision.transforms.functional import resize

        modes = {"bilinear": InterpolationMode.BILINEAR, "bicubic": InterpolationMode.BICUBIC}
        kernel = spec.get("interpolation", "bicubic")
        if kernel not in modes:
            raise unknown("interpolation of torch", kernel, modes)
        if spec.get("fit", "stretch") != "stretch" or spec.get("crop"):
            raise VireoError("resize: library torch goes straight to the size, without fit or crop")
        size = [spec["size"]] * 2 if isinstance(spec["size"], int) else list(spec["size"])
        if list(frames.shape[1:3]) == size:
            return frames
        stacked = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)
        # parity: the authors' torchvision 0.15 did not antialias tensors, newer ones do by default
        # | 9 to 10 grey levels a pixel on detailed frames | `resize: {antialias: true}`
        antialias = bool(spec.get("antialias", False))
        return resize(stacked, size, modes[kernel], antialias=antialias).permute(0, 2, 3, 1).numpy()
