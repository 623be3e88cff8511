import csv
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from vireo.errors import VireoError
from vireo.training import checkpoint, load, parallel
from vireo.training.loop import train

CPU = {"device": "cpu"}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "results/training/dummy/weights.safetensors")


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return set(a) == set(b) and all(torch.equal(a[k], b[k]) for k in a)


def rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "results/training/dummy/metrics.csv", newline="") as handle:
        return list(csv.DictReader(handle))


def state_folder() -> Path:
    return next(Path("cache/training/dummy").iterdir())


def test_outputs_and_second_call_does_nothing(dummy, tmp_path):
    path = train("dummy", dummy.recipe(), CPU)
    told = json.loads(Path("results/training/dummy/recipe.json").read_text())
    assert told["steps"] == 12 and told["samples"] == 22 and told["failed"]["count"] == 0
    table = rows(tmp_path)
    assert [int(r["step"]) for r in table] == list(range(1, 13))
    assert [int(r["epoch"]) for r in table] == [0] * 5 + [1] * 5 + [2] * 2
    assert float(table[0]["lr"]) == 0.05 * 0.01 and float(table[2]["lr"]) == 0.05
    assert list(table[0])[:4] == ["step", "epoch", "lr", "loss"] and "grad_norm" in table[0]
    assert "<svg" in Path("results/training/dummy/curve.svg").read_text()
    before = path.stat().st_mtime_ns
    assert train("dummy", dummy.recipe(), CPU) == path and path.stat().st_mtime_ns == before
    assert "3.weight" in weights(tmp_path)  # frozen parts are in the weights …
    kept = load_file(state_folder() / "step-000000012/trainable.safetensors")
    assert "3.weight" not in kept and "0.weight" in kept  # … but not in checkpoints


def test_changed_recipe_starts_anew_in_its_own_folder(dummy, tmp_path):
    train("dummy", dummy.recipe(steps=3), CPU)
    first = weights(tmp_path)
    train("dummy", dummy.recipe(steps=3, seed=4), CPU)
    assert not equal(first, weights(tmp_path))
    assert len(list(Path("cache/training/dummy").iterdir())) == 2
    train("dummy", dummy.recipe(steps=3, workers=2, save_steps=1, save_every=1), CPU)
    assert len(list(Path("cache/training/dummy").iterdir())) == 2


def test_killed_in_mid_epoch_and_resumed_gives_equal_weights(dummy, tmp_path, spawn):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    recipe = dummy.recipe(workers=2, save_steps=3, data={"count": 22, "kill_at": 8})
    (whole / "killed").touch()  # this one is not killed, and has no loader workers
    assert spawn(recipe | {"workers": 0}, whole).returncode == 0
    assert spawn(recipe, killed).returncode == -9
    assert not (killed / "results").exists()
    state = next((killed / "cache/training/dummy").iterdir())
    assert (state / "latest").read_text() == "step-000000006\n"
    again = spawn(recipe, killed)
    assert again.returncode == 0 and "resumed after step 6 of 12" in again.stderr
    assert equal(weights(whole), weights(killed))
    for row in (both := rows(whole) + rows(killed)):
        row.pop("seconds")
    assert both[:12] == both[12:]  # no step twice, none missing


def test_terminate_saves_and_says_how_to_go_on(dummy, tmp_path):
    recipe = dummy.recipe(data={"count": 22, "kill_at": 7, "signal": "SIGTERM"}, save_steps=100)
    with pytest.raises(VireoError, match="stands at step 8 of 12"):
        train("dummy", recipe, CPU)
    train("dummy", recipe, CPU)
    resumed = weights(tmp_path)
    shutil.rmtree(tmp_path / "cache")
    (tmp_path / "results/training/dummy/recipe.json").unlink()
    train("dummy", recipe, CPU)
    assert equal(resumed, weights(tmp_path))


def test_time_limit_saves_before_it_and_goes_on(dummy, tmp_path, monkeypatch):
    """Ten minutes end after nine: one minute early, the time a large checkpoint may take."""
    now = iter(range(0, 100_000, 60))  # every look at the clock is a minute later
    monkeypatch.setattr(parallel, "time", SimpleNamespace(monotonic=lambda: next(now)))
    recipe = dummy.recipe(save_steps=100)
    with pytest.raises(VireoError, match="stands at step 9 of 12; the same command goes on"):
        train("dummy", recipe, CPU, minutes=10)
    found = checkpoint.newest(state_folder())
    assert found and found[1]["step"] == 9
    train("dummy", recipe, CPU, minutes=10)
    resumed = weights(tmp_path)
    shutil.rmtree(tmp_path / "cache")
    (tmp_path / "results/training/dummy/recipe.json").unlink()
    train("dummy", recipe, CPU)
    assert equal(resumed, weights(tmp_path))


@pytest.mark.parametrize(("minutes", "seconds"), [(2, 60), (30, 27 * 60), (1440, 1430 * 60)])
def test_time_limit_is_kept_a_tenth_early(monkeypatch, minutes, seconds):
    monkeypatch.setattr(parallel, "time", SimpleNamespace(monotonic=lambda: 0.0))
    assert parallel.Terminate(minutes).stop_at == seconds


def test_nan_stops_with_step_and_last_good_checkpoint(dummy):
    with pytest.raises(VireoError, match=r"loss of step 8 is nan.*step-000000005"):
        train("dummy", dummy.recipe(data={"count": 22, "nan_at": 7}), CPU)
    found = checkpoint.newest(state_folder())
    assert found and found[1]["step"] == 5
    assert not Path("results/training/dummy").exists()


def _damage(how: str, folder: Path) -> None:
    if how == "cut":
        data = (folder / "optimizer.bin").read_bytes()
        (folder / "optimizer.bin").write_bytes(data[: len(data) // 2])
    elif how == "flipped":
        data = bytearray((folder / "trainable.safetensors").read_bytes())
        data[-1] ^= 1
        (folder / "trainable.safetensors").write_bytes(bytes(data))
    elif how == "no manifest":
        (folder / "manifest.json").unlink()
    else:
        (folder.parent / "latest").write_text("step-000000099\n")


@pytest.mark.parametrize("how", ["cut", "flipped", "no manifest", "wrong pointer"])
def test_torn_checkpoint_is_skipped(dummy, tmp_path, how):
    train("dummy", dummy.recipe(), CPU)
    want = weights(tmp_path)
    (tmp_path / "results/training/dummy/recipe.json").unlink()
    state = state_folder()
    assert sorted(f.name for f in state.glob("step-*")) == ["step-000000010", "step-000000012"]
    _damage(how, state / "step-000000012")
    found = checkpoint.newest(state)
    assert found and found[1]["step"] == (12 if how == "wrong pointer" else 10)
    train("dummy", dummy.recipe(), CPU)
    assert equal(want, weights(tmp_path))
    assert [int(r["step"]) for r in rows(tmp_path)] == list(range(1, 13))


def test_best_weights_are_kept(dummy, tmp_path):
    recipe = dummy.recipe(data={"count": 22, "validate": True}, steps=25, optim={"lr": 0.3})
    train("dummy", recipe, CPU)
    told = json.loads((tmp_path / "results/training/dummy/recipe.json").read_text())["best"]
    values = {int(r["step"]): float(r["val_error"]) for r in rows(tmp_path) if r["val_error"]}
    assert set(values) == {5, 10, 15, 20, 25}
    assert told["value"] == min(values.values()) and values[told["step"]] == told["value"]
    best = load_file(state_folder() / f"best-{told['step']:09d}.safetensors")
    assert torch.equal(best["0.weight"], weights(tmp_path)["0.weight"])


def test_accumulation_and_own_backward_do_not_change_the_sum(dummy, tmp_path):
    train("dummy", dummy.recipe(steps=1, task="dummy"), CPU)
    whole = rows(tmp_path)[0]
    train("dummy", dummy.recipe(steps=1, micro_batch=4, task="two_pass"), CPU)
    assert rows(tmp_path)[0]["grad_norm"] == whole["grad_norm"]


def test_only_one_process_trains_in_a_folder(dummy, tmp_path):
    held = checkpoint.lock(tmp_path / "state")
    with pytest.raises(VireoError, match=r"another process \(pid \d+\) trains"):
        checkpoint.lock(tmp_path / "state")
    held.close()
    checkpoint.lock(tmp_path / "state").close()


def test_batches_that_cannot_be_cut(dummy):
    with pytest.raises(VireoError, match="cannot be cut into micro-batches of 3"):
        train("dummy", dummy.recipe(micro_batch=3), CPU)
    with pytest.raises(VireoError, match="do not fill one batch of 40"):
        train("dummy", dummy.recipe(batch_size=40), CPU)


def test_unknown_task():
    with pytest.raises(VireoError, match="did you mean 'viclip_pretrain'"):
        load("viclip_pretrian")


def test_two_processes_see_the_same_batches(dummy, tmp_path, spawn):
    """Without dropout and with equal halves, averaged gradients are those of one process."""
    recipe = dummy.recipe(steps=3)
    done = spawn(recipe, tmp_path, processes=2)
    assert done.returncode == 0, done.stderr
    losses = [float(r["loss"]) for r in rows(tmp_path)]
    assert len(losses) == 3 and all(x == x for x in losses)
