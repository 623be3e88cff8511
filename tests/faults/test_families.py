"""`kill -9` in mid-training and in mid-inference of every other family: the same in the end.

Each trains its toy model for a few steps and runs its toy benchmark, undisturbed, then again in the
same folder with everything killed twice.
"""

import shutil
import subprocess
import time
from collections.abc import Callable

import pytest
import torch
from safetensors.torch import load_file

from tests.e2e.test_resume import kill_everything
from tests.e2e.world import Place, same

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1200)]

# recipe, what it begins with, run
FAMILIES = [
    ("toy_viclip_finetune", ["toy_viclip_pretrain"], "toy_viclip_ft/toy_kinetics_ft"),
    ("toy_videomamba_order", [], "toy_videomamba_order/toy_order"),
    ("toy_clipbert", [], "toy_clipbert/toy_sqa3d"),
    ("toy_mmduet", [], "toy_mmduet/toy_youcook2"),
]


def killed_when(place: Place, target: str, ready: Callable[[], bool]) -> None:
    """Start the workflow and kill all of it as soon as `ready`."""
    launcher = subprocess.Popen(
        place.command(target), cwd=place.folder, env=place.environment(),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    until = time.monotonic() + 400
    while not ready():
        assert launcher.poll() is None, "it finished before it could be killed"
        assert time.monotonic() < until
        time.sleep(0.02)
    kill_everything(launcher)
    place.make("--unlock", target)


@pytest.mark.parametrize(("recipe", "before", "run"), FAMILIES, ids=[f[2] for f in FAMILIES])
def test_training_and_inference_killed(tmp_path, recipe, before, run) -> None:
    benchmark = run.split("/")[1]
    few = {name: {"steps": 6, "save_steps": 1, "schedule": {"warmup_steps": 1}}
           for name in [recipe, *before]}  # fmt: skip
    config = {"recipes": few, "benchmarks": {benchmark: {"controls": []}}, "device": "cpu"}
    place = Place(tmp_path, config | {"batch_size": 1, "shards": 1})
    target, weights = f"results/{run}.json", f"results/training/{recipe}/weights.safetensors"
    place.make(target)
    trained, told = load_file(tmp_path / weights), place.result(target)
    predicted, counts = place.predictions(target), place.journalled()
    for path in ("results", "cache/predictions", "cache/shards", f"cache/training/{recipe}"):
        if path == "results":  # what training began with stays
            shutil.rmtree(tmp_path / "results" / run.split("/")[0])
            shutil.rmtree(tmp_path / "results/training" / recipe)
        else:
            shutil.rmtree(tmp_path / path)

    states = tmp_path / "cache/training" / recipe
    killed_when(place, target, lambda: any(states.glob("*/latest")))
    assert not (tmp_path / weights).exists()
    killed_when(place, target, lambda: place.journalled().total() > 0)
    flushed = place.journalled()
    assert 0 < flushed.total() < counts.total() and not (tmp_path / target).exists()
    place.make(target)

    again = load_file(tmp_path / weights)
    assert set(again) == set(trained) and all(torch.equal(again[k], trained[k]) for k in again)
    same(place.predictions(target), predicted)
    assert place.journalled() == counts  # nothing that was flushed is there twice
    assert place.result(target)["metrics"] == told["metrics"]
    assert not place.leftovers()
