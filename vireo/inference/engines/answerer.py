"""Answers from a fixed dictionary: videos encoded once, all their questions in batches.

Protocol keys: `frames` with `n` frames per clip and `clips`; `prompt` with `tokens` (longest
question) and `aggregate` (lse, mean, max). A row's prediction is a JSON object: `label` (class
number), `answer` (its text, null for a class without one) and `top` (the best classes as
[answer, label]); its scores are the log-probabilities of `top`.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from vireo.utils.batching import AdaptiveBatcher

if TYPE_CHECKING:
    from vireo.inference.engines.base import Clip, LoadItems, Row

TEXT_BATCH = 64
TOP = 5


class Answerer:
    """Engine of the protocol of the same name (vireo/models)."""

    def __init__(self, model: Any, module: ModuleType, protocol: dict[str, Any]) -> None:
        self.model, self.protocol = model, protocol
        self.frames = int(protocol["frames"].get("n", 2))
        prompt = protocol.get("prompt") or {}
        self.tokens = int(prompt.get("tokens", 100))
        self.how = str(prompt.get("aggregate", "lse"))
        self.batches = AdaptiveBatcher(TEXT_BATCH)

    @property
    def truncated(self) -> int:
        """Questions that were cut."""
        return getattr(getattr(self.model, "tokenizer", None), "truncated", 0)

    def prepare(self, items: pd.DataFrame, load_items: "LoadItems", cache: Path) -> None:
        """Nothing stands apart from the videos: questions and grids meet in the first layer."""

    def transform(self, frames: np.ndarray) -> Tensor:
        """The model's own transform with the protocol as view."""
        return self.model.transform(frames, self.protocol)

    def predict(self, clips: Sequence["Clip"]) -> list[list["Row"]]:
        """One pass of the visual part for all videos, then their questions, longest together."""
        stacked = torch.stack([clip.tensor for clip in clips if clip.tensor is not None])
        features = self.model.encode(stacked.unflatten(1, (-1, self.frames)))
        asked = [(n, item) for n, clip in enumerate(clips) for item in clip.items]
        asked.sort(key=lambda pair: len(pair[1].question))

        def answered(batch: Sequence[tuple[int, Any]]) -> list[Tensor]:
            rows, questions = [n for n, _ in batch], [item.question for _, item in batch]
            logits = self.model.answer(features, rows, questions, self.tokens)
            return list(self.model.aggregate(logits, self.how).cpu())

        made: list[list[Row]] = [[] for _ in clips]
        for (n, item), logits in zip(asked, self.batches.run(answered, asked), strict=True):
            made[n].append(self._row(item, logits))
        return made

    def _row(self, item: Any, logits: Tensor) -> "Row":
        names = self.model.answers
        scores, labels = logits.log_softmax(0).topk(min(TOP, len(logits)))
        top = [(names[k] if k < len(names) else None, k) for k in labels.tolist()]
        chosen = {"label": top[0][1], "answer": top[0][0], "top": top}
        text = json.dumps(chosen, ensure_ascii=False)
        return {"id": item.id, "view": 0, "prediction": text, "scores": scores.numpy()}
