"""What a job asks a cluster for: GPUs, memory, minutes, and how many jobs a split is cut into.

Everything comes from a model's `hardware` block, the decode limits and the number of videos in a
shard; nothing here changes a result. Memory and time grow with every attempt, so that a job that
was killed for either comes back with more (retries live in the profile).
"""

import math
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from vireo import config as cfg
from vireo.errors import VireoError
from vireo.media.pool import DEFAULTS
from vireo.tables.shards import parse

GROWTH = 2  # of memory, per attempt
BASE_MB = 1000  # Python, pyarrow and two Snakemake processes around the job
START_MIN = 15  # waiting for a file system, loading a checkpoint
SLACK = 3  # minutes_per_1000 was measured on one machine, the cluster has others
SECONDS_PER_VIDEO = 20  # of one decoding process, long videos on a slow disk
UNKNOWN_MIN = 12 * 60  # nobody knows how many videos there are
JOB_MIN = 30  # a cluster job should compute about so long: start-up then is a few per cent
MAX_SHARDS = 64
DEFAULT_SHARDS = 8


class Resources:
    """Functions for `resources:` of the rules; `wc` are Snakemake's wildcards."""

    def __init__(self, config: cfg.Config) -> None:
        self.config = config

    def gpus(self, wc: Any) -> int:
        """GPUs of an inference or training job, over all of its machines."""
        return int(self._hardware(wc).get("gpu", 0)) * self.nodes(wc)

    def nodes(self, wc: Any) -> int:
        """Machines of a training job."""
        return int(self._hardware(wc).get("nodes", 1))

    def constraint(self, wc: Any) -> str | None:
        """Features of nodes whose GPUs are large enough, for SLURM's --constraint; None: any."""
        features, wanted = self.config["gpu_features"], self._hardware(wc).get("gpu_gb")
        if not features or not wanted or not self.gpus(wc):
            return None
        if fits := [name for name, size in features.items() if size >= wanted]:
            return "|".join(fits)
        what = f"recipe {wc.recipe}" if hasattr(wc, "recipe") else f"model {wc.model}"
        raise VireoError(
            f"{what} wants {wanted:g} GB of GPU memory; gpu_features has at most "
            f"{max(features.values()):g} GB: add the feature of larger GPUs, or correct "
            "hardware.gpu_gb"
        )

    def train_memory(self, wc: Any, attempt: int) -> int:
        """MB of a training job."""
        return self._model_mb(wc) * GROWTH ** (attempt - 1)

    def infer_memory(self, wc: Any, threads: int, attempt: int) -> int:
        """MB of an inference job: the model and, unless frames are stored, the decoders."""
        stored = cfg.protocol(self.config, wc.model, wc.benchmark).get("frames", {}).get("store")
        decoders = 0 if stored else self._decoders_mb(threads, attempt)
        return self._model_mb(wc) * GROWTH ** (attempt - 1) + decoders

    def frames_memory(self, wc: Any, threads: int, attempt: int) -> int:
        """MB of a job that only decodes."""
        return BASE_MB + self._decoders_mb(threads, attempt)

    def infer_minutes(self, wc: Any, threads: int, attempt: int) -> int:
        """Time limit of an inference job (one shard, or all controls over all splits)."""
        videos = self.videos(wc)
        per_1000 = self._hardware(wc).get("minutes_per_1000")
        if videos is None or per_1000 is None:
            return UNKNOWN_MIN * attempt
        if not hasattr(wc, "shard"):
            videos *= len(cfg.benchmark(self.config, wc.benchmark).get("controls") or [1])
        decoding = videos * SECONDS_PER_VIDEO / 60 / max(1, self._workers(threads))
        return attempt * math.ceil(START_MIN + SLACK * videos * per_1000 / 1000 + decoding)

    def frames_minutes(self, wc: Any, threads: int, attempt: int) -> int:
        """Time limit of a decoding job."""
        videos = self.videos(wc)
        if videos is None:
            return UNKNOWN_MIN * attempt
        decoding = videos * SECONDS_PER_VIDEO / 60 / max(1, self._workers(threads))
        return attempt * math.ceil(START_MIN + decoding)

    def shards(self, model: str, benchmark: str, split: str) -> int:
        """Jobs of one split on a cluster, from numbers of the configuration alone.

        The launcher and every job must come to the same answer, whatever files exist by then.
        """
        rows = cfg.benchmark(self.config, benchmark).get("rows") or {}
        items = rows.get(split, rows.get("all"))
        per_1000 = (cfg.model(self.config, model).get("hardware") or {}).get("minutes_per_1000")
        if items is None or per_1000 is None:
            return DEFAULT_SHARDS
        return min(MAX_SHARDS, max(1, math.ceil(items * per_1000 / 1000 / JOB_MIN)))

    def _hardware(self, wc: Any) -> Mapping[str, Any]:
        if hasattr(wc, "recipe"):
            return cfg.recipe(self.config, wc.recipe).get("hardware") or {}
        return cfg.model(self.config, wc.model).get("hardware") or {}

    def _model_mb(self, wc: Any) -> int:
        return BASE_MB + int(1000 * float(self._hardware(wc).get("mem_gb", 4)))

    def _workers(self, threads: int) -> int:
        workers = self.config["decode"].get("workers")
        return int(threads if workers is None else workers)

    def _decoders_mb(self, threads: int, attempt: int) -> int:
        # Few videos need what a decoder may take (decode.memory_mb): a quarter of it at first, all
        # of it at the third attempt.
        limit = int(self.config["decode"].get("memory_mb", DEFAULTS["memory_mb"]))
        share = min(1.0, GROWTH ** (attempt - 1) / 4)
        return max(1, self._workers(threads)) * int(limit * share)

    def videos(self, wc: Any) -> int | None:
        """Videos of a shard: counted once the items exist, before that the published numbers."""
        split = getattr(wc, "split", None)
        shards = parse(wc.shard)[1] if hasattr(wc, "shard") else 1
        try:
            path = Path(f"cache/items/{wc.benchmark}.parquet")
            total = _groups(str(path), path.stat().st_mtime_ns, split)
        except (OSError, ValueError):  # not made yet, or damaged
            rows = cfg.benchmark(self.config, wc.benchmark).get("rows") or {}
            known = rows.get(split, rows.get("all")) if split else sum(rows.values())
            if not known:
                return None
            total = known
        return math.ceil(total / shards)


@lru_cache(maxsize=256)
def _groups(path: str, mtime_ns: int, split: str | None) -> int:
    """Videos (item groups) of a split, or of all, in cache/items/<benchmark>.parquet."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    table = pq.read_table(path, columns=["split", "group"])
    if split is not None:
        table = table.filter(pc.equal(table["split"], split))
    return int(pc.count_distinct(table["group"]).as_py())
