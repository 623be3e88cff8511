"""One training run that yields weights."""

from typing import Annotated, Literal

from pydantic import Field

from vireo.config.artifact import Artifact
from vireo.config.base import (
    Block,
    Count,
    Dtype,
    Flag,
    Index,
    NotNegative,
    Number,
    Positive,
    Share,
    key,
)
from vireo.config.hardware import Hardware
from vireo.config.model import Files, Free, Weights

Pair = Annotated[list[Share], Field(min_length=2, max_length=2)]


class Optim(Block):
    """The optimiser."""

    defaults_dumped = "none"

    kind: Literal["adamw", "adamw_hf"] | None = key("Which one (default adamw).", None)
    lr: Positive = key("Learning rate.")
    cnn_lr: Positive | None = key("ClipBERT: learning rate of the backbone.", None)
    betas: Pair | None = key("Decay of the running means.", None)
    eps: Positive | None = key("Added to the denominator.", None)
    weight_decay: NotNegative | None = key("Decoupled weight decay (default: the task's).", None)
    clip: Positive | None = key("Largest gradient norm.", None)


class Schedule(Block):
    """The learning rate over time, as multiples of `optim.lr`."""

    defaults_dumped = "none"

    kind: Literal["cosine_floor", "cosine_from_to", "linear"] | None = key(
        "Which one (default cosine_floor).", None
    )
    warmup_epochs: NotNegative | None = key("Length of the warm-up.", None, unit="epochs")
    warmup_steps: Index | None = key("Length of the warm-up.", None, unit="steps")
    floor: NotNegative | None = key("cosine_floor, linear: smallest multiple.", None)
    start: NotNegative | None = key("cosine_from_to: multiple at the start.", None)
    end: NotNegative | None = key("cosine_from_to: multiple at the end.", None)


class Recipe(Block):
    """One training run that yields weights."""

    task: str = key("File in vireo/training/tasks.")
    title: str | None = key("Name for people.", None)
    family: str = key("File in vireo/models.")
    arch: Free = key("Sizes, as `build(arch)` of the family takes them.")
    init: Weights | None = key("Weights to start from; null = random.", None)
    sources: dict[str, str] | None = key("Role -> artifact (annotations, clips).", None)
    files: Files | None = key("Files next to the weights, by role.", None)
    data: Free | None = key("How samples are read; keys belong to the task.", None)
    model: Free | None = key(
        "Switches of the model in training (masking, frozen parts); keys belong to the task.", None
    )
    optim: Optim | None = key("The optimiser.", None)
    schedule: Schedule | None = key("The learning rate over time.", None)
    epochs: Positive | None = key("Passes over the data; below 1 = a subsample.", None)
    steps: Count | None = key("Ends training after this many steps.", None)
    batch_size: Count | None = key("Samples per optimiser step, over all processes.", None)
    micro_batch: Count | None = key(
        "Samples at once per process; smaller ones are accumulated (default = its share).", None
    )
    validate_epochs: Positive | None = key("Epochs between validations (default 1).", None)
    precision: Dtype = key("Mixed precision of the forward pass.", "float32")
    fsdp: Flag = key("Spread the model over the processes (for models that fill a card).", False)
    seed: Index = key("Seed of data order, augmentation and initialisation.", 0)
    workers: Index = key("Loader processes.", 0)
    save_every: Number = key("Time between training states on disk.", 600, unit="s")
    save_steps: Count | None = key("Also save after every so many steps.", None)
    hardware: Hardware | None = key("What the run needs. Never part of a key.", None)
    artifacts: dict[str, Artifact] | None = key(
        "Artifacts that only this block needs, described inline.", None
    )
    version: Count = key("Raised when the run's outcome changes; a new number trains again.")
    note: str | None = key("A sentence for the report.", None)
