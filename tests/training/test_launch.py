"""Processes, cards and machines of a training run; resume on another number of processes."""

import os
import signal
import sys

import pytest

from tests.training import dummy
from tests.training.conftest import spawn  # noqa: F401 (fixture)
from vireo.errors import VireoError
from vireo.training import launch

RECIPE = {"hardware": {"gpu": 4}}


def test_a_process_per_gpu_that_is_wanted_and_there(monkeypatch):
    for visible, count in (("0,1", 2), ("0,1,2,3,4,5", 4), ("", 1)):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert launch.processes(None, RECIPE, "cuda") == count
        assert launch.processes(None, {}, "cuda") == 1
    assert launch.processes(None, RECIPE, "cpu") == 1
    assert launch.processes(3, RECIPE, "cpu") == 3


def test_commands_for_one_machine_and_for_several(monkeypatch):
    here = launch.command(["train.py", "r"], 2, [], {})
    assert here[:3] == [sys.executable, "-m", "torch.distributed.run"]
    assert here[3:] == ["--nproc-per-node=2", "--standalone", "--", "train.py", "r"]
    both = launch.command(["train.py", "r"], 4, ["n7", "n9"], {"SLURM_JOB_ID": "123"})
    assert both[:4] == ["srun", "--jobid=123", "--nodes=2", "--ntasks=2"] and "--overlap" in both
    assert "--rdzv-endpoint=n7:20123" in both and "--nnodes=2" in both
    assert both[-2:] == ["train.py", "r"]


def test_machines_are_asked_from_slurm(tmp_path, monkeypatch):
    assert launch.machines({}) == []
    for name, said in (("squeue", "n[7,9]"), ("scontrol", "n7\nn9")):
        (tmp_path / name).write_text(f"#!/bin/sh\necho '{said}'\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert launch.machines({"SLURM_JOB_ID": "1"}) == ["n7", "n9"]
    (tmp_path / "squeue").write_text("#!/bin/sh\nexit 1\n")
    with pytest.raises(VireoError, match="job 1"):
        launch.machines({"SLURM_JOB_ID": "1"})


@pytest.mark.parametrize(("first", "then"), [(2, 1), pytest.param(1, 2, marks=pytest.mark.slow)])
def test_resumed_on_another_number_of_processes(tmp_path, spawn, first, then):  # noqa: F811
    """Killed in mid-run on `first` processes, finished on `then`: no step twice, none missing."""
    recipe = dummy.recipe(save_steps=3, data={"count": 22, "kill_at": 8})
    assert spawn(recipe, tmp_path, processes=first).returncode != 0
    state = next((tmp_path / "cache/training/dummy").iterdir())
    assert (state / "latest").read_text() == "step-000000006\n"
    done = spawn(recipe, tmp_path, processes=then)
    assert done.returncode == 0, done.stderr
    assert "resumed after step 6 of 12" in done.stderr
    lines = (tmp_path / "results/training/dummy/metrics.csv").read_text().splitlines()
    assert [int(line.split(",")[0]) for line in lines[1:]] == list(range(1, 13))


def test_the_exit_status_and_sigterm_pass_through(monkeypatch):
    waits = "import signal,sys,os;signal.signal(15,lambda *_:sys.exit(7));os.kill(os.getppid(),15);"
    program = [sys.executable, "-c", waits + "signal.pause()"]
    monkeypatch.setattr(launch, "command", lambda *_: program)
    before = signal.getsignal(signal.SIGTERM)
    assert launch.run([], 2, [], "cpu") == 7
    assert signal.getsignal(signal.SIGTERM) is before
