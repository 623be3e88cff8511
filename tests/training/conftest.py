"""Loading of the dummy task, a fresh `accelerate` state, and runs in processes of their own."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
spec = importlib.util.spec_from_file_location("training_dummy", HERE / "dummy.py")
assert spec and spec.loader
dummy_module = importlib.util.module_from_spec(spec)
sys.modules["training_dummy"] = dummy_module
spec.loader.exec_module(dummy_module)


@pytest.fixture
def dummy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The dummy module, known to the loop, in an empty working directory."""
    from accelerate.state import AcceleratorState

    from vireo.training import loop

    AcceleratorState._reset_state(reset_partial_state=True)
    monkeypatch.setattr(loop, "load", lambda name: dummy_module.KINDS[name])
    monkeypatch.chdir(tmp_path)
    return dummy_module


@pytest.fixture
def spawn() -> Any:
    """Run dummy.py with a recipe in its own process (or under torchrun)."""

    def call(recipe: dict[str, Any], cwd: Path, processes: int = 1) -> Any:
        home = str(HERE.parent.parent)
        env = {**os.environ, "PYTHONPATH": home, "OMP_NUM_THREADS": "1"}
        launch = [sys.executable]
        if processes > 1:
            launch += ["-m", "torch.distributed.run", "--standalone"]
            launch += [f"--nproc-per-node={processes}"]
        command = [*launch, str(HERE / "dummy.py"), json.dumps(recipe)]
        return subprocess.run(
            command, cwd=cwd, env=env, capture_output=True, text=True, timeout=120
        )

    return call
