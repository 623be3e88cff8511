"""A new model from an `arch` block: the block checked and filled in, then shapes, then weights.

Every family's `build` goes through `arch` and `model`, its `load` through `start`.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch

from vireo.errors import VireoError, unknown


class Startable(Protocol):
    """A module that can give itself weights."""

    def to_empty(self, *, device: torch.device) -> Any:
        """Memory in place of mere shapes; every `nn.Module` has this."""
        ...

    def init_weights(self, generator: torch.Generator | None = None) -> None:
        """Fill every parameter and buffer."""
        ...


Module = TypeVar("Module", bound=Startable)


def arch(
    what: str,
    given: Mapping[str, Any],
    defaults: Mapping[str, Any],
    required: Iterable[str] = (),
    multiples: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """`given` with `defaults` for the keys that it leaves out.

    VireoError for unknown keys, for missing ones of `required`, and for a value that is no multiple
    of its partner in `multiples` (pairs that the arch has not are left out). `what` is the start
    of a sentence: "a viclip arch".
    """
    known = [*required, *defaults]
    for key in given:
        if key not in known:
            raise unknown(f"key of {what}", key, known)
    full = {**defaults, **given}
    missing = [key for key in known if key not in full]
    if missing:
        raise VireoError(f"{what} needs {', '.join(missing)}")
    for whole, part in (multiples or {}).items():
        if whole in full and full[whole] % full[part]:
            raise VireoError(f"{what}: {whole} {full[whole]} is no multiple of {part}")
    return full


def model(
    kind: Callable[[dict[str, Any]], Module],
    arch: dict[str, Any],
    generator: torch.Generator | None = None,
) -> Module:
    """`kind(arch)`, started by its `init_weights` on torch's default device, in train mode.

    Random numbers come from `generator`, else from torch's global one. Under
    `torch.device("meta")` only names and shapes exist, for `checkpoint.load_into` to fill.
    """
    with torch.device("meta"):  # no memory is filled twice
        made = kind(arch)
    device = torch.get_default_device()
    if device.type != "meta":
        made.to_empty(device=device)
        made.init_weights(generator)
    return made


def from_block(
    build: Callable[..., Module], block: Mapping[str, Any], weights: str | Path | None
) -> Module:
    """The module of a model block: names and shapes for a file of weights to fill.

    Without a file it has weights, drawn by the block's `seed` (0 unless given).
    """
    if weights is None:
        return build(block["arch"], torch.Generator().manual_seed(block.get("seed", 0)))
    with torch.device("meta"):
        return build(block["arch"])
