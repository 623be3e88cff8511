"""What ClipBERT reads: questions as word pieces, frames resized and padded to a square."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vireo.errors import VireoError


class Tokenizer:
    """BERT's WordPiece from a vocabulary file; callable on strings, counts the texts it cut."""

    def __init__(self, vocab: str | Path) -> None:
        from transformers import BertTokenizer

        words = Path(vocab).read_text(encoding="utf-8").splitlines()
        missing = [w for w in ("[PAD]", "[UNK]", "[CLS]", "[SEP]") if w not in words]
        if missing or words[0] != "[PAD]":
            raise VireoError(f"{vocab} is no BERT vocabulary (one word a line, [PAD] first)")
        self.size, self.truncated = len(words), 0
        self._tokenizer = BertTokenizer(vocab=str(vocab), do_lower_case=True)

    def __call__(self, texts: Sequence[str], length: int) -> tuple[Tensor, Tensor]:
        """N texts -> ids and mask, int64 [N,length]: [CLS] text [SEP], cut and padded."""
        whole = self._tokenizer(list(texts), add_special_tokens=True)["input_ids"]
        self.truncated += sum(len(ids) > length for ids in whole)
        end = self._tokenizer.sep_token_id
        ids = torch.zeros(len(texts), length, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, (seen, words) in enumerate(zip(mask, whole, strict=True)):
            words = words if len(words) <= length else [*words[: length - 1], end]
            ids[row, : len(words)] = torch.tensor(words)
            seen[: len(words)] = 1
        return ids, mask


class Transform:
    """uint8 frames -> resized, padded, mean-free frames; runs in loader workers."""

    def __init__(self, mean: Sequence[float], std: Sequence[float], size: int) -> None:
        shape = (1, 3, 1, 1)
        self.mean = (torch.tensor(mean, dtype=torch.float64) * 255).float().view(shape)
        self.std = (torch.tensor(std, dtype=torch.float64) * 255).float().view(shape)
        self.size = size

    def __call__(self, frames: np.ndarray, view: dict[str, Any] | None = None) -> Tensor:
        """uint8 RGB [T,H,W,3] -> float32 [T,3,size,size]."""
        x = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float()
        return self.normalise(self.fit(x))

    def fit(self, x: Tensor) -> Tensor:
        """[T,3,H,W] -> [T,3,size,size]: longer side to `size`, zeros right and below."""
        height, width = x.shape[-2:]
        size = self.size
        target = (
            (size, int(size * width / height))
            if height >= width
            else (int(size * height / width), size)
        )
        x = F.interpolate(x, size=target, mode="bilinear", align_corners=False)
        # parity: padding is 0 before the mean is subtracted, so it ends as minus the mean | borders
        # are not the mean colour | none
        return F.pad(x, (0, size - target[1], 0, size - target[0]))

    def normalise(self, x: Tensor) -> Tensor:
        """Subtract the mean, divide by the std (1 in the released recipe)."""
        return (x - self.mean.to(x.device)) / self.std.to(x.device)
