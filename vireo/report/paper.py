"""A paper's tables cell by cell, ours beside published: results/<paper>.html, .tsv and .json.

Made from config/published.tsv (and the numbers inside config blocks) and the results that are
there. A cell without a result says why: published only, no weights, or not run yet.
"""

import csv
import io
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

import vireo
from vireo import config as cfg
from vireo.doctor import needs
from vireo.errors import VireoError
from vireo.fetch import local
from vireo.fetch.receipt import readable
from vireo.report import plots
from vireo.report.load import read_result
from vireo.report.page import HERE, SIGNS, flat, interval, number, signed
from vireo.results import papers, published
from vireo.utils.cli import log
from vireo.utils.files import write_json, write_text

TITLES = {
    "viclip": ("ViCLIP (InternVid)", "arXiv:2307.06942"),
    "sqa3d": ("SQA3D, with ClipBERT", "arXiv:2210.07474"),
    "mmduet": ("MMDuet", "arXiv:2411.17991"),
    "toy": ("The toy world", "Targets measured here, where the models were trained"),
    "videomamba": ("VideoMamba", "arXiv:2403.06977"),
}
NOT_YET = "not run yet"


@dataclass
class Cell:
    """One published number and what we have for it."""

    table: str
    model: str
    model_title: str
    benchmark: str
    benchmark_title: str
    metric: str
    unit: str
    published: float | None
    published_text: str
    source: str
    from_memory: bool
    setting: str  # of the published number, as its source says it
    note: str
    n_published: int | None
    result: str | None = None  # path of ours
    value: float | None = None
    ci95: list[float] | None = None
    bounds: list[float] | None = None
    n: int | None = None
    coverage: float | None = None
    gap: float | None = None
    tolerance: float | None = None
    verdict: str = "not run"
    reasons: list[str] = field(default_factory=list)


def cells(config: cfg.Config, paper: str, results: dict[str, dict[str, Any]]) -> list[Cell]:
    """Every published number of a paper in the order of the file.

    results: path -> result; a path that is not among them counts as not run.
    """
    fates = {(r.table, r.model, r.benchmark): r for r in papers.rows(config, paper)}
    known = published.read(cfg.HOME / "config/published.tsv") + published.inline(config)
    made = []
    for row in known:
        if row.paper == paper and row.value is not None:
            made.append(_cell(config, row, fates[row.table, row.model, row.benchmark], results))
    return made


def _cell(
    config: cfg.Config,
    row: published.Published,
    fate: papers.Row,
    results: dict[str, dict[str, Any]],
) -> Cell:
    models, benchmarks = config["models"], config["benchmarks"]
    assert row.value is not None
    cell = Cell(
        table=row.table,
        model=row.model,
        model_title=models.get(row.model, {}).get("title", row.model),
        benchmark=row.benchmark,
        benchmark_title=benchmarks.get(row.benchmark, {}).get("title", row.benchmark),
        metric=row.metric,
        unit=row.unit,
        published=row.value,
        published_text=f"{row.value:.{row.decimals}f}",
        source=row.source,
        from_memory=row.from_memory,
        setting=row.protocol,
        note=row.note,
        n_published=row.n,
    )
    if fate.result is None:
        cell.verdict = "no weights released" if "no weights" in fate.reason else "not run"
        cell.reasons = [fate.reason]
        return cell
    cell.result = f"results/{fate.result}.json"
    result = results.get(cell.result)
    if result is None:
        cell.reasons = [NOT_YET]
        return cell
    metric = result["metrics"].get(row.metric)
    if metric is None:
        cell.reasons = [f"{cell.result} has no metric {row.metric}"]
        return cell
    cell.value, cell.ci95, cell.bounds = metric["value"], metric["ci95"], metric["bounds"]
    cell.n, cell.coverage = metric["n"], result["coverage"]["share"]
    cell.gap, cell.tolerance = metric["gap"], metric["tolerance"]
    cell.verdict, cell.reasons = metric["verdict"], list(metric["reasons"])
    return cell


def write(config: cfg.Config, paper: str, paths: list[Path], out: Path) -> None:
    """Write `out` (HTML) and beside it the same as .tsv and .json."""
    results = {}
    for path in dict.fromkeys(paths):
        try:
            results[path.as_posix()] = read_result(path)
        except VireoError as error:  # named on the page as not run; others are still shown
            log.warning("%s", error)
    made = cells(config, paper, results)
    title, where = TITLES.get(paper, (paper, ""))
    facts = {"paper": paper, "title": title, "where": where, "vireo": vireo.__version__}
    write_text(out, render(config, facts, made, results))
    write_text(out.with_suffix(".tsv"), table(made))
    write_json(out.with_suffix(".json"), {**facts, "cells": [asdict(cell) for cell in made]})
    counts = ", ".join(f"{count} {word}" for word, count in _counts(made).items())
    log.info("%s: %d published numbers: %s; %s", paper, len(made), counts, out)


def table(made: list[Cell]) -> str:
    """Cells as tab-separated text, one row each."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, delimiter="\t", lineterminator="\n")
    names = list(Cell.__dataclass_fields__)
    writer.writerow(names)
    for cell in made:
        writer.writerow([_plain(getattr(cell, name)) for name in names])
    return buffer.getvalue()


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return "; ".join(map(_plain, value))
    if isinstance(value, float):
        return f"{value:.6g}"
    return "" if value is None else " ".join(str(value).split())


def render(
    config: cfg.Config, facts: dict[str, Any], made: list[Cell], results: dict[str, dict[str, Any]]
) -> str:
    """The page as text."""
    page = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    page.filters |= {"number": number, "signed": signed, "range": interval}
    template = page.from_string((HERE / "paper.html.j2").read_text(encoding="utf-8"))
    used = [path for path in results if path in {cell.result for cell in made}]
    return template.render(
        **facts,
        style=Markup((HERE / "style.css").read_text(encoding="utf-8")),
        script=Markup((HERE / "table.js").read_text(encoding="utf-8")),
        signs=SIGNS,
        counts=_counts(made),
        cells=made,
        tables=[_table(name, made, place) for place, name in enumerate(_tables(made))],
        runs=[_run(path, results[path]) for path in used],
        lacking=_lacking(made),
        by_hand=_by_hand(config, facts["paper"]),
        tests=_tests(made, results),
    )


def _tables(made: list[Cell]) -> list[str]:
    return list(dict.fromkeys(cell.table for cell in made))


def _counts(made: list[Cell]) -> dict[str, int]:
    counts = dict.fromkeys(SIGNS, 0)
    for cell in made:
        counts[cell.verdict] += 1
    return {word: count for word, count in counts.items() if count}


def _table(name: str, made: list[Cell], place: int) -> dict[str, Any]:
    """One table of the paper: a row per model, a column per benchmark and metric."""
    mine = [cell for cell in made if cell.table == name]
    columns = list(dict.fromkeys((cell.benchmark, cell.metric) for cell in mine))
    rows: dict[str, dict[tuple[str, str], Cell]] = {}
    for cell in mine:
        rows.setdefault(cell.model, {})[cell.benchmark, cell.metric] = cell
    heads: list[tuple[str, int]] = []
    for benchmark, _ in columns:
        if heads and heads[-1][0] == benchmark:
            heads[-1] = (benchmark, heads[-1][1] + 1)
        else:
            heads.append((benchmark, 1))
    figures = []
    for number_of, (benchmark, metric) in enumerate(columns):
        own = [row[benchmark, metric] for row in rows.values() if (benchmark, metric) in row]
        run = [cell for cell in own if cell.value is not None]
        if run:
            what = f"{metric} on {benchmark}: ours and the table's"
            svg = plots.pairs([_pair(c) for c in own], run[0].unit, what, f"t{place}p{number_of}")
            figures.append({"plot": Markup(svg), "caption": f"{metric} on {benchmark}"})
    return {
        "name": name,
        "title": name or "Published numbers",
        "heads": heads,
        "columns": columns,
        "rows": [(mine_of, [row.get(c) for c in columns]) for mine_of, row in _named(rows)],
        "plots": figures,
    }


def _named(rows: dict[str, dict[tuple[str, str], Cell]]) -> list[tuple[Cell, dict]]:
    return [(next(iter(row.values())), row) for row in rows.values()]


def _pair(cell: Cell) -> dict[str, Any]:
    low, high = cell.ci95 or (None, None)
    return {"label": cell.model, "value": cell.value, "ci_low": low, "ci_high": high,
            "published": cell.published}  # fmt: skip


def _run(path: str, result: dict[str, Any]) -> dict[str, Any]:
    """Protocol and the decisive part of the provenance of one run."""
    made = result["provenance"]
    pairs = flat(result["protocol"]) + flat({k: made[k] for k in ("dtype", "decoder", "device")})
    pairs += flat({"git": made["git"], "hashes": made["hashes"], "gpu_hours": made["gpu_hours"]})
    name = f"{result['model_title']} on {result['benchmark_title']}"
    return {"path": path, "name": name, "pairs": pairs, "notes": result["notes"]}


def _lacking(made: list[Cell]) -> list[tuple[str, list[str]]]:
    """Reason -> what it keeps from being compared."""
    reasons: dict[str, list[str]] = {}
    for cell in made:
        if cell.value is None:
            what = f"{cell.model} on {cell.benchmark}"
            why = re.sub(
                r"recipe \S+ is ours.*", "a recipe of ours trains it", "; ".join(cell.reasons)
            )
            held = reasons.setdefault(why, [])
            held += [] if what in held else [what]
    return list(reasons.items())


def _by_hand(config: cfg.Config, paper: str) -> list[dict[str, Any]]:
    """Data and weights that no program can fetch: gated, dead, or given on request."""
    rows = []
    for name, why in needs.resolve(config, f"paper_{paper}").artifacts.items():
        block = config["artifacts"].get(name) or {}
        if block.get("by_hand") and not block.get("sources"):
            size = local.total_size(block)
            rows.append(
                {
                    "name": name,
                    "title": block.get("title", name),
                    "why": why,
                    "size": readable(size) if size else "",
                    "licence": block.get("licence", ""),
                    "steps": block["by_hand"].strip(),
                }
            )
    return rows


def _tests(made: list[Cell], results: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Controls of the runs: what the score rests on, one row per run and control."""
    rows = []
    for path in dict.fromkeys(cell.result for cell in made if cell.result in results):
        assert path is not None
        result = results[path]
        for name, control in result["controls"].items():
            unit = result["metrics"][result["primary"]]["unit"]
            rows.append({"path": path, "name": name, "unit": unit, **control})
    return rows
