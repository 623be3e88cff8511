"""How many GPUs there are, for those who plan and never import torch."""

import os
from pathlib import Path


def visible_gpus() -> int:
    """GPUs that a job started here would see, without importing torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([v for v in visible.split(",") if v.strip() and v.strip() != "-1"])
    return len(list(Path("/proc/driver/nvidia/gpus").glob("*")))
