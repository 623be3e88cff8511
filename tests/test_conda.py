"""`--sdm conda` makes an environment and runs a rule inside it (local channel, real solver)."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

HOME = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def conda(tmp_path_factory) -> dict[str, str]:
    """Environment variables with the stand-in `conda` first on PATH."""
    pytest.importorskip("rattler")
    if sys.version_info[:2] != (3, 11):
        pytest.skip("the environments pin Python 3.11; the local channel holds the running one")
    sys.path.insert(0, str(HOME / "tests/conda"))
    import channel

    base = tmp_path_factory.mktemp("conda")
    (base / "bin").mkdir()
    stand_in = (HOME / "tests/conda/conda").read_text().split("\n", 1)[1]
    (base / "bin/conda").write_text(f"#!{sys.executable}\n{stand_in}")
    (base / "bin/conda").chmod(0o755)
    shutil.copy(HOME / "tests/conda/activate", base / "bin/activate")
    uv = shutil.which("uv") or str(Path(sys.executable).parent / "uv")
    return {
        **os.environ,
        "PATH": f"{base / 'bin'}:{os.environ['PATH']}",
        "VIREO_CHANNEL": channel.make(base / "channel"),
        "VIREO_UV": uv,
    }


def test_a_rule_runs_in_its_own_environment(conda: dict[str, str], tmp_path) -> None:
    command = [sys.executable, "-m", "snakemake", "-s", str(HOME / "Snakefile")]
    command += ["data/receipts/toy_videomme.json", "--directory", str(tmp_path)]
    command += ["--cores", "1", "--sdm", "conda"]
    done = subprocess.run(command, env=conda, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    receipt = json.loads((tmp_path / "data/receipts/toy_videomme.json").read_text())
    assert receipt["artifact"] == "toy_videomme"
    (env,) = [p for p in (tmp_path / ".snakemake/conda").iterdir() if p.is_dir()]
    site = env / "lib/python3.11/site-packages"
    assert (site / "av").is_dir()
    assert not (site / "torch").exists(), "the base environment has no torch"


def test_an_image_can_be_made_of_the_environments(conda: dict[str, str], tmp_path) -> None:
    """What a site without conda builds its container from."""
    command = [sys.executable, "-m", "snakemake", "-s", str(HOME / "Snakefile")]
    command += ["--directory", str(tmp_path), "--containerize", "dockerfile"]
    done = subprocess.run(command, env=conda, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.startswith("FROM ")
    for name in ("base", "torch", "caption"):
        assert f"envs/{name}.yaml" in done.stdout
    assert done.stdout.count("conda env create") == 3


@pytest.mark.parametrize("name", ["base", "torch", "caption"])
def test_the_pins_of_an_environment_fit_together(name: str, tmp_path) -> None:
    """Pip would find a solution for each without changing a pin."""
    block = yaml.safe_load((HOME / f"envs/{name}.yaml").read_text())
    pins = next(d["pip"] for d in block["dependencies"] if isinstance(d, dict))
    (tmp_path / "pins.in").write_text("\n".join(pins))
    uv = shutil.which("uv") or str(Path(sys.executable).parent / "uv")
    command = [uv, "pip", "compile", "--quiet", "--no-header", "--no-annotate"]
    command += ["--python-version", "3.11", str(tmp_path / "pins.in")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert set(pins) <= set(done.stdout.split())
