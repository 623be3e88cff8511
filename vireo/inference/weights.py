"""Where the weights of a model block lie: the receipt of an artifact, or what a recipe yields."""

from vireo import config as cfg


def receipt_path(artifact: str) -> str:
    """Where rule fetch (or toy) says what it got and where it lies."""
    return f"data/receipts/{artifact}.json"


def trained_path(recipe: str) -> str:
    """Weights that a recipe yields."""
    return f"results/training/{recipe}/weights.safetensors"


def weights_source(config: cfg.Config, model: str) -> str:
    """The file that holds or points to a model's weights; "" for an untrained model."""
    weights = cfg.model(config, model)["weights"]
    if not weights:
        return ""
    if "recipe" in weights:
        return trained_path(weights["recipe"])
    return receipt_path(weights["artifact"])
