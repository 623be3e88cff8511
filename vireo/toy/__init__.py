"""The toy world: videos and annotations in the real formats, made from a seed.

Each module with a `make(root, seed)` makes one artifact: `vireo/toy/videomme.py` is `toy_videomme`.
"""

import importlib
import pkgutil
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from vireo.errors import unknown


def maker(artifact: str) -> Callable[[Path, int], None]:
    """Find the function that fills a folder for an artifact name like `toy_videomme`."""
    names = [info.name for info in pkgutil.iter_modules(__path__)]
    name = artifact.removeprefix("toy_")
    if name != artifact and name in names:
        module = importlib.import_module(f"vireo.toy.{name}")
        if hasattr(module, "make"):
            return module.make
    modules = {n: importlib.import_module(f"vireo.toy.{n}") for n in names}
    raise unknown(
        "toy part", artifact, (f"toy_{n}" for n, m in modules.items() if hasattr(m, "make"))
    )


def rng(seed: int, *names: str | int) -> np.random.Generator:
    """Independent random numbers for each thing that has a name; adding one disturbs no other."""
    words = [zlib.crc32(str(name).encode()) for name in names]
    return np.random.default_rng([seed, *words])
