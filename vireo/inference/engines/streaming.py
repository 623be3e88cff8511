"""Watched videos -> prediction rows: per question what was said under each threshold, and scores.

Frames of a video are embedded once for all of its questions. A row's `prediction` is JSON: `fps`,
`asked` (user turns that were fed) and `answers` (threshold -> assistant turns); its `scores` are
the informative scores of all frames, then the relevance scores. Settings come from the protocol:
`prompt: {watch: {…}}` has the fields of `streaming.conversation.Settings`; `prob` or `sum` may be
a list, which is a sweep over one reading. `fps` is the frame rule's `target`.
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

from vireo.errors import VireoError
from vireo.inference import frame_cache
from vireo.models.mmduet.chat import HEADS, Settings

if TYPE_CHECKING:
    from vireo.inference.engines.base import Clip, LoadItems, Row


def settings_of(protocol: dict[str, Any]) -> dict[str, Settings]:
    """Threshold as text ("none" without one) -> settings."""
    watch = dict((protocol.get("prompt") or {}).get("watch") or {})
    frames = protocol["frames"]
    if "fps" in watch:
        raise VireoError("protocol: fps is the frame rule's `target`, not a key of prompt.watch")
    if not float(frames.get("target", 2.0)) > 0:
        raise VireoError("protocol: a streaming model needs a frame rule with a positive `target`")
    watch["fps"] = float(frames.get("target", 2.0))
    for kind in ("prob", "sum"):
        values = watch.get(kind)
        if values is not None:
            values = values if isinstance(values, list) else [values]
            return {str(float(v)): Settings.of({**watch, kind: float(v)}) for v in values}
    return {"none": Settings.of(watch)}


class StreamingEngine:
    """The engine of benchmarks that need a `StreamingModel`."""

    truncated = 0

    def __init__(self, model: Any, module: ModuleType, protocol: dict[str, Any]) -> None:
        self.model, self.protocol = model, protocol
        self.settings = settings_of(protocol)

    def prepare(self, items: pd.DataFrame, load_items: "LoadItems", cache: Path) -> None:
        """Nothing: questions are read with their videos."""

    def transform(self, frames: np.ndarray) -> Tensor:
        """uint8 RGB [T,S,S,3] -> uint8 [T,3,S,S]; pixels become floats in batches on the device."""
        return self.model.transform(frames, self.protocol)

    def predict(self, clips: "Sequence[Clip]") -> "list[list[Row]]":
        """Per clip the rows of its questions."""
        return [self._clip(clip) for clip in clips]

    def _clip(self, clip: "Clip") -> "list[Row]":
        assert clip.tensor is not None
        if clip.tensor.dtype == torch.uint8:
            embeds = self.model.embed_frames(clip.tensor)
            if clip.keep is not None:
                facts = {"frames": clip.frames, "flags": clip.flags, "pixels": clip.pixels}
                frame_cache.save(clip.keep, embeds, facts)
        else:  # kept by an earlier run
            embeds = clip.tensor.to(self.model.device)
        rows = []
        for item in clip.items:
            turns = [json.loads(turn) for turn in item.options]
            outcomes = self.model.watch(embeds, turns, list(self.settings.values()))
            answers = {key: one.answered for key, one in zip(self.settings, outcomes, strict=True)}
            fps = next(iter(self.settings.values())).fps
            value = {"fps": fps, "asked": outcomes[0].asked, "answers": answers}
            scores = [[frame[head] for frame in outcomes[0].frames] for head in HEADS]
            rows.append(
                {
                    "id": item.id,
                    "view": 0,
                    "prediction": json.dumps(value, ensure_ascii=False),
                    "scores": np.array(scores, np.float32).ravel(),
                }
            )
        return rows
