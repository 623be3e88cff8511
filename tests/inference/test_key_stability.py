"""Keys of representative runs stay what they are: predictions computed earlier remain valid.

One run per family and kind of benchmark, with weights and items of fixed content. A change that
moves a key on purpose says so in CHANGELOG.md and writes the new values here.
"""

import json
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from vireo import config as configuration
from vireo.fetch import receipt
from vireo.inference import cache_key
from vireo.inference.journal import key_name
from vireo.tables import items as item_table
from vireo.workflow.plan import Plan

RUNS = (
    "viclip/videomme",
    "clip_l14/k400",
    "viclip_avg/msrvtt",
    "viclip_ft_k400/k400_ft",
    "clipbert/sqa3d",
    "mmduet/youcook2",
    "mmduet/charades",
    "mmduet_tower_fp16/magqa_t03",
    "videomamba_m16_k400_mask_f16/k400_ft",
    "videomamba_m16_breakfast_mask_f32/breakfast",
    "toy_videomamba_mse/toy_regression",
    "toy_viclip/toy_videomme",
)
RECIPES = (
    "viclip_l14_stage2",
    "viclip_ft_k400",
    "clipbert_sqa3d",
    "mmduet_it",
    "toy_videomamba_ft",
)
EXPECTED = json.loads((Path(__file__).resolve().parents[1] / "golden/keys.json").read_text())
ITEMS = pd.DataFrame(
    {
        "id": ["a-1", "a-2", "b-1"],
        "split": ["short", "short", "val"],
        "video": ["a", "a", "b"],
        "start": [float("nan"), 1.5, 0.0],
        "end": [float("nan"), 4.0, 2.25],
        "question": ["What moves?", "", "Where?"],
        "options": [["a dog", "a cat"], [], ["left", "right"]],
        "answer": ["A", "making tea", "sneezing"],
        "group": ["a", "a", "b"],
        "meta": ["{}", "{}", "{}"],
    }
)


def keys_of(run: str) -> dict[str, str]:
    """Every key that a run's results rest on; files lie below the working directory."""
    config = configuration.load()
    model, benchmark = run.split("/")
    plan, block = Plan(config, configuration.HOME), configuration.model(config, model)
    for artifact, names in artifacts_of(block).items():
        root = Path("data") / artifact
        listed = {}
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(f"{artifact}/{name}".encode())
            listed[name] = {"size": 1, "sha256": "0"}
        receipt.write(f"data/receipts/{artifact}.json", artifact, root, listed, "test")
    if "recipe" in block["weights"]:
        weights = Path("weights.safetensors")
        weights.write_bytes(b"weights")
    else:
        found = f"data/receipts/{block['weights']['artifact']}.json"
        weights = cache_key.find_weights(found, block)
    item_table.write(ITEMS, "items.parquet")
    description = cache_key.prediction_key(config, model, benchmark, Path("items.parquet"), weights)
    wildcards = SimpleNamespace(model=model, benchmark=benchmark, run=benchmark)
    return {
        "journal": key_name(description),
        "texts": cache_key.texts_key(config, model, weights),
        "predictions": plan.predictions_key(wildcards),
        "items": plan.items_key(wildcards),
        "frames": plan.frames_key(wildcards),
    }


def artifacts_of(block: dict) -> dict[str, list[str]]:
    """Artifact -> names of the files that a model block reads of it."""
    wanted: dict[str, list[str]] = {}
    entries = [*(block.get("files") or {}).values()]
    if "artifact" in block["weights"]:
        entries.append(block["weights"])
    if other := block.get("wiseft"):
        entries.append({"artifact": other["with"], "file": other.get("file")})
    for entry in entries:
        wanted.setdefault(entry["artifact"], []).append(entry.get("file") or "file.bin")
    return wanted


@pytest.mark.parametrize("run", RUNS)
def test_keys_are_those_of_earlier_predictions(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert keys_of(run) == EXPECTED["runs"][run]


@pytest.mark.parametrize("recipe", RECIPES)
def test_keys_of_recipes(recipe):
    plan = Plan(configuration.load(), configuration.HOME)
    assert plan.recipe_key(SimpleNamespace(recipe=recipe)) == EXPECTED["recipes"][recipe]
