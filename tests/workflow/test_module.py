"""Vireo inside of another workflow: as a module, and deployed with a copy of config/."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.test_workflow import HOME, snakemake

ITEMS = "cache/items/toy_videomme.parquet"
RESULT = "results/toy_viclip/toy_videomme.json"
OUTER = """
configfile: "config/config.yaml"

rule first:
    input: "summary.txt"

module vireo:
    snakefile: {snakefile!r}
    config: config["vireo"]

use rule * from vireo as vireo_*

rule summary:
    input: {target!r}
    output: "summary.txt"
    shell: "echo {{config[samples]}} ${{{{VIREO_CONFIG:-none}}}} > {{output}}"
"""
# What `snakedeploy deploy-workflow` writes, with a path in place of the address of a repository.
DEPLOYED = """
from snakemake.utils import min_version
min_version("6.10.0")
configfile: "config/config.yaml"
module vireo:
    snakefile: {snakefile!r}
    config: config
use rule * from vireo
"""


def outer(folder: Path, target: str = ITEMS, **ours: object) -> Path:
    """A workflow of somebody else's, with settings and rules of its own, that uses Vireo's."""
    (folder / "config").mkdir(parents=True)
    config = {"samples": "my_samples", "vireo": ours}
    (folder / "config/config.yaml").write_text(yaml.safe_dump(config))
    text = OUTER.format(snakefile=str(HOME / "Snakefile"), target=target)
    (folder / "Snakefile").write_text(text)
    return folder


def call(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return snakemake(*arguments, "--cores", "2", cwd=folder, home=folder)


def test_another_workflow_uses_the_rules(tmp_path) -> None:
    """Toy data and items are made by Vireo's rules; the outer rule gets none of their settings."""
    folder = outer(tmp_path / "outer workflow", shards=3)
    done = call(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "rule vireo_toy" in done.stdout + done.stderr
    assert (folder / "summary.txt").read_text() == "my_samples none\n"
    assert (folder / ITEMS).is_file()
    root = json.loads((folder / "data/receipts/toy_videomme.json").read_text())["root"]
    assert (folder / root / "videos").is_dir()
    again = call(folder, "-n")
    assert "Nothing to be done" in again.stdout + again.stderr
    # the part of the configuration that is handed on counts, and published.tsv is found
    planned = call(folder, RESULT, "-n")
    assert planned.returncode == 0, planned.stdout + planned.stderr
    assert re.search(r"cache/shards/toy_viclip/toy_videomme/\w+/2-of-3\.parquet", planned.stdout)
    assert "vireo_score" in planned.stdout


def test_what_a_module_cannot_be_given(tmp_path) -> None:
    folder = outer(tmp_path / "typo", offlin=True)
    done = call(folder, "-n")
    assert done.returncode and "did you mean 'offline'" in done.stdout + done.stderr
    folder = outer(tmp_path / "prefix")
    text = (folder / "Snakefile").read_text()
    text = text.replace("    config: config[", '    prefix: "sub"\n    config: config[')
    (folder / "Snakefile").write_text(text)
    done = call(folder, "-n")
    assert done.returncode and "takes no `prefix:`" in done.stdout + done.stderr


@pytest.fixture
def deployed(tmp_path) -> Path:
    """As a deployment tool makes it: config/ and profiles/ are copies, the rules are not."""
    folder = tmp_path / "deployed"
    shutil.copytree(HOME / "config", folder / "config")
    shutil.copytree(HOME / "profiles", folder / "profiles")
    (folder / "workflow").mkdir()
    text = DEPLOYED.format(snakefile=str(HOME / "Snakefile"))
    (folder / "workflow/Snakefile").write_text(text)
    return folder


def run_deployed(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return snakemake(*arguments, "--cores", "2", cwd=folder, home=folder / "workflow")


def test_a_deployed_copy_of_the_configuration_counts(deployed) -> None:
    """An edit of config.yaml, of models.yaml, and `--config`, each seen by the rules."""
    text = (deployed / "config/config.yaml").read_text()
    (deployed / "config/config.yaml").write_text(text + "\nshards: 2\n")
    models = (deployed / "config/models.yaml").read_text()
    block = "  mine: {inherits: viclip}\n"
    head = "models:\n"
    assert head in models
    (deployed / "config/models.yaml").write_text(models.replace(head, head + block, 1))
    done = run_deployed(deployed, "results/mine/videomme_short.json", "-n")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "cache/shards/mine/videomme/short/2-of-2.parquet" in done.stdout
    done = run_deployed(deployed, ITEMS, "--config", "offline=true")
    assert done.returncode == 0, done.stdout + done.stderr
    written = [json.loads(p.read_text()) for p in (deployed / "cache/config").glob("*.json")]
    assert [config["offline"] for config in written].count(True) == 1


@pytest.mark.slow
def test_the_toy_target_in_another_workflow(tmp_path) -> None:
    """Training, inference, controls, scores: everything, out of another workflow's folder."""
    folder = outer(tmp_path / "outer", RESULT)
    done = call(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((folder / RESULT).read_text())
    assert result["coverage"]["share"] == 1 and result["metrics"]["accuracy"]["value"] > 40
    assert (folder / "summary.txt").exists()
