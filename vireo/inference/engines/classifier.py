"""Logits of every view of a video: segments of frames times crops, in the classes' own order.

Protocol keys: `frames` with a rule that gives `segments` x `n` frames one segment after the other,
`views` with `segments` and `crops`. Rows are one per view (segment first); scores are logits in the
order of the benchmark's classes, joined to the rows of the head by name.
"""

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from vireo.errors import VireoError
from vireo.nn.head_rows import rows_of

if TYPE_CHECKING:
    from vireo.inference.engines.base import Clip, LoadItems, Row


class Classifier:
    """Engine of the protocol of the same name (vireo/models).

    `PREDICTS = "value"` in the benchmark module: scores are the model's own numbers (regression).
    """

    truncated = 0  # no texts

    def __init__(self, model: Any, module: ModuleType, protocol: dict[str, Any]) -> None:
        self.model, self.module, self.protocol = model, module, protocol
        views = protocol.get("views") or {}
        self.segments, self.crops = int(views.get("segments", 1)), int(views.get("crops", 1))
        self.order: Tensor | None = None

    def prepare(self, items: pd.DataFrame, load_items: "LoadItems", cache: Path) -> None:
        """Find the head's row of every class."""
        if getattr(self.module, "PREDICTS", "classes") != "value":
            names = self.module.classes(load_items())
            self.order = torch.tensor(rows_of(names, self.model.labels))

    def transform(self, frames: np.ndarray) -> Tensor:
        """uint8 [segments*n,H,W,3] -> [segments*crops,n,3,H',W']."""
        if len(frames) % self.segments:
            raise VireoError(f"{len(frames)} frames are not {self.segments} segments")
        return torch.stack(
            [
                self.model.transform(part, {**self.protocol, "crop": crop})
                for part in np.split(frames, self.segments)
                for crop in range(self.crops)
            ]
        )

    def _said(self, scores: Tensor) -> str:
        """Number of the best class, or the value itself."""
        return repr(float(scores[0])) if self.order is None else str(int(scores.argmax()))

    def predict(self, clips: Sequence["Clip"]) -> list[list["Row"]]:
        """One forward pass per view for all clips."""
        stacked = torch.stack([clip.tensor for clip in clips if clip.tensor is not None])
        # View by view: memory does not grow with the number of views.
        logits = torch.stack(
            [self.model.classify(view).float().cpu() for view in stacked.unbind(1)]
        )
        if self.order is not None:
            logits = logits[..., self.order]
        return [
            [
                {"id": item.id, "view": view, "prediction": best, "scores": scores}
                for item in clip.items
                for view, (best, scores) in enumerate(
                    (self._said(one), one.numpy()) for one in logits[:, number]
                )
            ]
            for number, clip in enumerate(clips)
        ]
