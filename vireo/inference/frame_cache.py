"""What a streaming model's tower made of a video's frames, cached for later questions on it.

One file per video under cache/embeddings/<key>, where the key names the weights and how frames are
chosen and sized, but no benchmark, question or threshold: all of these share it. A video that is
found here is not decoded. Values are kept in the model's own format, so that results are identical.
"""

import json
import zlib
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from vireo.errors import VireoError
from vireo.inference.pending import ClipTask
from vireo.utils.cli import log
from vireo.utils.files import atomic, digest

FOLDER = Path("cache/embeddings")
# Controls that leave weights and frames as they are.
CACHEABLE_CONTROLS = (None, "shuffled_videos")


class FrameCache:
    """The embeddings of one model and one frame rule."""

    def __init__(self, key: str, folder: Path = FOLDER) -> None:
        self.folder = Path(folder) / key

    def path(self, work: ClipTask) -> Path:
        """File of a stretch of video, as it was when it was listed."""
        return self.folder / f"{digest([work.span, work.source], 32)}.safetensors"

    def get(self, work: ClipTask) -> tuple[Tensor, dict[str, Any]] | None:
        """Embeddings [T,49,hidden] with the facts that were saved, None when absent or damaged."""
        path = self.path(work)
        try:
            with safe_open(path, framework="pt") as file:
                embeds, text = file.get_tensor("embeddings"), file.metadata()["facts"]
                if file.metadata().get("crc32", _crc(embeds, text)) != _crc(embeds, text):
                    raise ValueError("its checksum is another one")
                return embeds, json.loads(text)
        except FileNotFoundError:
            return None
        except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
            log.warning("%s is damaged and made again: %s", path, error)
            return None


def save(path: Path, embeds: Tensor, facts: dict[str, Any]) -> None:
    """Write one video's embeddings with `frames`, `flags` and `pixels` (checksum of the frames).

    A full disk costs time later, not this run's result.
    """
    held, text = embeds.contiguous().cpu(), json.dumps(facts)
    about = {"facts": text, "crc32": _crc(held, text)}
    try:
        with atomic(path) as tmp:
            save_file({"embeddings": held}, tmp, about)
    except VireoError as error:
        log.warning("embeddings are not kept: %s", error)


def _crc(embeds: Tensor, text: str) -> str:
    """Checksum of the embeddings' bytes and of the facts."""
    content = embeds.contiguous().view(torch.uint8).numpy()
    return f"{zlib.crc32(text.encode(), zlib.crc32(content.data)):08x}"
