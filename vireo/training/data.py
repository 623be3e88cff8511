"""Which samples a process sees in which step, and the loader that brings them.

The order of an epoch is a function of (seed, epoch). A step takes `batch_size` samples of it,
cut into micro-batches over processes and accumulation, so the whole batch of a step is the same
however many processes share it.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from vireo.errors import VireoError
from vireo.training import Samples, Task, seeds
from vireo.training.schedule import Plan

log = logging.getLogger("vireo")


@dataclass(frozen=True)
class Split:
    """How a step's batch is cut: `micro` samples, `accumulate` times, on each of `world`."""

    batch: int
    micro: int
    accumulate: int
    world: int
    rank: int

    def first(self, part: int) -> int:
        """Position in the step's batch where micro-batch `part` of this process starts."""
        return (part * self.world + self.rank) * self.micro


def split(recipe: dict[str, Any], world: int, rank: int) -> Split:
    """Cut `batch_size` by the number of processes and, if given, `micro_batch` (per process)."""
    batch = int(recipe["batch_size"])
    micro = int(recipe.get("micro_batch") or 0) or max(1, batch // world)
    if batch % (micro * world):
        raise VireoError(
            f"batch_size {batch} cannot be cut into micro-batches of {micro} on {world} "
            "processes: change batch_size, micro_batch or the number of processes"
        )
    return Split(batch, micro, batch // (micro * world), world, rank)


class Order(Sampler[list[tuple[int, int]]]):
    """Micro-batches of (epoch, index) for one process, from `start` finished steps to the end."""

    def __init__(self, samples: int, plan: Plan, cut: Split, seed: int, start: int) -> None:
        self.samples, self.plan, self.cut, self.seed, self.start = samples, plan, cut, seed, start

    def permutation(self, epoch: int) -> list[int]:
        """Order in which an epoch goes through the samples."""
        return seeds.numpy_generator(self.seed, "order", epoch).permutation(self.samples).tolist()

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        now, order = -1, []
        for step in range(self.start, self.plan.steps):
            epoch = self.plan.epoch(step)
            if epoch != now:
                now, order = epoch, self.permutation(epoch)
            base = (step % self.plan.steps_per_epoch) * self.cut.batch
            for part in range(self.cut.accumulate):
                first = base + self.cut.first(part)
                yield [(epoch, i) for i in order[first : first + self.cut.micro]]

    def __len__(self) -> int:
        return max(0, self.plan.steps - self.start) * self.cut.accumulate


class _Keyed(Dataset):  # type: ignore[type-arg]
    """Map-style view of a task's samples, keyed by (epoch, index)."""

    def __init__(self, samples: Samples) -> None:
        self.samples = samples

    def __getitem__(self, key: tuple[int, int]) -> Any:
        return self.samples.sample(*key)


def _quiet_worker(_: int) -> None:
    torch.set_num_threads(1)


def loader(task: Task, samples: Samples, order: Order, workers: int, pin: bool) -> DataLoader:  # type: ignore[type-arg]
    """Loader over all remaining micro-batches; `workers` processes (0: in this one).

    Workers are forked before the model reaches a device and are not started anew per epoch.
    """
    extra: dict[str, Any] = {}
    if workers:
        extra = {"prefetch_factor": 4, "worker_init_fn": _quiet_worker}
    return DataLoader(
        _Keyed(samples),
        batch_sampler=order,
        num_workers=workers,
        collate_fn=task.collate,
        pin_memory=pin,
        **extra,
    )
