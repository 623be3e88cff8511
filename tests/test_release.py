"""Metadata of a release is the same everywhere, and CI runs only pinned actions with few rights."""

import json
import re
import tomllib
from pathlib import Path

import yaml

import vireo

HOME = Path(__file__).resolve().parents[1]
WORKFLOWS = sorted((HOME / ".github/workflows").glob("*.yml"))


def test_metadata_is_the_same_everywhere() -> None:
    project = tomllib.loads((HOME / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((HOME / "CITATION.cff").read_text())
    zenodo = json.loads((HOME / ".zenodo.json").read_text())
    assert citation["version"] == zenodo["version"] == vireo.__version__
    assert citation["license"] == zenodo["license"] == project["license"]
    assert [one["name"] for one in citation["authors"]] == [c["name"] for c in zenodo["creators"]]
    pairs = {"title": "title", "abstract": "description", "keywords": "keywords"}
    assert {v: citation[k] for k, v in pairs.items()} == {v: zenodo[v] for v in pairs.values()}


def test_actions_are_pinned_and_may_only_read() -> None:
    assert WORKFLOWS
    for path in WORKFLOWS:
        text = path.read_text()
        assert yaml.safe_load(text)["permissions"] == {"contents": "read"}, path
        for used in re.findall(r"uses: *(.+)", text):
            assert re.fullmatch(r"[\w-]+/[\w./-]+@[0-9a-f]{40} # v[\d.]+", used), used


def test_files_named_in_the_security_policy_exist() -> None:
    for text in ("SECURITY.md", *map(str, (HOME / ".github").rglob("*.md"))):
        for name in re.findall(
            r"`((?:vireo|docs|scripts)/[\w/]+\.\w+)`", (HOME / text).read_text()
        ):
            assert (HOME / name).exists(), f"{text}: {name}"
