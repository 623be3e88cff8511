"""Where Vireo's files lie that are no Python: Snakefile, rules/, config/, scripts/, envs/."""

import shlex
from pathlib import Path

import vireo

PACKAGE = Path(vireo.__path__[0])


def home() -> Path:
    """The checkout that holds the package, or what a wheel installs as `vireo/share`."""
    package = PACKAGE.resolve()
    installed = package / "share"
    return installed if installed.is_dir() else package.parent


HOME = home()

# Where Snakemake looks for a workflow by itself.
SNAKEFILES = ("Snakefile", "snakefile", "workflow/Snakefile", "workflow/snakefile")


def snakemake(*arguments: str) -> str:
    """A call of the workflow that works when typed in the working directory."""
    found = any(Path(name).is_file() for name in SNAKEFILES)
    where = [] if found else ["-s", str(HOME / "Snakefile")]
    return shlex.join(["snakemake", *arguments, *where])


def script(name: str, *arguments: str) -> str:
    """A call of a rule's script that works when typed in the working directory."""
    path = HOME / f"scripts/{name}.py"
    if Path.cwd() == HOME:
        path = path.relative_to(HOME)
    return shlex.join(["python", str(path), *arguments])
