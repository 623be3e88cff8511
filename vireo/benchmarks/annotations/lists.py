"""Which file of a folder is the list: the documented name, else the only candidate.

A folder that holds several candidates is an error, never a guess: the first in the alphabet was the
list of another release often enough.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from vireo.errors import VireoError
from vireo.utils.files import sha256

SHOWN = 6


def chosen(root: Path, documented: Sequence[str], patterns: Sequence[str], what: str) -> Path:
    """The list in `root`; `root` itself when it is a file (`paths` may name one).

    documented: file names, tried in order. patterns: what else may be a list, tried in order. Equal
    copies of one file are one candidate. VireoError when there is none, or several.
    """
    if root.is_file():
        return root
    for name in (*documented, *patterns):
        found = _distinct(root.rglob(name))
        if len(found) == 1:
            return found[0]
        if found:
            shown = ", ".join(str(path.relative_to(root)) for path in found[:SHOWN])
            more = f", … ({len(found)} in all)" if len(found) > SHOWN else ""
            raise VireoError(
                f"{root}: several files may be the {what}: {shown}{more}. Name the one in `paths` "
                "(config/config.yaml), or in the benchmark's `options: {list: FILE}`"
            )
    names = " or ".join(dict.fromkeys((*documented, *patterns)))
    raise VireoError(f"no {what} in {root}: expected {names}")


def companion(path: Path, names: Iterable[str]) -> Path | None:
    """A further file of a list: next to it, else the shallowest below its folder."""
    for name in names:
        found = sorted(path.parent.rglob(name), key=lambda p: (len(p.parts), str(p)))
        if found:
            return found[0]
    return None


def _distinct(paths: Iterable[Path]) -> list[Path]:
    """Files that differ in content, the shallowest of equal ones; hidden folders are left out."""
    files = [p for p in paths if p.is_file() and not any(x.startswith(".") for x in p.parts[1:])]
    files.sort(key=lambda path: (len(path.parts), path))
    if len(files) < 2:
        return files
    once: dict[tuple[int, str], Path] = {}
    for path in files:
        once.setdefault((path.stat().st_size, sha256(path)), path)
    return list(once.values())
