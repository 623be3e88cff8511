"""ClipBERT as an `Answerer`: a model block and a checkpoint -> answers to questions on videos."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vireo.errors import VireoError
from vireo.fetch import receipt
from vireo.models.clipbert.checkpoint import released
from vireo.models.clipbert.inputs import Tokenizer, Transform
from vireo.models.clipbert.module import ClipBERT, aggregate, build
from vireo.nn import answers, checkpoint
from vireo.nn import build as fresh
from vireo.utils.device import set_precision


class Model:
    """An `Answerer` on one device, in one dtype, without gradients."""

    def __init__(
        self, module: ClipBERT, transform: Transform, tokenizer: Tokenizer, answers: list[str]
    ) -> None:
        self.module, self.answers = module.eval().requires_grad_(False), answers
        self.transform, self.tokenizer = transform, tokenizer
        self._like: Tensor = module.transformer.bert.pooler.dense.weight

    @torch.inference_mode()
    def encode(self, clips: Tensor) -> Tensor:
        """[B,n,T,3,H,W] as `transform` makes frames -> features [B,n,h,w,C]."""
        return self.module.encode(clips.to(self._like.device, self._like.dtype))

    @torch.inference_mode()
    def answer(
        self, features: Tensor, scene_index: Sequence[int], questions: Sequence[str], length: int
    ) -> Tensor:
        """Features [B,n,h,w,C], the row of each question, Q texts -> logits [Q,n,V] float32.

        `length`: longest text in tokens; shorter texts are not padded up to it, which changes no
        number, because padding is masked.
        """
        device = self._like.device
        ids, mask = self.tokenizer(questions, length)
        longest = int(mask.sum(1).max())
        rows = torch.as_tensor(scene_index, device=features.device)
        logits = self.module(
            ids[:, :longest].to(device), mask[:, :longest].to(device), features[rows]
        )
        return logits.float()

    aggregate = staticmethod(aggregate)


def load(
    cfg: dict[str, Any],
    weights: str | Path | None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | str = torch.float32,
) -> Model:
    """A model block and a checkpoint (None: seeded random weights) -> `Model`.

    Keys must match one for one, apart from those in `IGNORED`. The vocabulary and the answer
    dictionary come from the block (see `aux_file`).
    """
    dtype = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    set_precision(bool(cfg.get("tf32")))
    module = fresh.from_block(build, cfg, weights)
    if weights is None:
        module.to(device, dtype)
    else:
        checkpoint.load_into(module, released(weights), weights, dtype, device)
    tokenizer = Tokenizer(aux_file(cfg, "vocab"))
    if tokenizer.size > module.arch["vocab_size"]:
        raise VireoError(
            f"the vocabulary has {tokenizer.size} words, arch.vocab_size is "
            f"{module.arch['vocab_size']}"
        )
    listed = aux_file(cfg, "answers")
    names = answers.read(listed)
    if len(names) > module.arch["labels"]:
        raise VireoError(
            f"{listed} has {len(names)} answers, the head {module.arch['labels']} "
            "rows: it belongs to another head"
        )
    transform = Transform(cfg["mean"], cfg["std"], cfg.get("size", 448))
    return Model(module, transform, tokenizer, names)


def aux_file(cfg: dict[str, Any], role: str) -> Path:
    """The vocabulary (`vocab`) or answer dictionary (`answers`) of a model or recipe block.

    A path under the role's name, or `files: {role: {artifact, file}}`.
    """
    path = Path(cfg[role]) if role in cfg else receipt.named(cfg, role)
    if path is None:
        raise VireoError(f"a clipbert block needs `files: {{{role}: {{artifact: NAME}}}}`")
    return path
