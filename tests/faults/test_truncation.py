"""Power-cut-like truncation of every intermediate file, then the same command: the same result."""

import random
import shutil
from pathlib import Path

import pytest

from tests.e2e.world import SHORT, Place, same

INTERMEDIATE = (
    *("data/receipts/*.json", "cache/config/*.json", "cache/hashes.json"),
    *("cache/items/*.parquet", "cache/frames/**/*.safetensors"),
    *("cache/shards/**/*.frames.json", "cache/shards/**/*.parquet"),
    *("cache/predictions/*/*.jsonl", "results/*/*.json", "results/*/*/*.*"),
)


def files(place: Place) -> list[Path]:
    """Every file that a run makes, logs and Snakemake's own apart."""
    found = [path for pattern in INTERMEDIATE for path in sorted(place.folder.glob(pattern))]
    rest = {p for p in place.folder.rglob("*") if p.is_file()} - set(found)
    rest = {p.relative_to(place.folder).parts for p in rest}
    rest = {p for p in rest if p[0] not in (".snakemake", "logs", "mine.yaml")}
    assert all(".locks" in parts for parts in rest), "an intermediate file is not tried here"
    return found


def damage(path: Path, rng: random.Random) -> None:
    """Cut at a random point, or a length that is there and a content that is not."""
    data = path.read_bytes()
    at = rng.randrange(max(1, len(data) - 2))
    path.write_bytes(data[:at] + (b"\0" * (len(data) - at) if rng.random() < 0.3 else b""))


@pytest.mark.faults
@pytest.mark.parametrize("seed", range(6))
def test_everything_torn_at_once(finished, tmp_path, seed) -> None:
    """All intermediate files at random points; every second time some of them."""
    shutil.copytree(finished.folder, tmp_path / "work", symlinks=True)
    place, rng = Place(tmp_path / "work", finished.config), random.Random(seed)
    for path in files(place):
        if seed % 2 == 0 or rng.random() < 0.4:
            damage(path, rng)
    # What hides behind whole results is used too.
    for path in place.folder.glob("cache/shards/*/*/*/1-of-1.parquet"):
        path.unlink()
    intact = place.journalled()
    place.make(SHORT)
    same(place.predictions(), finished.predictions())
    assert place.result()["metrics"] == finished.result()["metrics"]
    # What could still be read of the journal was not computed again.
    assert set(place.journalled().values()) == {1} and place.journalled() >= intact
    assert "Nothing to be done" in place.plan(SHORT).text


@pytest.mark.faults
@pytest.mark.parametrize("pattern", INTERMEDIATE)
def test_one_kind_torn(finished, tmp_path, pattern) -> None:
    shutil.copytree(finished.folder, tmp_path / "work", symlinks=True)
    place, rng = Place(tmp_path / "work", finished.config), random.Random(pattern)
    for path in sorted(place.folder.glob(pattern)):
        damage(path, rng)
    rows = place.journalled()
    place.make(SHORT)
    if pattern != "results/*/*/*.*":  # exports and tables beside a result are not looked into
        same(place.predictions(), finished.predictions())
    assert place.result()["metrics"] == finished.result()["metrics"]
    assert place.journalled() == rows, "something was computed again"
