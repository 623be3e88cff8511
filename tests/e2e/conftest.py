"""One small world for all end-to-end tests; what a test changes, it changes in a copy."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e import world


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    """Folder with the small Video-MME and tiny.safetensors; read only."""
    root = tmp_path_factory.mktemp("world")
    world.make(root / "Video-MME")
    world.weights(root / "tiny.safetensors")
    return root


@pytest.fixture(scope="session")
def finished(data, tmp_path_factory) -> world.Place:
    """A working directory where the short split has been scored; read only."""
    place = world.Place(
        tmp_path_factory.mktemp("finished"),
        world.settings(data / "Video-MME", data / "tiny.safetensors"),
    )
    place.make(world.SHORT)
    return place


@pytest.fixture
def copy(data, tmp_path) -> Callable[[], world.Place]:
    """A new place with a copy of the data that may be damaged."""

    def make() -> world.Place:
        shutil.copytree(data, tmp_path / "data")
        config = world.settings(tmp_path / "data/Video-MME", tmp_path / "data/tiny.safetensors")
        return world.Place(tmp_path / "work", config)

    return make


@pytest.fixture(scope="session")
def checkout(tmp_path_factory) -> Callable[[str], Path]:
    """Copies of this checkout, without its tests, that a test may edit."""

    def make(name: str) -> Path:
        listing = subprocess.run(
            ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
            cwd=world.HOME, capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        names = [n for n in listing.split("\0") if n and not n.startswith("tests/")]
        home = tmp_path_factory.mktemp("checkouts") / name
        for file in names:
            if (world.HOME / file).is_file():
                (home / file).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(world.HOME / file, home / file)
        return home

    return make
