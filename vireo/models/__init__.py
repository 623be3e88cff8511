"""Model families: `family: viclip` in the config is the file or package `vireo.models.viclip`.

A family has `build(arch) -> nn.Module` with the authors' parameter names and
`load(cfg, weights, device, dtype) -> Model`, which fulfils one or more of the protocols below.
`weights=None` asks for the family's own seeded initialisation (`cfg["seed"]`, default 0).
"""

import importlib
import pkgutil
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from vireo.errors import unknown

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor


@runtime_checkable
class DualEncoder(Protocol):
    """Video and text in one space (Video-MME, zero-shot recognition, retrieval)."""

    logit_scale: float

    def transform(self, frames: "np.ndarray", view: dict[str, Any]) -> "Tensor":
        """uint8 RGB [T,H,W,3] -> float32 [T,3,H',W']; runs in loader workers."""
        ...

    def embed_video(self, clips: "Tensor") -> "Tensor":
        """[B,T,3,H,W] -> [B,D], L2-normalised float32."""
        ...

    def embed_text(self, texts: list[str]) -> "Tensor":
        """N strings -> [N,D], L2-normalised float32."""
        ...


@runtime_checkable
class Classifier(Protocol):
    """Logits over named classes, or one regression value (K400, SSv2, Breakfast, COIN, LVU)."""

    labels: list[str] | None

    def transform(self, frames: "np.ndarray", view: dict[str, Any]) -> "Tensor":
        """uint8 RGB [T,H,W,3] -> float32 [T,3,H',W']; runs in loader workers."""
        ...

    def classify(self, clips: "Tensor") -> "Tensor":
        """[B,T,3,H,W] -> [B,K] float32 logits; K = 1 for regression."""
        ...


@runtime_checkable
class Answerer(Protocol):
    """Questions about a video, answered from a fixed dictionary (SQA3D).

    `encode` once per video, `answer` for any number of questions, `aggregate` over the clips.
    `answers` names the first classes; a further class has no name.
    """

    answers: list[str]

    def transform(self, frames: "np.ndarray", view: dict[str, Any]) -> "Tensor":
        """uint8 RGB [T,H,W,3] -> float32 [T,3,H',W']; runs in loader workers."""
        ...

    def encode(self, clips: "Tensor") -> "Tensor":
        """[B,n,T,3,H,W], n clips of T frames per video -> features [B,n,...]."""
        ...

    def answer(
        self, features: "Tensor", scene_index: Sequence[int], questions: Sequence[str], length: int
    ) -> "Tensor":
        """Features, the row of each of Q questions, texts -> logits [Q,n,V] float32.

        `length`: texts are cut to so many tokens.
        """
        ...

    def aggregate(self, logits: "Tensor", how: str) -> "Tensor":
        """[Q,n,V] -> [Q,V] float32: "lse", "mean" or "max" over the clips."""
        ...


@runtime_checkable
class StreamingModel(Protocol):
    """A video seen as it plays, with questions in between (YouCook2, MAGQA, Charades-STA, QVH)."""

    def transform(self, frames: "np.ndarray", view: dict[str, Any]) -> "Tensor":
        """uint8 RGB [T,H,W,3] -> uint8 [T,3,H,W]; runs in loader workers."""
        ...

    def embed_frames(self, frames: "Tensor") -> "Tensor":
        """uint8 [T,3,H,W] -> embeddings [T,tokens,D], shared by all questions on the video."""
        ...

    def open(self, settings: Any) -> Any:
        """A session with `feed(frames)`, `ask(text, time)` and `events()`."""
        ...

    def watch(self, frames: "Tensor", questions: Any, settings: Any) -> list[Any]:
        """A whole video, frames or embeddings: an outcome per settings, as sessions would give."""
        ...


def family(name: str) -> ModuleType:
    """Import `vireo.models.<name>`; VireoError lists near names when there is no such family."""
    known = [m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_")]
    if name not in known:
        raise unknown("model family", name, known)
    return importlib.import_module(f"vireo.models.{name}")
