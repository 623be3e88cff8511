"""One inference job: a shard of a split of a benchmark on a model."""

from dataclasses import dataclass
from pathlib import Path

from vireo import config as cfg


@dataclass
class Job:
    """One shard of one split: what scripts/infer.py is called with."""

    config: cfg.Config
    model: str
    benchmark: str
    split: str
    shard: str
    items: Path
    videos: Path
    weights: str | Path | None
    out: Path
    control: str | None = None
    device: str | None = None
    batch_size: int | None = None
    threads: int | None = None
    journals: Path = Path("cache/predictions")

    @property
    def name(self) -> str:
        """`viclip × videomme short 1-of-3` for the log."""
        what = f" ({self.control})" if self.control else ""
        return f"{self.model} × {self.benchmark} {self.split} {self.shard}{what}"
