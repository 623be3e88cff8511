"""Training with the model spread over processes (torch's FSDP), for models that fill a card.

`fsdp: true` in a recipe: every layer named by the task, and the rest, lives in pieces; a layer is
put together when it computes. Checkpoints hold whole tensors, so a run may go on with another
number of processes. `accelerate` brings up the processes but would shard on GPUs only and save
frozen weights too; here a CPU does what a GPU does, and a test can show it.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor

OPTIMIZER = "optimizer.pt"
WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)
# A checkpoint holds what is trained; frozen weights stay as built.
SOME = StateDictOptions(full_state_dict=True, strict=False)


def shard(model: nn.Module, layers: Iterable[str], device: torch.device) -> None:
    """Spread a model over all processes, in place; `layers`: class names that are units."""
    from torch.distributed.device_mesh import init_device_mesh

    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    units = set(layers)
    for module in list(model.modules()):
        if type(module).__name__ in units:
            fully_shard(module, mesh=mesh)
    fully_shard(model, mesh=mesh)


def synchronise(model: nn.Module, now: bool) -> None:
    """Whether the next backward pass adds gradients up over processes."""
    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(now)


def full(tensor: Tensor) -> Tensor:
    """A tensor in one piece; every process must ask."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def whole(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors in one piece; every process must ask, in the same order."""
    return {name: full(value) for name, value in tensors.items()}


def restore(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Load whole tensors into a model, spread or not."""
    named: Any = tensors
    set_model_state_dict(model, named, options=SOME)


def save_optimizer(
    folder: str, model: nn.Module, optimizer: torch.optim.Optimizer, writes: bool
) -> None:
    """Write the optimiser's state by parameter names; every process takes part."""
    state = get_optimizer_state_dict(model, optimizer, options=WHOLE)
    if writes:
        torch.save(state, Path(folder) / OPTIMIZER)


def load_optimizer(folder: str, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """The inverse of `save_optimizer`, on any number of processes."""
    state: Any = torch.load(Path(folder) / OPTIMIZER, map_location="cpu", weights_only=True)
    set_optimizer_state_dict(model, optimizer, state, options=SOME)
