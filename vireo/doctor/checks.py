"""A target's needs against this machine -> findings, estimates and the next command.

Kinds of findings: `here`; `comes` (made or downloaded without being asked); `by hand` (a person has
to get it); `problem` (it will fail or crawl); `note`. Estimates are said with what they rest on.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vireo import config as cfg
from vireo.doctor import costs, machine
from vireo.doctor.finding import Finding
from vireo.doctor.finding import lines as finding_lines
from vireo.doctor.needs import Needs, cut
from vireo.fetch import local
from vireo.fetch.receipt import readable
from vireo.tables import items as item_table
from vireo.utils.home import snakemake

MB_PER_S = 12.5  # 100 Mbit/s
RESERVE_GB = 2.0
CAPTIONS = ("youcook2",)  # modules whose official metric needs Java


@dataclass
class Report:
    """All findings about a target, bytes to come, and what to type next."""

    needs: Needs
    findings: list[Finding] = field(default_factory=list)
    download: int = 0
    disk: int = 0
    command: str = ""

    @property
    def blocked(self) -> bool:
        """Whether a person has something to do first."""
        return any(f.kind in ("by hand", "problem") for f in self.findings)


def examine(config: cfg.Config, needs: Needs) -> Report:
    """Look at everything; reads folders and asks the machine, changes nothing."""
    report = Report(needs)
    report.findings += python()
    for name, why in needs.artifacts.items():
        report.findings.append(_artifact(config, report, name, why))
    report.findings += _tokens(config, needs)
    report.findings += _training(config, needs)
    for run in needs.runs:
        report.findings += _run(config, report, run)
    report.findings += kernels(config, needs)
    report.findings += _disk(report)
    for reason, rows in needs.left_out.items():
        report.findings.append(Finding("note", f"not run ({reason}): {', '.join(rows)}"))
    report.command = snakemake("--cores", str(machine.cores()), needs.target)
    return report


def python() -> Iterator[Finding]:
    """What is wrong with the interpreter and the decoding library."""
    if problem := machine.python_problem():
        yield Finding("problem", problem)
    if lacking := machine.missing_codecs():
        yield Finding(
            "problem",
            f"PyAV here cannot decode {', '.join(lacking)}: install the wheel that "
            "requirements.txt pins (make setup); videos with these codecs would be undecodable",
        )


def kernels(config: cfg.Config, needs: Needs) -> Iterator[Finding]:
    """Whether VideoMamba runs here without its compiled kernels."""
    families = {cfg.model(config, run.split("/")[0])["family"] for run in needs.runs}
    tasks = {str(cfg.recipe(config, recipe).get("task")) for recipe in needs.recipes}
    if not any(name.startswith("videomamba") for name in families | tasks) or machine.gpus():
        return
    if reason := machine.kernels_missing():
        yield Finding("note", f"VideoMamba's scan runs in PyTorch, compiled it is faster: {reason}")


def _artifact(config: cfg.Config, report: Report, name: str, why: str) -> Finding:
    if name.startswith("toy_"):
        there = Path(f"data/receipts/{name}.json").exists()
        return Finding("here" if there else "comes", f"{name} ({why}): generated here")
    block = cfg.artifact(config, name)
    own = config["paths"].get(name)
    if not own and name.endswith("_mp4") and name.removesuffix("_mp4") in config["benchmarks"]:
        there = Path(f"data/receipts/{name}.json").exists()
        return Finding("here" if there else "comes", f"{name} ({why}): made here from the scans")
    if not own and cut(config, name):
        there = Path(f"data/receipts/{name}.json").exists()
        return Finding("here" if there else "comes", f"{name} ({why}): cut here out of the videos")
    lacking = local.describe_missing(name, block, config)
    if not lacking:
        return Finding("here", f"{name} ({why}): {own or local.artifact_dir(name)}")
    size = local.total_size(block)
    facts = ", ".join(f for f in (readable(size) if size else "", block.get("licence", "")) if f)
    what = f"{name} ({why}){f': {facts}' if facts else ''}"
    if own or not block.get("sources") or config["offline"]:
        report.disk += 0 if own else size or 0
        return Finding("by hand", what, lacking)
    report.download += size or 0
    packed = sum(
        e.get("size") or e.get("about") or 0 for e in block.get("files", []) if local.packed(e)
    )
    report.disk += (size or 0) + (packed if config["keep_archives"] else 0)
    seconds = (size or 0) / 1e6 / MB_PER_S
    places = ", ".join(dict.fromkeys(_place(s) for s in block["sources"]))
    time = f", about {duration(seconds)} at 100 Mbit/s" if size else ""
    return Finding("comes", f"{what}; downloaded from {places}{time}")


def _place(source: dict[str, Any]) -> str:
    if source["type"] == "hf":
        return f"the Hub ({source['repo']})"
    if source["type"] == "zenodo":
        return f"Zenodo record {source['record']}"
    return source["url"].split("/")[2]


def _tokens(config: cfg.Config, needs: Needs) -> Iterator[Finding]:
    blocks = [
        cfg.artifact(config, name)
        for name in needs.artifacts
        if not name.startswith("toy_") and local.describe_missing(
            name, config["artifacts"].get(name, {}), config
        )
    ]  # fmt: skip
    hub = any(s["type"] == "hf" for block in blocks for s in block.get("sources", []))
    if hub and not machine.hub_token():
        yield Finding(
            "note",
            "no Hugging Face token is set; if a repository asks for a login, accept its terms "
            "there, make a token and `export HF_TOKEN=…` (never in a configuration file)",
        )


def _training(config: cfg.Config, needs: Needs) -> Iterator[Finding]:
    for recipe in needs.recipes:
        block = cfg.recipe(config, recipe)
        yield Finding("comes", f"weights of recipe {recipe}: trained here ({_steps(block)})")
        yield from _hardware(f"training {recipe}", block.get("hardware") or {}, config)


def _steps(block: dict[str, Any]) -> str:
    for unit in ("epochs", "steps"):
        if block.get(unit):
            return f"{block[unit]} {unit}"
    return "see config/recipes.yaml"


def _run(config: cfg.Config, report: Report, run: str) -> Iterator[Finding]:
    model, name = run.split("/")
    benchmark, splits = cfg.resolve_run(config, name)
    block, own = cfg.benchmark(config, benchmark), cfg.model(config, model)
    if Path(f"results/{run}.json").exists():
        yield Finding("here", f"results/{run}.json; remade only where its inputs have changed")
    hardware = own.get("hardware") or {}
    yield from _hardware(model, hardware, config)
    videos, known = _videos(config, block, benchmark, splits)
    if videos and (minutes := costs.minutes(own, block, videos)):
        where = "GPU" if hardware.get("gpu") else "CPU"
        yield Finding(
            "note",
            f"{run}: about {duration(60 * minutes)} of {where} time for "
            f"{videos} {known} ({hardware['minutes_per_1000']:g} min per 1000, config/models.yaml)",
        )
    protocol = cfg.protocol(config, model, benchmark)
    if size := costs.kept(protocol, videos):
        report.disk += size
        yield Finding("note", f"{run}: frames kept in cache/frames take about {readable(size)}")
    if (block.get("module") or benchmark) in CAPTIONS and (problem := machine.java_problem()):
        yield Finding("problem", f"{run}: {problem}. Without it only the other metrics are made")
    if own["family"] == "clipbert":
        from vireo.doctor import clipbert_head

        yield from clipbert_head.check(config, run)
    judge = (block.get("options") or {}).get("judge") or {}
    if judge.get("kind") in ("http", "plain_http"):
        yield Finding(
            "note",
            f"{run}: answers are marked by {judge.get('model')} at {judge.get('url')}, which has "
            "to answer while scoring (docs/mmduet.md)",
        )


def _videos(
    config: cfg.Config, block: dict[str, Any], benchmark: str, splits: list[str]
) -> tuple[int, str]:
    """Number of videos of the splits, else of the published rows; and which of the two."""
    path = Path(f"cache/items/{benchmark}.parquet")
    if path.exists():
        return int(item_table.read_items(path, splits)["group"].nunique()), "videos"
    return costs.rows(config, block, splits), "items, at most so many videos"


def _hardware(what: str, hardware: dict[str, Any], config: cfg.Config) -> Iterator[Finding]:
    total, free = machine.memory()
    wanted = hardware.get("mem_gb")
    if wanted and wanted + 1 > total:
        yield Finding(
            "problem",
            f"{what}: wants {wanted:g} GB of main memory, this machine has {total:.0f} GB; use "
            "another machine (docs/slurm.md)",
        )
    elif wanted and wanted + 1 > free:
        yield Finding("note", f"{what}: wants {wanted:g} GB of main memory, {free:.1f} GB are free")
    if not hardware.get("gpu") or config["device"] == "cpu":
        return
    found = machine.gpus()
    wanted = hardware.get("gpu_gb")
    if not found:
        yield Finding(
            "problem",
            f"{what}: is meant for a GPU{f' with {wanted:g} GB' if wanted else ''} and none is "
            "seen here (nvidia-smi). It also runs on the CPU, many times slower; on a cluster: "
            "docs/slurm.md",
        )
        return
    best = max(found, key=lambda gpu: gpu.total)
    if wanted and wanted > best.total:
        yield Finding(
            "problem",
            f"{what}: wants {wanted:g} GB of GPU memory, {best.name} has {best.total:.0f} GB; try "
            "`dtype: bfloat16` and `batch_size: 1` in config/config.yaml",
        )
    elif wanted and wanted > max(gpu.free for gpu in found):
        yield Finding("note", f"{what}: wants {wanted:g} GB of GPU memory, which is in use now")
    else:
        yield Finding("here", f"{what}: {best.name}, {best.total:.0f} GB")


def _disk(report: Report) -> Iterator[Finding]:
    free = machine.disk_free()
    wanted = report.disk + int(RESERVE_GB * 1e9)
    if wanted > free:
        yield Finding(
            "problem",
            f"disk: about {readable(wanted)} are wanted, {readable(free)} are free in "
            f"{Path.cwd()}; make room, or run with `--directory` on a larger disk",
        )
    else:
        yield Finding("here", f"disk: {readable(free)} free, about {readable(wanted)} wanted")


def duration(seconds: float) -> str:
    """Seconds for people, rounded up."""
    if seconds < 90:
        return f"{max(math.ceil(seconds), 1)} s"
    if seconds < 5400:
        return f"{math.ceil(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h" if seconds < 172800 else f"{seconds / 86400:.1f} days"


def text(report: Report) -> str:
    """The report for a terminal: what is to be done by hand comes last, beside the command."""
    lines = [report.needs.target, "", *finding_lines(report.findings)]
    if report.download:
        seconds = report.download / 1e6 / MB_PER_S
        lines += ["", f"To download: {readable(report.download)}, about {duration(seconds)} at "
                  "100 Mbit/s"]  # fmt: skip
    lines += ["", "Next:"]
    hands = [f.what.split(" ")[0] for f in report.findings if f.kind == "by hand"]
    if hands:
        lines.append(f"  get by hand (above): {', '.join(hands)}; then")
    lines.append(f"  {report.command}")
    return "\n".join(lines)
