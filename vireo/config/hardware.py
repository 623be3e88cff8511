"""What a job with a model or a recipe needs."""

from pydantic import Field

from vireo.config.base import Block, Count, Index, Positive, key


class Hardware(Block):
    """What a job with this model needs. Never part of a cache key."""

    gpu: Index | None = key("GPUs per job; for training, on each machine.", None)
    nodes: Count | None = key("Machines of a training job on a cluster.", None)
    gpu_gb: Positive | None = key("GPU memory.", None, unit="GB")
    mem_gb: Positive | None = key("Main memory.", None, unit="GB")
    batch: Count | None = key("Videos per forward pass.", None)
    minutes_per_1000: Positive | None = key(
        "Time for 1000 videos on one GPU.", None, unit="minutes"
    )


class Decode(Block):
    """Limits for the child processes that decode videos."""

    defaults_dumped = "all"

    workers: Index | None = key(
        "Decoding processes per job; null = the job's threads; 0 = in the job's own process.", None
    )
    timeout_s: Positive = key(
        "Time one video may take before it is given up (tried once more alone).", 300, unit="s"
    )
    max_pixels: Count = key(
        "Largest frame (width x height in the file's header) that is decoded.",
        40_000_000,
        unit="pixels",
    )
    memory_mb: int = Field(
        4096,
        ge=256,
        description="Memory one decoding process may use.",
        json_schema_extra={"unit": "MB"},
    )
