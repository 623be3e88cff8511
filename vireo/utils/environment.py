"""The code and the packages that a job runs with: commit of the checkout, installed versions."""

import importlib.metadata
import subprocess
from pathlib import Path
from typing import Any

PACKAGES = (
    *("torch", "torchvision", "numpy", "pandas", "pyarrow", "av", "opencv-python-headless"),
    *("pillow", "open-clip-torch", "timm", "transformers", "accelerate", "snakemake"),
)


def git(folder: Path) -> dict[str, Any] | None:
    """Commit of the checkout and whether files differ from it; None outside of a checkout."""
    try:
        # A tree unpacked inside somebody else's repository is not that repository.
        if Path(_git(folder, "rev-parse", "--show-toplevel")).resolve() != folder.resolve():
            return None
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
        return {"commit": _git(folder, "rev-parse", "HEAD"), "dirty": bool(changed)}
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    return done.stdout.strip()


def versions() -> dict[str, str | None]:
    """Installed versions of what numbers depend on, without importing any of it."""
    found: dict[str, str | None] = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found
