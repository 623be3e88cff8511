"""Nothing that was written is computed twice: after `kill -9`, with other shards, after repairs."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from tests.e2e.world import SHORT, Place, same, settings

SLOW = (
    "def embed_video(self, clips: Tensor) -> Tensor:",
    "def embed_video(self, clips: Tensor) -> Tensor:\n        import time; time.sleep(1)",
)


def kill_everything(launcher: subprocess.Popen) -> None:
    """`kill -9` of a process and all that it started, the launcher first."""
    everything = [launcher_ := psutil.Process(launcher.pid), *launcher_.children(recursive=True)]
    for process in everything:
        try:
            process.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue
    launcher.wait()
    psutil.wait_procs(everything[1:], timeout=10)


def killed_in_mid_run(place: Place, enough: int) -> None:
    """Start the workflow and kill all of it once `enough` predictions are journalled."""
    launcher = subprocess.Popen(
        place.command(SHORT), cwd=place.folder, env=place.environment(),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    until = time.monotonic() + 200
    while place.journalled().total() < enough:
        assert launcher.poll() is None, "it finished before it could be killed"
        assert time.monotonic() < until
        time.sleep(0.05)
    kill_everything(launcher)


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_killed_workflow_goes_on_with_any_number_of_shards(
    data, finished, checkout, tmp_path
) -> None:
    slow = checkout("slow")
    model = slow / "vireo/models/viclip.py"
    assert SLOW[0] in model.read_text()
    model.write_text(model.read_text().replace(*SLOW))
    config = {**settings(data / "Video-MME", data / "tiny.safetensors"), "batch_size": 1}
    killed_in_mid_run(Place(tmp_path, config, slow), 6)

    place = Place(tmp_path, config)
    flushed = place.journalled()
    assert 6 <= flushed.total() < 24
    assert not (tmp_path / SHORT).exists()
    # Snakemake leaves its lock; it says itself how to remove it.
    locked = place.run(SHORT)
    assert locked.code != 0 and "--unlock" in locked.text
    place.make("--unlock", SHORT)
    place.make(SHORT)
    same(place.predictions(), finished.predictions())
    counts = place.journalled()
    assert set(counts.values()) == {1} and counts.total() == 24

    for shards in (3, 7):
        place.config["shards"] = shards
        done = place.make(SHORT)
        assert done.ran()["infer"] == shards
        same(place.predictions(), finished.predictions())
        assert place.journalled() == counts
    assert place.result()["metrics"] == finished.result()["metrics"]
    assert not place.leftovers()


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_killed_launcher_whose_jobs_live_on(data, finished, checkout, tmp_path) -> None:
    """Two copies of one job: the second waits for the device, then finds the first one's work."""
    slow = checkout("orphan")
    model = slow / "vireo/models/viclip.py"
    model.write_text(model.read_text().replace(*SLOW))
    config = {**settings(data / "Video-MME", data / "tiny.safetensors"), "batch_size": 1}
    place = Place(tmp_path, config, slow)
    locks = {"VIREO_TRUST_DEVICES": "0", "TMPDIR": str(tmp_path / "tmp")}
    (tmp_path / "tmp").mkdir()
    launcher = subprocess.Popen(
        place.command(SHORT), cwd=place.folder, env=place.environment(**locks),
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    until = time.monotonic() + 200
    while place.journalled().total() < 3:
        assert launcher.poll() is None and time.monotonic() < until
        time.sleep(0.05)
    children = psutil.Process(launcher.pid).children(recursive=True)
    os.kill(launcher.pid, signal.SIGKILL)
    launcher.wait()
    assert any(child.is_running() for child in children), "the job died with the launcher"
    place.make("--unlock", SHORT)
    place.make(SHORT, **locks)
    same(place.predictions(), finished.predictions())
    assert set(place.journalled().values()) == {1}


def damage(videos: Path) -> None:
    """One video of the subfolder gone, another cut in the middle."""
    (videos / "part2/film01.mp4").unlink()
    data = (videos / "part2/film03.mp4").read_bytes()
    (videos / "part2/film03.mp4").write_bytes(data[: len(data) // 2])


@pytest.mark.faults
def test_broken_videos_are_computed_once_repaired(copy, data, finished) -> None:
    place = copy()
    videos = Path(place.config["paths"]["videomme"]) / "videos"
    damage(videos)
    place.config["max_failed"] = 0.3
    place.make(SHORT)
    rows = place.predictions()
    assert rows["status"].value_counts().to_dict() == {"ok": 18, "missing": 3, "undecodable": 3}
    assert place.result()["coverage"]["ok"] == 18
    before = place.journalled()
    assert before[("001-1", "missing")] == 0 and before[("003-1", "undecodable")] == 1

    for name in ("film01.mp4", "film03.mp4"):
        whole = data / "Video-MME/videos/part2" / name
        (videos / "part2" / name).write_bytes(whole.read_bytes())
    assert set(place.make(SHORT).ran()) == {"prepare", "frames", "infer", "score"}
    same(place.predictions(), finished.predictions())
    new = place.journalled() - before
    assert set(new) == {(f"{video}-{q}", "ok") for video in ("001", "003") for q in (1, 2, 3)}
    assert set(new.values()) == {1}
    assert "Nothing to be done" in place.plan(SHORT).text


@pytest.mark.slow
def test_another_folder_for_the_data_recomputes_nothing(copy, finished, tmp_path) -> None:
    """`paths` points elsewhere, to equal files: looked at once, no prediction is made again."""
    shutil.copytree(finished.folder, tmp_path / "work")
    place = copy()
    rows = place.journalled()
    assert set(place.make(SHORT).ran()) == {"fetch", "prepare", "frames", "infer", "score"}
    assert place.journalled() == rows and rows.total() == 24
    assert "Nothing to be done" in place.plan(SHORT).text
