"""The steps of MMDuet: frames and texts to embeddings, hidden states to scores."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vireo.errors import VireoError
from vireo.models.mmduet.chat import ChatTokenizer
from vireo.models.mmduet.kv_cache import KVCache
from vireo.models.mmduet.module import VISION_BATCH, MMDuet, normalise


class Core:
    """Weights and tokenizer, and the single steps that both engines are made of."""

    def __init__(
        self, module: MMDuet, text: ChatTokenizer, options: dict[str, Any] | None = None
    ) -> None:
        self.module = module.eval().requires_grad_(False)
        self.text = text
        self.options = options or {}

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.module.lm_head.weight.device

    def memory(self) -> KVCache:
        """An empty memory for one conversation."""
        return KVCache(self.module.arch["layers"], self.module.arch["positions"])

    def transform(self, frames: np.ndarray, view: dict[str, Any] | None = None) -> Tensor:
        """uint8 RGB [T,S,S,3] -> uint8 [T,3,S,S]; S must be the tower's."""
        size = self.module.arch["vision"]["image_size"]
        if frames.shape[1:3] != (size, size):
            raise VireoError(
                f"frames are {frames.shape[2]} x {frames.shape[1]}, the model wants {size} x {size}"
                " (resize: {library: cv2, fit: letterbox})"
            )
        return torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2)))

    @torch.inference_mode()
    def embed_frames(self, frames: Tensor) -> Tensor:
        """uint8 [T,3,S,S] -> embeddings [T,49,hidden] on the model's device."""
        like = self.module.lm_head.weight
        parts = []
        for batch in frames.split(VISION_BATCH):
            pixels = normalise(batch.to(like.device)).to(like.dtype)
            parts.append(self.module.frames(pixels))
        return torch.cat(parts)

    @torch.inference_mode()
    def embed_text(self, text: str) -> Tensor:
        """A rendered text -> embeddings [n,hidden]."""
        return self.embed_ids(self.text.ids(text))

    @torch.inference_mode()
    def embed_ids(self, ids: Sequence[int]) -> Tensor:
        """Token ids -> embeddings [n,hidden]."""
        return self.module.embed(torch.tensor(ids, dtype=torch.long, device=self.device))

    @torch.inference_mode()
    def scores(self, hidden: Tensor) -> Tensor:
        """Hidden states [n,hidden] of last frame tokens -> [n,2]: informative, relevance."""
        both = [self.module.informative_head(hidden), self.module.relevance_head(hidden)]
        return torch.stack([h.float().softmax(-1)[..., 1] for h in both], -1).cpu()
