"""Pictures for the README and docs, from a working directory where the toy runs are finished.

`python scripts/screenshots.py --work DIR` writes docs/report.png, docs/paper.png and docs/duet.png
with a headless Chromium; a picture whose run is not there is left out and said. Needs playwright
and a `chromium` (or google-chrome) on PATH.
"""

import argparse
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from vireo import config as cfg
from vireo.errors import VireoError
from vireo.toy.mmduet import QUESTION
from vireo.utils import cli
from vireo.utils.cli import log

SIZE = {"width": 1180, "height": 820}
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")
# Picture -> first of these pages that is there.
PAGES = {"report.png": ("report.html",), "paper.png": ("toy.html", "viclip.html", "sqa3d.html")}
DUET = "results/training/toy_mmduet/weights.safetensors"
PORT = 7869
WATCH_S = 90.0


def main() -> int:
    """Parse the command line and take the pictures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", default=".", type=Path, metavar="DIR")
    parser.add_argument("--out", default=cfg.HOME / "docs", type=Path, metavar="DIR")
    cli.add_common(parser)
    args = parser.parse_args()
    cli.setup(args.log)
    args.out.mkdir(parents=True, exist_ok=True)
    with browser() as opened:
        for name, choices in PAGES.items():
            found = [p for c in choices if (p := args.work / "results" / c).exists()]
            if found:
                page(opened, found[0], args.out / name)
            else:
                log.warning("%s: no %s in %s/results", name, " or ".join(choices), args.work)
        if (args.work / DUET).exists():
            duet(opened, args.work, args.out / "duet.png")
        else:
            log.warning("duet.png: no %s in %s", DUET, args.work)
    return 0


@contextmanager
def browser() -> Iterator[Any]:
    """A headless Chromium; VireoError when there is none."""
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        raise VireoError("no chromium on PATH (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield opened
        opened.close()


def page(opened: Any, file: Path, out: Path) -> None:
    """The top of a page."""
    view = opened.new_page(viewport=SIZE, color_scheme="light")
    view.goto(file.resolve().as_uri())
    view.screenshot(path=str(out))
    view.close()
    log.info("%s", out)


def duet(opened: Any, work: Path, out: Path) -> None:
    """The live demo after it has watched its example video."""
    command = [sys.executable, "-m", "vireo", "serve", "toy_mmduet"]
    server = subprocess.Popen(
        [*command, "--port", str(PORT), "--device", "cpu"],
        cwd=work,
        env={**os.environ, "VIREO_TRUST_DEVICES": "1", "PYTHONPATH": str(cfg.HOME)},
    )  # fmt: skip
    try:
        url = f"http://127.0.0.1:{PORT}/"
        _wait_for(url, server)
        view = opened.new_page(viewport={**SIZE, "height": 1000}, color_scheme="light")
        view.goto(url)
        view.locator("#example").click()
        view.locator("#video").get_by_text("events").first.wait_for()
        view.get_by_text("Settings, from the next start on").click()
        view.get_by_label("as fast as possible").check()
        view.get_by_text("Settings, from the next start on").click()
        view.locator("#question textarea").fill(QUESTION)
        view.locator("#question textarea").press("Enter")
        view.locator("#start").click()
        view.locator("#screen img").wait_for(timeout=1000 * WATCH_S)
        end = time.monotonic() + WATCH_S
        while "Watching" in view.locator("#status").inner_text() and time.monotonic() < end:
            time.sleep(1)
        time.sleep(1)
        view.screenshot(path=str(out))
        view.close()
        log.info("%s", out)
    finally:
        server.terminate()
        server.wait(20)


def _wait_for(url: str, server: subprocess.Popen) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        if server.poll() is not None:
            raise VireoError(f"vireo serve ended with {server.returncode}")
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            time.sleep(1)
    raise VireoError(f"vireo serve does not answer on {url}")


if __name__ == "__main__":
    cli.run(main)
