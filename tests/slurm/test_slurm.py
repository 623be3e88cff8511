"""The workflow on a real SLURM: where jobs run, what they ask for, and what survives `kill -9`."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.e2e.world import SHORT
from tests.slurm.queue import Cluster, jobs, journals, launch, settings, slow_checkout, wait

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(900)]

# Too little for its first attempt, so that the scheduler kills it.
STARVED = ["--set-resources", "infer:slurm_partition=gpu", "score:mem_mb=250*6**(attempt-1)"]


def test_shards_on_a_cluster_survive_the_launcher(cluster, data, checkout, tmp_path) -> None:
    """Launcher killed, shards submitted again while the first copies run: the right result."""
    config = settings(data) | {"gpu_features": {"toy4": 4, "toy8": 8, "toy40": 40}}
    config["models"]["tiny"]["hardware"]["gpu_gb"] = 6
    place = Cluster(tmp_path / "cluster", config, slow_checkout(checkout))
    hold = place.folder / "hold"  # every copy stops after its first video while this file is there
    hold.touch()
    launcher = launch(place)
    wait(lambda: len(journals(place)) == 2, "two shards at work")
    os.kill(launcher.pid, signal.SIGKILL)
    launcher.wait()
    first = jobs()
    assert {job["partition"] for job in first["frames"]} == {"cpu"}
    assert {job["task"] for job in first["frames"]} == {"N/A"}, "no arrays"
    assert "fetch" not in first, "downloads run on the submit host"
    assert [job["state"] for job in first["infer"]] == ["RUNNING", "RUNNING"]
    assert {job["gres"] for job in first["infer"]} == {"N/A"}  # --gpus stands elsewhere
    for job in first["infer"]:
        shown = subprocess.run(
            ["scontrol", "show", "job", job["job"]], capture_output=True, text=True, timeout=20
        ).stdout
        assert "TresPerJob=gres:gpu:1" in shown and "Features=toy8|toy40" in shown
        assert job["partition"] == "gpu" and job["cpus"] == "8" and job["time"] == "16:00"
        assert job["memory"] == "2000M"

    # The lock says how to go on; the shards go in again beside the first copies.
    assert "--unlock" in place.run(SHORT).text
    place.make("--unlock", SHORT)
    launcher = launch(place, *STARVED)
    wait(lambda: len(journals(place)) == 4, "two copies of each shard at work")
    assert [job["state"] for job in jobs()["infer"]] == 4 * ["RUNNING"]
    hold.unlink()
    assert launcher.wait(200) == 0, (place.folder / "said").read_text()
    second = jobs()
    again = [job for job in second["infer"] if job not in first["infer"]]
    again = [j for j in again if j["job"] not in {f["job"] for f in first["infer"]}]
    assert len(again) == 2
    assert {job["state"] for job in second["infer"]} == {"COMPLETED"}
    # Killed for its memory, it came back with more.
    score = sorted(second["score"], key=lambda job: int(job["job"]))
    assert [(j["state"], j["memory"]) for j in score] == [
        ("FAILED", "250M"),
        ("COMPLETED", "1500M"),
    ]

    place.as_straight(tmp_path / "here")
    text = "\n".join(p.read_text() for p in Path(place.folder / "logs/infer").rglob("*.log"))
    assert "waiting for a device" not in text
    for path in journals(place):
        assert path.read_bytes().endswith(b"}\n")


def test_more_shards_than_jobs(cluster, data, tmp_path) -> None:
    """With arrays, version 2.8.0 of the plugin alone submits none of them (docs/slurm.md)."""
    place = Cluster(tmp_path / "cluster", settings(data) | {"shards": 3})
    folder = "cache/shards/tiny/videomme/short"
    shards = [f"{folder}/{n}-of-3.frames.json" for n in range(1, 4)]
    before = {job["job"] for job in jobs()["frames"]}
    arrays = ("--jobs", "1", "--slurm-array-jobs", "frames")
    launcher = launch(place, *arrays, targets=shards)
    assert launcher.wait(550) == 0, (place.folder / "said").read_text()
    assert all((place.folder / shard).exists() for shard in shards)
    found = [job for job in jobs()["frames"] if job["job"] not in before]
    assert [job["state"] for job in found] == 3 * ["COMPLETED"]
