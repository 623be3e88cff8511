"""A script of scripts/ in this process, where a test asks for texts and exit codes only.

An interpreter that starts and imports anew takes a second to five; that each script starts by
itself is shown by the workflow's tests.
"""

import importlib.util
import io
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import chdir, contextmanager, redirect_stderr, redirect_stdout
from functools import cache
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any
from unittest import mock

from vireo.utils import cli

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"


@cache
def load(name: str) -> Any:
    """The module of a script."""
    spec = importlib.util.spec_from_file_location(f"script_{name}", SCRIPTS / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    before = sys.path[:]
    spec.loader.exec_module(module)
    sys.path[:] = before
    return module


@contextmanager
def log_handlers() -> Iterator[None]:
    """What a script's log setting changes is put back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        yield
    finally:
        root.handlers[:], root.level = handlers, level


def run(name: str, *arguments: object, cwd: Path | None = None) -> CompletedProcess[str]:
    """What `python scripts/NAME.py ARGUMENTS` prints and its exit code, without VIREO_CONFIG."""
    argv = [f"{name}.py", *map(str, arguments)]
    out, err = io.StringIO(), io.StringIO()
    with (
        chdir(cwd or Path.cwd()),
        mock.patch.object(sys, "argv", argv),
        mock.patch.dict(os.environ),
        log_handlers(),
        redirect_stdout(out),
        redirect_stderr(err),
    ):
        os.environ.pop("VIREO_CONFIG", None)
        try:
            code = cli.call(load(name).main)
        except SystemExit as ended:  # argparse
            code = int(ended.code or 0)
    return CompletedProcess(argv, code, out.getvalue(), err.getvalue())
