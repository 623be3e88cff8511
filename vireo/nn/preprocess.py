"""uint8 RGB frames -> the float tensor a CLIP-like model was trained on.

Two procedures of the ViCLIP code, chosen by the view's resize block: the demo's (OpenCV bilinear on
uint8, normalised in float64) and the evaluation's (torch bicubic on uint8, normalised in float32).
Both resize straight to the size: no crop, the aspect ratio is not kept.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vireo.errors import VireoError, unknown


class Preprocess:
    """Picklable callable `(frames uint8 [T,H,W,3] RGB, view) -> float32 [T,3,size,size]`.

    `view["resize"]`: `{library: cv2, kernel: bilinear}` (default) or
    `{library: torch, kernel: bicubic, antialias: false | true}`; frames that have the size already
    are not resized again.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], size: int) -> None:
        self.size = size
        # A uint8 has 256 values, so both procedures are tables: exact, and faster than arithmetic.
        grey = np.arange(256)[None]
        wide = (grey / 255.0 - np.array(mean)[:, None]) / np.array(std)[:, None]
        narrow = torch.arange(256)[None].float().div(255)
        narrow = narrow.sub(torch.tensor(mean)[:, None]).div(torch.tensor(std)[:, None])
        self.tables = {"cv2": wide.astype(np.float32), "torch": narrow.numpy()}

    def __call__(self, frames: np.ndarray, view: dict[str, Any] | None = None) -> Tensor:
        """Resize if needed, then normalise."""
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3:
            raise VireoError(
                f"frames must be uint8 [T,H,W,3], not {frames.dtype} {list(frames.shape)}"
            )
        spec = (view or {}).get("resize") or {}
        library = spec.get("library", "cv2")
        if library not in self.tables:
            raise unknown("resize library", library, self.tables)
        if frames.shape[1:3] != (self.size, self.size):
            frames = self.resize(frames, library, spec)
        table = self.tables[library]
        channels = [table[c][frames[..., c]] for c in range(3)]
        return torch.from_numpy(np.stack(channels, axis=1))

    def resize(self, frames: np.ndarray, library: str, spec: dict[str, Any]) -> np.ndarray:
        """uint8 [T,H,W,3] -> uint8 [T,size,size,3]."""
        kernel = spec.get("kernel", "bilinear")
        if library == "cv2":
            import cv2

            kernels = {"bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC}
            if kernel not in kernels:
                raise unknown("resize kernel", kernel, kernels)
            target = (self.size, self.size)
            return np.stack([cv2.resize(f, target, interpolation=kernels[kernel]) for f in frames])
        from torchvision.transforms import InterpolationMode
        from torchvision.transforms.functional import resize

        modes = {"bilinear": InterpolationMode.BILINEAR, "bicubic": InterpolationMode.BICUBIC}
        if kernel not in modes:
            raise unknown("resize kernel", kernel, modes)
        stacked = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)
        # parity: the authors' torchvision 0.15 did not antialias tensors, newer ones do by default
        antialias = bool(spec.get("antialias", False))
        made = resize(stacked, [self.size, self.size], modes[kernel], antialias=antialias)
        return made.permute(0, 2, 3, 1).numpy()
