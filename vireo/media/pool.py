"""Supervised decoding: child processes that may crash, hang or eat memory without harm.

`decode` feeds requests to a few workers and yields one sample per request, in the order in which
they become ready. A worker that dies or is late is replaced; its video is tried once more, alone,
at the end, and then given up with the signal's name or the time limit as its error.
"""

import contextlib
import json
import mmap
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vireo.errors import VireoError
from vireo.media.decode import DecodedClip, DecodeRequest, decode_one, stat
from vireo.media.store import Store
from vireo.media.worker import receive, request_message, send
from vireo.utils.home import PACKAGE

DEFAULTS: dict[str, Any] = {
    "workers": None,
    "timeout_s": 300.0,
    "max_pixels": 40_000_000,
    "memory_mb": 4096,
}
AHEAD = 2  # requests given to a worker at a time, so that it works on while the consumer computes
START_S = 120.0  # a process that needs longer to start counts as failed


def decode(
    requests: Iterable[DecodeRequest],
    limits: dict[str, Any] | None = None,
    store: Store | str | Path | None = None,
    pixels: bool = True,
    target: str = "vireo.media.decode:decode_one",
) -> Iterator[DecodedClip]:
    """Yield exactly one sample per request, in order of completion.

    `limits`: the config's `decode` block (workers: None = this job's processors, 0 = in this
    process, unsupervised; timeout_s, max_pixels, memory_mb). `store`: read from and written to.
    `pixels=False` leaves `frames` out (to fill the store). `target` names the decoding function.
    Raises VireoError for mistakes that no video is to blame for (protocol, full disk).
    """
    limits = DEFAULTS | (limits or {})
    if store is not None and not isinstance(store, Store):
        store = Store(store, limits)
    if limits["workers"] == 0:
        yield from _here(requests, limits, store, pixels)
        return
    pool = _Pool(limits, store, pixels, target)
    try:
        yield from pool.run(iter(requests))
    finally:
        pool.close()


def _here(
    requests: Iterable[DecodeRequest], limits: dict[str, Any], store: Store | None, pixels: bool
) -> Iterator[DecodedClip]:
    for request in requests:
        sample = store.get(request, pixels) if store else None
        if sample is None:
            sample = decode_one(request, limits["max_pixels"])
            if store:
                store.put(sample)
            if not pixels:
                sample.frames = None
        yield sample


class _Worker:
    """A child process, its socket, and the requests it has been given."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.link, theirs = socket.socketpair()
        path = [str(PACKAGE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
        env = os.environ | {"PYTHONPATH": os.pathsep.join(path)}
        env |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        command = [sys.executable, "-P", "-m", "vireo.media.worker"]
        with theirs:
            self.process = subprocess.Popen(
                [*command, str(theirs.fileno()), str(os.getpid())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env=env,
            )
        self.born = time.monotonic()
        self.ready = False
        self.given: deque[tuple[int, DecodeRequest]] = deque()
        self.since: float | None = None  # when the first of `given` was started
        send(self.link, settings)

    def give(self, number: int, request: DecodeRequest) -> None:
        self.given.append((number, request))
        with contextlib.suppress(OSError):  # it has just died; its end of file tells
            send(self.link, request_message(number, request))

    def late(self, timeout: float) -> float:
        """Seconds until this worker is late; negative when it is."""
        if not self.ready:
            return self.born + START_S - time.monotonic()
        return float("inf") if self.since is None else self.since + timeout - time.monotonic()

    def end(self) -> int:
        """Kill and reap; the exit code says which signal it died of if it was dead before."""
        code = self.process.poll()
        if code is None:
            try:
                code = self.process.wait(5.0 if _closed(self.link) else 0)
            except subprocess.TimeoutExpired:
                self.process.kill()
                code = self.process.wait()
        self.link.close()
        return code


def _closed(link: socket.socket) -> bool:
    """Whether the other side of a socket is gone (then its process is about to be)."""
    try:
        return link.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


class _Pool:
    def __init__(
        self, limits: dict[str, Any], store: Store | None, pixels: bool, target: str
    ) -> None:
        self.limits, self.store, self.pixels = limits, store, pixels
        self.size = limits["workers"] or len(os.sched_getaffinity(0))
        self.settings = {
            "target": target,
            "limits": limits,
            "store": str(store.root.absolute()) if store else None,
            "pixels": pixels,
        }
        self.workers: list[_Worker] = []
        self.again: deque[tuple[int, DecodeRequest]] = (
            deque()
        )  # given to a worker that died before them
        self.suspects: deque[tuple[int, DecodeRequest, str]] = deque()  # to be tried alone
        self.ready: deque[DecodedClip] = deque()
        self.failed_starts = 0

    def run(self, requests: Iterator[DecodeRequest]) -> Iterator[DecodedClip]:
        """Feed, listen, yield, until every request has its sample."""
        numbered = enumerate(requests)
        more = True
        while True:
            more = self._feed(numbered) if more or self.again else False
            if any(w.given for w in self.workers):
                self._listen(block=not self.ready)
            elif not self.ready and not more and not self.again:
                if not self.suspects:
                    return
                self._alone(*self.suspects.popleft())
            while self.ready:
                yield self.ready.popleft()
                if any(w.given for w in self.workers):
                    break  # look after the workers between two samples

    def _feed(self, numbered: Iterator[tuple[int, DecodeRequest]]) -> bool:
        """Give out work while a worker has room; False when the requests are used up."""
        while len(self.ready) < 2:
            free = [w for w in self.workers if len(w.given) < AHEAD]
            room = len(self.workers) < self.size
            idle = [w for w in free if not w.given]
            if not free and not room:
                return True
            if self.again:
                number, request = self.again.popleft()
            else:
                try:
                    number, request = next(numbered)
                except StopIteration:
                    return False
                sample = self.store.get(request, self.pixels) if self.store else None
                if sample is None and not stat(request.path, request.kind):
                    sample = decode_one(request)  # missing: no need to ask a worker
                if sample is not None:
                    self.ready.append(sample)
                    continue
            if idle:
                idle[0].give(number, request)
            elif room:
                self.workers.append(_Worker(self.settings))
                self.workers[-1].give(number, request)
            else:
                min(free, key=lambda w: len(w.given)).give(number, request)
        return True

    def _listen(self, block: bool = True) -> None:
        """Take what the workers say; replace those that died or are late."""
        timeout = self.limits["timeout_s"]
        busy = [w for w in self.workers if w.given]
        wait = min(max(min(w.late(timeout) for w in busy), 0.0), 5.0) if block else 0.0
        links = {w.link: w for w in busy}
        told, _, _ = select.select(list(links), [], [], wait)
        for link in told:
            self._hear(links[link])
        for worker in busy:
            if worker.link not in told and worker in self.workers and worker.late(timeout) < 0:
                self._lost(worker, late=True)

    def _hear(self, worker: _Worker) -> None:
        try:
            message, fd = receive(worker.link)
        except (EOFError, OSError):
            self._lost(worker)
            return
        if "ready" in message:
            worker.ready, self.failed_starts = True, 0
        elif "started" in message:
            worker.since = message["at"]
        elif "fatal" in message:
            raise VireoError(message["fatal"])
        else:
            assert fd is not None
            _, request = worker.given.popleft()
            worker.since = None
            self.ready.append(_sample(message, fd, request))

    def _lost(self, worker: _Worker, late: bool = False) -> None:
        """A worker died or is late: suspect the video it was at, hand the others on."""
        code = worker.end()
        self.workers.remove(worker)
        if not worker.ready:
            self.failed_starts += 1
            if self.failed_starts >= 3:
                raise VireoError(
                    f"decoding processes do not start (exit code {code}); see the messages above"
                )
        elif worker.given and (late or code != 0):
            number, request = worker.given.popleft()
            if late or code == -signal.SIGALRM:
                reason = f"took longer than {self.limits['timeout_s']:g} s (decode.timeout_s)"
            else:
                reason = f"the decoder died of {_signal(code)}"
            self.suspects.append((number, request, reason))
        self.again.extend(worker.given)

    def _alone(self, number: int, request: DecodeRequest, reason: str) -> None:
        """Second and last try of a suspect, with no other video being decoded."""
        worker = _Worker(self.settings)
        self.workers.append(worker)
        worker.give(number, request)
        while worker in self.workers and worker.given:
            self._listen()
        if self.again:  # it did not even start
            self.suspects.append((*self.again.popleft(), reason))
        elif self.suspects and self.suspects[-1][0] == number:
            _, _, reason = self.suspects.pop()
            sample = DecodedClip(
                request.video,
                "undecodable",
                error=f"decoding {request.path} failed twice: {reason}",
                source=stat(request.path, request.kind),
                limit=True,
                request=request,
            )
            if self.store:
                self.store.put(sample)
            self.ready.append(sample)

    def close(self) -> None:
        """End all children."""
        for worker in self.workers:
            worker.process.kill()
        for worker in self.workers:
            worker.end()
        self.workers.clear()


def _signal(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    name = signal.Signals(-code).name
    return f"{name} (out of memory?)" if name == "SIGKILL" else name


def _sample(message: dict[str, Any], fd: int, request: DecodeRequest) -> DecodedClip:
    """A worker's answer; the frames stay in the shared memory they were written to."""
    try:
        size = os.fstat(fd).st_size
        memory = mmap.mmap(fd, size)
    finally:
        os.close(fd)
    start = size - message["facts"]
    sample = DecodedClip(**json.loads(memory[start:]))
    sample.request = request
    if message["shape"] is not None:
        sample.frames = np.frombuffer(memory, np.uint8, start).reshape(message["shape"])
    return sample
