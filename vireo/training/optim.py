"""Optimiser groups and optimisers.

AdamW is torch's: decay first, then the bias-corrected update (ViCLIP, VideoMamba, MMDuet);
`adamw_hf` is the older one of ClipBERT.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from vireo.errors import VireoError, unknown
from vireo.training.hf_adamw import HFAdamW


def decay_groups(model: nn.Module, decay: float, skip: Iterable[str] = ()) -> list[dict[str, Any]]:
    """Two groups of the trainable parameters: without and with weight decay.

    No decay for one-dimensional tensors, biases, and the last name parts or whole names in `skip`.
    """
    skipped = set(skip)
    without, with_decay = [], []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        plain = parameter.ndim <= 1 or name.endswith(".bias")
        if plain or name in skipped or name.rpartition(".")[2] in skipped:
            without.append((name, parameter))
        else:
            with_decay.append((name, parameter))
    groups = []
    for pairs, value in ((without, 0.0), (with_decay, decay)):
        names = [name for name, _ in pairs]
        groups.append({"params": [p for _, p in pairs], "weight_decay": value, "names": names})
    return [group for group in groups if group["params"]]


def _adamw(groups: list[dict[str, Any]], options: dict[str, Any]) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        groups,
        lr=options["lr"],
        betas=tuple(options.get("betas", (0.9, 0.999))),
        eps=options.get("eps", 1e-8),
    )


def _adamw_hf(groups: list[dict[str, Any]], options: dict[str, Any]) -> torch.optim.Optimizer:
    return HFAdamW(
        groups,
        lr=options["lr"],
        betas=tuple(options.get("betas", (0.9, 0.999))),
        eps=options.get("eps", 1e-6),
    )


KINDS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adamw": _adamw,
    "adamw_hf": _adamw_hf,
}


def optimizer(groups: list[dict[str, Any]], options: dict[str, Any]) -> torch.optim.Optimizer:
    """Make the optimiser of `recipe["optim"]`: `kind` (adamw, adamw_hf), `lr`, `betas`, `eps`."""
    kind = options.get("kind", "adamw")
    if kind not in KINDS:
        raise unknown("optimiser", kind, KINDS)
    if not groups:
        raise VireoError("the recipe leaves nothing to train: every parameter is frozen")
    # Names are for people; torch keeps its own meaning of a group's "names".
    plain = [{k: v for k, v in group.items() if k != "names"} for group in groups]
    return KINDS[kind](plain, options)


def set_lr(optim: torch.optim.Optimizer, lr: float) -> None:
    """Set every group to `lr` times its own `lr_scale`."""
    for group in optim.param_groups:
        group["lr"] = lr * group.get("lr_scale", 1.0)


def grad_norm(model: nn.Module) -> torch.Tensor:
    """Global L2 norm of all gradients, scalar float32 (0 when there are none)."""
    grads = [p.grad for p in model.parameters() if p.grad is not None]
    if not grads:
        return torch.zeros(())
    return torch.nn.utils.get_total_norm(grads)
