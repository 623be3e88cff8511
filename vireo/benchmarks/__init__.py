"""Benchmarks, one file each; `module: videomme` in the config is `vireo/benchmarks/videomme.py`."""

import importlib
from pathlib import Path
from types import ModuleType

from vireo.errors import unknown


def module(name: str) -> ModuleType:
    """Import `vireo/benchmarks/<name>.py`; VireoError lists near names."""
    known = [p.stem for p in Path(__file__).parent.glob("*.py") if not p.stem.startswith("_")]
    if name not in known:
        raise unknown("benchmark module", name, known)
    return importlib.import_module(f"vireo.benchmarks.{name}")
