"""One job per GPU of a machine, several at once or none, released by death."""

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from vireo.errors import VireoError
from vireo.utils import gpu_lock

HOLDER = """
import sys, time
from vireo.utils.gpu_lock import first_free
with first_free(sys.argv[2:], sys.argv[1], poll_s=0.02) as index:
    print(index, flush=True)
    sys.stdin.read()
"""


def is_free(path: Path) -> bool:
    """Whether nobody holds the lock at this moment."""
    with open(path, "a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


@pytest.fixture
def hold(tmp_path):
    """Start processes that hold a lock; each tells the index it got."""
    started = []

    def start(*names):
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(tmp_path), *names],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_each_job_gets_its_own_gpu_and_death_releases_it(tmp_path, hold):
    names = ["GPU-a", "GPU-b"]
    first, second = hold(*names), hold(*names)
    assert {first.stdout.readline(), second.stdout.readline()} == {"0\n", "1\n"}
    third = hold(*names)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert third.stdout.readline() in ("0\n", "1\n")


def test_leaving_the_block_releases(tmp_path):
    for _ in range(2):
        with gpu_lock.first_free(["x"], tmp_path) as index:
            assert index == 0
            assert not is_free(tmp_path / "x.lock")
            assert (tmp_path / "x.lock").read_text() == str(os.getpid())


def test_cuda_devices_are_locked_by_uuid(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    uuids = lambda d: SimpleNamespace(uuid=f"uuid-{d.index}")  # noqa: E731
    monkeypatch.setattr(torch.cuda, "get_device_properties", uuids)
    with gpu_lock.acquire("auto", tmp_path) as one, gpu_lock.acquire("cuda", tmp_path) as two:
        assert (str(one), str(two)) == ("cuda:0", "cuda:1")
        assert {p.name for p in tmp_path.iterdir()} == {"uuid-0.lock", "uuid-1.lock"}
        monkeypatch.setenv("VIREO_TRUST_DEVICES", "1")
        with gpu_lock.acquire("cuda", tmp_path) as inside_an_allocation:
            assert str(inside_an_allocation) == "cuda:0"


def test_one_job_on_the_cpu(tmp_path, monkeypatch):
    with gpu_lock.acquire("cpu", tmp_path) as device:
        assert device.type == "cpu"
        assert not is_free(tmp_path / "cpu.lock")
        monkeypatch.setenv("VIREO_TRUST_DEVICES", "1")
        with gpu_lock.acquire("cpu", tmp_path):
            pass


def test_a_lock_folder_of_somebody_else_is_refused(tmp_path):
    target = tmp_path / "target"
    target.mkdir()
    (tmp_path / "link").symlink_to(target)
    with (
        pytest.raises(VireoError, match="TMPDIR"),
        gpu_lock.first_free(["x"], tmp_path / "link"),
    ):
        raise AssertionError("locked in a folder that another user could own")


def test_several_cards_are_held_together_or_not_at_all(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    uuid = lambda i: SimpleNamespace(uuid=f"u{i}")  # noqa: E731
    monkeypatch.setattr(torch.cuda, "get_device_properties", uuid)
    with gpu_lock.acquire_many(2, tmp_path) as held:
        assert held == ["GPU-u0", "GPU-u1"]
        waited = []

        def asked(seconds):
            # Meanwhile nothing is held of what is not enough.
            assert is_free(tmp_path / "u2.lock")
            waited.append(seconds)
            raise InterruptedError

        monkeypatch.setattr(gpu_lock.time, "sleep", asked)
        with pytest.raises(InterruptedError), gpu_lock.acquire_many(2, tmp_path):
            raise AssertionError("two of one")
        assert waited
    with gpu_lock.acquire_many(3, tmp_path) as held:
        assert len(held) == 3
    with pytest.raises(VireoError, match="4 processes"), gpu_lock.acquire_many(4, tmp_path):
        pass
