"""Devices: one job per GPU, released by death; float32 is IEEE; out of memory halves the batch."""

import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vireo.errors import VireoError
from vireo.utils import device as D

HOLDER = """
import sys, time
from vireo.utils.device import first_free
with first_free(sys.argv[2:], sys.argv[1], poll_s=0.02) as index:
    print(index, flush=True)
    sys.stdin.read()
"""


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
        with D.first_free(["x"], tmp_path) as index:
            assert index == 0
            assert D._try_lock(tmp_path / "x.lock") is None
            assert D._holder(tmp_path / "x.lock") == str(os.getpid())


def test_cuda_devices_are_locked_by_uuid(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    uuids = lambda d: SimpleNamespace(uuid=f"uuid-{d.index}")  # noqa: E731
    monkeypatch.setattr(torch.cuda, "get_device_properties", uuids)
    with D.acquire("auto", tmp_path) as one, D.acquire("cuda", tmp_path) as two:
        assert (str(one), str(two)) == ("cuda:0", "cuda:1")
        assert {p.name for p in tmp_path.iterdir()} == {"uuid-0.lock", "uuid-1.lock"}
        monkeypatch.setenv("VIREO_TRUST_DEVICES", "1")
        with D.acquire("cuda", tmp_path) as inside_an_allocation:
            assert str(inside_an_allocation) == "cuda:0"


def test_one_job_on_the_cpu(tmp_path, monkeypatch):
    with D.acquire("cpu", tmp_path) as device:
        assert device.type == "cpu"
        assert D._try_lock(tmp_path / "cpu.lock") is None
        monkeypatch.setenv("VIREO_TRUST_DEVICES", "1")
        with D.acquire("cpu", tmp_path):
            pass


def test_a_lock_folder_of_somebody_else_is_refused(tmp_path):
    target = tmp_path / "target"
    target.mkdir()
    (tmp_path / "link").symlink_to(target)
    with pytest.raises(VireoError, match="TMPDIR"):
        D._lock_folder(tmp_path / "link")


def test_words_for_devices_and_dtypes(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert D.resolve_device("auto") == "cpu"
    with pytest.raises(VireoError, match="no GPU"):
        D.resolve_device("cuda")
    with pytest.raises(VireoError, match="did you mean 'cuda'"):
        D.resolve_device("cuda0")
    assert D.dtype("bfloat16") is torch.bfloat16
    with pytest.raises(VireoError, match="did you mean 'float16'"):
        D.dtype("float_16")


def test_float32_is_ieee_unless_tf32_is_asked_for():
    for tf32 in (True, False):
        D.set_precision(tf32)
        assert torch.backends.cuda.matmul.allow_tf32 is tf32
        assert torch.backends.cudnn.allow_tf32 is tf32


@pytest.mark.parametrize(
    "error,expected",
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (MemoryError(), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("shapes do not match"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_counts_as_out_of_memory(error, expected):
    assert D.is_out_of_memory(error) is expected


@settings(max_examples=25)
@given(st.integers(0, 40), st.integers(1, 20), st.integers(1, 20))
def test_backing_off_keeps_every_item_once_and_in_order(n, size, fits):
    calls = []

    def double(batch):
        calls.append(len(batch))
        if len(batch) > fits:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [2 * x for x in batch]

    batches = D.AdaptiveBatcher(size)
    assert batches.run(double, range(n)) == [2 * x for x in range(n)]
    assert len([c for c in calls if c > fits]) <= 5  # halved, not counted down
    if n >= size > fits:
        assert batches.size <= fits  # and remembered
    assert batches.run(double, range(n)) == [2 * x for x in range(n)]


def test_an_item_that_never_fits_is_an_error():
    def full(batch):
        raise MemoryError

    with pytest.raises(MemoryError):
        D.AdaptiveBatcher(8).run(full, [1, 2, 3])


def test_other_errors_pass_through():
    def broken(batch):
        raise RuntimeError("shapes")

    with pytest.raises(RuntimeError, match="shapes"):
        D.AdaptiveBatcher(8).run(broken, [1, 2, 3])
