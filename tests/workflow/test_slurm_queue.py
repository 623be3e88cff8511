"""States from squeue, refusals of sbatch, and when the watchdog warns."""

import pytest

from vireo.workflow import slurm_queue
from vireo.workflow.slurm_queue import Watchdog, ended, temporary


def test_states_are_read_from_squeue_and_no_answer_is_none(tmp_path, monkeypatch):
    squeue = tmp_path / "squeue"
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    squeue.write_text("#!/bin/sh\necho '7|RUNNING'\necho '8_2|CANCELLED by 0'\n")
    squeue.chmod(0o755)
    assert slurm_queue.states("run") == {"7": "RUNNING", "8_2": "CANCELLED by 0"}
    squeue.write_text("#!/bin/sh\necho '7|RUNNING'\nexit 1\n")
    assert slurm_queue.states("run") is None
    squeue.write_text("#!/bin/sh\n")
    assert slurm_queue.states("run") == {}
    monkeypatch.setattr(slurm_queue, "ANSWER_SECONDS", 0.2)
    squeue.write_text("#!/bin/sh\nexec sleep 5\n")
    assert slurm_queue.states("run") is None
    squeue.unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert slurm_queue.states("run") is None


@pytest.mark.parametrize("state", [None, "CANCELLED by 1000", "PREEMPTED", "TIMEOUT", "COMPLETED"])
def test_over(state):
    assert ended(state)


@pytest.mark.parametrize("state", ["PENDING", "RUNNING", "COMPLETING", "SUSPENDED", "REQUEUED"])
def test_not_over(state):
    assert not ended(state)


def test_refusals_that_pass():
    sbatch = "sbatch: error: Batch job submission failed: "
    assert temporary(sbatch + "Unable to contact slurm controller (connect failure)")
    assert temporary(sbatch + "Socket timed out on send/recv operation")
    assert temporary(
        sbatch + "Job violates accounting/QOS policy "
        "(job submit limit, user's size and/or time limits)"
    )
    assert not temporary(sbatch + "invalid partition specified: gpuu")


def test_watchdog_warns_after_its_patience_and_then_at_doubled_intervals():
    dog = Watchdog("name", patience=300)
    assert dog.look(0, {}, 0) == ""
    assert dog.look(13, {}, 100) == ""
    assert dog.look(13, {}, 399) == ""
    text = dog.look(13, {}, 400)
    assert "13 jobs handed over to SLURM, none of them in the queue for 5 min" in text
    assert "squeue --name name" in text and "slurm-array-jobs" in text
    assert dog.look(13, {}, 699) == ""
    assert "for 10 min" in dog.look(13, {"1": "COMPLETED"}, 700)
    assert dog.look(13, {}, 1299) == ""


def test_watchdog_starts_anew_when_a_job_is_seen():
    dog = Watchdog("name", patience=300)
    assert dog.look(2, {}, 0) == ""
    assert dog.look(2, {"1": "FAILED", "2": "PENDING"}, 290) == ""
    assert dog.look(2, {}, 400) == ""
    assert dog.look(2, {}, 700) != ""


def test_watchdog_tells_no_answer_from_an_empty_queue():
    dog = Watchdog("name", patience=60)
    assert dog.look(2, None, 0) == ""
    text = dog.look(2, None, 61)
    assert "squeue has not answered for 1 min" in text and "none of them" not in text
