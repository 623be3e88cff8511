"""Items + videos + weights -> prediction rows of one shard, through the journal.

What is final in the journal is not computed again; the model is loaded only if something is due.
Each video is decoded and embedded once for all of its items, decoding runs beside the forward
passes, and every finished batch is flushed, so that any process may be killed at any time.
"""

import time
from collections import Counter
from typing import Any

import pandas as pd

from vireo import config as cfg
from vireo.errors import VireoError, unknown
from vireo.inference import cache_key, controls
from vireo.inference.job import Job
from vireo.inference.journal import Journal, Row
from vireo.inference.pending import (
    ClipTask,
    clip_tasks,
    clips_by_group,
    failed_rows,
    split_done,
    view_count,
)
from vireo.inference.recheck import recheck
from vireo.tables import items as item_table
from vireo.tables import predictions
from vireo.tables.shards import parse, shard_of
from vireo.utils.cli import log
from vireo.utils.files import write_text


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
    groups = shard_of(item_table.groups(job.items, job.split), *parse(job.shard))
    mine = item_table.read_items(job.items, [job.split], groups)
    untrained = job.control == "untrained"
    weights = None if untrained else cache_key.find_weights(job.weights, block)
    key = cache_key.prediction_key(
        job.config, job.model, job.benchmark, job.items, weights, job.control
    )
    journal = Journal(job.journals, key)

    views = view_count(cfg.protocol(job.config, job.model, job.benchmark))
    keep = bool(job.config.get("keep_predictions_of_absent_videos", True))
    rows, due = split_done(journal, _work(job, mine), views, keep)
    with Journal(job.journals, key) as other:  # its header names no device: nothing is computed
        same, due = recheck(job, due, other)
        rows += same
    info: dict[str, Any] = {"items": len(mine), "from_journal": len(rows), "truncated_texts": 0}
    info["computed_videos"] = 0
    for work in due:
        if work.path is None:
            rows += failed_rows(work.items, "missing", f"no file for video {work.span[0]!r}")
    present = [work for work in due if work.path is not None]
    if present:
        from vireo.inference.runner import (
            run_model,  # torch: seconds that a finished shard need not pay
        )

        with journal:
            rows += run_model(job, present, weights, journal, info)
    order = {id: n for n, id in enumerate(mine["id"])}
    rows.sort(key=lambda row: (order[row["id"]], row["view"]))
    info["videos"] = mine["group"].nunique()
    info["seconds"] = round(time.monotonic() - began, 3)
    # Also when all of it was computed earlier: device and seconds are those of the predictions.
    info["device"] = ", ".join(journal.said("device")) or None
    info["work_seconds"] = round(sum(row["seconds"] for row in rows), 3)
    info["status"] = dict(Counter(row["status"] for row in rows))
    info["kept"] = len({row["id"] for row in rows if row.get("kept")})
    info["place"] = {
        **{"model": job.model, "benchmark": job.benchmark, "split": job.split},
        **{"shard": job.shard, "control": job.control},
    }
    predictions.write(job.out, rows, {"key": key, "journal": journal.folder.name, **info})
    _say(job, info)
    _judge(job, journal, rows)
    return info


def _work(job: Job, mine: pd.DataFrame) -> list[ClipTask]:
    """What the shard's items ask about; `shuffled_videos` draws from the whole split."""
    if job.control != "shuffled_videos":
        return clip_tasks(mine, item_table.read_videos(job.videos, set(mine["video"])))
    split = item_table.read_items(job.items, [job.split], columns=item_table.SPAN_COLUMNS)
    return clip_tasks(mine, item_table.read_videos(job.videos), clips_by_group(split))


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
    if info["kept"]:
        log.warning(
            "%s: %d predictions are of videos that are not here now; they are kept from an earlier "
            "copy (keep_predictions_of_absent_videos: false leaves them out)",
            *(job.name, info["kept"]),
        )


def _judge(job: Job, journal: Journal, rows: list[Row]) -> None:
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
    split = item_table.read_items(job.items, [job.split], columns=("id", "video"))
    absent = item_table.missing_videos(job.videos)
    journalled = journal.statuses(set(split["id"]))
    for id, video in zip(split["id"], split["video"], strict=True):
        statuses = journalled.get(id)
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
            f"{job.name}: {what} (max_failed: {limit:.0%}). What was computed is kept. The list "
            f"is {listing}; repair the data and run again, or raise max_failed in the configuration"
        )
