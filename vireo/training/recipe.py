"""What a recipe's block says: sections with defaults, where its sources lie, its first weights.

Paths are relative to the working directory.
"""

from pathlib import Path
from typing import Any

from vireo.errors import VireoError, unknown
from vireo.fetch import receipt
from vireo.media.pool import DEFAULTS as DECODE
from vireo.utils import home, seal


def checked(given: dict[str, Any], defaults: dict[str, Any], what: str) -> dict[str, Any]:
    """`given` over `defaults`; VireoError for a key that is not among these."""
    for key in given:
        if key not in defaults:
            raise unknown(f"key of {what}", key, defaults)
    return {**defaults, **given}


def settings(recipe: dict[str, Any], section: str, defaults: dict[str, Any]) -> dict[str, Any]:
    """A section of a recipe with defaults; VireoError for keys that the task does not know."""
    return checked(recipe.get(section) or {}, defaults, f"{section} (task {recipe['task']})")


def demand_family(recipe: dict[str, Any], family: str) -> None:
    """VireoError when a recipe's task is given another family than it trains."""
    if recipe["family"] != family:
        raise VireoError(f"task {recipe['task']} trains family {family}, not {recipe['family']}")


def decoding(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration's `decode` block with defaults."""
    return {**DECODE, **(config.get("decode") or {})}


def receipt_of(artifact: str) -> Path:
    """Where rule fetch or toy says what it got."""
    return Path("data/receipts") / f"{artifact}.json"


def root_of(artifact: str) -> Path:
    """The artifact's folder."""
    return Path(receipt.read(receipt_of(artifact))["root"])


def list_of(artifact: str) -> Path:
    """The artifact's folder, or the very file that `paths` names."""
    return receipt.place(receipt_of(artifact))


def source(recipe: dict[str, Any], role: str) -> Path:
    """Folder of the artifact that a recipe names under `sources`."""
    sources = recipe.get("sources") or {}
    if role not in sources:
        raise unknown("role of a source", role, sources, "(recipe: sources)")
    return root_of(sources[role])


def init_file(recipe: dict[str, Any]) -> Path | None:
    """The weights that a recipe's `init` names; VireoError when they are not there."""
    init = recipe.get("init") or {}
    if name := init.get("recipe"):
        path = Path("results/training") / name / "weights.safetensors"
        if not path.is_file():
            raise VireoError(
                f"recipe {name} is not here yet ({path}): run "
                f"`{home.snakemake(str(path))}`, or `{home.script('train', name)}`"
            )
        return path
    if name := init.get("artifact"):
        return receipt.only_file(receipt_of(name), init.get("file"))
    return None


def init_hash(recipe: dict[str, Any]) -> dict[str, str]:
    """`{"init": sha256}` of the weights a run starts from, for its fingerprint; {} without."""
    weights = init_file(recipe)
    if weights is None:
        return {}
    value = receipt.hash_of(weights)
    seal.check(weights, value)
    return {"init": value}
