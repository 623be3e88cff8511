"""How `accelerate` is set up for a run, and what it needs around the model and the signals."""

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs
from torch import Tensor, nn

from vireo.errors import VireoError
from vireo.training import Batch, Metrics, Step, Task
from vireo.utils import device, gpu_lock

PRECISION = {"float32": "no", "bfloat16": "bf16", "float16": "fp16"}


class Loss(nn.Module):
    """The model with the task's loss as its forward pass, so that DDP and autocast wrap both."""

    def __init__(self, task: Task, model: nn.Module) -> None:
        super().__init__()
        self.task, self.model = task, model

    def forward(self, batch: Batch, step: Step) -> tuple[Tensor, Metrics]:
        """Task's loss and metrics of a micro-batch."""
        return self.task.loss(self.model, batch, step)


@contextmanager
def gpu(config: dict[str, Any]) -> Iterator[None]:
    """Hold one GPU of this machine if the run is a single process on a GPU."""
    alone = int(os.environ.get("WORLD_SIZE", "1")) == 1
    if not alone or device.resolve_device(config.get("device", "auto")) == "cpu":
        yield
        return
    with gpu_lock.acquire("cuda") as held:
        torch.cuda.set_device(held)
        yield


def accelerator(recipe: dict[str, Any], config: dict[str, Any], task: type[Task]) -> Accelerator:
    """Make the `Accelerator` of a recipe: `precision`, `device`, processes from the environment."""
    precision = recipe.get("precision", "float32")
    kind = device.resolve_device(config.get("device", "auto"))
    device.set_precision(bool(config.get("tf32")))
    if precision == "float16" and kind == "cpu":
        raise VireoError("precision: float16 trains on a GPU only; use bfloat16 or float32")
    logging.getLogger("accelerate").setLevel(logging.WARNING)
    return Accelerator(
        cpu=kind == "cpu",
        mixed_precision=PRECISION[precision],
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=task.find_unused)],
    )


def average_gradients(made: Accelerator, model: nn.Module) -> None:
    """Average gradients over processes, for tasks with their own backward passes."""
    if made.num_processes > 1:
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter.grad = made.reduce(parameter.grad, "mean")


class Terminate:
    """SIGTERM (pre-empted) sets `asked`: the run saves after its step and stops.

    So does a time limit of `minutes`, a tenth of it early (1 to 10 minutes). At the limit itself
    SLURM leaves a job KillWait seconds, and `--signal` reaches only what srun started.
    """

    def __init__(self, minutes: float | None = None) -> None:
        self.signalled, self.old = False, None  # type: bool, Any
        early = min(10.0, max(1.0, (minutes or 0) / 10))
        self.stop_at = None if minutes is None else time.monotonic() + 60 * (minutes - early)

    @property
    def asked(self) -> bool:
        """Whether to save and stop."""
        return self.signalled or (self.stop_at is not None and time.monotonic() >= self.stop_at)

    def _ask(self, *_: Any) -> None:
        self.signalled = True

    def __enter__(self) -> "Terminate":
        if threading.current_thread() is threading.main_thread():
            self.old = signal.signal(signal.SIGTERM, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        if self.old is not None:
            signal.signal(signal.SIGTERM, self.old)
