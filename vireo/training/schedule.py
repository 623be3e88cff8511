"""How long a run is and which learning rate each step has.

Everything is a pure function of the step, so there is no scheduler state to save.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vireo.errors import VireoError, unknown


def cosine_floor(step: int, total: int, warmup: int, floor: float = 0.01) -> float:
    """Linear warm-up then half a cosine, never below `floor` (ViCLIP; step 0 has the floor)."""
    if step < warmup:
        return max(floor, step / max(1, warmup))
    progress = (step - warmup) / max(1, total - warmup)
    return max(floor, 0.5 * (1 + math.cos(math.pi * min(1.0, progress))))


def linear(step: int, total: int, warmup: int, floor: float = 2e-4) -> float:
    """Linear warm-up from 0, then a line to 0, never below `floor` (ClipBERT; 1e-8 of 5e-5)."""
    number = step + 1  # the rate of a step is set from its own number, before it
    if number < warmup:
        return max(floor, number / max(1, warmup))
    return max(floor, (total - number) / max(1, total - warmup))


def cosine_from_to(
    step: int, total: int, warmup: int, start: float = 0.0, end: float = 0.0
) -> float:
    """Linear from `start` to 1 over the warm-up, then half a cosine down to `end` (UMT).

    start, end: multiples of the base learning rate.
    """
    if step < warmup:
        return start + (1 - start) * step / max(1, warmup - 1)
    progress = (step - warmup) / max(1, total - warmup)
    return end + 0.5 * (1 - end) * (1 + math.cos(math.pi * min(1.0, progress)))


KINDS: dict[str, Callable[..., float]] = {
    "cosine_from_to": cosine_from_to,
    "cosine_floor": cosine_floor,
    "linear": linear,
}


@dataclass(frozen=True)
class Plan:
    """Length of a run in optimiser steps, and its learning-rate factor."""

    steps: int
    steps_per_epoch: int
    warmup: int
    schedule: dict[str, Any]

    def factor(self, step: int) -> float:
        """Multiple of the base learning rate for the step after `step` finished ones."""
        options = {k: v for k, v in self.schedule.items() if k not in ("kind", "warmup_epochs")}
        options.pop("warmup_steps", None)
        kind = self.schedule.get("kind", "cosine_floor")
        if kind not in KINDS:
            raise unknown("learning-rate schedule", kind, KINDS)
        return KINDS[kind](step, self.steps, self.warmup, **options)

    def epoch(self, step: int) -> int:
        """Epoch in which the step after `step` finished ones lies."""
        return step // self.steps_per_epoch


def data_share(recipe: dict[str, Any]) -> float:
    """Share of the training list that is used: `epochs` below 1 mean a smaller list, once."""
    epochs = recipe.get("epochs")
    return min(1.0, float(epochs)) if epochs else 1.0


def plan(recipe: dict[str, Any], samples: int) -> Plan:
    """Work out the steps of a recipe over `samples` training samples (already subsampled).

    `steps` fixes the length, otherwise `epochs`; an epoch drops its last incomplete batch.
    Warm-up is `schedule.warmup_steps` or `warmup_epochs`; for `epochs` below 1 the list is
    subsampled instead, so the warm-up becomes warmup/epochs of one whole epoch.
    """
    batch = int(recipe["batch_size"])
    if samples < batch:
        raise VireoError(
            f"{samples} training samples do not fill one batch of {batch}: lower batch_size or "
            "check that the videos of the list are there"
        )
    schedule = dict(recipe.get("schedule") or {})
    per_epoch = samples // batch
    epochs = recipe.get("epochs")
    steps = recipe.get("steps")
    if (steps is None) == (epochs is None):
        raise VireoError("a recipe needs either `steps` or `epochs`")
    if steps is None:
        assert epochs is not None
        if float(epochs) <= 0:
            raise VireoError(f"epochs: {epochs} is not a length")
        steps = round(max(1.0, float(epochs)) * per_epoch)
    warm_epochs = float(schedule.get("warmup_epochs") or 0) / data_share(recipe)
    warmup = schedule.get("warmup_steps")
    return Plan(
        int(steps), per_epoch, int(warm_epochs * per_epoch if warmup is None else warmup), schedule
    )
