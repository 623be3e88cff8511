"""The workflow as people call it: plans, typos, other directories, a path with a space."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

HOME = Path(__file__).resolve().parents[1]


def snakemake(
    *arguments: str, cwd: Path, home: Path = HOME, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess:
    """Run the workflow of `home` in `cwd` by the Python of the tests, its venv not activated."""
    command = [sys.executable, "-m", "snakemake", "-s", str(home / "Snakefile"), *arguments]
    clean = {k: v for k, v in os.environ.items() if k not in ("VIREO_CONFIG", "PYTHONPATH")}
    clean["PATH"] = "/usr/local/bin:/usr/bin:/bin"
    return subprocess.run(
        command, cwd=cwd, env={**clean, **(env or {})}, capture_output=True, text=True
    )


def plan(*targets: str, cwd: Path, **keywords) -> str:
    """Output of a dry run, which must succeed."""
    done = snakemake(*targets, "--cores", "2", "-n", cwd=cwd, **keywords)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_plan_of_the_main_target_needs_nothing_downloaded(tmp_path) -> None:
    text = plan("results/viclip/videomme.json", cwd=tmp_path)
    for rule, jobs in (("fetch", 2), ("prepare", 1), ("frames", 3), ("infer", 3), ("score", 1)):
        assert f"{rule:<8}" in text and f" {jobs}\n" in text.split(f"\n{rule} ", 1)[1][:40]
    assert not (tmp_path / "data").exists()


def test_one_split_needs_a_third(tmp_path) -> None:
    text = plan("results/viclip/videomme_short.json", cwd=tmp_path)
    assert "cache/shards/viclip/videomme/short/1-of-1.parquet" in text
    assert "cache/shards/viclip/videomme/long" not in text


def test_shards_come_from_the_configuration(tmp_path) -> None:
    text = plan("results/viclip/videomme_long.json", "--config", "shards=3", cwd=tmp_path)
    assert "cache/shards/viclip/videomme/long/2-of-3.parquet" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["results/vicilp/videomme.json"], "unknown model 'vicilp'; did you mean 'viclip'"),
        (["results/viclip/vidomme.json"], "unknown benchmark 'vidomme'; did you mean 'videomme'"),
        (["results/viclip/videomme_shrt.json"], "did you mean 'videomme_short'"),
        (["--config", "offlin=true"], "unknown key 'offlin'; did you mean 'offline'?"),
        (["--configfile", "twice.yaml"], "duplicate key 'offline'"),
        (["data/receipts/videome.json"], "unknown artifact 'videome'; did you mean 'videomme'"),
    ],
)
def test_a_typo_is_answered_with_the_nearest_name(tmp_path, arguments, message) -> None:
    (tmp_path / "twice.yaml").write_text("offline: true\noffline: false\n")
    targets = arguments if arguments[0].startswith(("results", "data")) else []
    options = [] if targets else arguments
    done = snakemake(*targets, "--cores", "1", "-n", *options, cwd=tmp_path)
    assert done.returncode != 0
    assert message in done.stdout + done.stderr


def test_every_shipped_model_and_benchmark_has_a_plan(tmp_path) -> None:
    """Every benchmark with one model of each family that can, and every model at least once."""
    from vireo import config as cfg
    from vireo.errors import VireoError

    config = cfg.load()

    def suits(model: str, benchmark: str) -> bool:  # as many frames as the architecture takes
        try:
            return bool(cfg.protocol(config, model, benchmark))
        except VireoError:
            return False

    pairs: dict[tuple[str, str], str] = {}
    for model, block in config["models"].items():
        fit = [
            n
            for n, b in config["benchmarks"].items()
            if b["needs"] in block["fulfils"] and suits(model, n)
        ]
        for benchmark in fit:
            pairs.setdefault((block["family"], benchmark), f"results/{model}/{benchmark}.json")
        if fit:
            pairs["model", model] = f"results/{model}/{fit[0]}.json"
    assert len(pairs) >= len(config["models"])
    plan(*dict.fromkeys(pairs.values()), cwd=tmp_path)


def test_all_papers_are_planned_within_twenty_cpu_seconds(tmp_path) -> None:
    """Every model × benchmark of published.tsv that can be had, with the shards of a cluster."""
    before = os.times()
    options = ["--workflow-profile", str(HOME / "profiles/slurm"), "--config", "train=True"]
    text = plan("papers", *options, cwd=tmp_path)
    after = os.times()
    used = after.children_user + after.children_system
    assert used - before.children_user - before.children_system < 20
    total = int(re.search(r"^total +(\d+)$", text, re.MULTILINE)[1])
    assert total > 1000 and re.search(r"^paper +4$", text, re.MULTILINE)


def test_a_checkout_with_a_space_run_from_elsewhere(tmp_path) -> None:
    home, elsewhere = tmp_path / "my vireo", tmp_path / "else where"
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=HOME, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    for name in listing.split("\0"):
        if name and not name.startswith("tests/") and (HOME / name).is_file():
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(HOME / name, home / name)
    elsewhere.mkdir()
    done = snakemake(
        "cache/items/toy_videomme.parquet",
        *("--cores", "1", "--directory", str(elsewhere)),
        cwd=tmp_path,
        home=home,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    receipt = json.loads((elsewhere / "data/receipts/toy_videomme.json").read_text())
    assert receipt["root"] == "data/toy_videomme"
    again = snakemake(
        "cache/items/toy_videomme.parquet",
        *("--cores", "1", "--directory", str(elsewhere), "-n"),
        cwd=tmp_path,
        home=home,
    )
    assert "Nothing to be done" in again.stdout + again.stderr

    # Repaired or broken data anywhere below the folder counts.
    video = next((elsewhere / "data/toy_videomme/videos").rglob("*.*"))
    video.write_bytes(b"")
    third = snakemake(
        "cache/items/toy_videomme.parquet",
        *("--cores", "1", "--directory", str(elsewhere), "-n"),
        cwd=tmp_path,
        home=home,
    )
    assert "prepare" in third.stdout + third.stderr


def test_lint_is_clean(tmp_path) -> None:
    done = snakemake("--lint", cwd=HOME)
    assert "good condition" in done.stdout + done.stderr


def test_own_models_come_from_a_configfile(tmp_path) -> None:
    block = {
        "inherits": "viclip",
        "weights": {"artifact": "mine"},
        "artifacts": {"mine": {"by_hand": "Put it anywhere."}},
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({"models": {"my_model": block}}))
    text = plan("results/my_model/videomme.json", "--configfile", "mine.yaml", cwd=tmp_path)
    assert "data/receipts/mine.json" in text


def test_a_paper_reports_what_is_there_also_in_snakemakes_report(tmp_path) -> None:
    target = ["paper_sqa3d", "--cores", "1", "--config", "partial_papers=true"]
    done = snakemake(*target, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    cells = json.loads((tmp_path / "results/sqa3d.json").read_text())["cells"]
    assert len(cells) == 63 and {cell["verdict"] for cell in cells} == {"not run"}
    assert (tmp_path / "results/sqa3d.tsv").read_text().count("\n") == 64
    assert "not reproducible" in (tmp_path / "results/sqa3d.html").read_text()
    done = snakemake(*target, "--report", "whole.html", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    text = (tmp_path / "whole.html").read_text()
    assert "sqa3d.html" in text and "Papers" in text
    plan_text = snakemake("paper_sqa3d", "--cores", "1", "-n", cwd=tmp_path)
    assert "results/clipbert/sqa3d.json" in plan_text.stdout + plan_text.stderr
