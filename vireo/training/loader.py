"""Micro-batches from loader processes that may die or hang without harm to the run.

Each worker notes the file it works on. When a worker is killed (a decoder's crash, memory) or late,
its file is put on the run's list of crashing files, treated as unreadable from then on, and the
loader starts anew at the same micro-batch.
"""

import json
import os
import re
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from vireo.errors import VireoError
from vireo.training import Batch, Samples, Task
from vireo.training import recipe as blocks
from vireo.training.data import Once, Order
from vireo.utils.cli import log

POLL_S = 2.0  # how soon a dead worker is noticed
_note: int | None = None  # in a loader worker: descriptor of the file that says what it works on


@contextmanager
def working_on(what: str) -> Iterator[None]:
    """Note in a loader worker that `what` (a video's path) is being read; else do nothing."""
    if _note is not None:
        os.pwrite(_note, what.encode(), 0)
        os.ftruncate(_note, len(what.encode()))
    yield
    if _note is not None:
        os.ftruncate(_note, 0)


def _start_worker(folder: Path, _: int) -> None:
    global _note
    torch.set_num_threads(1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _note = os.open(folder / str(os.getpid()), os.O_RDWR | os.O_CREAT | os.O_TRUNC)


class _Keyed(Dataset):  # type: ignore[type-arg]
    """Map-style view of a task's samples, keyed by (epoch, index)."""

    def __init__(self, samples: Samples) -> None:
        self.samples = samples

    def __getitem__(self, key: tuple[int, int]) -> Any:
        return self.samples.sample(*key)


class ResilientLoader:
    """All micro-batches of a process, in order, from micro-batch `order.start` on."""

    def __init__(
        self,
        task: Task,
        samples: Samples,
        order: Order | Once,
        state: Path,
        workers: int = 0,
        pin: bool = False,
        timeout_s: float = 300.0,
    ) -> None:
        self.task, self.samples, self.order, self.state = task, samples, order, state
        self.workers, self.pin, self.timeout_s = workers, pin, timeout_s
        self.notes = state / f"workers-{order.cut.rank}"
        for path in sorted(state.glob("crashing-*.jsonl")):
            for line in path.read_text(encoding="utf-8").splitlines():
                entry = json.loads(line)
                samples.exclude(entry["file"], entry["error"])

    def _loader(self) -> Iterator[Batch]:
        shutil.rmtree(self.notes, ignore_errors=True)
        extra: dict[str, Any] = {}
        if self.workers:
            self.notes.mkdir(parents=True)
            extra = {
                "prefetch_factor": 4,
                "worker_init_fn": partial(_start_worker, self.notes),
                "timeout": min(POLL_S, self.timeout_s),
            }
        batches: Iterator[Batch] = iter(
            DataLoader(
                _Keyed(self.samples),
                batch_sampler=self.order,
                num_workers=self.workers,
                collate_fn=self.task.collate,
                pin_memory=self.pin,
                generator=torch.Generator(),  # the loader's own draw must not move the step's
                **extra,
            )
        )
        if self.workers and threading.current_thread() is threading.main_thread():
            # Torch's handler would raise wherever we are, even inside an optimiser step; a dead
            # worker is noticed as well when its batch is asked for.
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        return batches

    def __iter__(self) -> Iterator[Batch]:
        while True:
            batches, asked = self._loader(), time.monotonic()
            while True:
                try:
                    batch = next(batches, None)
                except RuntimeError as error:
                    early = time.monotonic() - asked < self.timeout_s
                    if "timed out" in str(error) and early:
                        continue  # everybody is alive, and there is time left
                    blamed = self.find_culprits(str(error))
                    if not blamed:
                        raise
                    self._remember(blamed)
                    break
                if batch is None:
                    shutil.rmtree(self.notes, ignore_errors=True)
                    return
                self.order.start += 1
                yield batch
                asked = time.monotonic()
            del batches

    def find_culprits(self, error: str) -> dict[str, str]:
        """File -> reason, for the workers that died or are late ({}: not a worker's death)."""
        dead = re.search(r"worker \(pid(?:\(s\))? ([\d, ]+)\)", error)
        late = "timed out" in error
        if not self.workers or not (dead or late):
            return {}
        pids = set(re.findall(r"\d+", dead[1])) if dead else set()
        blamed = {}
        for note in self.notes.iterdir():
            what = note.read_text(encoding="utf-8", errors="replace")
            slow = late and time.time() - note.stat().st_mtime > self.timeout_s / 2
            if what and (note.name in pids or slow):
                reason = f"no answer in {self.timeout_s:g} s" if slow else "its reader was killed"
                blamed[what] = reason
                if slow:  # a worker that is stopped would not hear a gentler signal
                    os.kill(int(note.name), signal.SIGKILL)
        if not blamed:
            raise VireoError(f"a loader worker died while it read no file: {error}")
        return blamed

    def _remember(self, blamed: dict[str, str]) -> None:
        path = self.state / f"crashing-{self.order.cut.rank}.jsonl"
        with open(path, "a", encoding="utf-8") as out:
            for file, error in blamed.items():
                log.warning("%s: %s; going on without it", file, error)
                self.samples.exclude(file, error)
                out.write(json.dumps({"file": file, "error": error}) + "\n")


def single_pass(
    task: Task, samples: Samples, recipe: dict[str, Any], config: dict[str, Any], size: int
) -> Iterator[Batch]:
    """All samples in batches of `size`, read as in training: by the recipe's `workers`, if any."""
    with tempfile.TemporaryDirectory() as folder:
        yield from ResilientLoader(
            task,
            samples,
            Once(len(samples), size),
            Path(folder),
            workers=int(recipe.get("workers", 0)),
            timeout_s=float(blocks.decoding(config)["timeout_s"]),
        )
