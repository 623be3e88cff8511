"""Text features of a model, kept on disk: one file per set of texts under cache/texts/<key>.

All benchmarks, shards and controls that ask one model about the same classes share them.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from vireo.utils import seal
from vireo.utils.cli import log
from vireo.utils.files import atomic, digest

FOLDER = Path("cache/texts")


def cached_text_features(
    texts: Sequence[str], folder: Path, embed: Callable[[list[str]], list[Tensor]]
) -> list[Tensor]:
    """Features of `texts`, [D] float32 each, in their order; embedded only if not in `folder`.

    `folder` belongs to one model in one number format (`cache_key.texts_key`).
    """
    path = folder / f"{digest(list(texts))}.safetensors"
    if path.exists():
        if seal.intact(path):
            return list(load_file(path)["features"])
        log.warning("%s is damaged and made again", seal.put_aside(path))
    made = embed(list(texts))
    with atomic(path, sealed=True) as tmp:
        save_file({"features": torch.stack(made).contiguous()}, tmp)
    log.info("%d texts embedded once, kept in %s", len(made), path)
    return made
