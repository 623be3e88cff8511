"""GPUs of one machine, handed out by a lock per GPU UUID in a node-local folder.

The kernel releases a lock when its process dies, however it dies. On the CPU one inference job runs
at a time. Inside a scheduler's allocation (`VIREO_TRUST_DEVICES=1`, set by the slurm profile) the
visible devices are the job's already and no lock is taken.
"""

import fcntl
import logging
import os
import stat
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vireo.errors import VireoError
from vireo.utils.device import resolve_device

log = logging.getLogger("vireo")


@contextmanager
def acquire(wanted: str = "auto", folder: str | Path | None = None) -> Iterator[Any]:
    """Hold one device during the block and yield it (`torch.device`); waits while all are taken.

    `folder` (for tests) replaces the node-local lock folder.
    """
    import torch

    if resolve_device(wanted) == "cpu":
        names, devices = ["cpu"], [torch.device("cpu")]
    else:
        devices = [torch.device("cuda", i) for i in range(torch.cuda.device_count())]
        names = [str(torch.cuda.get_device_properties(d).uuid) for d in devices]
    if os.environ.get("VIREO_TRUST_DEVICES") == "1":
        yield devices[0]
        return
    with first_free(names, folder) as index:
        yield devices[index]


@contextmanager
def first_free(
    names: Sequence[str], folder: str | Path | None = None, poll_s: float = 0.5
) -> Iterator[int]:
    """Lock the first free of `names` on this machine and yield its index; waits for one."""
    root = _lock_folder(folder)
    paths = [root / f"{name}.lock" for name in names]
    told = False
    while (held := next(_locked(paths), None)) is None:
        if not told:
            holders = (f"{p.stem} by process {_holder(p)}" for p in paths)
            log.info("waiting for a device: %s", ", ".join(holders))
            told = True
        time.sleep(poll_s)
    index, fd = held
    try:
        yield index
    finally:
        os.close(fd)


@contextmanager
def acquire_many(
    count: int, folder: str | Path | None = None, poll_s: float = 0.5
) -> Iterator[list[str]]:
    """Lock `count` GPUs of this machine at once and yield their UUIDs; waits until they are free.

    All or none, so that two jobs that want several cannot wait for each other for ever. VireoError
    when the machine has fewer.
    """
    import torch

    names = [
        str(torch.cuda.get_device_properties(i).uuid) for i in range(torch.cuda.device_count())
    ]
    if len(names) < count:
        raise VireoError(
            f"{count} processes on GPUs were asked for, but only {len(names)} are seen"
        )
    root = _lock_folder(folder)
    while True:
        held: list[tuple[str, int]] = []
        for name in names:
            if len(held) < count and (fd := _try_lock(root / f"{name}.lock")) is not None:
                held.append((name, fd))
        if len(held) == count:
            break
        for _, fd in held:
            os.close(fd)
        time.sleep(poll_s)
    try:
        yield [name if name.startswith("GPU-") else f"GPU-{name}" for name, _ in held]
    finally:
        for _, fd in held:
            os.close(fd)


def _lock_folder(folder: str | Path | None) -> Path:
    root = Path(folder or Path(tempfile.gettempdir()) / f"vireo-gpu-locks-{os.getuid()}")
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = root.lstat()
    # The temporary folder is shared by all users of the machine: nobody else may own our locks.
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise VireoError(f"{root} belongs to somebody else; set TMPDIR to a folder of your own")
    return root


def _locked(paths: Sequence[Path]) -> Iterator[tuple[int, int]]:
    for index, path in enumerate(paths):
        fd = _try_lock(path)
        if fd is not None:
            yield index, fd


def _try_lock(path: Path) -> int | None:
    # Not inheritable (Python's default): decoding processes that outlive us must not hold it.
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    os.ftruncate(fd, 0)
    os.pwrite(fd, str(os.getpid()).encode(), 0)
    return fd


def _holder(path: Path) -> str:
    return path.read_text(errors="replace").strip() or "?"
