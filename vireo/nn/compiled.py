"""Kernels compiled by Numba where they run: whether that works here, their cache, their threads.

Nothing of Numba is imported until a kernel is asked for. Machine code is cached in a user folder
named after the sources and Numba's version (`VIREO_CACHE`, else `XDG_CACHE_HOME`, else
`~/.cache`); a lock lets the first of several processes compile while the others wait for its files.
Threads are Python's, with the interpreter's lock released, so there is no second thread pool of a
C library that would not survive a fork.
"""

import contextlib
import fcntl
import functools
import hashlib
import importlib.util
import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

log = logging.getLogger("vireo")

NEEDS = ("avx2", "fma")
SOURCES = ("simd.py", "scan_kernels.py", "mamba_kernels.py")


@functools.cache
def missing() -> str | None:
    """Why compiled kernels cannot be used on this machine, or None if they can."""
    if importlib.util.find_spec("numba") is None:
        return "Numba is not installed"
    try:
        import numba  # noqa: F401
        from llvmlite import binding
    except Exception as error:  # a wheel that does not fit this NumPy, or cannot be loaded
        return f"Numba cannot be imported ({error})"
    features = binding.get_host_cpu_features()
    absent = [name.upper() for name in NEEDS if not features.get(name)]
    return f"this processor has no {' or '.join(absent)}" if absent else None


@functools.cache
def folder() -> Path | None:
    """Where machine code is cached; None where no such folder can be written."""
    import numba

    digest = hashlib.sha256(numba.__version__.encode())
    for name in SOURCES:
        digest.update(Path(__file__).with_name(name).read_bytes())
    base = os.environ.get("VIREO_CACHE") or os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    path = Path(base).expanduser() / "vireo" / "kernels" / digest.hexdigest()[:16]
    try:
        path.mkdir(parents=True, exist_ok=True)
        (path / "lock").touch()
    except (OSError, RuntimeError) as error:
        log.warning("kernels are compiled in each process, %s cannot be written: %s", path, error)
        return None
    return path


class Kernel:
    """A function of flat arrays, compiled at its first call for each element type.

    Its first arguments say which part of the work a call does (see `spread`): its number, its first
    block and the one after its last. The fourth is an array with the element type of all others.
    """

    def __init__(self, function: Callable[..., None]) -> None:
        self.function, self.ready = function, set[Any]()
        self.dispatcher: Any = None
        functools.update_wrapper(self, function)

    def __call__(self, part: int, first: int, last: int, array: Any, *args: Any) -> None:
        """Run it, after compiling it or loading its machine code."""
        if array.dtype in self.ready:
            self.dispatcher(part, first, last, array, *args)
            return
        with _alone():
            self._first(part, first, last, array, *args)
        self.ready.add(array.dtype)

    def _first(self, *args: Any) -> None:
        from numba.core.errors import NumbaError

        if self.dispatcher is None:
            self.dispatcher = self._make(folder())
        try:
            self.dispatcher(*args)
        except NumbaError:
            raise
        except Exception as error:  # a full disk or damaged files must not end a run
            if folder() is None:
                raise
            log.warning("kernels are compiled anew, their cache %s fails: %r", folder(), error)
            self.dispatcher = self._make(None)
            self.dispatcher(*args)

    def _make(self, cache: Path | None) -> Any:
        import numba
        from numba.core import config

        before = config.CACHE_DIR
        try:
            if cache is not None:
                config.CACHE_DIR = str(cache)
            return numba.njit(nogil=True, error_model="numpy", cache=cache is not None)(
                self.function
            )
        finally:
            config.CACHE_DIR = before


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Hold the cache's lock; file systems without locks are used without."""
    path = folder()
    if path is None:
        yield
        return
    with open(path / "lock") as handle:
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def parts(blocks: int) -> int:
    """Into how many parts `spread` cuts so many blocks: one per thread that PyTorch may use."""
    import torch  # not at the top: the doctor asks for `missing` without it

    return max(1, min(torch.get_num_threads(), blocks))


def spread(kernel: Kernel, parts: int, blocks: int, *args: Any) -> None:
    """Run `kernel` on all blocks, a thread for each part."""
    if parts == 1:
        kernel(0, 0, blocks, *args)
        return
    cuts = [blocks * i // parts for i in range(parts + 1)]
    jobs = [_pool().submit(kernel, i, cuts[i], cuts[i + 1], *args) for i in range(1, parts)]
    kernel(0, 0, cuts[1], *args)
    for job in jobs:
        job.result()


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count(), "kernel")


# A forked process has none of its parent's threads.
os.register_at_fork(after_in_child=_pool.cache_clear)
