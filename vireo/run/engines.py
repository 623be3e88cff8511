"""How each kind of model turns decoded clips into prediction rows, one class per protocol.

`vireo.run.infer` owns everything around it: which clips are due, decoding, batches, journal,
statuses. An engine gets whole batches of clips and gives the rows of each.
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from vireo import models
from vireo.errors import VireoError
from vireo.run import texts
from vireo.run.answerer import Answerer
from vireo.run.classifier import Classifier
from vireo.run.device import Batches
from vireo.run.watch import Watcher

Row = dict[str, Any]
Whole = Callable[[], pd.DataFrame]  # reads all items, for engines that need them
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
    keep: Path | None = None  # where a watcher keeps what it makes of the frames


class Engine(Protocol):
    """What the driver needs of an engine."""

    @property
    def truncated(self) -> int:
        """Texts that were cut to the model's context."""
        ...

    def prepare(self, items: pd.DataFrame, whole: Whole, cache: Path) -> None:
        """Do once per process what does not depend on the videos (encode texts).

        items: those that are due; whole: reads all of the benchmark; cache: folder of the texts.
        """
        ...

    def transform(self, frames: np.ndarray) -> Tensor:
        """uint8 RGB [T,H,W,3] -> [T,3,H',W']; runs beside the forward passes."""
        ...

    def predict(self, clips: Sequence[Clip]) -> list[list[Row]]:
        """Per clip its rows: `id, view, prediction, scores` (float32 array)."""
        ...


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
        self.batches = Batches(TEXT_BATCH)

    @property
    def truncated(self) -> int:
        """Texts that were cut, as the model's tokenizer counts them."""
        return getattr(getattr(self.model, "tokenizer", None), "truncated", 0)

    def prepare(self, items: pd.DataFrame, whole: Whole, cache: Path) -> None:
        """Encode every different text once; class prompts once for all runs of a model."""
        if self.kind == "classes":
            groups = self.module.shared_texts(whole(), self.protocol)
            unique = sorted({text for group in groups for text in group})
            table = dict(zip(unique, texts.kept(unique, cache, self._embed), strict=True))
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


ENGINES: dict[str, type[Any]] = {
    "DualEncoder": DualEncoder,
    "Classifier": Classifier,
    "Answerer": Answerer,
    "Watcher": Watcher,
}


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
