"""What `pip install` gives: the command in any folder, with configuration and workflow inside."""

import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

import vireo
from vireo.config import HOME

SHARED = ("Snakefile", "config", "envs", "profiles", "report", "rules", "scripts")


def tracked(*patterns: str) -> set[str]:
    """Files that git knows or would know."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns]
    out = subprocess.run(command, cwd=HOME, capture_output=True, text=True, check=True).stdout
    return {name for name in out.splitlines() if (HOME / name).is_file()}


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A folder with wheel and sdist, made by the pinned build tool."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(out)]
    subprocess.run(command, cwd=HOME, check=True, capture_output=True)
    return out


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory) -> Path:
    """The folder of commands of a fresh environment that holds nothing but the wheel."""
    place = tmp_path_factory.mktemp("env") / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True)
    (wheel,) = built.glob("*.whl")
    uv = [str(Path(sys.executable).parent / "uv"), "pip", "install", "--quiet", "--offline"]
    subprocess.run(
        [*uv, "--python", str(place / "bin/python"), "--no-deps", str(wheel)], check=True
    )
    return place / "bin"


def call(installed: Path, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command of the fresh environment; what Vireo needs is where it is for these tests."""
    drop = ("VIREO_CONFIG", "VIREO_HOME")
    env = {k: v for k, v in os.environ.items() if k not in drop}
    env["PYTHONPATH"] = sysconfig.get_paths()["purelib"]
    command = [str(installed / arguments[0]), *arguments[1:]]
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)


def test_the_wheel_holds_what_is_needed_and_nothing_else(built) -> None:
    (wheel,) = built.glob("*.whl")
    assert wheel.name == f"vireo_video-{vireo.__version__}-py3-none-any.whl"
    names = zipfile.ZipFile(wheel).namelist()
    ours = {name for name in names if ".dist-info/" not in name}
    assert ours == tracked("vireo") | {f"vireo/share/{name}" for name in tracked(*SHARED)}
    text = zipfile.ZipFile(wheel).read(next(n for n in names if n.endswith("METADATA"))).decode()
    assert re.search(r"^Name: vireo-video$", text, re.M)


def test_the_sdist_builds_the_same(built) -> None:
    (source,) = built.glob("*.tar.gz")
    with tarfile.open(source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert tracked("vireo", *SHARED, "pyproject.toml", "README.md", "LICENSE") <= names
    assert not {name for name in names if name.startswith(("tests/", "data/", "results/"))}


def test_the_command_works_in_another_folder(installed, tmp_path) -> None:
    done = call(installed, tmp_path, "vireo", "--version")
    assert done.stdout == f"vireo {vireo.__version__}\n", done.stderr
    done = call(installed, tmp_path, "vireo", "predict", "--help")
    assert done.returncode == 0 and "--video PATH" in done.stdout
    done = call(installed, tmp_path, "vireo", "doctor", "results/toy_viclip/toy_videomme.json")
    assert done.returncode == 0, done.stdout + done.stderr
    share = Path("lib") / f"python{sys.version_info[0]}.{sys.version_info[1]}"
    share = (installed.parent / share / "site-packages/vireo/share/Snakefile").resolve()
    assert f"results/toy_viclip/toy_videomme.json -s {share}" in done.stdout


@pytest.mark.slow
def test_the_workflow_of_an_installed_package(installed, tmp_path) -> None:
    """As a module: its rules, scripts and published numbers are found, and a rule really runs."""
    (tmp_path / "Snakefile").write_text(
        "from vireo.config import HOME\n"
        'module vireo:\n    snakefile: str(HOME / "Snakefile")\n    config: config\n'
        "use rule * from vireo\n"
    )
    run = ("python", "-m", "snakemake", "--cores", "1")
    done = call(installed, tmp_path, *run, "-p", "cache/items/toy_videomme.parquet")
    assert done.returncode == 0, done.stdout + done.stderr
    (share,) = (installed.parent / "lib").glob("python*/site-packages/vireo/share")
    assert f"VIREO_HOME={share.resolve()} " in done.stdout + done.stderr
    done = call(installed, tmp_path, *run, "-n", "paper_viclip")
    assert done.returncode == 0 and "results/viclip/k400.json" in done.stdout, done.stderr
    # a conda or container environment finds the package, and nothing of the launcher's
    link = tmp_path / "cache/python"
    assert [path.name for path in link.iterdir()] == ["vireo"]
    assert (link / "vireo").resolve() == share.resolve().parent
