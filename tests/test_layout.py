"""Rules of the house that a machine can check."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

HOME = Path(__file__).resolve().parents[1]


def tracked(*patterns: str) -> list[Path]:
    """Files git knows or would know, without the ignored ones."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns]
    out = subprocess.run(command, cwd=HOME, capture_output=True, text=True, check=True).stdout
    return [HOME / line for line in out.splitlines() if (HOME / line).is_file()]


def test_generated_files_are_in_step() -> None:
    command = [sys.executable, "scripts/generate.py", "--check"]
    done = subprocess.run(command, cwd=HOME, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + "run: python scripts/generate.py"


def test_every_rule_has_log_benchmark_conda_and_resources() -> None:
    for path in (HOME / "rules").glob("*.smk"):
        for body in re.split(r"\n(?=rule )", path.read_text())[1:]:
            for need in ("log:", "benchmark:", "conda:", "resources:"):
                assert need in body, f"{path.name}: {body.split(':')[0]} does not have {need}"
            assert "retries:" not in body, "retries live in profiles, never in rules"


def test_every_command_of_a_rule_is_a_script_of_the_same_name() -> None:
    for path in (HOME / "rules").glob("*.smk"):
        for rule, script in re.findall(r"\nrule (\w+):[\s\S]*?scripts/(\w+)\.py", path.read_text()):
            assert rule == script
            assert (HOME / "scripts" / f"{script}.py").exists()


def test_default_profile_holds_only_the_rerun_policy() -> None:
    profile = yaml.safe_load((HOME / "profiles/default/config.yaml").read_text())
    allowed = {"rerun-triggers", "rerun-incomplete", "keep-going", "show-failed-logs"}
    assert set(profile) <= allowed
    assert profile["rerun-triggers"] == ["mtime", "input", "params"]
    for other in (HOME / "profiles").glob("*/config.yaml"):
        settings = yaml.safe_load(other.read_text())
        assert {k: settings.get(k) for k in profile} == profile, f"{other} must repeat the policy"


def test_environments_are_python_and_pinned_pip_packages_only() -> None:
    for path in (HOME / "envs").glob("*.yaml"):
        env = yaml.safe_load(path.read_text())
        assert set(env) == {"channels", "dependencies"}
        assert env["channels"] == ["conda-forge", "nodefaults"]
        plain = [d for d in env["dependencies"] if isinstance(d, str)]
        assert plain == ["python=3.11", "pip"]
        (pip,) = [d["pip"] for d in env["dependencies"] if isinstance(d, dict)]
        assert all(re.fullmatch(r"[a-z0-9-]+==[\w.+]+", p) for p in pip)
    assert "torch" not in (HOME / "envs/base.yaml").read_text().replace("no torch", "")


def test_no_registry_host_and_no_machine_path_in_tracked_files() -> None:
    for path in tracked("requirements.txt", "envs/*", "pyproject.toml", "*.lock"):
        assert not re.search(r"https?://", path.read_text()), path
    for path in tracked("*.py", "*.yaml", "*.yml", "*.md", "*.smk", "Makefile", "Snakefile"):
        if path.name == Path(__file__).name:
            continue
        assert not re.search(r"(^|[^\w.-])/(work|farm)/", path.read_text()), path


@pytest.mark.parametrize("limit", [400])
def test_files_stay_small(limit: int) -> None:
    for path in tracked("vireo/*.py", "scripts/*.py", "rules/*.smk"):
        lines = len(path.read_text().splitlines())
        kernels = path.name == "scan_triton.py"  # forward and backward are read side by side
        allowed = 600 if path.parent.name == "models" or kernels else limit
        assert lines <= allowed, f"{path.relative_to(HOME)} has {lines} lines"


def test_golden_files_stay_small() -> None:
    total = sum(p.stat().st_size for p in (HOME / "tests/golden").rglob("*") if p.is_file())
    assert total <= 20 * 2**20


# Tests of what is no room: commands, documents, whole runs, and what they read.
NO_ROOMS = {"commands", "conda", "docs", "e2e", "faults", "golden", "real", "scripts", "slurm"}


def folders(root: Path) -> set[str]:
    """Folders with Python files of ours, relative to the root."""
    paths = (path.relative_to(root) for path in tracked("*.py") if path.is_relative_to(root))
    return {parent.as_posix() for path in paths for parent in path.parents} - {"."}


def test_tests_mirror_the_rooms() -> None:
    rooms, tests = folders(HOME / "vireo"), folders(HOME / "tests")
    strange = {name for name in tests if name.split("/")[0] not in NO_ROOMS} - rooms
    assert not strange, f"tests/{strange} belongs to no room of vireo/"
    bare = {name for name in rooms if "/" not in name} - tests - NO_ROOMS
    assert not bare, f"vireo/{bare} has no folder in tests/"
