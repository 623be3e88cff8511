"""Jobs that a cluster takes away, cards asked for by gres, training on two machines."""

import os
import signal
import subprocess

import pytest
import torch
from safetensors.torch import load_file

from tests.e2e.world import Place
from tests.slurm.queue import Cluster, jobs, journals, launch, settings, slow_checkout, wait
from tests.training.test_viclip_pretrain import ARCH, make_pairs

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(900)]

# The profile's second way to ask for a card.
GRES = ["--set-resources", "infer:gpu=0", "infer:gres=gpu:1", "infer:slurm_partition=gpu"]


def running() -> list[dict[str, str]]:
    return [job for job in jobs()["infer"] if job["state"] == "RUNNING"]


@pytest.mark.slow
def test_one_job_cancelled_and_the_node_of_the_other_lost(cluster, data, checkout, tmp_path):
    config = settings(data)
    place = Cluster(tmp_path / "cluster", config, slow_checkout(checkout))
    hold = place.folder / "hold"
    hold.touch()
    before = {job["job"] for job in jobs()["infer"]}
    launcher = launch(place, *GRES)
    wait(lambda: len(journals(place)) == 2 and len(running()) == 2, "two shards at work")
    one, two = running()
    assert {one["gres"], two["gres"]} == {"gres:gpu:1"}
    subprocess.run(["scancel", f"{one['job']}_{one['task']}"], check=True, timeout=20)
    wait(lambda: len(journals(place)) == 3 and len(running()) == 2, "the cancelled one is back")

    # The node's daemon dies; what runs there goes on unseen beside the copy that SLURM starts anew.
    lost = [job for job in running() if job["node"] == two["node"]]
    os.kill(int((cluster / f"pid/slurmd.{two['node']}").read_text()), signal.SIGKILL)
    # SLURM notices after some seconds and starts the jobs again two minutes later.
    back = "those of the lost node are back"
    wait(lambda: len(journals(place)) == 3 + len(lost) and len(running()) == 2, back, 300)
    assert two["node"] not in {job["node"] for job in running()}
    subprocess.run(["slurmd", "-N", two["node"]], check=True, timeout=20)
    hold.unlink()
    assert launcher.wait(200) == 0, (place.folder / "said").read_text()

    after = [job for job in jobs()["infer"] if job["job"] not in before]
    assert {job["state"] for job in after} <= {"COMPLETED", "CANCELLED", "NODE_FAIL"}
    place.as_straight(tmp_path / "here")


def test_training_on_two_machines(cluster, tmp_path):
    """`nodes: 2` in a recipe: one process on each machine of the job, which meet by themselves."""
    (tmp_path / "pairs").mkdir()
    make_pairs(tmp_path / "pairs")
    recipe = {
        "task": "viclip_pretrain", "family": "viclip", "version": 1, "seed": 1,
        "arch": {**ARCH, "drop_path": 0.0}, "sources": {"train": "pairs"},
        "data": {"list": "train.json"}, "model": {"mask_ratio": 0.5, "gather": "corrected"},
        "optim": {"lr": 1e-3, "betas": [0.9, 0.98]}, "schedule": {"warmup_steps": 1},
        "steps": 4, "batch_size": 4, "save_steps": 2,
    }  # fmt: skip
    config = {
        "artifacts": {"pairs": {"by_hand": "Made by the test."}}, "device": "cpu",
        "max_failed": 0.5,
        "paths": {"pairs": str(tmp_path / "pairs")},
        "recipes": {
            "both": recipe | {"hardware": {"gpu": 1, "nodes": 2, "mem_gb": 1}},
            "one": recipe | {"hardware": {"gpu": 0, "mem_gb": 1}},
        },
    }  # fmt: skip
    place = Cluster(tmp_path / "cluster", config)
    place.make("results/training/both/weights.safetensors", cores=2)
    (job,) = jobs()["train"]
    assert job["state"] == "COMPLETED" and job["node"] == "g[1-2]"
    told = place.result("results/training/both/recipe.json")
    assert told["processes"] == 2 and told["steps"] == 4

    here = Place(tmp_path / "here", config)
    here.make("results/training/one/weights.safetensors")
    weights = [
        load_file(p.folder / f"results/training/{n}/weights.safetensors")
        for p, n in ((place, "both"), (here, "one"))
    ]
    for key, value in weights[1].items():
        if key.endswith("attn.in_proj_bias"):
            continue  # see test_two_processes_with_the_corrected_gather_are_one
        torch.testing.assert_close(weights[0][key], value, rtol=1e-3, atol=1e-4)
