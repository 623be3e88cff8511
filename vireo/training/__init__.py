"""Training: one loop (`loop.py`) for all recipes; what a recipe trains is a task file.

`task: viclip_pretrain` in `config/recipes.yaml` is `vireo/training/tasks/viclip_pretrain.py`, which
holds a class `Task` fulfilling the protocol below. How the five families fit:

Masked contrastive (ViCLIP). The model is the whole ViCLIP; `loss` encodes clips (masked by the
step's generator) and texts, gathers both over processes and returns the contrastive loss.
`trainable_state` leaves out the frozen text tower, `weights` puts it back into the released file.

Distillation with a frozen teacher (VideoMamba). `build` returns one module with `student` and
`teacher`; the teacher's parameters do not require gradients, so they reach neither the optimiser
nor the checkpoints, and `weights` returns the student only. Mask and multinomial draws come from
`Step.generator`. Its last mixer gets no gradient: `find_unused = True`.

Mixup classification (VideoMamba, ViCLIP fine-tuning). `dataset.sample` may return a list (repeated
augmentation), `collate` flattens it, and `loss` mixes clips and soft labels with the step's
generator; layer decay is an `lr_scale` per group; `validate` returns top-1, which keeps the best
weights; regression (LVU) is the same task with another loss.

Two-pass question answering (ClipBERT). All clips of an example are coupled by a log-sum-exp, so
`backward` computes logits without a graph, forms the gradient of the loss at the logits, and runs
clip by clip again with it. The loop then averages gradients over processes itself (DDP counts one
backward pass per forward pass). The update of the old Hugging Face AdamW is another `optimizer`.

Low-rank adaptation (MMDuet). `build` returns the base model with adapters, projector and heads
trainable; `micro_batch: 1` with a `batch_size` of 64 makes the loop accumulate; only adapters go
into checkpoints and weights. Samples differ in length: `collate` pads, as the task pleases.

Randomness. A sample is a function of (seed, epoch, index); what happens on a whole batch (masks,
mixup, drop path) is a function of (seed, step). Nothing depends on workers, and nothing but
drop path and dropout on the number of processes, so nothing has to be restored after a kill.
"""

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from vireo.errors import unknown
from vireo.training import seeds

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator
    from torch import Tensor, nn

Batch = dict[str, Any]
Metrics = dict[str, "float | Tensor"]


@dataclass(frozen=True)
class Step:
    """Where a batch stands in the run; the source of all randomness that is not a sample's own."""

    seed: int
    step: int  # optimiser steps done before this one
    epoch: int
    first: int = 0  # position of this micro-batch's first sample in the step's whole batch
    rank: int = 0

    def generator(self, purpose: str) -> "torch.Generator":
        """CPU generator, equal on every process: draw for the whole batch, or skip `first` rows."""
        return seeds.torch_generator(self.seed, "step", self.step, purpose)


class Samples(Protocol):
    """A split: its length and its samples."""

    def __len__(self) -> int: ...

    def sample(self, epoch: int, index: int) -> Any:
        """Sample `index` as seen in `epoch`; a batch may list unreadable files under `failures`."""
        ...

    def exclude(self, file: str, error: str) -> None:
        """Treat a file as unreadable from now on: it killed its reader (`loader.working_on`)."""


class Task(Protocol):
    """What a recipe trains. Made once per process by `Task(recipe, config)`."""

    find_unused: bool = False  # some trainable parameters get no gradient (DDP must look for them)
    best: tuple[str, str] | None = None  # validation metric that keeps weights, and "max" or "min"
    layers: tuple[str, ...] = ()  # class names of the modules that `fsdp: true` spreads one by one
    lr_factor: float = 1.0  # of `optim.lr`: the rules of papers that scale it by the batch

    def build(self) -> "nn.Module":
        """Return the model on the CPU, initialised, with `requires_grad` set."""
        ...

    def fingerprint(self) -> dict[str, Any]:
        """What outside the recipe block decides the outcome (hashes of lists, initial weights)."""
        return {}

    def dataset(self, split: str) -> Samples:
        """Return the samples of "train" or "val"."""
        ...

    def collate(self, samples: list[Any]) -> Batch:
        """Join samples into a batch of CPU tensors (runs in loader workers)."""
        ...

    def loss(self, model: "nn.Module", batch: Batch, step: Step) -> "tuple[Tensor, Metrics]":
        """Scalar loss of a micro-batch and numbers for metrics.csv."""
        ...

    def backward(
        self, model: "nn.Module", batch: Batch, step: Step, accelerator: "Accelerator"
    ) -> "tuple[Tensor, Metrics] | None":
        """Leave gradients in `.grad` and return the loss, or None: `loss` and one backward pass."""
        return None

    def param_groups(self, model: "nn.Module") -> list[dict[str, Any]]:
        """Optimiser groups: `params`, `weight_decay`, optional `lr_scale` (1)."""
        ...

    def trainable_state(self, model: "nn.Module") -> "dict[str, Tensor]":
        """Tensors of `model.state_dict()` that training changes (what a checkpoint holds)."""
        frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
        return {k: v for k, v in model.state_dict().items() if k not in frozen}

    def weights(self, model: "nn.Module") -> "dict[str, Tensor]":
        """Tensors of weights.safetensors, under the authors' key names."""
        return dict(model.state_dict())

    def validate(self, model: "nn.Module") -> dict[str, Any]:
        """Numbers for metrics.csv, every `validate_epochs` epochs; {} = nothing to validate.

        `failures` may list unreadable files, as in a batch.
        """
        return {}


def load(name: str) -> type[Task]:
    """Return class `Task` of `vireo/training/tasks/<name>.py`; VireoError lists near names."""
    folder = Path(__file__).parent / "tasks"
    known = [p.stem for p in folder.glob("*.py") if not p.stem.startswith("_")]
    if name not in known:
        raise unknown("training task", name, known)
    return importlib.import_module(f"vireo.training.tasks.{name}").Task
