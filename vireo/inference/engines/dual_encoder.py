"""Dual encoders: videos against texts."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from vireo.errors import VireoError
from vireo.inference import text_cache
from vireo.inference.engines.base import TEXT_BATCH, Clip, LoadItems, Row
from vireo.utils.batching import AdaptiveBatcher


class DualEncoder:
    """Video against texts. What a row holds is the benchmark module's `PREDICTS`.

    "choice": scores = logit_scale x cosine per text of the item, the prediction is the chosen
    option as it stands in the item. "classes": scores = mean cosine with each class's prompts
    (`shared_texts`), the prediction is the class's number. "embedding": scores = the embedding of
    the video. "pairs": that, followed by the embeddings of the item's texts.
    """

    def __init__(self, model: Any, module: ModuleType, protocol: dict[str, Any]) -> None:
        self.model, self.module, self.protocol = model, module, protocol
        self.kind = getattr(module, "PREDICTS", "choice")
        self.texts: dict[str, list[str]] = {}
        self.table: dict[str, Tensor] = {}
        self.classes = torch.empty(0)  # [K,D] float64, means over the prompts of a class
        self.batches = AdaptiveBatcher(TEXT_BATCH)

    @property
    def truncated(self) -> int:
        """Texts that were cut, as the model's tokenizer counts them."""
        return getattr(getattr(self.model, "tokenizer", None), "truncated", 0)

    def prepare(self, items: pd.DataFrame, load_items: LoadItems, cache: Path) -> None:
        """Encode every different text once; class prompts once for all runs of a model."""
        if self.kind == "classes":
            groups = self.module.shared_texts(load_items(), self.protocol)
            unique = sorted({text for group in groups for text in group})
            table = dict(
                zip(
                    unique, text_cache.cached_text_features(unique, cache, self._embed), strict=True
                )
            )
            means = [torch.stack([table[t].double() for t in group]).mean(0) for group in groups]
            self.classes = torch.stack(means)
        elif self.kind != "embedding":
            self.texts = self.module.prompts(items, self.protocol)
            if self.kind == "choice":
                self._check(items)
            unique = sorted({t for own in self.texts.values() for t in own} - self.table.keys())
            self.table.update(zip(unique, self._embed(unique), strict=True))

    def _check(self, items: pd.DataFrame) -> None:
        for id, options in zip(items["id"], items["options"], strict=True):
            if len(self.texts[id]) != len(options):
                raise VireoError(
                    f"item {id!r}: {len(self.texts[id])} prompts for {len(options)} options"
                )

    def _embed(self, unique: list[str]) -> list[Tensor]:
        embedded = self.batches.run(lambda batch: list(self.model.embed_text(list(batch))), unique)
        return [e.float().cpu() for e in embedded]

    def transform(self, frames: np.ndarray) -> Tensor:
        """The model's own transform with the protocol as view."""
        return self.model.transform(frames, self.protocol)

    def predict(self, clips: Sequence[Clip]) -> list[list[Row]]:
        """One forward pass for all clips, then a small product per item."""
        stacked = torch.stack([clip.tensor for clip in clips if clip.tensor is not None])
        videos = self.model.embed_video(stacked).float().cpu()
        return [
            [self._row(item, video) for item in clip.items]
            for clip, video in zip(clips, videos, strict=True)
        ]

    def _row(self, item: Any, video: Tensor) -> Row:
        if self.kind == "classes":
            scores = (self.classes @ video.double()).float().numpy()
            best = int(np.argmax(scores))
            return {"id": item.id, "view": 0, "prediction": str(best), "scores": scores}
        if self.kind != "choice":
            own = self.texts.get(item.id, ())
            joined = torch.cat([video, *(self.table[text] for text in own)]).numpy()
            return {"id": item.id, "view": 0, "prediction": "null", "scores": joined}
        options = torch.stack([self.table[text] for text in self.texts[item.id]])
        # float64 for the last step: float32 rounding of the product would be most of the noise.
        scores = (self.model.logit_scale * (options.double() @ video.double())).float().numpy()
        best = int(np.argmax(scores)) if all(map(math.isfinite, scores)) else 0
        chosen = json.dumps(item.options[best], ensure_ascii=False)
        return {"id": item.id, "view": 0, "prediction": chosen, "scores": scores}
