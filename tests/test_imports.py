"""Who imports whom: no circle of files, and nobody reaches for another file's private names.

The order of the rooms is a contract in pyproject.toml (`lint-imports`). Imports inside functions
count here as there; those for type checkers only count too.
"""

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

HOME = Path(__file__).resolve().parents[1]


def module_name(path: Path) -> str:
    """`vireo.media` for vireo/media/__init__.py."""
    parts = path.relative_to(HOME).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def sources(folder: str) -> dict[str, ast.Module]:
    """Module name -> syntax tree of every file of a folder."""
    paths = sorted((HOME / folder).rglob("*.py"))
    return {module_name(path): ast.parse(path.read_text()) for path in paths}


def imported(tree: ast.Module) -> Iterator[tuple[str, str]]:
    """Full dotted name and the name it is bound to, of every import anywhere in a file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, alias.asname or alias.name.split(".")[0]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports are not used here"
            for alias in node.names:
                yield f"{node.module}.{alias.name}", alias.asname or alias.name


def edges(trees: dict[str, ast.Module]) -> dict[str, set[str]]:
    """Module -> modules of the same trees that it imports."""
    found: dict[str, set[str]] = {}
    for name, tree in trees.items():
        targets = set()
        for full, _ in imported(tree):
            target = full if full in trees else full.rpartition(".")[0]
            if target in trees and target != name:
                targets.add(target)
        found[name] = targets
    return found


def test_no_circle_of_files() -> None:
    try:
        TopologicalSorter(edges(sources("vireo"))).prepare()
    except CycleError as error:
        pytest.fail(f"files import each other in a circle: {' <- '.join(error.args[1])}")


def test_a_circle_is_noticed() -> None:
    trees = {
        "a": ast.parse("def f():\n    from b import x\n"),
        "b": ast.parse("if TYPE_CHECKING:\n    import a\n"),
    }
    with pytest.raises(CycleError):
        TopologicalSorter(edges(trees)).prepare()


def is_private(name: str) -> bool:
    """Whether a name begins with one underscore."""
    return name.startswith("_") and not name.startswith("__")


def root_name(node: ast.expr) -> str | None:
    """`a` of `a.b(c).d`; None where an expression begins with no name."""
    while not isinstance(node, ast.Name):
        if isinstance(node, ast.Attribute | ast.Subscript):
            node = node.value
        elif isinstance(node, ast.Call):
            node = node.func
        else:
            return None
    return node.id


def private_uses(module: str, tree: ast.Module) -> Iterator[str]:
    """Names of other files' private parts in this one: imported, as attribute or given as text.

    Names bound to packages of others are left out; `self._x` and `cls._x` are a class's own.
    """
    home, foreign = module.rpartition(".")[0], {"self", "cls"}
    for full, bound in imported(tree):
        if full.split(".")[0] not in ("vireo", "scripts", "tests"):
            foreign.add(bound)
            continue
        parts = full.split(".")
        first = next((n for n, part in enumerate(parts) if is_private(part)), None)
        if first is None:
            continue
        # Files of one folder may share a module with an underscore, but no name with one.
        if ".".join(parts[:first]) != home or any(map(is_private, parts[first + 1 :])):
            yield full
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            inherited = ast.unparse(node.value).startswith("super(")
            if not inherited and root_name(node.value) not in foreign:
                yield f"{ast.unparse(node)} (line {node.lineno})"
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("setattr", "patch")):
            texts = [a.value for a in node.args if isinstance(a, ast.Constant)]
            for text in texts:
                if isinstance(text, str) and any(map(is_private, text.split("."))):
                    yield f"{text} (line {node.lineno})"


@pytest.mark.parametrize("folder", ["vireo", "scripts", "bench", "tests"])
def test_private_names_stay_in_their_file(folder: str) -> None:
    found = [
        f"{module}: {use}"
        for module, tree in sources(folder).items()
        for use in private_uses(module, tree)
    ]
    assert not found, "make it public with a docstring or use what is:\n" + "\n".join(found)


@pytest.mark.parametrize(
    ("code", "used"),
    [
        ("from vireo.media.video import _scan", True),
        ("from vireo.media import _secret", True),
        ("from vireo.nn import _shared", False),  # a module with an underscore in the same folder
        ("from vireo.nn._shared import name", False),
        ("from vireo.media import video\nvideo._scan()", True),
        ("import os\nos._exit(1)", False),
        ("def test(task):\n    task._loss()", True),
        ("monkeypatch.setattr(video, '_scan', None)", True),
        ("class A:\n    def f(self):\n        return self._x, super()._y", False),
    ],
)
def test_what_counts_as_private(code: str, used: bool) -> None:
    assert bool(list(private_uses("vireo.nn.module", ast.parse(code)))) is used
