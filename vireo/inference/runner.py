"""The part of inference that needs the model: decode, transform, batches, complete rows.

A clip that makes the model fail becomes rows with status `error`; the others of its batch are
computed again without it. Faults of the GPU itself end the run.
"""

import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from vireo import benchmarks, models
from vireo import config as cfg
from vireo.errors import VireoError
from vireo.inference import cache_key, controls, text_cache
from vireo.inference.decoding import checksum, decoded
from vireo.inference.engines import registry
from vireo.inference.engines.base import Clip, Engine
from vireo.inference.failures import Failures
from vireo.inference.frame_cache import CACHEABLE_CONTROLS, FrameCache
from vireo.inference.job import Job
from vireo.inference.journal import Journal, Row
from vireo.inference.pending import ClipTask, failed_rows, split_done, view_count
from vireo.tables import items as item_table
from vireo.utils import device, gpu_lock
from vireo.utils.batching import AdaptiveBatcher
from vireo.utils.cli import Progress
from vireo.utils.prefetch import Prefetch

CPU_BATCH = 4  # a larger batch is no faster on a CPU, and all of it is lost by a kill


def run_model(
    job: Job, due: list[ClipTask], weights: Path | None, journal: Journal, info: dict[str, Any]
) -> list[Row]:
    """Load the model and run it over what is due; rows are in the journal when this returns."""
    block, bench = job.config["models"][job.model], job.config["benchmarks"][job.benchmark]
    module = benchmarks.module(bench.get("module") or job.benchmark)
    protocol = cfg.protocol(job.config, job.model, job.benchmark)
    threads = min(job.threads or torch.get_num_threads(), len(os.sched_getaffinity(0)))
    torch.set_num_threads(threads)
    with gpu_lock.acquire(job.device or job.config["device"]) as where:
        # A second copy of this job may have worked while we waited for the device.
        rows, due = split_done(journal, due, view_count(protocol))
        info["from_journal"] += len(rows)
        info["computed_videos"] = len(due)
        if not due:
            return rows
        context = (protocol.get("prompt") or {}).get("context_length")
        model = load_model(job.config, job.model, weights, where, protocol)
        engine = registry.make_engine(model, module, protocol, job.model, bench["needs"])
        engine.prepare(
            pd.DataFrame([item for work in due for item in work.items]),
            lambda: item_table.read_items(job.items),
            text_cache.FOLDER / cache_key.texts_key(job.config, job.model, weights, context),
        )
        batch = job.batch_size or job.config["batch_size"]
        if not batch:
            batch = (block.get("hardware") or {}).get("batch", 16)
            batch = min(batch, CPU_BATCH) if where.type == "cpu" else batch
        batches = AdaptiveBatcher(batch)
        name = torch.cuda.get_device_name(where) if where.type == "cuda" else "cpu"
        journal.facts = {"device": name, "torch": torch.__version__}
        kept = None
        if bench["needs"] == "StreamingModel" and job.config["keep_embeddings"]:
            key = cache_key.embeddings_key(job.config, job.model, weights, protocol)
            kept = FrameCache(key) if job.control in CACHEABLE_CONTROLS else None
        failures = Failures(job.name)
        clips = _clips(job, due, engine, protocol, threads, kept)
        with Prefetch(clips, 2 * batch) as ahead, Progress(len(due), job.name, "video") as bar:
            for ready in batched(ahead, batches):
                started = time.monotonic()
                made = _predict(engine, batches, ready, failures)
                failures.judge(clip for clip in ready if clip.tensor is not None)
                share = (time.monotonic() - started) / len(ready)
                for clip, found in zip(ready, made, strict=True):
                    for row in found:
                        row["seconds"] = (clip.seconds + share) / len(found)
                journal.append(row for found in made for row in found if row["status"] != "missing")
                rows += [row for found in made for row in found]
                bar.update(len(ready))
        info["truncated_texts"] = engine.truncated
        info["batch_size"] = batches.size
    return rows


def load_model(
    config: cfg.Config, name: str, weights: Path | None, where: Any, protocol: dict[str, Any]
) -> Any:
    """The model of a block on a device, in its number format, for this protocol."""
    block = cfg.model(config, name)
    device.set_precision(config["tf32"])
    given = {**block, "tf32": config["tf32"]}
    given["wiseft"] = None if weights is None else cache_key.wiseft(block)
    context = (protocol.get("prompt") or {}).get("context_length")
    if context:  # a benchmark of long texts; the model fits its positions
        given["arch"] = {**block["arch"], "context_length": context}
    dtype = device.dtype(cfg.dtype(config, name))
    return models.family(block["family"]).load(given, weights, where, dtype)


def _clips(
    job: Job,
    due: list[ClipTask],
    engine: Engine,
    protocol: dict[str, Any],
    threads: int,
    kept: FrameCache | None,
) -> Iterator[Clip]:
    """Decode, perturb if this is a control, and transform; runs in the prefetching thread.

    Videos whose embeddings are kept come first and are not decoded.
    """
    settings = dict(job.config["decode"])
    failures = Failures(job.name)  # of transforms; those of the model are counted apart
    rest = []
    for work in due:
        found = kept.get(work) if kept else None
        if found is None:
            rest.append(work)
            continue
        embeds, facts = found
        flags, numbers = facts["flags"], facts["frames"]
        clip = Clip(work.items, flags=flags, frames=numbers, tensor=embeds)
        clip.source, clip.path, clip.pixels = work.source, work.path, facts.get("pixels")
        yield clip
    settings["workers"] = threads if settings.get("workers") is None else settings["workers"]
    for work, sample in decoded(rest, protocol, settings) if rest else ():
        clip = Clip(work.items, sample.status, sample.error, sample.seconds, list(sample.flags))
        if sample.status == "ok":
            try:
                clip.pixels = checksum(sample.frames)
                frames, numbers = controls.perturb(job.control, sample.frames, list(sample.indices))
                clip.frames = [int(n) for n in numbers]
                clip.tensor = engine.transform(np.ascontiguousarray(frames))
                clip.keep = kept.path(work) if kept else None
            except Exception as error:
                failures.mark(clip, error)
            failures.judge([clip])
        clip.source, clip.path = work.source, work.path
        yield clip


def batched(clips: Iterable[Clip], batches: AdaptiveBatcher) -> Iterator[list[Clip]]:
    """Group clips of one shape; a failed clip travels with the batch it falls into."""
    ready: list[Clip] = []
    shape = None
    for clip in clips:
        if clip.tensor is not None:
            if ready and shape not in (None, clip.tensor.shape):
                yield ready
                ready = []
            shape = clip.tensor.shape
        ready.append(clip)
        if sum(c.tensor is not None for c in ready) >= batches.size:
            yield ready
            ready = []
    if ready:
        yield ready


def _predict(
    engine: Engine, batches: AdaptiveBatcher, clips: list[Clip], failures: Failures
) -> list[list[Row]]:
    """Rows of each clip. If a batch fails, its clips are tried alone: one culprit, one error."""
    good = [clip for clip in clips if clip.status == "ok"]
    try:
        made = batches.run(engine.predict, good)
    except Exception as error:
        _stop_if_the_device_is_gone(error)
        made = []
        for clip in good:
            try:
                made += engine.predict([clip])
            except Exception as own:
                _stop_if_the_device_is_gone(own)
                failures.mark(clip, own)
                made.append([])
    found = dict(zip(map(id, good), made, strict=True))
    return [_rows(clip, found.get(id(clip), [])) for clip in clips]


def _rows(clip: Clip, made: list[Row]) -> list[Row]:
    """Complete rows of one clip, whatever became of it."""
    if clip.status != "ok":
        rows = failed_rows(clip.items, clip.status, clip.error or "no reason given")
    else:
        groups = {item.id: str(item.group) for item in clip.items}
        rows = [{**r, "group": groups[r["id"]], "status": "ok", "error": None} for r in made]
        if not all(np.isfinite(row["scores"]).all() for row in rows):
            rows = failed_rows(clip.items, "error", "the model returned NaN or infinite scores")
    for row in rows:
        row["frames"], row["flags"] = clip.frames, clip.flags
        row["source"] = list(clip.source) if clip.source else None
        row["path"], row["pixels"] = clip.path, clip.pixels
    return rows


def _stop_if_the_device_is_gone(error: Exception) -> None:
    """After a fault on the GPU every later call fails too: end, instead of marking all videos."""
    if "CUDA error" in str(error):
        raise VireoError(
            f"the GPU failed ({str(error).splitlines()[0]}); finished predictions are kept, run "
            "the same command again"
        ) from error
