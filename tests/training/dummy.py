"""A task of the smallest kind with everything random: sample noise, dropout, a step generator."""

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from vireo.training import Task as Protocol
from vireo.training import seeds


class Noisy:
    """x = fixed vector of the index + noise of (seed, epoch, index); y = its sum."""

    def __init__(self, seed: int, count: int) -> None:
        self.seed, self.count = seed, count

    def __len__(self) -> int:
        return self.count

    def exclude(self, file: str, error: str) -> None:
        raise AssertionError(file)

    def sample(self, epoch: int, index: int) -> dict[str, Any]:
        fixed = seeds.numpy_generator(1, index).normal(size=4)
        noise = seeds.numpy_generator(self.seed, "noise", epoch, index).normal(size=4)
        x = torch.from_numpy((fixed + 0.1 * noise).astype(np.float32))
        return {"x": x, "y": x.sum(), "index": index}


class Task(Protocol):
    def __init__(self, recipe: dict[str, Any], config: dict[str, Any]) -> None:
        self.recipe, self.config = recipe, config
        if recipe["data"].get("validate"):
            self.best = ("error", "min")

    def build(self) -> nn.Module:
        model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.2), nn.Linear(8, 1), nn.Linear(1, 1))
        model[3].requires_grad_(False)
        return model

    def dataset(self, split: str) -> Noisy:
        return Noisy(self.recipe.get("seed", 0), self.recipe["data"]["count"])

    def collate(self, samples: list[Any]) -> dict[str, Any]:
        return torch.utils.data.default_collate(samples)

    def loss(self, model: nn.Module, batch: Any, step: Any) -> Any:
        data = self.recipe["data"]
        if data.get("kill_at") == step.step and Path("killed").exists() is False:
            Path("killed").touch()
            os.kill(os.getpid(), getattr(signal, data.get("signal", "SIGKILL")))
        noise = torch.rand(len(batch["x"]), 1, generator=step.generator("noise"))
        error = (model(batch["x"])[:, 0] - batch["y"] - 0.01 * noise[:, 0]) ** 2
        loss = error.mean()
        if data.get("nan_at") == step.step:
            loss = loss * float("nan")
        return loss, {"worst": error.max()}

    def param_groups(self, model: nn.Module) -> list[dict[str, Any]]:
        return [{"params": [p for p in model.parameters() if p.requires_grad]}]

    def validate(self, model: nn.Module) -> dict[str, float]:
        if not self.recipe["data"].get("validate"):
            return {}
        x = torch.ones(1, 4)
        return {"error": float((model(x) - 4).abs())}


class TwoPass(Task):
    """The same gradients, made by the task itself."""

    def backward(self, model: nn.Module, batch: Any, step: Any, accelerator: Any) -> Any:
        loss, metrics = self.loss(model, batch, step)
        accelerator.backward(loss)
        return loss, metrics


KINDS = {"dummy": Task, "two_pass": TwoPass}


def recipe(**changes: Any) -> dict[str, Any]:
    block: dict[str, Any] = {
        "task": "dummy", "data": {"count": 22}, "optim": {"lr": 0.05}, "steps": 12,
        "schedule": {"warmup_steps": 2}, "batch_size": 4, "seed": 3, "save_steps": 5,
    }  # fmt: skip
    return block | changes
