"""A real controller that goes away, forgets, pre-empts and refuses; jobs that only wait."""

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm.queue import HOME, jobs, wait
from tests.slurm.small import Small, job
from vireo.doctor import slurm, slurm_site

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(900)]

PICKY = """
function slurm_job_submit(job, partitions, user)
  if io.open("FULL") then return slurm.ESLURM_ACCOUNTING_POLICY end
  if job.tres_per_job and string.find(job.tres_per_job, "gpu") then
    slurm.log_user("--gpus is not allowed here, ask for --gres")
    return slurm.ERROR
  end
  return slurm.SUCCESS
end
function slurm_job_modify(job, old, partitions, user) return slurm.SUCCESS end
return slurm.SUCCESS
"""


@pytest.fixture
def small(cluster, tmp_path) -> Small:
    return Small(tmp_path)


def stop_controller(cluster: Path) -> None:
    """End slurmctld as an administrator would; its state stays on disk."""
    pid = int((cluster / "pid/slurmctld").read_text())
    os.kill(pid, signal.SIGTERM)
    wait(lambda: not Path(f"/proc/{pid}").exists(), "the controller has gone")


def start_controller(cluster: Path, **changed: str) -> None:
    """Start slurmctld with its saved state and some settings changed; "" removes one."""
    path = cluster / "slurm.conf"
    lines = path.read_text().splitlines()
    lines = [line for line in lines if line.split("=")[0] not in changed]
    lines += [f"{key}={value}" for key, value in changed.items() if value]
    path.write_text("\n".join(lines) + "\n")
    subprocess.run(["slurmctld"], check=True, timeout=20)
    wait(lambda: subprocess.run(["timeout", "2", "sinfo", "-h"]).returncode == 0, "it answers")


@pytest.fixture
def picky(cluster) -> Iterator[Path]:
    """A site whose submit script refuses --gpus, and every job while the file it gives is there."""
    if not list(Path("/usr/lib").glob("*/slurm*/job_submit_lua.so")):
        pytest.skip("SLURM's job_submit/lua plugin is not installed")
    full = cluster / "full"
    script = Path("/etc/slurm/job_submit.lua")
    script.write_text(PICKY.replace("FULL", str(full)))
    stop_controller(cluster)
    start_controller(cluster, JobSubmitPlugins="lua")
    yield full
    stop_controller(cluster)
    start_controller(cluster, JobSubmitPlugins="")
    script.unlink()


def newest() -> list[dict[str, str]]:
    return sorted(jobs()["part"], key=lambda one: int(one["job"]))


def test_doctor_looks_at_the_site(cluster):
    profile = slurm.read(HOME / "profiles/slurm")
    site = slurm_site.look()
    assert site is not None and not site.accounting and not site.account_required
    assert site.partitions["gpu"].gpus == {"toy": 2} and site.seconds("MinJobAge") == 600
    assert list(slurm.check(HOME / "profiles/slurm")) == []
    profile["set-resources"]["infer"] = {"slurm_partition": "gpus", "gpu_model": "toys"}
    found = [one.what for one in slurm.findings(profile, site)]
    assert len(found) == 1 and "did you mean gpu" in found[0]


def test_controller_away_twice_and_forgetful_in_the_end(cluster, small):
    """Away when jobs are submitted, away again while they finish, then it lists none of them."""
    stop_controller(cluster)
    launcher = small.launch(2)
    wait(lambda: "Tried again every" in small.said(), "sbatch was refused")
    start_controller(cluster)
    wait(lambda: small.started() == 2, "both jobs at work")
    stop_controller(cluster)
    small.go()
    wait(lambda: small.parts() == 2, "both have finished")
    wait(lambda: "squeue has not answered" in small.said(), "the launcher has noticed")
    start_controller(cluster, MinJobAge="2")
    try:
        assert launcher.wait(300) == 0, small.said()
    finally:
        stop_controller(cluster)
        start_controller(cluster, MinJobAge="600")
    assert "Error in rule" not in small.said()
    assert len(list(small.folder.glob("part/*"))) == 2


@pytest.mark.slow
def test_preempted_and_requeued(cluster, small):
    """An urgent job takes the node; SLURM starts ours anew under its old number."""
    wanted = ("--set-resources", "part:slurm_partition=gpu", "part:threads=16")
    launcher = small.launch(1, *wanted)
    wait(lambda: small.started() == 1, "the job is at work")
    (ours,) = newest()[-1:]
    urgent = subprocess.run(
        ["sbatch", "--parsable", "-p", "urgent", "-w", ours["node"], "--exclusive", "-o/dev/null",
         "--wrap", "sleep 5"],
        check=True, capture_output=True, text=True, timeout=30,
    ).stdout.strip()  # fmt: skip
    wait(lambda: job(urgent)["JobState"] in ("RUNNING", "COMPLETED"), "the urgent one runs")
    wait(lambda: job(ours["job"])["Restarts"] == "1", "ours is in the queue again")
    (small.folder / "started.0").unlink(missing_ok=True)
    # SLURM lets a requeued job wait for two minutes.
    subprocess.run(["scontrol", "update", f"JobId={ours['job']}", "StartTime=now"], check=True)
    wait(lambda: small.started() == 1, "it is at work again")
    small.go()
    assert launcher.wait(300) == 0, small.said()
    assert job(ours["job"])["JobState"] == "COMPLETED" and "Error in rule" not in small.said()


@pytest.mark.slow
def test_a_site_that_refuses_gpus_and_too_many_jobs(picky, small):
    """--gpus: the site's words are shown. Its limit of submitted jobs: waited for."""
    small.go()
    launcher = small.launch(1, "--set-resources", "part:slurm_partition=gpu", "part:gpu=1")
    assert launcher.wait(120) == 1
    assert "--gpus is not allowed here, ask for --gres" in small.said()

    picky.touch()
    gres = ("part:slurm_partition=gpu", "part:gpu=0", "part:gres=gpu:1")
    launcher = small.launch(2, "--set-resources", *gres)
    wait(lambda: "Tried again every" in small.said(), "sbatch was refused")
    assert "job submit limit" in small.said()
    picky.unlink()
    assert launcher.wait(300) == 0, small.said()
    assert "Error in rule" not in small.said() and small.parts() == 2
    assert {one["gres"] for one in newest()[-2:]} == {"gres:gpu:1"}
