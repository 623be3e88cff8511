"""Strong augmentation for classification: RandAugment, random erasing, mixup, cutmix.

RandAugment's operations and mixup's and cutmix's arithmetic are timm's, drawn once for all frames
of a clip; timm's global random state is set for each call and put back.
"""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vireo.errors import VireoError

ERASED_AREA = (0.02, 1 / 3)
ERASED_RATIO = (0.3, 1 / 0.3)
TRIES = 10


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Python's and NumPy's global generators at `seed`, afterwards as before."""
    python, numpy = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


def rand_augment(
    frames: np.ndarray, spec: str, mean: Sequence[float], rng: np.random.Generator
) -> np.ndarray:
    """uint8 [T,H,W,3] -> the same shape; timm's `spec` ("rand-m7-n4-mstd0.5-inc1")."""
    from PIL import Image
    from timm.data.auto_augment import rand_augment_transform

    side = min(frames.shape[1:3])
    settings = {
        "translate_const": int(side * 0.45),
        "img_mean": tuple(min(255, round(255 * value)) for value in mean),
        "interpolation": Image.Resampling.BICUBIC,
    }
    seed = int(rng.integers(2**31))
    made = []
    change = rand_augment_transform(spec, settings)
    for frame in frames:
        with seeded(seed):
            made.append(np.asarray(change(Image.fromarray(frame))))
    return np.stack(made)


def erase(clip: Tensor, probability: float, rng: np.random.Generator) -> Tensor:
    """Normalised [T,3,H,W], changed in place: with `probability` one box becomes noise.

    The box is the same in all frames, the noise normal and of its own in every frame.
    """
    if rng.uniform() >= probability:
        return clip
    height, width = clip.shape[-2:]
    low, high = np.log(ERASED_RATIO)
    for _ in range(TRIES):
        area = rng.uniform(*ERASED_AREA) * height * width
        ratio = float(np.exp(rng.uniform(low, high)))
        h, w = round((area * ratio) ** 0.5), round((area / ratio) ** 0.5)
        if h < height and w < width:
            top, left = int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1))
            noise = rng.standard_normal((*clip.shape[:2], h, w), dtype=np.float32)
            clip[..., top : top + h, left : left + w] = torch.from_numpy(noise).to(clip)
            break
    return clip


def mix(
    clips: Tensor, labels: Tensor, classes: int, seed: int, options: dict[str, Any]
) -> tuple[Tensor, Tensor]:
    """Mixup or cutmix of a batch with its mirror image; soft labels [B,K] with smoothing.

    clips: normalised [B,T,3,H,W], changed in place. options: `mixup`, `cutmix` (alphas, 0 = off)
    and `smoothing`. VireoError for an odd batch.
    """
    from timm.data.mixup import Mixup, mixup_target

    alphas = float(options["mixup"]), float(options["cutmix"])
    smoothing = float(options["smoothing"])
    if not any(alphas):
        return clips, mixup_target(labels, classes, 1.0, smoothing)
    if len(clips) % 2:
        raise VireoError(f"mixup pairs the samples of a batch: {len(clips)} is odd")
    mixup = Mixup(*alphas, label_smoothing=smoothing, num_classes=classes)
    with seeded(seed):
        # timm cuts boxes out of the last two of four axes.
        flat, soft = mixup(clips.flatten(1, 2), labels)
    return flat.view_as(clips), soft
