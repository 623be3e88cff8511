"""`audit` finds nothing while the inputs are what they were, and names the one that is not."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.world import SHORT
from vireo import config as cfg
from vireo.results.audit import audit


@contextmanager
def flipped(path: Path, at: int = -3) -> Iterator[None]:
    """A byte changed at equal size, time and inode: nothing but reading the file can tell."""
    seen, whole = path.stat(), path.read_bytes()
    damaged = bytearray(whole)
    damaged[at] ^= 0x10
    for data in (bytes(damaged), whole):
        with open(path, "r+b") as file:
            file.write(data)
        os.utime(path, ns=(seen.st_atime_ns, seen.st_mtime_ns))
        if data is not whole:
            try:
                yield
            except BaseException:
                path.write_bytes(whole)
                raise


@pytest.mark.slow
def test_audit(finished, data, tmp_path, monkeypatch) -> None:
    place = tmp_path / "work"
    shutil.copytree(finished.folder, place, symlinks=True)
    monkeypatch.chdir(place)
    monkeypatch.delenv("VIREO_CONFIG", raising=False)
    config = cfg.load([place / "mine.yaml"])
    result = Path(SHORT)
    assert audit(result, config) == []
    assert audit(result, config, quick=True) == []
    with flipped(data / "tiny.safetensors"):
        assert any(line.startswith("weights ") for line in audit(result, config, quick=True))
    with flipped(next((data / "Video-MME/videomme").glob("*.parquet")), 40):
        said = audit(result, config, quick=True)
        assert any("annotations" in line or "Parquet" in line for line in said)
    film = data / "Video-MME/videos/film00.mp4"
    whole = film.read_bytes()
    seen = film.stat()
    film.write_bytes((data / "Video-MME/videos/film02.mp4").read_bytes())
    try:
        assert audit(result, config) == ["videos: 1 have other frames: film00"]
        assert audit(result, config, quick=True) == ["videos: 1 have other size or time: film00"]
    finally:
        film.write_bytes(whole)
        os.utime(film, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    table = result.with_suffix("") / "predictions.parquet"
    with flipped(table, 200):
        assert any(str(table) in line for line in audit(result, config, quick=True))
    told = json.loads(result.read_text())
    told["metrics"]["accuracy"]["value"] += 1
    result.write_text(json.dumps(told))
    assert [line.split(":")[0] for line in audit(result, config)] == ["accuracy"]
