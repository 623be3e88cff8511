"""Files with a new time: are they still what the predictions were made from?

A copy or a touched file has the size of the old one and another time; so has one that was cut short
inside a preallocated file and has been repaired since. The time cannot tell, the frames can: they
are decoded again and compared with the checksum in the journal, without the model.
"""

from collections.abc import Sequence
from dataclasses import replace

from vireo import config as cfg
from vireo.inference.decoding import checksum, decoded
from vireo.inference.job import Job
from vireo.inference.journal import DAMAGE_FLAGS, Journal, Row
from vireo.inference.pending import ClipTask
from vireo.utils.cli import Progress, log


def recheck(
    job: Job, due: Sequence[ClipTask], journal: Journal
) -> tuple[list[Row], list[ClipTask]]:
    """Rows that hold for the files as they are now, and the tasks that are left.

    Rows that hold are journalled with the new time, so that a file is decoded once per change.
    """
    suspects = [task for task in due if task.held]
    left = [task for task in due if not task.held]
    if not suspects:
        return [], left
    protocol = cfg.protocol(job.config, job.model, job.benchmark)
    settings = dict(job.config["decode"])
    settings["workers"] = job.threads if settings.get("workers") is None else settings["workers"]
    rows: list[Row] = []
    same = 0
    with Progress(len(suspects), f"{job.name}: files with a new time", "video") as bar:
        for task, sample in decoded(suspects, protocol, settings):
            found: list[Row] = []
            if sample.status == "ok" and not DAMAGE_FLAGS.intersection(sample.flags):
                pixels = checksum(sample.frames)
                for item in task.items:
                    found += task.held.get(item.id, {}).get(pixels, ())
            now = {"source": list(task.source or ()), "path": task.path}
            found = [{**row, **now} for row in found]
            journal.append(found)
            rows += found
            answered = {row["id"] for row in found}
            rest = [item for item in task.items if item.id not in answered]
            if rest:
                left.append(replace(task, items=rest, held={}))
            same += not rest
            bar.update()
    log.info(
        "%s: %d videos have a new time: %d show the same frames, the others are computed again",
        *(job.name, len(suspects), same),
    )
    return rows, left
