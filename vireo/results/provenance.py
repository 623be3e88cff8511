"""Where a number comes from: code, hashes, versions, machine, time; secrets redacted."""

import os
import platform
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd

import vireo
from vireo.config import HOME
from vireo.utils import environment
from vireo.utils.files import digest, read_sealed_json, sha256
from vireo.utils.redact import redact_all


def collect(
    config: dict[str, Any],
    *,
    weights: str | Path | None,
    items: pd.DataFrame,
    videos: pd.DataFrame,
    shards: list[dict[str, Any]],
    started: float,
    sources: dict[str, str] | None = None,
    predictions: Path | None = None,
) -> dict[str, Any]:
    """Everything about a result that is not the result.

    weights: receipt (.json) or weights file, None for random weights. shards: what each predictions
    file says it was made with (`vireo.tables.predictions.info`). started: `time.time()` at first.
    sources: role -> artifact of the benchmark's data. predictions: the file beside the result.
    """
    return redact_all(
        {
            "git": environment.git(HOME),
            "vireo": vireo.__version__,
            "python": platform.python_version(),
            "versions": environment.versions(),
            "hashes": {
                "weights": _same(shards, "weights") or weights_hash(weights),
                **_files(shards),
                "sources": source_hashes(sources or {}),
                "predictions": sha256(predictions) if predictions else None,
                "annotations": table_hash(items, ("id", "video", "options", "answer", "question")),
                "videos": table_hash(videos, ("video", "kind", "size", "status")),
                "config": digest({k: v for k, v in config.items() if k != "paths"}, 64),
            },
            "machine": {"platform": platform.platform(), "cores": os.cpu_count()},
            "device": _same(shards, "device"),
            "dtype": _same(shards, "dtype"),
            "decoder": f"PyAV {environment.versions()['av']}",
            "key": shards[0].get("key") if shards else None,
            "inference": [_brief(s) for s in shards],
            "command": shlex.join([Path(sys.executable).name, *sys.argv]),
            "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
            "wall_s": round(time.time() - started, 2),
            "inference_s": round(sum(_seconds(s) for s in shards), 2),
            "gpu_hours": round(sum(_seconds(s) for s in shards if _on_gpu(s)) / 3600, 4),
        }
    )


def _files(shards: list[dict[str, Any]]) -> dict[str, Any]:
    """`files`: role -> hash of what stood beside the weights (vocabulary, answer dictionary)."""
    roles = {role for shard in shards for role in (shard.get("key", {}).get("files") or {})}
    held = [shard.get("key", {}).get("files") or {} for shard in shards]
    found = {role: _same(held, role) for role in sorted(roles)}
    return {"files": found} if found else {}


def weights_hash(path: str | Path | None) -> dict[str, Any] | None:
    """File name -> sha256 of the weights: from the receipt, or of the file itself."""
    if path is None:
        return None
    path = Path(path)
    if path.suffix != ".json":
        return {path.name: sha256(path)}
    receipt = read_sealed_json(path, "receipt")
    files = receipt.get("files", {})
    return {name: facts.get("sha256") for name, facts in sorted(files.items())}


def source_hashes(sources: dict[str, str]) -> dict[str, dict[str, str]]:
    """Artifact -> file -> sha256 of the annotation files that a benchmark's receipts list."""
    found = {}
    for artifact in sorted(set(sources.values())):
        path = Path("data/receipts") / f"{artifact}.json"
        if path.exists():
            listed = read_sealed_json(path, "receipt").get("files", {})
            hashes = {name: facts.get("sha256") for name, facts in sorted(listed.items())}
            found[artifact] = {name: value for name, value in hashes.items() if value}
    return found


def table_hash(table: pd.DataFrame, columns: tuple[str, ...]) -> str:
    """Hash of a table's content in these columns, whatever the file format and row order.

    Paths and modification times differ between machines, so they are not among the columns.
    """
    chosen = table[[c for c in columns if c in table]].itertuples(index=False)
    each = sorted(
        digest([str(v) if pd.api.types.is_scalar(v) else list(v) for v in row], 32)
        for row in chosen
    )
    return digest(each, 64)


def _same(shards: list[dict[str, Any]], name: str) -> Any:
    """What all shards say under `name`, in their summary or their key; several are listed."""
    said = [s[name] if s.get(name) is not None else s.get("key", {}).get(name) for s in shards]
    values = sorted({str(v) for v in said if v is not None})
    return values[0] if len(values) == 1 else values or None


def _brief(shard: dict[str, Any]) -> dict[str, Any]:
    """A shard's summary without the description of its key, which the result holds once."""
    return {k: v for k, v in shard.items() if k != "key"}


def _seconds(shard: dict[str, Any]) -> float:
    return float(shard.get("seconds") or 0.0)


def _on_gpu(shard: dict[str, Any]) -> bool:
    return "cpu" not in str(shard.get("device") or "cpu").lower()
