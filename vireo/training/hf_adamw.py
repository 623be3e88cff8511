"""AdamW as the old Hugging Face library has it (ClipBERT's recipe).

Unlike torch's: epsilon is added before the bias correction, and weight decay is taken from the
weights after the update, not before.
"""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch


class HFAdamW(torch.optim.Optimizer):
    """`lr`, `betas`, `eps`, `weight_decay`, each per group."""

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        value = None
        if closure is not None:
            with torch.enable_grad():
                value = closure()
        for group in self.param_groups:
            first, second = group["betas"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["step"] = torch.zeros(())
                    state["exp_avg"] = torch.zeros_like(parameter)
                    state["exp_avg_sq"] = torch.zeros_like(parameter)
                state["step"] += 1
                mean, square = state["exp_avg"], state["exp_avg_sq"]
                mean.lerp_(parameter.grad, 1 - first)
                square.mul_(second).addcmul_(parameter.grad, parameter.grad, value=1 - second)
                count = int(state["step"])
                size = group["lr"] * math.sqrt(1 - second**count) / (1 - first**count)
                parameter.addcdiv_(mean, square.sqrt().add_(group["eps"]), value=-size)
                if group["weight_decay"]:
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
        return value
