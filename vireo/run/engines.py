"""How each kind of model turns decoded clips into prediction rows, one class per protocol.

`vireo.run.infer` owns everything around it: which clips are due, decoding, batches, journal,
statuses. An engine gets whole batches of clips and gives the rows of each.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from vireo import models
from vireo.errors import VireoError
from vireo.run.device import Batches

Row = dict[str, Any]
TEXT_BATCH = 64


@dataclass
class Clip:
    """One decoded stretch of a video with all items that ask about it."""

    items: list[Any]  # rows of the items table (`itertuples`)
    status: str = "ok"
    error: str | None = None
    seconds: float = 0.0  # of decoding
    flags: list[str] = field(default_factory=list)
    frames: list[int] = field(default_factory=list)  # numbers of the frames used, in order
    source: tuple[int, int] | None = None  # size, mtime_ns of the file
    tensor: Tensor | None = None  # [T,3,H,W]; None unless status is ok


class Engine(Protocol):
    """What the driver needs of an engine."""

    @property
    def truncated(self) -> int:
        """Texts that were cut to the model's context."""
        ...

    def prepare(self, items: pd.DataFrame) -> None:
        """Do once per process what does not depend on the videos (encode texts)."""
        ...

    def transform(self, frames: np.ndarray) -> Tensor:
        """uint8 RGB [T,H,W,3] -> [T,3,H',W']; runs beside the forward passes."""
        ...

    def predict(self, clips: Sequence[Clip]) -> list[list[Row]]:
        """Per clip its rows: `id, view, prediction, scores` (float32 array)."""
        ...


class DualEncoder:
    """Video against texts: a choice among an item's texts, or the embedding itself.

    `PREDICTS = "choice"` in the benchmark module: scores = logit_scale x cosine per text, the
    prediction is the chosen option as it stands in the item. `"embedding"`: scores = the video's
    embedding, no prediction.
    """

    def __init__(self, model: Any, module: ModuleType, protocol: dict[str, Any]) -> None:
        self.model, self.module, self.protocol = model, module, protocol
        self.choice = getattr(module, "PREDICTS", "choice") == "choice"
        self.texts: dict[str, list[str]] = {}
        self.table: dict[str, Tensor] = {}
        self.batches = Batches(TEXT_BATCH)

    @property
    def truncated(self) -> int:
        """Texts that were cut, as the model's tokenizer counts them."""
        return getattr(getattr(self.model, "tokenizer", None), "truncated", 0)

    def prepare(self, items: pd.DataFrame) -> None:
        """Encode every different text once."""
        if not self.choice:
            return
        self.texts = self.module.prompts(items, self.protocol)
        for id, options in zip(items["id"], items["options"], strict=True):
            if len(self.texts[id]) != len(options):
                raise VireoError(
                    f"item {id!r}: {len(self.texts[id])} prompts for {len(options)} options"
                )
        unique = sorted({t for texts in self.texts.values() for t in texts} - self.table.keys())
        embedded = self.batches.run(lambda batch: list(self.model.embed_text(list(batch))), unique)
        self.table.update(zip(unique, (e.float().cpu() for e in embedded), strict=True))

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
        if not self.choice:
            return {"id": item.id, "view": 0, "prediction": "null", "scores": video.numpy()}
        texts = torch.stack([self.table[text] for text in self.texts[item.id]])
        # float64 for the last step: float32 rounding of the product would be most of the noise.
        scores = (self.model.logit_scale * (texts.double() @ video.double())).float().numpy()
        best = int(np.argmax(scores)) if all(map(math.isfinite, scores)) else 0
        chosen = json.dumps(item.options[best], ensure_ascii=False)
        return {"id": item.id, "view": 0, "prediction": chosen, "scores": scores}


ENGINES = {"DualEncoder": DualEncoder}


def make(
    model: Any, module: ModuleType, protocol: dict[str, Any], model_name: str, needs: str
) -> Engine:
    """The engine for what a benchmark needs; VireoError when the model is no such thing."""
    if needs not in ENGINES:
        raise VireoError(f"no engine for {needs}; vireo/run/engines.py has {', '.join(ENGINES)}")
    if not isinstance(model, getattr(models, needs)):
        raise VireoError(
            f"model {model_name!r} is no {needs}, which this benchmark needs "
            "(`needs` in config/benchmarks.yaml, protocols in vireo/models/__init__.py)"
        )
    return ENGINES[needs](model, module, protocol)
