"""One decoding process: takes requests from a socket, answers through memory shared by descriptor.

Started by vireo.media.pool as a plain Python process (no fork of a threaded parent, no re-import of
its main module). Messages are length-prefixed JSON; pixels are written once into an anonymous file
whose descriptor travels with the message, so that nothing is left behind whoever is killed.
"""

import contextlib
import importlib
import json
import os
import resource
import signal
import socket
import struct
import sys
import tempfile
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

HEADER = struct.Struct("!IB")  # length of the JSON text, number of descriptors


def send(link: socket.socket, message: dict[str, Any], fd: int | None = None) -> None:
    """Send one message, with a descriptor if given."""
    text = json.dumps(message).encode()
    header = HEADER.pack(len(text), fd is not None)
    if fd is None:
        link.sendall(header + text)
    else:
        socket.send_fds(link, [header], [fd])
        link.sendall(text)


def receive(link: socket.socket) -> tuple[dict[str, Any], int | None]:
    """One message and its descriptor; EOFError when the other side is gone."""
    header, fds, _, _ = socket.recv_fds(link, HEADER.size, 1)
    if not header:
        raise EOFError
    header += _exactly(link, HEADER.size - len(header))
    length, _ = HEADER.unpack(header)
    return json.loads(_exactly(link, length)), fds[0] if fds else None


def _exactly(link: socket.socket, count: int) -> bytes:
    parts = []
    while count:
        part = link.recv(min(count, 1 << 20))
        if not part:
            raise EOFError
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def _anonymous(size: int) -> int:
    """Descriptor of an unnamed file in memory (on disk where the system has no memfd)."""
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create("frames")
    else:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.truncate(fd, size)
    return fd


def _limit_memory(megabytes: int) -> None:
    """Allow so much address space beyond what the imports took; no core files of crashes."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError, ValueError):
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * os.sysconf("SC_PAGE_SIZE") + megabytes * 1024 * 1024
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _die_with(parent: int) -> None:
    """End when the parent is gone, also in the middle of a video."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def main(fd: int, parent: int) -> None:
    """Serve requests until the socket closes."""
    link = socket.socket(fileno=fd)
    _die_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    settings, _ = receive(link)
    module, name = settings["target"].split(":")
    take = getattr(importlib.import_module(module), name)
    from vireo.errors import VireoError
    from vireo.media.decode import DecodedClip, DecodeRequest, stat
    from vireo.media.store import Store

    limits = settings["limits"]
    store = Store(settings["store"], limits) if settings["store"] else None
    _limit_memory(limits["memory_mb"])
    send(link, {"ready": os.getpid()})
    while True:
        try:
            message, _ = receive(link)
        except EOFError:
            return
        request = DecodeRequest(**message["request"])
        send(link, {"started": message["n"], "at": time.monotonic()})
        # Should this process hang with its parent gone or busy, the kernel's clock still ends it.
        signal.alarm(int(limits["timeout_s"] * 1.5) + 5)
        full = False
        try:
            try:
                sample = take(request, limits["max_pixels"])
            except MemoryError:
                full = True
                sample = DecodedClip(
                    request.video,
                    "undecodable",
                    error=f"decoding {request.path} needs more than {limits['memory_mb']} MB"
                    " (decode.memory_mb)",
                    source=stat(request.path, request.kind),
                    limit=True,
                    request=request,
                )
            if store is not None:
                store.put(sample)
        except VireoError as error:
            send(link, {"fatal": str(error)})
            return
        finally:
            signal.alarm(0)
        _answer(link, message["n"], sample, settings["pixels"])
        if full:
            return  # a process that has met its limit is not trusted with the next video


def _answer(link: socket.socket, number: int, sample: Any, pixels: bool) -> None:
    facts = json.dumps(sample.facts()).encode()
    frames = sample.frames if pixels else None
    size = 0 if frames is None else frames.nbytes
    fd = _anonymous(size + len(facts))
    try:
        with open(fd, "wb", buffering=0, closefd=False) as file:
            for part in (b"" if frames is None else frames.data.cast("B"), facts):
                left = memoryview(part)
                while left:  # one call writes at most 2 GB
                    left = left[file.write(left) :]
        shape = None if frames is None else list(frames.shape)
        send(link, {"done": number, "shape": shape, "facts": len(facts)}, fd)
    finally:
        os.close(fd)


def request_message(number: int, request: Any) -> dict[str, Any]:
    """How a request travels to a worker."""
    return {"n": number, "request": asdict(request)}


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
