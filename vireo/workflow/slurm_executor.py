"""Snakemake's SLURM executor without the gaps through which jobs are lost.

snakemake-executor-plugin-slurm 2.8.0 waits without end for jobs that it holds back for an array,
for all running jobs once squeue fails five times in a row, and for jobs that squeue does not list
any more (findings/slurm_plugin_loses_jobs.sh shows each). It fails a job for good when sbatch is
refused for a reason that passes. Here nothing is held back, no answer means "still running", a job
that has left the queue is judged by its outputs, and sbatch is tried again.
"""

import asyncio
import copy
import os
import threading
import time
from collections.abc import AsyncGenerator
from importlib import metadata
from typing import Any

import snakemake_executor_plugin_slurm as plugin
from snakemake_interface_executor_plugins.executors.base import SubmittedJobInfo

from vireo.workflow import slurm_queue

PACKAGE = "snakemake-executor-plugin-slurm"
TESTED = "2.8."  # the submission half below overrides methods that are no public interface
# In units of slurm-init-seconds-before-status-checks (the profile's 30 s).
GRACE = 4  # a job gone from the queue whose outputs do not appear has failed: two minutes
QUIET = 10  # nothing of ours in the queue: five minutes until the warning
PAUSE = 1  # between two tries of sbatch
PATIENCE = 60  # since sbatch last accepted a job: half an hour, then the refusal counts


class Watched(plugin.Executor):  # type: ignore[misc]
    """The plugin's executor with a second look at the queue; overrides public methods only."""

    def __init__(self, workflow: Any, logger: Any) -> None:
        # The thread that checks jobs starts inside of the parent's constructor, before
        # __post_init__. An exception there would end it without a word, and nobody checks any more.
        self._ready = threading.Event()
        self._unit = float(workflow.executor_settings.init_seconds_before_status_checks or 40)
        self._open: set[Any] = set()  # jobs handed over and not finished
        self._reported: set[int] = set()  # ids of the infos settled in the present round
        self._gone: dict[str, float] = {}  # SLURM id -> since when it is missing or ended
        self._watchdog: slurm_queue.Watchdog | None = None
        super().__init__(workflow, logger)

    def __post_init__(self, test_mode: bool = False) -> None:
        super().__post_init__(test_mode)
        self._ready.set()

    def run_jobs(self, jobs: list[Any]) -> None:
        """Submit jobs that became ready."""
        self._open.update(jobs)
        super().run_jobs(jobs)

    def report_job_success(self, job_info: SubmittedJobInfo) -> None:
        """Tell Snakemake that a job has finished."""
        self._close(job_info)
        super().report_job_success(job_info)

    def report_job_error(self, job_info: SubmittedJobInfo, msg: str | None = None, **more: Any):
        """Tell Snakemake that a job has failed; it may be submitted again."""
        self._close(job_info)
        super().report_job_error(job_info, msg=msg, **more)

    def get_account_arg(self, job: Any):
        """-A of sbatch; none with slurm-no-account, which the plugin does not read."""
        if self.workflow.executor_settings.no_account and not job.resources.get("slurm_account"):
            return iter([""])
        return super().get_account_arg(job)

    async def check_active_jobs(
        self, active_jobs: list[SubmittedJobInfo]
    ) -> AsyncGenerator[SubmittedJobInfo, None]:
        """Yield the jobs that still run; what is not yielded is never looked at again."""
        if not self._ready.is_set():  # nothing has been submitted yet
            return
        self._reported.clear()
        async for _ in super().check_active_jobs(active_jobs):
            pass  # whatever it has not reported is looked at below, yielded or not
        found = await asyncio.to_thread(slurm_queue.states, self.run_uuid) if self._open else {}
        if self._submitted_job_clusters:
            found = None  # squeue speaks of one cluster only, its silence means nothing
        for info in active_jobs:
            if id(info) not in self._reported and not await self._settle(info, found):
                yield info
        if self._reported or self._gone or found is None:
            # The plugin asks ever more rarely while nothing seems to happen.
            self.next_seconds_between_status_checks = self._unit
        if self._watchdog is None:
            self._watchdog = slurm_queue.Watchdog(self.run_uuid, QUIET * self._unit)
        if text := self._watchdog.look(len(self._open), found, time.monotonic()):
            self.logger.warning(text)

    async def _settle(self, info: SubmittedJobInfo, found: dict[str, str] | None) -> bool:
        """Report a job that SLURM has no more to say of; False: it goes on, as far as is known."""
        job = str(info.external_jobid)
        if found is None:
            return False
        state = found.get(job)
        # A node that does not confirm the end of a job leaves it COMPLETING, for hours if need be.
        over = state in (None, "COMPLETING") and await self._complete(info.job)
        if over:
            self.logger.info(f"SLURM job {job}: {state or 'not in the queue'}, outputs complete.")
        if over or state == "COMPLETED":
            self.report_job_success(info)
            return True
        if not slurm_queue.ended(state):
            self._gone.pop(job, None)
            return False
        now = time.monotonic()
        if now - self._gone.setdefault(job, now) < GRACE * self._unit:
            return False
        what = f"ended as {state}" if state else "has left the queue without complete outputs"
        log = (info.aux or {}).get("slurm_logfile")
        self.report_job_error(info, msg=f"SLURM job {job} {what}. ", aux_logs=[str(log)])
        return True

    async def _complete(self, job: Any) -> bool:
        """Whether all outputs are there and no job has them marked as unfinished."""
        marks = copy.copy(self.workflow.persistence)  # its cache of marks, without touching theirs
        marks.deactivate_cache()
        return all(map(os.path.exists, job.output)) and not await marks.incomplete(job)

    def _close(self, info: SubmittedJobInfo) -> None:
        self._reported.add(id(info))
        self._gone.pop(str(info.external_jobid), None)
        self._open.discard(info.job)


class Executor(Watched):
    """Also submits every job at once and repeats refused submissions that may succeed later."""

    def __init__(self, workflow: Any, logger: Any) -> None:
        self._passed: set[Any] = set()  # jobs that are on their way to sbatch
        self._stopped = threading.Event()
        self._accepted = time.monotonic()  # when sbatch last took a job, or first refused one
        self._not_before = 0.0  # nor is it asked again before this time
        self._refused: set[Any] = set()
        super().__init__(workflow, logger)

    def run_jobs(self, jobs: list[Any]) -> None:
        """Submit jobs that became ready, also those that the plugin would hold for an array."""
        self._passed.difference_update(jobs)
        super().run_jobs(jobs)
        held: dict[str, list[Any]] = {}
        for job in jobs:
            if job not in self._passed:
                held.setdefault(job.rule.name, []).append(job)
        for some in held.values():
            if len(some) > 1:
                self._submit_array_jobs(some)
            else:
                self._submit_job(some[0])

    def report_job_submission(self, job_info: SubmittedJobInfo, register_job: bool = True) -> None:
        """Take note of a job that sbatch accepted."""
        self._accepted = time.monotonic()
        self._refused.discard(job_info.job)
        super().report_job_submission(job_info, register_job=register_job)

    def shutdown(self) -> None:
        """End, without waiting for refused jobs."""
        self._stopped.set()
        super().shutdown()

    def _submit_job(self, job: Any) -> None:
        self._passed.add(job)
        super()._submit_job(job)

    def _submit_array_jobs(self, jobs: list[Any]) -> None:
        self._passed.update(jobs)
        super()._submit_array_jobs(jobs)

    def _report_job_error_threadsafe(self, job_info: SubmittedJobInfo, msg: str) -> None:
        # Called where sbatch was refused. An array's refusal stands in the log, not in the message;
        # its jobs are submitted one by one and then speak for themselves.
        now = time.monotonic()
        passes = slurm_queue.temporary(msg) or "failed array sbatch" in msg
        if self._stopped.is_set() or not passes:
            super()._report_job_error_threadsafe(job_info, msg)
            return
        if not self._refused:
            self._accepted = now
        if now - self._accepted > PATIENCE * self._unit:
            self._refused.discard(job_info.job)
            super()._report_job_error_threadsafe(job_info, msg)
            return
        if not self._refused:
            reason = msg.splitlines()[0]
            self.logger.warning(
                f"{reason} Tried again every {PAUSE * self._unit:.0f} s, for "
                f"{PATIENCE * self._unit / 60:.0f} min from the last job that was accepted."
            )
        self._refused.add(job_info.job)
        self._not_before = now + PAUSE * self._unit
        self._job_submission_executor.submit(self._again, job_info.job)

    def _again(self, job: Any) -> None:
        if not self._stopped.wait(max(0.0, self._not_before - time.monotonic())):
            self.run_job(job)


def install(plugins: Any, logger: Any) -> None:
    """Put our executor in the place of the plugin's, in Snakemake's registry of executors."""
    version = metadata.version(PACKAGE)
    if version.startswith(TESTED):
        plugins.get_plugin("slurm").executor = Executor
        return
    plugins.get_plugin("slurm").executor = Watched
    logger.info(
        f"{PACKAGE} {version} was not tested with Vireo ({TESTED}* was): its jobs are watched, but "
        "refused submissions are not tried again; do not set slurm-array-jobs."
    )
