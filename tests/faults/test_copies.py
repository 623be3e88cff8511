"""Two copies of one job, and two people in one folder: right results, nothing half-written."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.e2e.world import SHORT, Place, same
from vireo.inference import journal
from vireo.tables import predictions

HOLD = (
    "def embed_video(self, clips: Tensor) -> Tensor:",
    """def embed_video(self, clips: Tensor) -> Tensor:
        import pathlib, time
        while pathlib.Path("hold").exists() and list(pathlib.Path("cache/predictions").glob("*/*")):
            time.sleep(0.05)
""",
)


def holding(checkout) -> Path:
    """A checkout whose model waits, once something is journalled, until the file `hold` goes."""
    home = checkout("holding")
    model = home / "vireo/models/viclip.py"
    assert HOLD[0] in model.read_text()
    model.write_text(model.read_text().replace(*HOLD))
    return home


def wait(condition, *processes: subprocess.Popen) -> None:
    until = time.monotonic() + 90
    while not condition():
        assert time.monotonic() < until
        assert all(process.poll() is None for process in processes)
        time.sleep(0.05)


@pytest.fixture
def started(finished, tmp_path) -> Place:
    """A place where frames are decoded and no prediction has been made."""
    shutil.copytree(finished.folder, tmp_path / "work", symlinks=True)
    place = Place(tmp_path / "work", finished.config | {"batch_size": 1})
    for folder in ("cache/predictions", "results", "logs"):
        shutil.rmtree(place.folder / folder)
    for file in place.folder.glob("cache/shards/*/*/*/*.parquet"):
        file.unlink()
    (place.folder / "hold").touch()
    return place


@pytest.mark.faults
def test_two_copies_of_a_shard_at_once(started, finished, checkout) -> None:
    """What a resubmitted cluster job does: no lock, both compute, both write the same file."""
    home, place = holding(checkout), started
    place.command()
    items = place.folder / "cache/items/videomme.parquet"
    out = place.folder / "cache/shards/tiny/videomme/short/1-of-1.parquet"
    command = [
        *(sys.executable, str(home / "scripts/infer.py"), "tiny", "videomme", "--split", "short"),
        *("--items", str(items), "--videos", str(items.with_suffix(".videos.parquet"))),
        *("--weights", "data/receipts/tiny_weights.json", "--out", str(out)),
        *("--config", "mine.yaml", "--threads", "1"),
    ]

    def start() -> subprocess.Popen:
        return subprocess.Popen(
            command, cwd=place.folder, env=place.environment(), text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    files = lambda: list(place.folder.glob("cache/predictions/*/*.jsonl"))  # noqa: E731
    first = start()
    wait(lambda: len(files()) == 1 and sum(1 for _ in journal.rows_of(files()[0])), first)
    second = start()
    # Its model is loaded and it has read the journal once its first video waits.
    time.sleep(8)
    assert first.poll() is None and second.poll() is None
    (place.folder / "hold").unlink()
    said = [process.communicate(timeout=120)[0] for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), said
    assert len(files()) == 2
    for file in files():
        lines = file.read_bytes().splitlines()
        assert len(list(journal.rows_of(file))) == len(lines) - 1, "a truncated line"
    rows = predictions.read(out).set_index("id").sort_index()
    same(rows, finished.predictions())
    counts = place.journalled()
    assert len(counts) == 24 and max(counts.values()) == 2
    assert not place.leftovers()
    place.make(SHORT)
    same(place.predictions(), finished.predictions())


@pytest.mark.faults
def test_two_people_ask_for_the_same_target(started, finished, checkout) -> None:
    home, place = holding(checkout), Place(started.folder, started.config)
    slow = Place(place.folder, place.config, home)
    first = subprocess.Popen(
        slow.command(SHORT), cwd=slow.folder, env=slow.environment(),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    wait(lambda: list(place.folder.glob("cache/predictions/*/*.jsonl")), first)
    second = place.run(SHORT)
    assert second.code != 0 and "cannot be locked" in second.text
    (place.folder / "hold").unlink()
    assert first.wait(120) == 0
    same(place.predictions(), finished.predictions())
    assert set(place.journalled().values()) == {1}
    assert "Nothing to be done" in place.plan(SHORT).text
