"""Checkpoints of a run that survive a kill at any moment.

A checkpoint is a folder `step-<n>` with what `accelerate` saves (trainable weights, optimiser,
loss scaler, generators) and `manifest.json`, which is written last and lists size and hash of
every other file. The folder is filled under a temporary name and renamed; `latest` points to it.
Reading trusts neither pointer nor folder: what does not fit its manifest is skipped.
"""

import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from vireo.errors import VireoError
from vireo.utils import files
from vireo.utils.cli import log

KEEP = 2


def lock(folder: Path) -> IO[str]:
    """Hold `folder` for this process as long as the returned file is open."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = open(folder / "lock", "a+")  # noqa: SIM115 (held open on purpose)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        handle.seek(0)
        owner = handle.read().strip() or "unknown"
        handle.close()
        raise VireoError(
            f"another process ({owner}) trains in {folder}: wait for it or end it"
        ) from error
    handle.truncate(0)
    handle.write(f"pid {os.getpid()}")
    handle.flush()
    return handle


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _number(folder: Path) -> int:
    tail = folder.name.removeprefix("step-")
    return int(tail) if tail.isdigit() else -1


def folders(root: Path) -> list[Path]:
    """Checkpoint folders under `root`, newest step first."""
    return sorted((f for f in root.glob("step-*") if _number(f) >= 0), key=_number, reverse=True)


def begin(folder: Path) -> None:
    """Make the empty temporary folder `.step-<n>`; what a kill left of others goes."""
    for old in folder.parent.glob(".step-*"):
        shutil.rmtree(old, ignore_errors=True)
    folder.mkdir(parents=True)


def finish(folder: Path, meta: dict[str, Any]) -> Path:
    """Write the manifest, put the folder in place, point to it and drop all but the last two."""
    listing = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        _sync(path)
        listing[str(path.relative_to(folder))] = {
            "size": path.stat().st_size,
            "sha256": files.sha256(path),
        }
    files.write_json(folder / "manifest.json", {"meta": meta, "files": listing})
    _sync(folder)
    root, final = folder.parent, folder.with_name(folder.name[1:])
    if final.exists():  # left truncated by an earlier run
        shutil.rmtree(final)
    os.rename(folder, final)
    _sync(root)
    files.write_text(root / "latest", final.name + "\n")
    for old in folders(root)[KEEP:]:
        shutil.rmtree(old, ignore_errors=True)
    _drop_best(root)
    return final


def _drop_best(root: Path) -> None:
    """Remove best weights that no kept checkpoint speaks of."""
    kept = [files.read_json(f / "manifest.json") for f in folders(root) if _has_manifest(f)]
    named = {(manifest["meta"].get("best") or {}).get("file") for manifest in kept}
    for path in root.glob("best-*.safetensors"):
        if path.name not in named:
            path.unlink()


def _has_manifest(folder: Path) -> bool:
    return (folder / "manifest.json").is_file()


def read(folder: Path) -> dict[str, Any]:
    """Return a checkpoint's `meta`; VireoError says what is truncated."""
    manifest = files.read_json(folder / "manifest.json", "checkpoint manifest")
    for name, known in manifest["files"].items():
        path = files.inside(folder, name)
        if not path.is_file() or path.stat().st_size != known["size"]:
            raise VireoError(f"{path} is missing or cut short")
        if files.sha256(path) != known["sha256"]:
            raise VireoError(f"{path} is damaged")
    return manifest["meta"]


def newest(root: Path) -> tuple[Path, dict[str, Any]] | None:
    """Folder and `meta` of the newest complete checkpoint; truncated ones are named in the log."""
    found = folders(root)
    pointer = root / "latest"
    if pointer.is_file():
        named = root / pointer.read_text(encoding="utf-8").strip()
        found.sort(key=lambda folder: folder != named)
    for folder in found:
        try:
            return folder, read(folder)
        except (VireoError, KeyError, TypeError, AttributeError, OSError) as error:
            log.warning("skipping truncated checkpoint %s: %s", folder.name, error)
    return None


def hooks(
    state: Callable[[], dict[str, Any]], restore: Callable[[dict[str, Any]], None], writes: bool
) -> tuple[Callable[..., None], Callable[..., None]]:
    """Return `accelerate` hooks that keep only the trainable tensors instead of whole models."""
    from safetensors.torch import load_file, save_file

    def save(models: list[Any], weights: list[Any], folder: str) -> None:
        found = state()  # every process asks: a model may be spread over them
        if writes:
            tensors = {k: v.detach().cpu().contiguous().clone() for k, v in found.items()}
            save_file(tensors, Path(folder) / "trainable.safetensors")
        weights.clear()

    def load(models: list[Any], folder: str) -> None:
        models.clear()
        restore(load_file(Path(folder) / "trainable.safetensors"))

    return save, load
