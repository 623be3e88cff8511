"""Which samples a process sees in which step.

The order of an epoch is a function of (seed, epoch). A step takes `batch_size` samples of it,
cut into micro-batches over processes and accumulation, so the whole batch of a step is the same
however many processes share it.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch.utils.data import Sampler

from vireo.errors import VireoError
from vireo.training import seeds
from vireo.training.schedule import Plan


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
    """Micro-batches of (epoch, index) for one process; `start` of them are done already."""

    def __init__(self, samples: int, plan: Plan, cut: Split, seed: int, steps_done: int) -> None:
        self.samples, self.plan, self.cut, self.seed = samples, plan, cut, seed
        self.start = steps_done * cut.accumulate

    def permutation(self, epoch: int) -> list[int]:
        """Order in which an epoch goes through the samples."""
        return seeds.numpy_generator(self.seed, "order", epoch).permutation(self.samples).tolist()

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        now, order = -1, []
        for number in range(self.start, self.plan.steps * self.cut.accumulate):
            step, part = divmod(number, self.cut.accumulate)
            epoch = self.plan.epoch(step)
            if epoch != now:
                now, order = epoch, self.permutation(epoch)
            first = (step % self.plan.steps_per_epoch) * self.cut.batch + self.cut.first(part)
            yield [(epoch, i) for i in order[first : first + self.cut.micro]]

    def __len__(self) -> int:
        return max(0, self.plan.steps * self.cut.accumulate - self.start)


class Once(Sampler[list[tuple[int, int]]]):
    """All samples one time, in their order, for validation; `start` batches are done already."""

    def __init__(self, samples: int, size: int) -> None:
        self.samples, self.start = samples, 0
        self.cut = Split(size, size, 1, 1, 0)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        size = self.cut.micro
        for first in range(self.start * size, self.samples, size):
            yield [(0, index) for index in range(first, min(first + size, self.samples))]

    def __len__(self) -> int:
        return max(0, -(-self.samples // self.cut.micro) - self.start)
