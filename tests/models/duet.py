"""The tiny model of the vectors, built from its files."""

import json
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).resolve().parents[1] / "golden/mmduet"


def arch() -> dict[str, Any]:
    """Sizes of the tiny model."""
    config = json.loads((GOLDEN / "base/config.json").read_text())
    vision = config["vision_tiny"]
    return {
        "hidden_size": config["hidden_size"],
        "intermediate_size": config["intermediate_size"],
        "layers": config["num_hidden_layers"],
        "heads": config["num_attention_heads"],
        "kv_heads": config["num_key_value_heads"],
        "vocab_size": config["vocab_size"],
        "vision": {
            "hidden_size": vision["hidden_size"],
            "intermediate_size": vision["intermediate_size"],
            "layers": vision["num_hidden_layers"] - 1,
            "heads": vision["num_attention_heads"],
            "image_size": vision["image_size"],
            "patch_size": vision["patch_size"],
        },
    }


def block(**options: Any) -> dict[str, Any]:
    """A model block for the tiny files."""
    return {"arch": arch(), "options": {"base": str(GOLDEN / "base"), **options}}
