"""What the MMDuet tests share: the tiny model of the vectors, and one with the byte tokenizer."""

import json
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).resolve().parents[1] / "golden/mmduet"


def arch() -> dict[str, Any]:
    """Sizes of the model of the vectors."""
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
    """A model block for the files of the vectors."""
    return {"arch": arch(), "options": {"base": str(GOLDEN / "base"), **options}}


def tiny(image_size: int = 32, patch_size: int = 4, **other: Any) -> dict[str, Any]:
    """Sizes of a model for random weights."""
    return {
        "hidden_size": 32, "intermediate_size": 48, "layers": 2, "heads": 4, "kv_heads": 2,
        "vocab_size": 260, "tokenizer": "bytes", "pool_stride": 4,
        "vision": {"hidden_size": 16, "intermediate_size": 16, "layers": 1, "heads": 2,
                   "image_size": image_size, "patch_size": patch_size},
        **other,
    }  # fmt: skip
