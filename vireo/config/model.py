"""One model: what it is, where its weights come from, how it wants its frames."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from vireo.config.artifact import Artifact
from vireo.config.base import RGB, Block, Count, Dtype, Flag, Number, RGBDivisor, Share, key
from vireo.config.hardware import Hardware
from vireo.config.protocol import Protocol


def _ability(value: Any) -> Any:
    """`Watcher` is the earlier name of StreamingModel."""
    return "StreamingModel" if value == "Watcher" else value


Ability = Annotated[
    Literal["DualEncoder", "Classifier", "Answerer", "StreamingModel"], BeforeValidator(_ability)
]


class Weights(Block):
    """Where weights come from: an artifact, or a recipe of this configuration."""

    artifact: str | None = key("Artifact that holds the checkpoint.", None)
    file: str | None = key("File inside the artifact; needed when it has several.", None)
    recipe: str | None = key("Recipe whose result it is.", None)

    @model_validator(mode="after")
    def _names_a_source(self) -> Any:
        if self.artifact is None and self.recipe is None:
            text = "name an `artifact` or a `recipe`, or write null"
            raise PydanticCustomError("needed", "{text}", {"text": text})
        return self


class Averaged(Block):
    """Weight averaging with the model that training started from (WiSE-FT)."""

    alpha: Share = key("Share of `weights`; the rest is `with`.")
    other: str = key("Artifact that holds the other checkpoint.", alias="with")
    file: str | None = key("File inside that artifact; needed when it has several.", None)


class AuxFile(Block):
    """A file that a model needs next to its weights."""

    artifact: str = key("Artifact that holds the file.")
    file: str | None = key("Its path below the artifact's folder, or its name at any depth.", None)


class Published(Block):
    """A published number given inline instead of in config/published.tsv."""

    model: str | None = key("Model (in a benchmark's block).", None)
    benchmark: str | None = key("Benchmark (in a model's block).", None)
    metric: str = key("Name of the metric.")
    value: Number = key("The number, in the metric's unit.")
    n: Count | None = key("Items it was measured on.", None)
    split: str | None = key("Split.", None)
    source: str = key("Where it was published.")
    tolerance: Number | None = key("Greatest difference that counts as reproduced.", None)
    tolerance_reason: str | None = key("Why this tolerance.", None)
    from_memory: Flag | None = key("Not looked up.", None)
    note: str | None = key("A sentence for the report.", None)


Files = dict[str, AuxFile]
# Sizes and switches belong to the family file; those of our families are checked by `readers`.
Free = dict[str, Any]


class Model(Block):
    """One model."""

    family: str = key("File in vireo/models.")
    fulfils: Annotated[list[Ability], Field(min_length=1)] = key(
        "Protocols of vireo/models that it fulfils; benchmarks need one of them."
    )
    title: str | None = key("Name for people.", None)
    arch: Free = key("Sizes, as `build(arch)` of the family takes them.")
    weights: Weights | None = key(
        "Where the weights come from; null = the family's own random initialisation."
    )
    wiseft: Averaged | None = key(
        "Weight averaging with the model that training started from.", None
    )
    mean: RGB | None = key("Per-channel mean (RGB, 0..1) subtracted from the frames.", None)
    std: RGBDivisor | None = key("Per-channel standard deviation the frames are divided by.", None)
    size: Count | None = key("Side of the square input.", None, unit="pixels")
    dtype: Dtype | None = key("Number format of this model; wins over the general `dtype`.", None)
    seed: int | None = key("Seed of the random initialisation when there are no weights.", None)
    files: Files | None = key(
        "Files next to the weights, by role (`vocab`, `answers`, `labels` = names of the rows of "
        "a head, `base` = the folder of a base model, named by its config.json; all of its files "
        "are in the key).",
        None,
    )
    options: Free | None = key("Switches of the family file that change what it computes.", None)
    protocols: dict[str, Protocol] | None = key(
        "Benchmark name -> keys that override the benchmark's `protocol` for this model.", None
    )
    artifacts: dict[str, Artifact] | None = key(
        "Artifacts that only this block needs, described inline.", None
    )
    version: Count = key("Raised when predictions change; a new number computes them again.")
    hardware: Hardware | None = key("What a job with this model needs.", None)
    note: str | None = key("A sentence for the report.", None)
    published: list[Published] | None = key(
        "Published numbers given inline instead of in config/published.tsv.", None
    )
