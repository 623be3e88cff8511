"""What a finished run leaves in `results/training/<recipe>/`, and how a finished run is known."""

import json
import platform
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save_file

from vireo import __version__
from vireo import config as cfg
from vireo.config import HOME
from vireo.errors import VireoError
from vireo.training import metrics_log
from vireo.utils import environment, files
from vireo.utils.redact import redact_all

if TYPE_CHECKING:
    from torch import Tensor

SHOWN_FAILURES = 1000


def digest(recipe: dict[str, Any], fingerprint: dict[str, Any], config: dict[str, Any]) -> str:
    """Key of a run: everything that decides its outcome, nothing else."""
    kept = cfg.recipe_description(config, recipe)
    return files.digest({"recipe": kept, "outside": fingerprint})


def finished(folder: Path, key: str) -> bool:
    """Whether `folder` holds this very run's outcome, whole."""
    try:
        told = files.read_sealed_json(folder / "recipe.json")
        return (
            told["digest"] == key
            and told["sha256"] == files.sha256(folder / "weights.safetensors")
            and all((folder / name).is_file() for name in ("metrics.csv", "curve.svg"))
        )
    except (VireoError, KeyError, TypeError, OSError):
        return False


def write_tensors(path: Path, tensors: "dict[str, Tensor]", about: dict[str, str]) -> None:
    """Write a `.safetensors` file atomically, everything on the CPU and contiguous."""
    plain = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    bad = [k for k, v in plain.items() if v.is_floating_point() and not v.isfinite().all()]
    if bad:
        raise VireoError(f"not writing {path}: NaN or infinity in {', '.join(bad[:5])}")
    with files.atomic(path, suffix=".safetensors", sealed=True) as tmp:
        save_file(plain, tmp, metadata={"format": "pt", **about})
        sort_metadata(tmp)


def sort_metadata(path: Path) -> None:
    """Bring the metadata in a `.safetensors` header into the order of their names, in place.

    The writer puts them in an order of chance (a hash map with a seed per process), so that equal
    weights would have different hashes.
    """
    with open(path, "r+b") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        metadata = header.pop("__metadata__")
        ordered = {"__metadata__": dict(sorted(metadata.items())), **header}
        text = json.dumps(ordered, separators=(",", ":"), ensure_ascii=False).encode()
        if len(text) > length:
            raise VireoError(f"cannot write {path}: its header is not as this version knows it")
        file.seek(8)
        file.write(text.ljust(length))


def failures(folder: Path) -> list[dict[str, Any]]:
    """Return unreadable videos met so far, once each, from the files of all processes.

    Those of validation have `split: val`.
    """
    seen: dict[tuple[str, str], dict[str, Any]] = {}
    for path in sorted(folder.glob("failures-*.jsonl")):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                entry = json.loads(line)
                seen.setdefault((str(entry["video"]), entry.get("split", "")), entry)
            except (json.JSONDecodeError, KeyError, TypeError):
                continue  # truncated by a kill; it will be met again
    return [seen[k] for k in sorted(seen)]


def publish(
    folder: Path,
    state: Path,
    name: str,
    weights: "dict[str, Tensor]",
    about: dict[str, Any],
) -> Path:
    """Write the run's files, `recipe.json` last; returns the weights' path."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / "weights.safetensors"
    told_inside = {"recipe": name, "digest": about["digest"]}
    if about.get("labels"):
        told_inside["labels"] = json.dumps(about["labels"])
    write_tensors(target, weights, told_inside)
    with files.atomic(folder / "metrics.csv") as tmp:
        shutil.copyfile(state / "metrics.csv", tmp)
    metrics_log.curve(folder / "metrics.csv", folder / "curve.svg", name)
    failed = failures(state)
    told = {
        "recipe": name,
        **about,
        "sha256": files.sha256(target),
        "failed": {"count": len(failed), "videos": failed[:SHOWN_FAILURES]},
        "git": environment.git(HOME),
        "vireo": __version__,
        "python": platform.python_version(),
        "versions": environment.versions(),
        "threads": torch.get_num_threads(),
    }
    files.write_json(folder / "recipe.json", redact_all(told), sealed=True)
    return target
