"""The documents keep their word: examples run, links lead somewhere, commands and targets exist."""

import contextlib
import io
import re
from pathlib import Path

import pytest

from vireo import config as cfg
from vireo.doctor import needs
from vireo.errors import VireoError

HOME = cfg.HOME
PAGES = sorted([*HOME.glob("*.md"), *(HOME / "docs").glob("*.md")])


def blocks(text: str) -> list[tuple[str, str]]:
    """(code, expected output) of every executed example."""
    return re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", text, re.S)


def run(text: str) -> list[str]:
    """What each example prints; all share one namespace."""
    names: dict[str, object] = {}
    said = []
    for code, _ in blocks(text):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(code, "docs/api.md", "exec"), names)
        said.append(out.getvalue())
    return said


def test_the_examples_of_the_api_print_what_the_page_says(tmp_path, monkeypatch) -> None:
    text = (HOME / "docs/api.md").read_text(encoding="utf-8")
    assert len(blocks(text)) == text.count("```python") >= 4
    monkeypatch.chdir(tmp_path)
    assert run(text) == [expected for _, expected in blocks(text)]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_and_pictures_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if not re.match(r"[a-z]+:", target):
            assert (page.parent / target).exists(), f"{page.name} points to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_scripts_and_targets_in_commands_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for script in re.findall(r"python (scripts/\w+\.py)", text):
        assert (HOME / script).exists(), f"{page.name}: {script}"
    config = cfg.load()
    for model, run_name in re.findall(r"results/(\w+)/(\w+)\.json", text):
        if model in config["models"] and run_name not in ("predictions",):
            try:
                needs.resolve(config, f"{model}/{run_name}")
            except VireoError as error:
                pytest.fail(f"{page.name}: results/{model}/{run_name}.json: {error}")
    for target in re.findall(r"\b(paper_\w+)", text):
        assert needs.resolve(config, target).target == target


@pytest.mark.browser
def test_pictures_are_made_by_the_script(tmp_path) -> None:
    import subprocess
    import sys

    (tmp_path / "results").mkdir()
    (tmp_path / "results/report.html").write_text("<h1>A report</h1>")
    script = [sys.executable, str(HOME / "scripts/screenshots.py"), "--work", str(tmp_path)]
    done = subprocess.run([*script, "--out", str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")
    assert "paper.png: no toy.html or" in done.stderr and "duet.png: no " in done.stderr
