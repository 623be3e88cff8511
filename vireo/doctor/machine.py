"""This machine as far as a run cares: Python, disk, memory, GPUs, Java, codecs, tokens.

Every function gives plain numbers or texts, imports no torch, and starts at most one short command.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

GB = 1e9
CODECS = ("h264", "hevc", "vp9", "av1", "mpeg4")


@dataclass
class Gpu:
    """One visible GPU; memory in GB."""

    name: str
    total: float
    free: float


def disk_free(folder: str | Path = ".") -> int:
    """Bytes free where `folder` will lie."""
    path = Path(folder).absolute()
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def memory() -> tuple[float, float]:
    """(all, now available) main memory in GB, within a container's limit."""
    import psutil

    held = psutil.virtual_memory()
    total, free = float(held.total), float(held.available)
    try:
        limit = Path("/sys/fs/cgroup/memory.max").read_text().strip()
        used = float(Path("/sys/fs/cgroup/memory.current").read_text())
        if limit != "max":
            total, free = min(total, float(limit)), min(free, float(limit) - used)
    except (OSError, ValueError):
        pass
    return total / GB, max(free, 0.0) / GB


def gpus() -> list[Gpu]:
    """GPUs as the driver lists them, [] without any."""
    command = ["nvidia-smi", "--query-gpu=name,memory.total,memory.free"]
    try:
        done = subprocess.run(
            [*command, "--format=csv,noheader,nounits"],
            capture_output=True, text=True, timeout=20, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return []
    found = []
    for line in done.stdout.splitlines():
        name, *numbers = (part.strip() for part in line.rsplit(",", 2))
        try:
            total, free = (float(n) * 2**20 / GB for n in numbers)
        except ValueError:
            continue
        found.append(Gpu(name, total, free))
    return found


def cores() -> int:
    """Processors this process may use."""
    return len(os.sched_getaffinity(0))


def python_problem() -> str:
    """Why this Python cannot run Vireo, "" if it can."""
    if (3, 11) <= sys.version_info < (3, 14):
        return ""
    here = ".".join(map(str, sys.version_info[:2]))
    return f"Python {here} runs this; Vireo needs 3.11, 3.12 or 3.13 (make setup PYTHON=python3.11)"


def java_problem() -> str:
    """Why METEOR cannot be computed here, "" if it can."""
    from vireo.metrics import coco

    return coco.missing() or ""


def missing_codecs() -> list[str]:
    """Usual codecs that the installed PyAV cannot decode."""
    if find_spec("av") is None:
        return list(CODECS)
    import av

    return [name for name in CODECS if name not in av.codecs_available]


def kernels_missing() -> str:
    """Why compiled kernels cannot be used here, "" if they can."""
    from vireo.nn import compiled

    return compiled.missing() or ""


def hub_token() -> bool:
    """Whether a Hugging Face token is set; its value is never read out."""
    from huggingface_hub import get_token

    return bool(get_token())
