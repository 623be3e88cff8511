"""Recipes of VideoMamba: every line of the authors' scripts, with the rates that come out."""

import pytest
import torch

from vireo import config as cfg
from vireo.models import videomamba
from vireo.training import recipe, videomamba_student
from vireo.training.tasks import videomamba_finetune, videomamba_pretrain

# Learning rates after scaling, epochs, drop path, weight decay (docs/reference/videomamba.md 4.2).
TOLD = {
    "t16_k400_f8": (8e-4, 70, 0.1, 0.1), "t16_k400_f32": (4e-4, 70, 0.1, 0.1),
    "s16_k400_f16": (8e-4, 50, 0.35, 0.05), "s16_k400_f64": (2e-4, 50, 0.35, 0.05),
    "m16_k400_f8": (8e-4, 50, 0.8, 0.05), "m16_k400_f32": (1e-4, 50, 0.8, 0.05),
    "m16_k400_mask_f8": (4e-4, 45, 0.4, 0.05), "m16_k400_mask_f64": (5e-5, 45, 0.4, 0.05),
    "t16_ssv2_f16": (1.6e-3, 35, 0.1, 0.1), "m16_ssv2_f16": (8e-4, 30, 0.8, 0.05),
    "m16_ssv2_mask_f16": (2e-4, 30, 0.4, 0.05), "t16_lvu_view": (2e-4, 70, 0.15, 0.1),
    "m16_k400_mask_pt_f8": (1.2e-3, 801, 0.4, 0.05),
}  # fmt: skip


@pytest.fixture(scope="module")
def recipes() -> dict[str, cfg.Config]:
    recipe = cfg.load()["recipes"]
    return {name: block for name, block in recipe.items() if block["family"] == "videomamba"}


def parts(block: cfg.Config) -> tuple[dict, dict, bool]:
    fine = block["task"] == "videomamba_finetune"
    task = videomamba_finetune if fine else videomamba_pretrain
    data = recipe.settings(block, "data", task.DATA)
    return data, recipe.settings(block, "model", task.MODEL), fine


def test_published_numbers(recipes: dict[str, cfg.Config]) -> None:
    for name, (lr, epochs, drop_path, decay) in TOLD.items():
        block = recipes[f"videomamba_{name}"]
        data, options, fine = parts(block)
        factor = videomamba_finetune.lr_factor(
            block, options["lr_per"], data["repeats"] if fine else 1
        )
        assert block["optim"]["lr"] * factor == pytest.approx(lr), name
        assert (block["epochs"], block["arch"]["drop_path"]) == (epochs, drop_path), name
        assert block["optim"]["weight_decay"] == decay, name


def test_every_recipe_can_be_built(recipes: dict[str, cfg.Config]) -> None:
    assert len([name for name in recipes if not name.startswith("toy_")]) == 68
    for name, block in recipes.items():
        data, options, fine = parts(block)
        with torch.device("meta"):
            if fine:
                assert options["start"] in videomamba.STARTS, name
                model = videomamba.build(block["arch"])
                classes = 1 if data["regression"] else data["classes"]
                assert model.head.weight.shape[0] == classes, name
            else:
                videomamba_student.build(block["arch"])
        micro, gpus = block.get("micro_batch") or 1, (block.get("hardware") or {}).get("gpu", 1)
        assert block["batch_size"] % (micro * gpus) == 0, name
        assert data["flip"] == 0 or "ssv2" not in name or "_mask_" in name, name
