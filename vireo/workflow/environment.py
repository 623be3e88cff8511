"""What a job's shell command begins with: where Vireo lies, its configuration, its Python.

Each rule carries it as a parameter, so that another workflow that uses Vireo as a module keeps its
own commands as they are, and may use it twice with two configurations.
"""

import os
import shlex
from pathlib import Path

from vireo.utils.home import HOME, PACKAGE


def import_path(folder: str | Path = "cache/python") -> Path:
    """A folder from which `import vireo` finds this package and nothing else.

    The checkout; of an installed package a link below the working directory, because the packages
    beside it must not get into a job's environment of its own.
    """
    package = PACKAGE.resolve()
    if package.parent == HOME:
        return HOME
    link = Path(folder).resolve() / "vireo"
    if not (link.is_symlink() and link.resolve() == package):
        link.parent.mkdir(parents=True, exist_ok=True)
        new = link.with_name(f"vireo.{os.getpid()}.tmp")
        new.symlink_to(package)
        os.replace(new, link)
    return link.parent


def commands(resolved: Path, python: Path | None, trust_devices: bool = False) -> str:
    """Shell commands that set a job's environment.

    resolved: the configuration file that jobs read. python: the folder of the interpreter that jobs
    run; None when a conda, module or container environment brings its own. trust_devices: what a
    scheduler gave to a job is the job's alone, no lock is taken on it.
    """
    path = shlex.quote(str(import_path()))
    if python is not None:
        path += '"${PYTHONPATH:+:$PYTHONPATH}"'
    exports = [
        f"VIREO_HOME={shlex.quote(str(HOME))}",
        f"VIREO_CONFIG={shlex.quote(str(resolved))}",
        f"PYTHONPATH={path}",
        # Threads that spin while they wait cost more than half of the speed when cores are shared
        # (toy training with 2 threads beside another process: 0.4 steps/s, waiting quietly 1.05).
        'OMP_WAIT_POLICY="${OMP_WAIT_POLICY:-PASSIVE}"',
    ]
    if python is not None:
        exports.append(f'PATH={shlex.quote(str(python))}:"$PATH"')
    if trust_devices:
        exports.append("VIREO_TRUST_DEVICES=1")
    return f"export {' '.join(exports)};"
