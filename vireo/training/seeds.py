"""Random generators as functions of what they are for: (seed, purpose, epoch, index, …).

Python's own `hash` of a string differs from process to process, so words enter by CRC-32.
"""

import zlib

import numpy as np
import torch


def _entropy(keys: tuple[int | str, ...]) -> list[int]:
    return [zlib.crc32(k.encode()) if isinstance(k, str) else int(k) for k in keys]


def numpy_generator(*keys: int | str) -> np.random.Generator:
    """NumPy generator of these keys (non-negative integers and words)."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(_entropy(keys))))


def number(*keys: int | str) -> int:
    """A 63-bit seed of these keys."""
    state = np.random.SeedSequence(_entropy(keys)).generate_state(1, np.uint64)[0]
    return int(state) >> 1


def torch_generator(*keys: int | str) -> torch.Generator:
    """CPU torch generator of these keys."""
    return torch.Generator().manual_seed(number(*keys))
