"""States of a run's jobs in SLURM's queue, and when to warn that nothing moves.

No Snakemake in here: job ids and states are plain strings, times are seconds of a monotonic clock.
"""

import subprocess
from dataclasses import dataclass

ANSWER_SECONDS = 60  # squeue itself gives up on an absent controller after about ten
# States after which a job does not run again unless SLURM requeues it. The text may go on, as in
# "CANCELLED by 1000".
ENDED = (
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY",
    "PREEMPTED", "REVOKED", "TIMEOUT",
)  # fmt: skip
# Messages of sbatch after which the same command may succeed later: the controller does not answer,
# or the site's limit of submitted jobs is reached.
TEMPORARY = (
    "Unable to contact slurm controller",
    "Socket timed out",
    "Zero Bytes were transmitted",
    "backup controller in standby mode",
    "Resource temporarily unavailable",
    "temporarily unable to accept job",
    "job submit limit",
    "MaxSubmitJob",
)


def states(name: str) -> dict[str, str] | None:
    """Job id (`12`, `12_3` for a task of an array) -> state, of all jobs with this name.

    None when SLURM gave no answer, which says nothing of any job.
    """
    command = ["squeue", "--noheader", "--array", "--states=all", "--format=%i|%T", "--name", name]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=ANSWER_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return dict(line.strip().split("|", 1) for line in done.stdout.splitlines() if "|" in line)


def ended(state: str | None) -> bool:
    """Whether a job in this state is over; None: the queue does not list it any more."""
    return state is None or state.startswith(ENDED)


def temporary(message: str) -> bool:
    """Whether sbatch may accept the same job later."""
    return any(text in message for text in TEMPORARY)


@dataclass
class Watchdog:
    """Warns when jobs are handed over and none has been in the queue for `patience` seconds.

    Warns again at doubled intervals, and starts anew once a job is seen in the queue.
    """

    run: str
    patience: float
    _since: float | None = None
    _next: float = 0.0

    def look(self, jobs: int, found: dict[str, str] | None, now: float) -> str:
        """A warning, or "" as long as there is nothing to say.

        jobs: handed over and not finished; found: what `states` gave.
        """
        if not jobs or (found is not None and not all(map(ended, found.values()))):
            self._since = None
            return ""
        if self._since is None:
            self._since, self._next = now, self.patience
        quiet = now - self._since
        if quiet < self._next:
            return ""
        self._next = 2 * quiet
        minutes = f"{quiet / 60:.0f} min" if quiet >= 60 else f"{quiet:.0f} s"
        if found is None:
            return (
                f"{jobs} jobs handed over to SLURM, and squeue has not answered for {minutes}. The "
                "jobs go on without it; they are looked at when it answers again."
            )
        return (
            f"{jobs} jobs handed over to SLURM, none of them in the queue for {minutes} "
            f"(squeue --name {self.run}). If this does not pass, stop with Ctrl-C and give the "
            "same command again: nothing computed is lost. If the profile sets slurm-array-jobs, "
            "take that line out first (docs/slurm.md)."
        )
