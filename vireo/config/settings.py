"""Everything that config/*, `--configfile` and `--config` may contain, after merging."""

from typing import Annotated, Literal

from pydantic import Field

from vireo.config.artifact import Artifact
from vireo.config.base import Block, Count, Dtype, Flag, Positive, Share, group, key
from vireo.config.benchmark import Benchmark
from vireo.config.hardware import Decode
from vireo.config.model import Model
from vireo.config.recipe import Recipe

MAX_SHARDS = 4096  # a job costs the launcher a millisecond and 15 kB


class Settings(Block):
    """Everything that config/*, `--configfile` and `--config` may contain, after merging."""

    defaults_dumped = "all"

    paths: dict[str, Annotated[str, Field(min_length=1)]] = key(
        "Data and weights that you already have: artifact name -> folder or file. Nothing is "
        "copied; sizes and hashes that are known are checked.",
        {},
    )
    offline: Flag = key(
        "Never touch the network; what is missing is listed with the manual step.", False
    )
    keep_archives: Flag = key(
        "Keep downloaded zip and tar files after their content has been extracted.", True
    )
    runs: list[Annotated[str, Field(pattern="^[^/]+/[^/]+$")]] = key(
        "Runs (`model/benchmark`) that `snakemake` without a target makes and that "
        "results/report.html waits for; results that exist already are reported too.",
        [],
    )
    device: Literal["auto", "cpu", "cuda"] = key(
        "Where models run. `auto` takes a GPU when torch sees one.", "auto"
    )
    dtype: Dtype = key(
        "Number format of weights and activations; a model's own `dtype` wins. Part of the cache "
        "key.",
        "float32",
    )
    tf32: Flag = key(
        "Allow TF32 in float32 matrix products on NVIDIA GPUs. Part of the cache key.", False
    )
    keep_embeddings: Flag = key(
        "Keep what a streaming model (MMDuet) makes of each video's frames under "
        "cache/embeddings, for all benchmarks and thresholds; 0.34 MB a frame at full size (25 GB "
        "for YouCook2).",
        True,
    )
    shards: Annotated[int, Field(ge=1, le=MAX_SHARDS)] | None = key(
        "Inference jobs per run and split; null = one per visible GPU, at least 1. Changing it "
        "recomputes nothing.",
        None,
    )
    gpu_features: dict[str, Positive] = key(
        'On a SLURM cluster with unequal GPUs: feature of a node (`sinfo -o "%R %f"`) -> GB of '
        "memory of its GPUs, e.g. `{v100: 16, a100: 40}`. A GPU job then asks for nodes "
        "(`--constraint`) whose GPUs have the `gpu_gb` of its model or recipe.",
        {},
    )
    batch_size: Count | None = key(
        "Videos per forward pass; null = the model's `hardware.batch`. Halved by itself when "
        "memory runs out.",
        None,
    )
    max_failed: Share = key(
        "Share of items without prediction above which an inference job ends with an error "
        "(after writing what it has).",
        0.2,
    )
    keep_predictions_of_absent_videos: Flag = key(
        "Score what was computed from a video that is not here now; log, result, report and "
        "`diff` say how many predictions are of which earlier copy, and coverage counts them "
        "apart. false leaves them out.",
        True,
    )
    train: Flag = key(
        "Let paper targets start training runs. Toy recipes and a recipe's own target do not need "
        "it.",
        False,
    )
    partial_papers: Flag = key(
        "Let paper targets report the results that are there instead of making the others first.",
        False,
    )
    decode: Decode = group("Limits for the child processes that decode videos.", Decode)
    models: dict[str, Model] = key("Model name -> block.")
    benchmarks: dict[str, Benchmark] = key("Benchmark name -> block.")
    artifacts: dict[str, Artifact] = key(
        "What comes from outside, artifact name -> block. Names that begin with `toy_` are "
        "generated here."
    )
    recipes: dict[str, Recipe] = key("Training runs, recipe name -> block.")
