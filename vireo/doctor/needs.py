"""A target -> the runs, training runs and artifacts that it needs, all the way down.

A target is what people type: a result's path, `model/run`, a paper, a recipe or its weights, an
artifact or its receipt, the report, `demo`. Follows the same blocks as the rules do.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

from vireo import config as cfg
from vireo.errors import unknown
from vireo.results import papers, published
from vireo.workflow.plan import Plan

DEMO = ("toy_viclip/toy_videomme",)


@dataclass
class Needs:
    """Everything behind a target, each once, in the order in which it was met."""

    target: str  # what to give to snakemake
    runs: list[str] = field(default_factory=list)  # model/run
    recipes: list[str] = field(default_factory=list)  # to be trained for it
    artifacts: dict[str, str] = field(default_factory=dict)  # name -> what it is for
    left_out: dict[str, list[str]] = field(default_factory=dict)  # reason -> rows of a paper


def resolve(config: cfg.Config, target: str) -> Needs:
    """Needs of a target; VireoError with near names when it is nothing of ours."""
    text = target.removeprefix("./").strip("/")
    known = {row.paper for row in published.read(cfg.HOME / "config/published.tsv")} - {""}
    if text in ("all", "results/report.html"):
        return _of_runs(config, text, list(config["runs"]))
    if text == "papers":
        return _of_papers(config, sorted(known - {"toy"}))
    if text == "demo":
        return _of_runs(config, text, list(DEMO))
    if found := re.fullmatch(r"(?:paper_|results/)?([^/]+?)(?:\.html)?", text):
        if found[1] in known:
            return _of_paper(config, found[1])
        if text in config["recipes"]:
            return _of_recipe(config, text)
        if text in config["artifacts"] or text.startswith("toy_"):
            return _of_artifact(config, text)
    if found := re.fullmatch(r"results/training/([^/]+)(?:/.*)?", text):
        return _of_recipe(config, found[1])
    if found := re.fullmatch(r"data/(?:receipts/)?([^/]+?)(?:\.json)?", text):
        if not found[1].startswith("toy_"):
            cfg.artifact(config, found[1])
        return _of_artifact(config, found[1])
    if found := re.fullmatch(r"(?:results/)?([^/]+)/([^/]+?)(?:\.json|/.*)?", text):
        return _of_runs(config, f"results/{found[1]}/{found[2]}.json", [f"{found[1]}/{found[2]}"])
    hint = "(a target is results/MODEL/BENCHMARK.json, a paper, a recipe or an artifact)"
    names = [*known, *config["recipes"], *config["artifacts"], "all", "demo"]
    raise unknown("target", text, names, hint)


def _of_artifact(config: cfg.Config, name: str) -> Needs:
    needs = Needs(f"data/receipts/{name}.json")
    _add_artifact(config, needs, name, "asked for")
    return needs


def _of_paper(config: cfg.Config, paper: str) -> Needs:
    needs = Needs(f"paper_{paper}")
    for row in papers.rows(config, paper):
        if row.result:
            _add_run(config, needs, row.result)
        else:
            rows = needs.left_out.setdefault(row.reason, [])
            rows += [text] if (text := f"{row.model} on {row.benchmark}") not in rows else []
    return needs


def _of_papers(config: cfg.Config, names: list[str]) -> Needs:
    """All papers together, each need once."""
    whole = Needs("papers")
    for name in names:
        one = _of_paper(config, name)
        whole.runs += [run for run in one.runs if run not in whole.runs]
        whole.recipes += [recipe for recipe in one.recipes if recipe not in whole.recipes]
        whole.artifacts |= {k: v for k, v in one.artifacts.items() if k not in whole.artifacts}
        for reason, rows in one.left_out.items():
            whole.left_out.setdefault(reason, []).extend(rows)
    return whole


def _of_runs(config: cfg.Config, target: str, runs: list[str]) -> Needs:
    needs = Needs(target)
    for run in runs:
        _add_run(config, needs, run)
    return needs


def _of_recipe(config: cfg.Config, recipe: str) -> Needs:
    cfg.recipe(config, recipe)
    needs = Needs(f"results/training/{recipe}/weights.safetensors")
    _add_recipe(config, needs, recipe, even_if_there=True)
    return needs


def _add_run(config: cfg.Config, needs: Needs, run: str) -> None:
    if run in needs.runs:
        return
    model, name = run.split("/")
    benchmark, _ = Plan(config, cfg.HOME).run(SimpleNamespace(model=model, run=name))
    needs.runs.append(run)
    block = cfg.benchmark(config, benchmark)
    for role, artifact in block["sources"].items():
        _add_artifact(config, needs, artifact, f"{role} of {benchmark}")
    own = cfg.model(config, model)
    weights = own["weights"] or {}
    if "recipe" in weights:
        _add_recipe(config, needs, weights["recipe"])
    elif "artifact" in weights:
        _add_artifact(config, needs, weights["artifact"], f"weights of {model}")
    if other := own.get("wiseft"):
        _add_artifact(config, needs, other["with"], f"weights that {model} is averaged with")
    for role, entry in (own.get("files") or {}).items():
        _add_artifact(config, needs, entry["artifact"], f"{role} of {model}")


def _add_recipe(config: cfg.Config, needs: Needs, recipe: str, even_if_there: bool = False) -> None:
    there = Path(f"results/training/{recipe}/weights.safetensors").exists()
    if recipe in needs.recipes or (there and not even_if_there):
        return
    block = cfg.recipe(config, recipe)
    init = block.get("init") or {}
    if "recipe" in init:
        _add_recipe(config, needs, init["recipe"])
    needs.recipes.append(recipe)
    for role, artifact in block.get("sources", {}).items():
        _add_artifact(config, needs, artifact, f"{role} for training {recipe}")
    for role, entry in (block.get("files") or {}).items():
        _add_artifact(config, needs, entry["artifact"], f"{role} for training {recipe}")
    if "artifact" in init:
        _add_artifact(config, needs, init["artifact"], f"where training {recipe} begins")


def cut(config: cfg.Config, name: str) -> bool:
    """Whether an artifact is cut here out of a list and source videos (rule clips)."""
    parts = (f"{name.removesuffix('_clips')}_{part}" for part in ("list", "videos"))
    return name.endswith("_clips") and all(part in config["artifacts"] for part in parts)


def _add_artifact(config: cfg.Config, needs: Needs, name: str, why: str) -> None:
    if name in needs.artifacts:
        return
    needs.artifacts[name] = why
    if cut(config, name):  # rule clips cuts them out of these
        stem = name.removesuffix("_clips")
        _add_artifact(config, needs, f"{stem}_list", f"list of the clips of {stem}")
        _add_artifact(config, needs, f"{stem}_videos", f"source videos of {stem}")
    if name.endswith("_mp4") and (made_for := name.removesuffix("_mp4")) in config["benchmarks"]:
        # Rule scans makes these videos out of the benchmark's questions and scans.
        options = cfg.benchmark(config, made_for).get("options") or {}
        if "scans" in options and "download" not in options:
            _add_artifact(config, needs, options["scans"], f"scans for the videos of {made_for}")
