"""The frame store: one lossless uint8 .safetensors per video and protocol, with its facts inside.

`frames` [N,H,W,3], `indices` [N], `times` [N]; the header's metadata says what was read (path,
size, mtime), how it went (status, flags, error) and guards the pixels with a checksum. A stored
answer is used only while the source file is unchanged; a damaged file is simply made again. Failed
videos are kept too, without frames, so that they are tried again only when the file changes.
"""

import hashlib
import json
import zlib
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from vireo.errors import VireoError
from vireo.media import reader, resize
from vireo.media.decode import DecodedClip, DecodeRequest, stat
from vireo.media.video import ENGINE
from vireo.utils.files import atomic, digest


def spec(rule: dict[str, Any], size: dict[str, Any] | None) -> dict[str, Any]:
    """What decides the pixels of a stored answer, apart from the source file."""
    rule = {k: v for k, v in rule.items() if k != "store"}
    return {
        "rule": {**rule, "reader": reader.of(rule).resolved()},
        "resize": size,
        "engine": ENGINE,
    }


def spec_key(rule: dict[str, Any], size: dict[str, Any] | None) -> str:
    """Folder name of a protocol's frames under cache/frames."""
    return digest(spec(rule, size))


def stored(protocol: dict[str, Any]) -> bool:
    """Whether a protocol's frames go through the store: asked for, and small (resized before)."""
    wanted = bool(protocol.get("frames", {}).get("store"))
    return wanted and resize.storable(protocol.get("resize"))


class Store:
    """Stored frames under `root` (cache/frames); requests find their protocol's folder in it."""

    def __init__(self, root: str | Path, limits: dict[str, Any] | None = None) -> None:
        self.root = Path(root)
        # Answers that failed at a limit are valid only while that limit stands.
        self.limits = {k: v for k, v in (limits or {}).items() if k != "workers"}

    def path(self, request: DecodeRequest) -> Path:
        """File of a request's answer. Ids are quoted, so none can leave the folder."""
        name = quote(request.video, safe=" @+=,").replace(".", "%2E")
        span = [None if s is None or s != s else float(s) for s in (request.start, request.end)]
        if any(s is not None for s in span):
            name += f"@{span[0]}-{span[1]}"
        short = hashlib.sha256(name.encode()).hexdigest()
        if len(name) > 150:
            name = f"{name[:120]}~{short[:16]}"
        return (
            self.root / spec_key(request.rule, request.resize) / short[:2] / f"{name}.safetensors"
        )

    def get(self, request: DecodeRequest, pixels: bool = True) -> DecodedClip | None:
        """The stored answer, or None if there is none, it is damaged, or the source has changed."""
        path = self.path(request)
        try:
            with safe_open(path, "np") as file:
                facts = json.loads(file.metadata()["vireo"])
                indices, times = file.get_tensor("indices"), file.get_tensor("times")
                if facts.get("digest") not in (None, _digest(facts, indices, times)):
                    return None
                now = stat(request.path, request.kind)
                if not now or any(facts["source"].get(k) != now[k] for k in ("size", "mtime_ns")):
                    return None
                if facts["limit"] and facts["limits"] != self.limits:
                    return None
                frames = None
                if facts["status"] == "ok" and pixels:
                    frames = file.get_tensor("frames")
                    if zlib.crc32(frames) != facts["crc32"]:
                        return None
        except (OSError, SafetensorError, KeyError, ValueError, TypeError):
            return None
        return DecodedClip(
            request.video,
            facts["status"],
            frames=frames,
            indices=indices.tolist(),
            times=times.tolist(),
            flags=facts["flags"],
            error=facts["error"],
            source=now,
            seconds=facts["seconds"],
            from_store=True,
            limit=facts["limit"],
            info=facts["info"],
            request=request,
        )

    def put(self, sample: DecodedClip) -> None:
        """Keep an answer (not `missing`, which is no property of a file); atomic.

        Raises VireoError when the disk is full or not writable.
        """
        assert sample.request is not None
        if sample.status == "missing":
            return
        frames = sample.frames
        if frames is None:
            frames = np.zeros((0, 0, 0, 3), np.uint8)
        frames = np.ascontiguousarray(frames)
        facts = {
            "video": sample.video,
            "status": sample.status,
            "flags": sample.flags,
            "error": sample.error,
            "source": sample.source,
            "seconds": round(sample.seconds, 4),
            "info": sample.info,
            "spec": spec(sample.request.rule, sample.request.resize),
            "crc32": zlib.crc32(frames.data),
            "limit": sample.limit,
            "limits": self.limits,
        }
        tensors = {
            "frames": frames,
            "indices": np.array(sample.indices, np.int64),
            "times": np.array(sample.times, np.float64),
        }
        facts["digest"] = _digest(facts, tensors["indices"], tensors["times"])
        path = self.path(sample.request)
        try:
            with atomic(path) as tmp:
                save_file(tensors, tmp, metadata={"vireo": json.dumps(facts, ensure_ascii=False)})
        except SafetensorError as error:  # its way to say that the disk is full
            raise VireoError(
                f"cannot write {path}: {error}; make room and run the same command again"
            ) from error


def _digest(facts: dict[str, Any], indices: np.ndarray, times: np.ndarray) -> str:
    """Guards everything but the pixels, which `crc32` guards."""
    kept = {name: value for name, value in facts.items() if name != "digest"}
    return digest([json.loads(json.dumps(kept)), indices.tolist(), times.tolist()])


def estimate(
    videos: int, rule: dict[str, Any], size: dict[str, Any] | None, picture: tuple[int, int]
) -> int:
    """Bytes for `videos` answers; `picture` = (height, width) of the videos, for native size."""
    frames = int(rule.get("n") or rule.get("most") or 32)
    return videos * (frames * resize.bytes_per_frame(size, *picture) + 4096)
