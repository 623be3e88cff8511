"""Weights that are equal are equal files."""

import hashlib
import subprocess
import sys

import torch
from safetensors import safe_open

from vireo.config import HOME
from vireo.training import export

ABOUT = {"recipe": "r", "digest": "0123", "labels": '["a", "Größe", "\\u0007"]'}
TENSORS = {"b.weight": torch.arange(6.0).reshape(2, 3), "a": torch.ones(4, dtype=torch.int64)}
WRITE = """
import sys, torch
from pathlib import Path
from tests.training.test_export import ABOUT, TENSORS
from vireo.training import export
export.write_tensors(Path(sys.argv[1]), TENSORS, ABOUT)
"""


def test_equal_weights_have_the_same_hash(tmp_path) -> None:
    """safetensors 0.8 writes the metadata in an order of chance."""
    paths = [tmp_path / f"{n}.safetensors" for n in range(8)]
    for path in paths[:6]:
        export.write_tensors(path, TENSORS, dict(reversed(ABOUT.items())))
    for seed, path in enumerate(paths[6:]):
        command = [sys.executable, "-c", WRITE, str(path)]
        env = {"PYTHONHASHSEED": str(seed + 1), "PYTHONPATH": str(HOME)}
        subprocess.run(command, env=env, check=True)
    assert len({hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}) == 1
    with safe_open(paths[0], "pt") as file:
        assert file.metadata() == {"format": "pt", **ABOUT}
        for name, value in TENSORS.items():
            assert torch.equal(file.get_tensor(name), value)
