"""Shared settings: one thread for torch, a skip with its reason where a part is absent."""

import logging
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
from hypothesis import settings

# In .ci/run a missing part is a failure, not a skip (GPU excepted).
STRICT = os.environ.get("VIREO_CI") == "1"
# There the same examples each time: new ones are found by who runs the tests, not by who lands.
settings.register_profile("vireo", derandomize=STRICT, deadline=None)
settings.load_profile("vireo")
BROWSER_FLAGS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)


def _missing(marker: str) -> str | None:
    if marker == "gpu":
        import torch

        return None if torch.cuda.is_available() else "no CUDA device"
    if marker == "java":
        from vireo.metrics import coco

        return coco.missing()
    if marker == "slurm":
        return None if shutil.which("sbatch") else "sbatch is not on PATH (Debian: slurm-wlm)"
    if marker == "browser":
        found = shutil.which("chromium") or shutil.which("google-chrome")
        return None if found else "no chromium on PATH (Debian: chromium)"
    return None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip marked tests whose part is absent; slow and faults run only when asked for by -m."""
    asked = config.getoption("-m") or ""
    reasons: dict[str, str | None] = {}
    for item in items:
        for marker in ("gpu", "java", "slurm", "browser"):
            if item.get_closest_marker(marker) is None:
                continue
            if marker not in reasons:
                reasons[marker] = _missing(marker)
            reason = reasons[marker]
            if reason and not (STRICT and marker != "gpu"):
                item.add_marker(pytest.mark.skip(reason=reason))
        for marker in ("slow", "faults", "slurm"):
            if item.get_closest_marker(marker) and marker not in asked:
                item.add_marker(pytest.mark.skip(reason=f"{marker}: run with -m {marker}"))


@pytest.fixture(autouse=True, scope="session")
def _one_torch_thread() -> None:
    """Spin-waiting threads of several processes on few cores cost more than they bring."""
    import sys

    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture
def vireo(capsys: pytest.CaptureFixture[str]) -> Iterator[Callable[..., Any]]:
    """`vireo COMMAND …` in this process: a function of the arguments that returns what it printed.

    The log goes to the captured stderr as it would to a terminal; its handlers are put back.
    """
    from vireo.commands import main

    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def call(*arguments: object) -> subprocess.CompletedProcess[str]:
        capsys.readouterr()
        code = main([os.fspath(a) if isinstance(a, os.PathLike) else str(a) for a in arguments])
        out = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, code, out.out, out.err)

    yield call
    root.handlers[:], root.level = handlers, level


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, for tests marked so; without playwright they are skipped."""
    sync_api = pytest.importorskip("playwright.sync_api")
    path = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=BROWSER_FLAGS.split())
        yield opened
        opened.close()
