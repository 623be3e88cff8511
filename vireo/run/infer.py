"""Items + videos + weights -> prediction rows of one shard, through the journal.

What is final in the journal is not computed again; the model is loaded only if something is due.
Each video is decoded and embedded once for all of its items, decoding runs beside the forward
passes, and every finished batch is flushed, so that any process may be killed at any time.
"""

import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from vireo import benchmarks, models
from vireo import config as cfg
from vireo.errors import VireoError, unknown
from vireo.run import controls, identity, predictions, tables
from vireo.run.console import Progress, log
from vireo.run.due import Work, known, work_of
from vireo.run.files import write_text
from vireo.run.journal import Journal, Row
from vireo.run.prefetch import Prefetch
from vireo.run.shards import parse, shard_of

if TYPE_CHECKING:
    from vireo.run.device import Batches
    from vireo.run.engines import Clip, Engine

FRAMES = Path("cache/frames")
CPU_BATCH = 4  # a larger batch is no faster on a CPU, and all of it is lost by a kill


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


def run(job: Job) -> dict[str, Any]:
    """Write the shard's predictions to `job.out`; returns the numbers of the summary line.

    Raises VireoError for wrong names and inputs and, after everything has been written, when more
    items failed than `max_failed` allows.
    """
    began = time.monotonic()
    controls.check(job.control)
    block = cfg.model(job.config, job.model)
    bench = cfg.benchmark(job.config, job.benchmark)
    if job.split not in bench["splits"]:
        raise unknown("split", job.split, bench["splits"], f"(benchmark {job.benchmark})")
    items, videos = tables.read_items(job.items), tables.read_videos(job.videos)
    split = items[items["split"] == job.split]
    mine = split[split["group"].isin(shard_of(split["group"], *parse(job.shard)))]
    untrained = job.control == "untrained"
    weights = None if untrained else identity.find_weights(job.weights, block)
    key = identity.describe(job.config, job.model, job.benchmark, items, weights, job.control)
    journal = Journal(job.journals, key)

    rows, due = known(journal, work_of(split, mine, videos, job.control))
    info: dict[str, Any] = {"items": len(mine), "from_journal": len(rows), "truncated_texts": 0}
    for work in due:
        if work.path is None:
            rows += _without(work.items, "missing", f"no file for video {work.span[0]!r}")
    present = [work for work in due if work.path is not None]
    if present:
        with journal:
            rows += _compute(job, present, weights, journal, info)
    order = {id: n for n, id in enumerate(mine["id"])}
    rows.sort(key=lambda row: (order[row["id"]], row["view"]))
    info["videos"] = mine["group"].nunique()
    info["computed_videos"] = len(present)
    info["seconds"] = round(time.monotonic() - began, 3)
    # Also when all of it was computed earlier: device and seconds are those of the predictions.
    info["device"] = ", ".join(journal.said("device")) or None
    info["work_seconds"] = round(sum(row["seconds"] for row in rows), 3)
    info["status"] = dict(Counter(row["status"] for row in rows))
    predictions.write(job.out, rows, {"key": key, "journal": journal.folder.name, **info})
    _say(job, info)
    _judge(job, split, videos, journal, rows)
    return info


def _compute(
    job: Job, due: list[Work], weights: Path | None, journal: Journal, info: dict[str, Any]
) -> list[Row]:
    """Load the model and run it over what is due; rows are in the journal when this returns."""
    import torch

    from vireo.run import device, engines

    block, bench = job.config["models"][job.model], job.config["benchmarks"][job.benchmark]
    module = benchmarks.module(bench.get("module") or job.benchmark)
    protocol = cfg.protocol(job.config, job.model, job.benchmark)
    threads = min(job.threads or torch.get_num_threads(), len(os.sched_getaffinity(0)))
    torch.set_num_threads(threads)
    with device.lease(job.device or job.config["device"]) as where:
        # A second copy of this job may have worked while we waited for the device.
        rows, due = known(journal, due)
        if not due:
            return rows
        device.set_precision(job.config["tf32"])
        dtype = device.dtype(cfg.dtype(job.config, job.model))
        family = models.family(block["family"])
        model = family.load({**block, "tf32": job.config["tf32"]}, weights, where, dtype)
        engine = engines.make(model, module, protocol, job.model, bench["needs"])
        engine.prepare(pd.DataFrame([item for work in due for item in work.items]))
        batch = job.batch_size or job.config["batch_size"]
        if not batch:
            batch = (block.get("hardware") or {}).get("batch", 16)
            batch = min(batch, CPU_BATCH) if where.type == "cpu" else batch
        batches = device.Batches(batch)
        name = torch.cuda.get_device_name(where) if where.type == "cuda" else "cpu"
        journal.facts = {"device": name, "torch": torch.__version__}
        clips = _clips(job, due, engine, protocol, threads)
        with Prefetch(clips, 2 * batch) as ahead, Progress(len(due), job.name, "video") as bar:
            for ready in _batched(ahead, batches):
                started = time.monotonic()
                made = _predict(engine, batches, ready)
                share = (time.monotonic() - started) / len(ready)
                for clip, found in zip(ready, made, strict=True):
                    for row in found:
                        row["seconds"] = (clip.seconds + share) / len(clip.items)
                journal.append(row for found in made for row in found if row["status"] != "missing")
                rows += [row for found in made for row in found]
                bar.update(len(ready))
        info["truncated_texts"] = engine.truncated
        info["batch_size"] = batches.size
    return rows


def _clips(
    job: Job, due: list[Work], engine: "Engine", protocol: dict[str, Any], threads: int
) -> Iterator["Clip"]:
    """Decode, spoil if this is a control, and transform; runs in the prefetching thread."""
    from vireo.run.engines import Clip

    settings = dict(job.config["decode"])
    settings["workers"] = threads if settings.get("workers") is None else settings["workers"]
    for work, sample in _decoded(due, protocol, settings):
        clip = Clip(work.items, sample.status, sample.error, sample.seconds, list(sample.flags))
        if sample.status == "ok":
            try:
                frames, numbers = controls.spoil(job.control, sample.frames, list(sample.indices))
                clip.frames = [int(n) for n in numbers]
                clip.tensor = engine.transform(np.ascontiguousarray(frames))
            except Exception as error:
                _mark(clip, error)
        clip.source = work.source
        yield clip


def _decoded(
    due: Sequence[Work], protocol: dict[str, Any], settings: dict[str, Any]
) -> Iterator[tuple[Work, Any]]:
    """Each work with its decoded sample, in the order of completion."""
    from vireo.media import pool, resize
    from vireo.media.sample import Request
    from vireo.media.store import Store, stored

    rule = {k: v for k, v in protocol["frames"].items() if k != "store"}
    size = resize.before_store(protocol.get("resize"))
    store = Store(FRAMES, settings) if stored(protocol) else None
    by_span = {work.span: work for work in due}
    requests = [Request(w.span[0], w.path, w.kind, rule, size, *w.span[1:]) for w in due]
    for sample in pool.decode(requests, settings, store):
        asked = sample.request
        assert asked is not None
        yield by_span[asked.video, asked.start, asked.end], sample


def _batched(clips: Iterable["Clip"], batches: "Batches") -> Iterator[list["Clip"]]:
    """Group clips of one shape; a failed clip travels with the batch it falls into."""
    ready: list[Clip] = []
    shape = None
    for clip in clips:
        if clip.tensor is not None:
            if shape not in (None, clip.tensor.shape):
                yield ready
                ready = []
            shape = clip.tensor.shape
        ready.append(clip)
        if sum(c.tensor is not None for c in ready) >= batches.size:
            yield ready
            ready = []
    if ready:
        yield ready


def _predict(engine: "Engine", batches: "Batches", clips: list["Clip"]) -> list[list[Row]]:
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
                _mark(clip, own)
                made.append([])
    found = dict(zip(map(id, good), made, strict=True))
    return [_rows(clip, found.get(id(clip), [])) for clip in clips]


def _rows(clip: "Clip", made: list[Row]) -> list[Row]:
    """Complete rows of one clip, whatever became of it."""
    if clip.status != "ok":
        rows = _without(clip.items, clip.status, clip.error or "no reason given")
    else:
        groups = {item.id: str(item.group) for item in clip.items}
        rows = [{**r, "group": groups[r["id"]], "status": "ok", "error": None} for r in made]
        if not all(np.isfinite(row["scores"]).all() for row in rows):
            rows = _without(clip.items, "error", "the model returned NaN or infinite scores")
    for row in rows:
        row["frames"], row["flags"] = clip.frames, clip.flags
        row["source"] = list(clip.source) if clip.source else None
    return rows


def _without(items: Iterable[Any], status: str, error: str) -> list[Row]:
    """Rows of items that have no prediction."""
    nothing = {"view": 0, "prediction": "null", "scores": np.zeros(0, np.float32), "seconds": 0.0}
    why = {"status": status, "error": error, "frames": [], "flags": []}
    return [{"id": item.id, "group": str(item.group), **nothing, **why} for item in items]


def _mark(clip: "Clip", error: Exception) -> None:
    """An exception in transform or model costs the clip, not the run."""
    clip.status = "error"
    clip.error = f"{type(error).__name__}: {error}"[:500]
    log.warning("video %r: %s", clip.items[0].video, clip.error, exc_info=error)


def _stop_if_the_device_is_gone(error: Exception) -> None:
    """After a fault on the GPU every later call fails too: end, instead of marking all videos."""
    if "CUDA error" in str(error):
        raise VireoError(
            f"the GPU failed ({str(error).splitlines()[0]}); finished predictions are kept, run "
            "the same command again"
        ) from error


def _say(job: Job, info: dict[str, Any]) -> None:
    """The summary line of a shard."""
    count = info["status"].get
    rate = info["computed_videos"] / max(info["seconds"], 1e-9)
    log.info(
        "%s: %d items (%s); %d videos; %d items from the journal, %d videos computed in %.1f s "
        "(%.2f videos/s); %d texts truncated",
        job.name,
        info["items"],
        ", ".join(f"{count(status, 0)} {status}" for status in predictions.STATUSES),
        info["videos"],
        info["from_journal"],
        info["computed_videos"],
        info["seconds"],
        rate,
        info["truncated_texts"],
    )


def _judge(
    job: Job, split: pd.DataFrame, videos: pd.DataFrame, journal: Journal, rows: list[Row]
) -> None:
    """List failed items; VireoError when there are too many.

    A shard may be three videos small, so broken data counts against the whole split: missing files
    of the inventory, undecodable ones that any shard has journalled. Errors of the model are never
    expected and count against the shard.
    """
    failed = [row for row in rows if row["status"] != "ok"]
    listing = job.out.with_suffix(".failed.tsv")
    if not failed:
        listing.unlink(missing_ok=True)
        return
    lines = ["id\tgroup\tstatus\terror"]
    for row in failed:
        cells = (row["id"], row["group"], row["status"], row["error"] or "")
        lines.append("\t".join(" ".join(cell.split()) for cell in cells))
    write_text(listing, "\n".join(lines) + "\n")
    limit = job.config["max_failed"]
    errors = sum(row["status"] == "error" for row in failed) / len(rows)
    bad = {row["id"] for row in failed}
    absent = set(videos.loc[videos["status"] != "found", "video"])
    journalled = journal.read(set(split["id"]).__contains__)
    for id, video in zip(split["id"], split["video"], strict=True):
        statuses = {row["status"] for row in journalled.get((id, 0), ())}
        if statuses == {"undecodable"} or (not statuses and video in absent):
            bad.add(id)
    share = len(bad) / len(split)
    if max(errors, share) > limit:
        what = (
            f"{share:.0%} of the items of split {job.split} have no prediction"
            if share > limit
            else f"{errors:.0%} of the items of this shard ended with an error"
        )
        raise VireoError(
            f"{job.name}: {what} (max_failed: {limit:.0%}). Everything else is written. The list "
            f"is {listing}; repair the data and run again, or raise max_failed in the configuration"
        )
