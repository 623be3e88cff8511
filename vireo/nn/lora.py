"""LoRA adapters as peft writes them: plain names, merged into weights or kept beside them.

The merged weight is W + (alpha / r) B A, computed in float32 whatever the file's type. An adapter
may also replace whole modules (`modules_to_save`); those tensors come back under their own names.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from vireo.errors import VireoError
from vireo.nn.formats import Lazy, loaded
from vireo.utils.files import read_json

SCALE = "lora_scale"  # a number in adapters that were trained here
_PAIR = re.compile(r"(.+)\.lora_([AB])(?:\.[^.]+)?\.weight")


@dataclass
class Adapter:
    """Pairs (A [r,in], B [out,r]) by the name of the weighted module, and replaced tensors."""

    scale: float
    pairs: dict[str, tuple[Lazy | Tensor, Lazy | Tensor]] = field(default_factory=dict)
    whole: dict[str, Lazy | Tensor] = field(default_factory=dict)


def scale_of(folder: str | Path) -> float:
    """alpha / r of `adapter_config.json`; VireoError for variants that are not plain LoRA."""
    path = Path(folder) / "adapter_config.json"
    if not path.exists():
        raise VireoError(f"{path} is missing: it must lie beside the adapter's weights")
    config = read_json(path, "adapter's configuration")
    for key in ("use_dora", "use_rslora", "rank_pattern", "alpha_pattern", "fan_in_fan_out"):
        if config.get(key):
            raise VireoError(f"{path}: {key} is not supported, only plain LoRA")
    return config["lora_alpha"] / config["r"]


def parse(named: Mapping[str, Lazy | Tensor], scale: float, source: str | Path = "") -> Adapter:
    """Sort an adapter's tensors; peft's prefixes and infixes are taken off the names."""
    adapter = Adapter(scale)
    halves: dict[str, dict[str, Lazy | Tensor]] = {}
    for key, value in named.items():
        name = key.removeprefix("base_model.model.").replace(".modules_to_save.default.", ".")
        match = _PAIR.fullmatch(name)
        if match:
            halves.setdefault(match[1], {})[match[2]] = value
        else:
            adapter.whole[name] = value
    for name, half in halves.items():
        if set(half) != {"A", "B"}:
            raise VireoError(f"{source}: {name} has only one half of its low-rank pair")
        adapter.pairs[name] = (half["A"], half["B"])
    return adapter


def merged(base: Mapping[str, Any], adapter: Adapter, source: str | Path = "") -> dict[str, Any]:
    """The base's tensors with the adapter in them; a weight is read and summed when asked for."""
    result = {**base, **adapter.whole}
    for name, (a, b) in adapter.pairs.items():
        key = f"{name}.weight"
        if key not in base:
            raise VireoError(f"{source}: the base has no {key}, which the adapter changes")
        weight = base[key]
        if (b.shape[0], a.shape[1]) != tuple(weight.shape) or a.shape[0] != b.shape[1]:
            raise VireoError(
                f"{source}: the adapter of {name} is {b.shape[0]} x {a.shape[1]}, "
                f"the base's weight is {' x '.join(map(str, weight.shape))}"
            )
        result[key] = Lazy(tuple(weight.shape), weight.dtype, _sum(weight, a, b, adapter.scale))
    return result


def _sum(weight: Any, a: Any, b: Any, scale: float) -> Any:
    def read() -> Tensor:
        w, low, high = (loaded(t) for t in (weight, a, b))
        # float32 is kept: rounding to the model's dtype happens once, on loading.
        return w.float() + scale * (high.float() @ low.float())

    return read


class LoraLinear(nn.Module):
    """A linear layer with its low-rank pair beside it (what training and peft compute)."""

    def __init__(self, base: nn.Linear, a: Tensor, b: Tensor, scale: float) -> None:
        super().__init__()
        self.base, self.scale = base, scale
        like = base.weight
        self.lora_a = nn.Parameter(a.to(like.device, like.dtype), requires_grad=False)
        self.lora_b = nn.Parameter(b.to(like.device, like.dtype), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., out]."""
        return self.base(x) + F.linear(F.linear(x, self.lora_a), self.lora_b) * self.scale


def attach(module: nn.Module, adapter: Adapter, source: str | Path = "") -> None:
    """Replace the linear layers that the adapter names (in the module's own names) in place."""
    for name, (a, b) in adapter.pairs.items():
        parent, _, leaf = name.rpartition(".")
        try:
            base = module.get_submodule(name)
        except AttributeError as error:
            raise VireoError(f"{source}: the model has no layer {name}") from error
        if not isinstance(base, nn.Linear):
            raise VireoError(f"{source}: {name} is no linear layer")
        low, high = (loaded(t) for t in (a, b))
        setattr(module.get_submodule(parent), leaf, LoraLinear(base, low, high, adapter.scale))
