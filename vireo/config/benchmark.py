"""One benchmark: which file knows it, which data it needs, how its frames are taken."""

from typing import Annotated, Literal

from pydantic import Field

from vireo.config.artifact import Artifact
from vireo.config.base import Block, Count, Flag, Index, Number, key
from vireo.config.model import Ability, Free, Published
from vireo.config.protocol import Protocol


class Benchmark(Block):
    """One benchmark."""

    module: str | None = key(
        "File in vireo/benchmarks that knows it (default = the benchmark's name).", None
    )
    title: str | None = key("Name for people.", None)
    needs: Ability = key("What a model must be able to do.")
    sources: dict[str, str] = key("Role -> artifact.")
    splits: Annotated[list[str], Field(min_length=1)] = key(
        "Splits; `results/<model>/<benchmark>_<split>.json` asks for one alone."
    )
    headline: list[str] | None = key(
        "Splits that make `results/<model>/<benchmark>.json` (default = all).", None
    )
    rows: dict[str, Index] | None = key("Items per split that the annotations must have.", None)
    partial: Flag = key("Accept another number of items than `rows` says.", False)
    primary: str | None = key("The metric shown first.", None)
    chance: Number | None = key(
        "What guessing gets, in the unit of the primary metric (null: worked out from the items).",
        None,
    )
    options: Free | None = key("Switches of the benchmark file that change items or scores.", None)
    protocol: Protocol | None = key(
        "How frames are taken and texts worded, unless the model's block overrides it.", None
    )
    controls: (
        list[Literal["untrained", "shuffled_videos", "reversed_time", "swapped_channels"]] | None
    ) = key("Runs on the same items that show what a score rests on; reported with it.", None)
    artifacts: dict[str, Artifact] | None = key(
        "Artifacts that only this block needs, described inline.", None
    )
    version: Count = key(
        "Raised when items or prompts change; a new number computes predictions again."
    )
    note: str | None = key("A sentence for the report.", None)
    published: list[Published] | None = key(
        "Published numbers given inline instead of in config/published.tsv.", None
    )
