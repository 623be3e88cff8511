"""MMDuet's training: losses and gradients of the authors' code, adapters out and in again."""

import json
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from tests.models import duet
from vireo import config as cfg
from vireo.errors import VireoError
from vireo.models import mmduet
from vireo.nn import lora
from vireo.training.tasks import mmduet as task_file

GOLDEN = duet.GOLDEN
TOLD = json.loads((GOLDEN / "training_forward.json").read_text())
KIND = {"r": 8, "alpha": 16, "dropout": 0.05}


def wrapped() -> torch.nn.Module:
    """The tiny base with the tiny adapter in peft's layers."""
    options = {"base": str(GOLDEN / "base")}
    module = mmduet.load(
        {"arch": duet.arch(), "options": options}, GOLDEN / "adapter_model.safetensors"
    ).module
    base = mmduet.base_tensors(GOLDEN / "base")
    state = {name: value.load() for name, value in base.items()}
    module.load_state_dict(state, strict=False)
    model = task_file.adapted(module, KIND)
    named = load_file(GOLDEN / "adapter_model.safetensors")
    own = dict(model.named_parameters())
    found = {task_file.adapter_name(name): p for name, p in own.items() if p.requires_grad}
    assert set(found) == set(named)
    for name, value in named.items():
        found[name].data = value.clone()
    return model.eval()


def test_losses_logits_and_gradients() -> None:
    tensors = load_file(GOLDEN / "training.safetensors")
    frames = load_file(GOLDEN / "tensors.safetensors")["frames_uint8"]
    model = wrapped()
    for name in ("A", "B", "AB"):
        row = {"A": slice(0, 1), "B": slice(1, 2), "AB": slice(0, 2)}[name]
        keep = slice(484 - 317, None) if name == "B" else slice(None)
        used = {"A": frames[0:7], "B": frames[7:12], "AB": frames[0:12]}[name]
        batch: dict[str, Any] = {
            "ids": tensors["trainAB.input_ids"][row, keep],
            "padding": tensors["trainAB.attention_mask"][row, keep],
            "labels": tensors["trainAB.labels"][row, keep],
            "informative": tensors["trainAB.informative_labels"][row, keep],
            "relevance": tensors["trainAB.relevance_labels"][row, keep],
        }
        model.zero_grad()
        out = model(batch["ids"], mmduet.normalise(used), batch["padding"], 259)
        value, parts = task_file.losses(out, batch, "fixed")
        wanted = TOLD[f"train{name}"]
        assert value.item() == pytest.approx(wanted["fixed"]["loss"], abs=1e-3)
        assert float(parts["words"]) == pytest.approx(wanted["fixed"]["lm_loss"], abs=1e-3)
        assert float(parts["video"]) == pytest.approx(wanted["fixed"]["video_loss"], abs=1e-4)
        plain, parts = task_file.losses(out, batch, "reference")
        assert plain.item() == pytest.approx(wanted["as_repo"]["loss"], abs=1e-3)
        value.backward()
        grads = {
            task_file.adapter_name(n).removeprefix("base_model.model."): p.grad
            for n, p in model.named_parameters()
            if p.requires_grad
        }
        for key, norm in wanted["grad_norms"].items():
            ours = grads[key]
            got = 0.0 if ours is None else ours.norm().item()
            assert got == pytest.approx(norm, rel=2e-3, abs=1e-5), (name, key)
        if name == "AB":
            shown = tensors["trainAB.attention_mask"].bool()
            for head in ("informative", "relevance"):
                theirs = tensors[f"trainAB.{head}_logits"]
                torch.testing.assert_close(out[head][shown], theirs[shown], atol=2e-4, rtol=1e-4)
            last = out["logits"][:, -64:]
            torch.testing.assert_close(last, tensors["trainAB.logits_last64"], atol=5e-4, rtol=1e-4)


def test_a_trained_adapter_loads_again(tmp_path: Path) -> None:
    recipe = {
        "task": "mmduet", "family": "mmduet", "arch": duet.arch(), "optim": {"lr": 1e-3},
        "data": {"corpora": [{"kind": "captions", "file": "x.json"}]}, "model": {"lora": KIND},
    }  # fmt: skip
    task = task_file.Task(recipe, {})
    tensors = task.weights(wrapped())
    assert lora.SCALE in tensors
    save_file({k: v.detach().clone() for k, v in tensors.items()}, tmp_path / "w.safetensors")
    ours = mmduet.load(duet.block(), tmp_path / "w.safetensors")
    theirs = mmduet.load(duet.block(), GOLDEN / "adapter_model.safetensors")
    for name, value in theirs.module.state_dict().items():
        assert torch.equal(value, ours.module.state_dict()[name]), name


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two short videos and one annotation file of each kind."""
    from vireo.toy import video
    from vireo.utils.files import write_json

    monkeypatch.chdir(tmp_path)
    root = tmp_path / "data/world"
    root.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in ("a.mp4", "b.mp4"):
        pictures = rng.integers(0, 255, (24, 32, 48, 3), dtype=np.uint8)
        video.write(root / name, pictures, video.Encoding(fps=Fraction(8)))
    write_json(
        root / "captions.json",
        {"a.mp4": {"0": [{"text": "one", "time": 1.0, "timespan": [0, 1.5]}]}, "no.mp4": {}},
    )
    question = {"role": "user", "content": "what?", "time": 0.5}
    answer = {"role": "assistant", "content": "it", "time": 2.0, "timespan": [1.0, 2.5]}
    write_json(root / "qa.json", [{"video_uid": "b.mp4", "conversation": [question, answer]}])
    write_json(
        root / "find.json", [{"video_uid": "a.mp4", "query": "one", "timestamps": [[0.5, 1.5]]}]
    )
    write_json(
        tmp_path / "data/receipts/world.json",
        {"artifact": "world", "root": str(root), "files": {}, "source": "test"},
    )
    return tmp_path


def recipe_of(**changes: Any) -> dict[str, Any]:
    shared = {"annotations": "train", "videos": "train", "fps": 2.0, "max_frames": 5}
    kinds = {"captions": "captions.json", "questions": "qa.json", "grounding": "find.json"}
    corpora = [{"kind": kind, "file": file, **shared} for kind, file in kinds.items()]
    return {
        "task": "mmduet", "family": "mmduet", "arch": duet.tiny(), "version": 1, "seed": 0,
        "sources": {"train": "world"}, "data": {"corpora": corpora}, "model": {"lora": None},
        "optim": {"lr": 1e-3}, "steps": 2, "batch_size": 3, **changes,
    }  # fmt: skip


def test_samples_of_three_kinds_train_a_model(world: Path) -> None:
    from vireo.training import Step

    task = task_file.Task(recipe_of(), {})
    data = task.dataset("train")
    assert len(data) == 3
    first = [data.sample(0, k) for k in range(3)]
    again = data.sample(0, 1)
    assert first[1]["encoded"] == again["encoded"]
    assert [s["frames"].shape[0] for s in first] == [s["encoded"].frames for s in first]
    model = task.build()
    optimiser = torch.optim.AdamW(task.param_groups(model), lr=3e-3)
    batch = task.collate(first)
    values = []
    for step in range(6):
        value, _ = task.loss(model, batch, Step(0, step, 0))
        optimiser.zero_grad()
        value.backward()
        optimiser.step()
        values.append(value.item())
    assert values[-1] < values[0] - 0.3
    save_file({k: v.detach().clone() for k, v in task.weights(model).items()}, "w.safetensors")
    loaded = mmduet.load({"arch": duet.tiny()}, "w.safetensors")
    assert torch.equal(loaded.module.lm_head.weight, model.lm_head.weight)


def test_wrong_recipes_are_named(world: Path) -> None:
    with pytest.raises(VireoError, match="wiring"):
        task_file.Task(recipe_of(model={"wiring": "x"}), {})
    with pytest.raises(VireoError, match="corpora"):
        task_file.Task(recipe_of(data={}), {})
    broken = world / "data/world/a.mp4"
    broken.write_bytes(b"nothing")
    (world / "cache").mkdir(exist_ok=True)
    data = task_file.Task(recipe_of(), {}).dataset("train")
    assert len(data) == 1  # the two conversations on the broken file are left out


def trained(folder: Path, name: str, processes: int, **changes: Any) -> dict[str, torch.Tensor]:
    """Weights of three steps of a recipe, in this process or in several others."""
    from accelerate.state import AcceleratorState

    from vireo.training import launch
    from vireo.training.loop import train

    recipe = recipe_of(batch_size=2, micro_batch=1, steps=3, save_steps=1, **changes)
    blocks = {"recipes": {name: recipe}, "artifacts": {"world": {"by_hand": "made here"}}}
    (folder / "mine.yaml").write_text(yaml.safe_dump(blocks))
    if processes == 1:
        AcceleratorState._reset_state(reset_partial_state=True)
        config = {**cfg.load([folder / "mine.yaml"]), "device": "cpu"}
        return load_file(train(name, cfg.recipe(config, name), config))
    script = [str(cfg.HOME / "scripts/train.py"), name, "--device", "cpu", "--threads", "1"]
    command = launch.command([*script, "--config", "mine.yaml"], processes, [], {})
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-3000:]
    return load_file(folder / f"results/training/{name}/weights.safetensors")


def near(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        torch.testing.assert_close(theirs[key], value, atol=1e-4, rtol=1e-3, msg=key)


LORA = {"lora": {"r": 2, "alpha": 4, "dropout": 0.0}}
WHOLE = {"lora": None, "tower": True}


@pytest.mark.parametrize("model", [LORA, pytest.param(WHOLE, marks=pytest.mark.slow)])
def test_spread_over_two_processes_and_resumed_on_one(world: Path, model: dict[str, Any]) -> None:
    """`fsdp: true`: the steps of one process that holds the whole model."""
    both = trained(world, "spread", 2, model=model, fsdp=True)
    near(trained(world, "plain", 1, model=model), both)
    # The last step again, from the checkpoint before it.
    (state,) = (world / "cache/training/spread").iterdir()
    shutil.rmtree(state / "step-000000003")
    (state / "latest").write_text("step-000000002\n")
    shutil.rmtree(world / "results/training/spread")
    near(trained(world, "spread", 1, model=model, fsdp=True), both)
    assert (state / "step-000000003").exists()
