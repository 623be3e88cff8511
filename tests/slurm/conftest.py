"""A SLURM cluster of three nodes on this machine for the tests of this folder."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import checkout, data  # noqa: F401 (fixtures)
from tests.slurm import queue

SCRIPT = Path(__file__).with_name("cluster.sh")


@pytest.fixture(scope="session")
def cluster(tmp_path_factory) -> Iterator[Path]:
    """The cluster's folder; taken down whatever happens."""
    if os.getuid() != 0:
        pytest.skip("the throw-away cluster needs root")
    root = tmp_path_factory.mktemp("cluster")
    try:
        done = subprocess.run([SCRIPT, "up", root], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        yield root
    finally:
        subprocess.run([SCRIPT, "down", root], timeout=60)


@pytest.fixture(autouse=True)
def no_launcher_left() -> Iterator[None]:
    """A launcher that a failed test left behind would go on submitting jobs."""
    yield
    while queue.launched:
        process = queue.launched.pop()
        process.kill()
        process.wait()
