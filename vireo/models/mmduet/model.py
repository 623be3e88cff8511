"""MMDuet (Wang et al., 2024, arXiv 2411.17991): a language model that watches a video as it plays.

Facts and vectors come from running the authors' code (yellow-binary-tree/MMDuet,
LLaVA-VL/LLaVA-NeXT).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vireo.errors import unknown
from vireo.fetch import receipt
from vireo.models.mmduet import offline
from vireo.models.mmduet.chat import Outcome, Settings
from vireo.models.mmduet.checkpoint import gather, read_tokenizer
from vireo.models.mmduet.core import Core
from vireo.models.mmduet.module import build, make_buffers
from vireo.models.mmduet.streaming import Session
from vireo.nn import build as fresh
from vireo.nn import checkpoint, lora
from vireo.utils.device import set_precision


class Model(Core):
    """A `StreamingModel`: whole videos by the offline engine, or frame by frame in a session."""

    def open(self, settings: Settings) -> Any:
        """A session that takes frames and questions as they come."""
        return Session(self, settings)

    def watch(
        self, frames: Tensor, questions: Sequence[dict[str, Any]], settings: Sequence[Settings]
    ) -> list[Outcome]:
        """uint8 [T,3,S,S] or embeddings [T,49,hidden] and user turns (`content`, `time`) -> an
        outcome per settings; settings that differ in thresholds only share one reading."""
        embeds = self.embed_frames(frames) if frames.dtype == torch.uint8 else frames
        return offline.watch(self, embeds, questions, settings)


def load(
    cfg: dict[str, Any],
    weights: str | Path | None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | str = torch.float32,
) -> Model:
    """A model block and an adapter or a complete checkpoint -> `Model`.

    An adapter (`adapter_model.safetensors` or `.bin`) needs its base: the folder of the file that
    `files: {base: …}` names, or a folder `options.base`. `merge: false` keeps the low-rank pairs,
    `tower_autocast: float16` runs the tower as the reference does on a GPU. VireoError when a head,
    a tensor or a token is missing or the base's configuration is another one.
    """
    dtype = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    options = cfg.get("options") or {}
    for key in options:
        if key not in ("base", "merge", "tower_autocast"):
            raise unknown("option of mmduet", key, ("base", "merge", "tower_autocast"))
    set_precision(bool(cfg.get("tf32")))
    if beside := receipt.named(cfg, "base"):
        options = {"base": str(beside.parent), **options}
    module = fresh.from_block(build, cfg, weights)
    if weights is None:
        module.to(device, dtype)
        make_buffers(module)  # frequencies stay float32
        folders = [Path(options["base"])] if options.get("base") else []
    else:
        named, adapter, folders = gather(Path(weights), module.arch, options)
        checkpoint.load_into(module, named, weights, dtype, device)
        make_buffers(module)
        if adapter is not None:
            lora.attach(module, adapter, weights)
    autocast = options.get("tower_autocast")
    module.tower_autocast = getattr(torch, autocast) if autocast else None
    return Model(module.to(device), read_tokenizer(module.arch, folders), options)
