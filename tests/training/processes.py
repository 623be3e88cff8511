"""Runs of the dummy task in processes of their own, which may be killed.

They are forked from a server that has imported torch once, and not started by an interpreter
each: imports are most of the time of such a run. Their loader workers come from the same server.
`torchrun` itself is tested where scripts/train.py starts it.
"""

import multiprocessing
import os
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["torch", "accelerate", "vireo.training.loop", "tests.training.dummy"])
LIMIT_S = 240


@dataclass
class Done:
    """How a run ended: exit status (negative: the signal) and what it wrote to stderr."""

    returncode: int
    stderr: str


def run_dummy(recipe: dict[str, Any], cwd: Path, rank: dict[str, str], err: Path) -> None:
    """Train in this process, as `python dummy.py` would."""
    from tests.training import dummy
    from vireo.training import loop
    from vireo.utils import cli

    os.chdir(cwd)
    os.environ.update(rank)
    handle = os.open(err, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    loop.load = lambda name: dummy.KINDS[name]  # type: ignore[assignment]
    cli.setup()
    cli.run(lambda: loop.train("dummy", recipe, {"device": "cpu"}, 1) and None)


def spawn(recipe: dict[str, Any], cwd: Path, processes: int = 1) -> Done:
    """Run the recipe in `cwd` on so many processes; when one dies the others are ended."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    err = cwd / f"stderr-{time.monotonic_ns()}.txt"
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(processes)}
    started = []
    for number in range(processes):
        rank = {**meeting, "RANK": str(number), "LOCAL_RANK": str(number)} if processes > 1 else {}
        started.append(FORKS.Process(target=run_dummy, args=(recipe, cwd, rank, err)))
        started[-1].start()
    until = time.monotonic() + LIMIT_S
    while (left := [p for p in started if p.is_alive()]) and time.monotonic() < until:
        if any(p.exitcode for p in started):
            break
        left[0].join(0.05)
    for process in left:
        process.kill()
    for process in started:
        process.join()
    codes = [p.exitcode for p in started if p.exitcode]
    text = err.read_text() if err.exists() else ""
    return Done(int(codes[0]) if codes else 0, text)
