"""What the code cites is in the repository: pages, their sections, golden vectors."""

import re
import subprocess
from pathlib import Path

import pytest

HOME = Path(__file__).resolve().parents[2]
PAGE = re.compile(r"docs/[a-z_/]+\.md")
GOLDEN = re.compile(r"tests/golden/[A-Za-z0-9_./-]*[A-Za-z0-9_]")
SECTIONS = re.compile(
    r"docs/reference/([a-z]+)\.md(?:,? sections?|,? §)? ?"
    r"(\d+(?:\.\d+)?(?:(?:,| and| to|, and) \d+(?:\.\d+)?)*)"
)


def sources() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "*.py", "*.smk", "*.yaml", "*.md", "*.tsv"],
        cwd=HOME, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [HOME / name for name in listed.stdout.split() if (HOME / name).exists()]


def text_of(path: Path) -> str:
    """Its text with line breaks, and the comment signs after them, as blanks."""
    return re.sub(r"\s*\n\s*(?:# ?)?", " ", path.read_text(encoding="utf-8"))


def headings(page: str) -> set[str]:
    text = (HOME / f"docs/reference/{page}.md").read_text(encoding="utf-8")
    return set(re.findall(r"(?m)^#{2,3} (\d+(?:\.\d+)?)\.? ", text))


def test_cited_files_exist():
    missing = {
        f"{path.relative_to(HOME)}: {cited}"
        for path in sources()
        for cited in PAGE.findall(text_of(path)) + GOLDEN.findall(text_of(path))
        if not (HOME / cited).exists()
    }
    assert not missing


def test_cited_sections_exist():
    wrong, seen = set(), 0
    for path in sources():
        for page, numbers in SECTIONS.findall(text_of(path)):
            for number in re.findall(r"\d+(?:\.\d+)?", numbers):
                seen += 1
                if number not in headings(page):
                    wrong.add(f"{path.relative_to(HOME)}: {page}.md section {number}")
    assert not wrong and seen > 30


@pytest.mark.parametrize(
    "pattern", [r"(?<![\w/])reference/[a-z_0-9]+\.md", r"(?<![\w/])parity/[a-z]+/"]
)
def test_nothing_outside_of_the_repository_is_cited(pattern):
    found = {
        f"{path.relative_to(HOME)}: {match}"
        for path in sources()
        if path != Path(__file__)
        for match in re.findall(pattern, path.read_text(encoding="utf-8"))
    }
    assert not found
