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

# torch.distributed's parts are imported where they are needed: they take seconds, and most runs
# are not sharded.

OPTIMIZER = "optimizer.pt"


def _options(**more: Any) -> Any:
    from torch.distributed.checkpoint.state_dict import StateDictOptions

    # Not strict: a checkpoint holds what is trained; frozen weights stay as built.
    return StateDictOptions(full_state_dict=True, **more)


def shard(model: nn.Module, layers: Iterable[str], device: torch.device) -> None:
    """Spread a model over all processes, in place; `layers`: class names that are units."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
    units = set(layers)
    for module in list(model.modules()):
        if type(module).__name__ in units:
            fully_shard(module, mesh=mesh)
    fully_shard(model, mesh=mesh)


def synchronise(model: nn.Module, now: bool) -> None:
    """Whether the next backward pass adds gradients up over processes."""
    from torch.distributed.fsdp import FSDPModule

    if isinstance(model, FSDPModule):
        model.set_requires_gradient_sync(now)


def full(tensor: Tensor) -> Tensor:
    """A tensor in one piece; every process must ask."""
    if type(tensor) in (Tensor, nn.Parameter):
        return tensor
    from torch.distributed.tensor import DTensor

    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def whole(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors in one piece; every process must ask, in the same order."""
    return {name: full(value) for name, value in tensors.items()}


def restore(model: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Load whole tensors into a model, spread or not."""
    from torch.distributed.checkpoint.state_dict import set_model_state_dict

    named: Any = tensors
    set_model_state_dict(model, named, options=_options(strict=False))


def save_optimizer(
    folder: str, model: nn.Module, optimizer: torch.optim.Optimizer, writes: bool
) -> None:
    """Write the optimiser's state by parameter names; every process takes part."""
    from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict

    options = _options(cpu_offload=True)
    state = get_optimizer_state_dict(model, optimizer, options=options)
    if writes:
        torch.save(state, Path(folder) / OPTIMIZER)


def load_optimizer(folder: str, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """The inverse of `save_optimizer`, on any number of processes."""
    from torch.distributed.checkpoint.state_dict import set_optimizer_state_dict

    state: Any = torch.load(Path(folder) / OPTIMIZER, map_location="cpu", weights_only=True)
    set_optimizer_state_dict(model, optimizer, state, options=_options(strict=False))
