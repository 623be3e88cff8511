"""`snakemake demo_all`: every toy model is trained here and reaches what it should."""

import subprocess
import sys

import pytest

from tests import check_demo
from tests.e2e.world import HOME


@pytest.mark.slow  # trains all toy models: the better part of an hour on two cores
def test_all_toy_models_reach_their_targets(tmp_path) -> None:
    command = [sys.executable, "-m", "snakemake", "-s", str(HOME / "Snakefile"), "--cores", "all"]
    subprocess.run([*command, "demo_all"], cwd=tmp_path, check=True)
    assert check_demo.problems_of_all(tmp_path / "results") == []
