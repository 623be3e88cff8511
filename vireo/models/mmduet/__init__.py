"""MMDuet, the streaming video language model: `build` and `load` as every family has them."""

from vireo.models.mmduet.checkpoint import (
    TOKENIZERS,
    base_config,
    base_tensors,
    check_base,
    original,
    rename,
)
from vireo.models.mmduet.model import Model, load
from vireo.models.mmduet.module import (
    FULL,
    MMDuet,
    build,
    complete,
    make_buffers,
    normalise,
    pool,
)

__all__ = [
    "FULL",
    "TOKENIZERS",
    "MMDuet",
    "Model",
    "base_config",
    "base_tensors",
    "build",
    "check_base",
    "complete",
    "load",
    "make_buffers",
    "normalise",
    "original",
    "pool",
    "rename",
]
