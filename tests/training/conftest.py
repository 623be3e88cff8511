"""Empty working directories, toy clips in one, the dummy task, runs in processes of their own."""

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.training import processes

HERE = Path(__file__).parent
spec = importlib.util.spec_from_file_location("training_dummy", HERE / "dummy.py")
assert spec and spec.loader
dummy_module = importlib.util.module_from_spec(spec)
sys.modules["training_dummy"] = dummy_module
spec.loader.exec_module(dummy_module)


@pytest.fixture
def empty(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty working directory, and no state of `accelerate` from other tests."""
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(reset_partial_state=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def kinetics(empty: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a few toy clips and their receipt."""
    from vireo.fetch import receipt
    from vireo.toy import kinetics

    monkeypatch.setattr(kinetics, "PER_CLASS", {"train": 1, "val": 1})
    root = empty / "data/toy_kinetics"
    kinetics.make(root, 0)
    receipt.write("data/receipts/toy_kinetics.json", "toy_kinetics", root, {}, "toy")
    return empty


@pytest.fixture
def dummy(empty: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The dummy module, known to the loop, in an empty working directory."""
    from vireo.training import loop

    monkeypatch.setattr(loop, "load", lambda name: dummy_module.KINDS[name])
    return dummy_module


@pytest.fixture
def spawn() -> Any:
    """Run the dummy task in its own process, or in several."""
    return processes.spawn
