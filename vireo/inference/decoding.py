"""Decoded samples of the stretches of video that a job looks at; no torch here."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vireo.inference.pending import ClipTask
from vireo.media import pool, resize
from vireo.media.decode import DecodeRequest
from vireo.media.store import Store, stored

FRAMES = Path("cache/frames")


def decoded(
    due: Sequence[ClipTask], protocol: dict[str, Any], settings: dict[str, Any]
) -> Iterator[tuple[ClipTask, Any]]:
    """Each task with its decoded sample, in the order of completion."""
    rule = {k: v for k, v in protocol["frames"].items() if k != "store"}
    size = resize.before_store(protocol.get("resize"))
    store = Store(FRAMES, settings) if stored(protocol) else None
    by_span = {work.span: work for work in due}
    requests = [DecodeRequest(w.span[0], w.path, w.kind, rule, size, *w.span[1:]) for w in due]
    for sample in pool.decode(requests, settings, store):
        asked = sample.request
        assert asked is not None
        yield by_span[asked.video, asked.start, asked.end], sample


def checksum(frames: np.ndarray) -> str:
    """Digest of decoded frames, uint8 [N,H,W,3]: what a prediction has seen of a file."""
    told = hashlib.sha256(repr(frames.shape).encode())
    told.update(np.ascontiguousarray(frames).data)
    return told.hexdigest()[:16]
