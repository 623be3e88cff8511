"""Compiled kernels start safely: cache, several processes, damaged files, forks, missing parts."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from vireo.nn import compiled

needs_numba = pytest.mark.skipif(compiled.missing() is not None, reason=compiled.missing() or "")
HOME = Path(__file__).parents[2]

# Two kernels on two element types; prints results and how many were loaded from the cache.
KERNELS = """
import numpy as np
from vireo.nn.compiled import Kernel
from vireo.nn.simd import load, store

@Kernel
def double(part, first, last, x, y):
    for i in range(first, last):
        store(y, 32 * i, load(x, 32 * i) + load(x, 32 * i))

@Kernel
def square(part, first, last, x, y):
    for i in range(first, last):
        store(y, 32 * i, load(x, 32 * i) * load(x, 32 * i))

if __name__ == "__main__":
    totals = []
    for kernel in (double, square):
        for dtype in (np.float32, np.float64):
            x = np.arange(64, dtype=dtype)
            y = np.zeros_like(x)
            kernel(0, 0, 2, x, y)
            totals.append(y.sum())
    hits = sum(sum(k.dispatcher.stats.cache_hits.values()) for k in (double, square))
    print(*totals, hits)
"""


@pytest.fixture
def kernels(tmp_path: Path) -> Path:
    """A module of kernels: what is cached has to come from a file."""
    path = tmp_path / "kernels.py"
    path.write_text(KERNELS)
    return path


def run(cache: Path, *command: str | Path) -> tuple[str, str]:
    """(output, errors) of a process that has its kernels' cache in a folder."""
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, timeout=280, cwd=HOME,
        env={**os.environ, "VIREO_CACHE": str(cache), "PYTHONPATH": str(HOME)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout, done.stderr


RESULTS = "4032.0 4032.0 85344.0 85344.0 "


@needs_numba
def test_two_processes_compile_once_and_damaged_files_are_survived(
    tmp_path: Path, kernels: Path
) -> None:
    cache = tmp_path / "a cache"
    with ThreadPoolExecutor() as pool:
        ran = list(pool.map(lambda _: run(cache, kernels), range(2)))
    assert all(out.startswith(RESULTS) and not errors for out, errors in ran)
    # Each of the four was compiled by one of them and loaded by the other.
    assert sum(int(out.split()[-1]) for out, _ in ran) == 4
    files = [*cache.rglob("*.nbi"), *cache.rglob("*.nbc")]
    assert len(files) == 6  # two indexes, four codes
    for path in files:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    out, errors = run(cache, kernels)
    assert out == RESULTS + "0\n"
    assert "compiled anew" in errors and str(cache) in errors


@needs_numba
def test_a_folder_that_cannot_be_written_is_no_obstacle(tmp_path: Path, kernels: Path) -> None:
    (tmp_path / "file").touch()
    out, errors = run(tmp_path / "file", kernels)
    assert out == RESULTS + "0\n" and "cannot be written" in errors


FORKED = """
import os, torch
from vireo.nn import compiled, scan
torch.set_num_threads(2)
x = [torch.randn(1, 1, 30, 128), torch.randn(1, 1, 30, 128), -torch.rand(1, 128, 4),
     torch.randn(1, 1, 30, 4), torch.randn(1, 1, 30, 4)]
want, _ = scan.selective_scan(*x, backend="numba")
assert compiled._pool.cache_info().currsize == 1  # there were threads
child = os.fork()
if child == 0:
    again, _ = scan.selective_scan(*x, backend="numba")
    os._exit(0 if torch.equal(again, want) else 3)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
import multiprocessing
with multiprocessing.get_context("fork").Pool(2) as pool:
    again, _ = scan.selective_scan(*x, backend="numba")
    print(sum(pool.map(abs, range(5))), torch.equal(again, want))
"""


@needs_numba
def test_forks_after_the_kernels_ran_are_safe() -> None:
    cache = os.environ.get("VIREO_CACHE") or os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    assert run(Path(cache), "-c", FORKED)[0] == "10 True\n"


@needs_numba
def test_threads_follow_pytorch_and_change_nothing(monkeypatch) -> None:
    seen = []
    kernel = compiled.Kernel.__call__
    monkeypatch.setattr(
        compiled.Kernel, "__call__", lambda self, *a: (seen.append(a[:3]), kernel(self, *a))[1]
    )
    from vireo.nn import scan

    x = [torch.randn(2, 1, 30, 160), torch.randn(2, 1, 30, 160), -torch.rand(2, 160, 4),
         torch.randn(2, 1, 30, 4), torch.randn(2, 1, 30, 4)]  # fmt: skip
    outputs = []
    for threads in (1, 2, 3, 64):
        monkeypatch.setattr(torch, "get_num_threads", lambda n=threads: n)
        outputs.append(scan.selective_scan(*x, backend="numba")[0])
        parts = sorted(seen)
        seen.clear()
        assert len(parts) == min(threads, 5)
        assert [p[0] for p in parts] == list(range(len(parts)))
        assert parts[0][1] == 0 and parts[-1][2] == 5
        assert all(a[2] == b[1] for a, b in pairwise(parts))
    assert all(torch.equal(outputs[0], other) for other in outputs[1:])


def test_an_error_in_a_thread_is_raised(monkeypatch) -> None:
    def kernel(part: int, first: int, last: int) -> None:
        if part == 1:
            raise ValueError("in part 1")

    with pytest.raises(ValueError, match="in part 1"):
        compiled.spread(kernel, 2, 2)  # type: ignore[arg-type]


def test_what_is_missing_has_a_name(monkeypatch) -> None:
    find = compiled.importlib.util.find_spec
    monkeypatch.setattr(
        compiled.importlib.util, "find_spec", lambda name: None if name == "numba" else find(name)
    )
    assert compiled.missing.__wrapped__() == "Numba is not installed"
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "numba", None)  # as a wheel that does not fit this NumPy
    monkeypatch.setattr(compiled.importlib.util, "find_spec", lambda name: object())
    assert "Numba cannot be imported" in compiled.missing.__wrapped__()


@needs_numba
def test_a_processor_without_avx2_gets_pytorch(monkeypatch) -> None:
    from llvmlite import binding

    monkeypatch.setattr(binding, "get_host_cpu_features", lambda: {"avx": True, "fma": True})
    assert compiled.missing.__wrapped__() == "this processor has no AVX2"
    monkeypatch.setattr(binding, "get_host_cpu_features", dict)
    assert compiled.missing.__wrapped__() == "this processor has no AVX2 or FMA"


def test_the_cache_is_another_when_sources_or_numba_change(tmp_path: Path, monkeypatch) -> None:
    numba = pytest.importorskip("numba")
    monkeypatch.setenv("VIREO_CACHE", str(tmp_path))
    first = compiled.folder.__wrapped__()
    assert first.parent == tmp_path / "vireo" / "kernels"
    monkeypatch.setattr(numba, "__version__", "0.0")
    assert compiled.folder.__wrapped__() != first
    monkeypatch.undo()
    monkeypatch.setenv("VIREO_CACHE", str(tmp_path))
    copy = tmp_path / "nn"
    copy.mkdir()
    for name in compiled.SOURCES:
        (copy / name).write_bytes(Path(compiled.__file__).with_name(name).read_bytes())
    monkeypatch.setattr(compiled, "__file__", str(copy / "compiled.py"))
    assert compiled.folder.__wrapped__() == first
    (copy / "simd.py").write_text("LANES = 8\n")
    assert compiled.folder.__wrapped__() != first
