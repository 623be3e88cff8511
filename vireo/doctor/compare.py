"""Two copies of a data set: the same, or differing in what.

Files are matched by path; a common top folder does not matter. Sizes are compared first; equal
sizes are then proved by sha256 up to `whole` bytes, beyond that by the first, middle and last
megabyte, which is said.
"""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from vireo.errors import VireoError
from vireo.utils.cli import Progress

WHOLE = 1 << 28
PIECE = 1 << 20
SHOWN = 10
# What systems leave in folders, and our own notes.
LITTER = (".DS_Store", "Thumbs.db", "desktop.ini", ".vireo", ".cache", ".git", "__MACOSX")


@dataclass
class Comparison:
    """Relative paths by what is wrong with them; `probed` were not read as a whole."""

    only_a: list[str] = field(default_factory=list)
    only_b: list[str] = field(default_factory=list)
    sizes: list[tuple[str, int, int]] = field(default_factory=list)
    contents: list[str] = field(default_factory=list)
    equal: int = 0
    probed: int = 0

    @property
    def same(self) -> bool:
        """Whether nothing differs."""
        return not (self.only_a or self.only_b or self.sizes or self.contents)


def compare(a: str | Path, b: str | Path, whole: int = WHOLE) -> Comparison:
    """Compare two folders or two files. VireoError when one is not there or holds nothing."""
    first, second = _tree(Path(a)), _tree(Path(b))
    if len(first) == len(second) == 1 and Path(a).is_file() and Path(b).is_file():
        second = {next(iter(first)): next(iter(second.values()))}
    result = Comparison(sorted(first.keys() - second.keys()), sorted(second.keys() - first.keys()))
    both = sorted(first.keys() & second.keys())
    with Progress(len(both), "compare", "file") as bar:
        for name in both:
            sizes = first[name].stat().st_size, second[name].stat().st_size
            if sizes[0] != sizes[1]:
                result.sizes.append((name, *sizes))
            elif _mark(first[name], whole) != _mark(second[name], whole):
                result.contents.append(name)
            else:
                result.equal += 1
                result.probed += sizes[0] > whole
            bar.update()
    return result


def _tree(root: Path) -> dict[str, Path]:
    root = root.expanduser()
    if root.is_file():
        return {root.name: root}
    if not root.is_dir():
        raise VireoError(f"{root} does not exist")
    found = {
        path.relative_to(root).as_posix(): path
        for path in root.rglob("*")
        if path.is_file() and not set(path.relative_to(root).parts) & set(LITTER)
    }
    if not found:
        raise VireoError(f"{root} holds no files")
    while len(tops := {name.split("/", 1)[0] for name in found}) == 1 and all(
        "/" in name for name in found
    ):
        top = len(next(iter(tops))) + 1
        found = {name[top:]: path for name, path in found.items()}
    return found


def _mark(path: Path, whole: int) -> str:
    size = path.stat().st_size
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        if size <= whole:
            while chunk := handle.read(PIECE):
                digest.update(chunk)
        else:
            for place in (0, size // 2, size - PIECE):
                handle.seek(max(place, 0))
                digest.update(handle.read(PIECE))
    return digest.hexdigest()


def text(found: Comparison) -> str:
    """The comparison for a terminal."""
    lines = ["the same" if found.same else "different"]
    if found.equal:
        how = f", {found.probed} large ones by three probes each" if found.probed else ""
        lines.append(f"  {found.equal} files are equal (sha256{how})")
    parts = (
        ("only in the first", found.only_a),
        ("only in the second", found.only_b),
        ("another size", [f"{n}: {x} and {y} bytes" for n, x, y in found.sizes]),
        ("same size, other content", found.contents),
    )
    for what, names in parts:
        if names:
            lines.append(f"  {what}: {len(names)}")
            lines += [f"    {name}" for name in names[:SHOWN]]
            lines += [f"    … and {len(names) - SHOWN} more"] * (len(names) > SHOWN)
    return "\n".join(lines)
