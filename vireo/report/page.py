"""Result files -> one HTML page that opens offline, on a phone, in print and for a screen reader.

The order of things: what was asked and what came out (one row per run), then per run the headline
with interval, chance and verdict, controls, accuracy by group, examples, failures, training,
protocol and provenance. Everything from outside (questions, file names, errors) is escaped.
"""

import json
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

import vireo
from vireo import config as cfg
from vireo.report import examples, plots
from vireo.report.load import ReportData, RunView, load_report
from vireo.utils.cli import log, progress
from vireo.utils.files import write_text

HERE = Path(__file__).parent
# Word -> (sign, kind); the sign says it again for readers who see no colour.
SIGNS = {
    "reproduced": ("✓", "good"),
    "consistent": ("≈", "good"),
    "inconclusive": ("?", "open"),
    "not reproduced": ("✗", "bad"),
    "recipe ours": ("◆", "open"),
    "no weights released": ("○", "open"),
    "no published value": ("○", "open"),
    "not run": ("○", "open"),
}
BREAKDOWNS = {
    "duration": "By duration",
    "domain": "By domain",
    "sub_category": "By sub-category",
    "task_type": "By task type",
    "probe": "By probe (questions built to need one thing)",
}
CONTROLS = {
    "shuffled_videos": ("Shuffled videos", "each question gets the frames of another video"),
    "untrained": ("Untrained", "same architecture, random weights"),
    "reversed_time": ("Reversed time", "frames in backward order"),
    "swapped_channels": ("Swapped channels", "red and blue exchanged"),
}


def write(paths: list[Path], config: cfg.Config, out: Path, table: Path | None = None) -> None:
    """Write the report of these results to `out`, and to `table` one row per run and metric.

    VireoError when none can be shown.
    """
    found = load_report(paths, config)
    if table is not None:
        write_text(table, metrics_table([shown.result for shown in found.runs]))
    text = render(found, config)
    write_text(out, text)
    log.info("%d runs, %.1f MB: %s", len(found.runs), len(text) / 1e6, out)


def render(found: ReportData, config: cfg.Config) -> str:
    """The page as text."""
    page = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    page.filters |= {"number": number, "signed": signed, "range": interval, "hours": hours}
    template = page.from_string((HERE / "page.html.j2").read_text(encoding="utf-8"))
    runs = [
        _section(i, s, config) for i, s in enumerate(progress(found.runs, "report", unit="run"))
    ]
    return template.render(
        style=Markup((HERE / "style.css").read_text(encoding="utf-8")),
        script=Markup((HERE / "table.js").read_text(encoding="utf-8")),
        version=vireo.__version__,
        runs=runs,
        skipped=found.skipped,
        signs=SIGNS,
    )


def _section(place: int, shown: RunView, config: cfg.Config) -> dict[str, Any]:
    result = shown.result
    primary = result["metrics"][result["primary"]]
    chosen = examples.choose(shown)
    examples.add_frames(chosen, shown, config)
    mark = f"r{place}"
    return {
        "id": mark,
        "key": shown.key,
        "result": result,
        "primary": primary,
        "metric_name": result["primary"],
        "others": {n: m for n, m in result["metrics"].items() if n != result["primary"]},
        "sign": SIGNS[result["verdict"]["word"]],
        "reasons": plain_reasons(result),
        "notes": [n for n in result["notes"] if n not in result["verdict"]["reasons"]],
        "overview": Markup(_overview_plot(result, primary, mark)),
        "controls": _controls(result),
        "breakdowns": [
            _breakdown(name, rows, result, mark)
            for name, rows in result["breakdowns"].items()
            if rows
        ],
        "examples": chosen,
        "why_no_examples": shown.why_no_examples,
        "failed": _by_video(result["failed"]),
        "recipe": shown.recipe,
        "curves": _curves(shown, mark),
        "protocol": flat(result["protocol"]),
        "provenance": flat(result["provenance"]),
    }


def plain_reasons(result: dict[str, Any]) -> list[str]:
    """The verdict's reasons; that nothing was published is said in a sentence of its own."""
    word, reasons = result["verdict"]["word"], result["verdict"]["reasons"]
    if word == "no published value" and not any("published" in text for text in reasons):
        return ["No number for this model on this benchmark has been published.", *reasons]
    return reasons


def _overview_plot(result: dict[str, Any], primary: dict[str, Any], mark: str) -> str:
    """The headline, its controls and the published value on one scale."""
    rows = [_point("this run", primary["value"], primary["ci95"])]
    if primary["published"] is not None:
        label = primary.get("kind") or "published"
        rows.append({**_point(label, primary["published"], None), "main": False})
    for name, control in result["controls"].items():
        label = CONTROLS.get(name, (name, ""))[0]
        rows.append({**_point(label, control["value"], control["ci95"]), "main": False})
    what = f"{result['primary']} of {result['model']} on {result['run']} with controls"
    return plots.intervals(rows, primary["unit"], result["chance"], what, f"{mark}o")


def _point(label: str, value: float | None, ci95: list[float] | None) -> dict[str, Any]:
    low, high = ci95 or (None, None)
    return {"label": label, "value": value, "ci_low": low, "ci_high": high}


def _controls(result: dict[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for name, control in result["controls"].items():
        title, says = CONTROLS.get(name, (name, ""))
        rows.append({"title": title, "says": says, **control})
    return rows


def _breakdown(
    name: str, rows: list[dict[str, Any]], result: dict[str, Any], mark: str
) -> dict[str, Any]:
    # A row may lack the primary metric: what it adds stands in columns of its own.
    absent = {"items": None, "n": None, "value": None, "ci_low": None, "ci_high": None}
    rows = [{**absent, **row} for row in rows]
    title = BREAKDOWNS.get(name, f"By {name.replace('_', ' ')}")
    usual = {"label", "items", "n", "value", "ci_low", "ci_high"}
    primary = result["metrics"][result["primary"]]
    plot = plots.intervals(
        rows,
        primary["unit"],
        result["chance"],
        f"{result['primary']} {title[0].lower()}{title[1:]}; the table has the same numbers",
        f"{mark}{name}",
    )
    # A metric that equals the first in every row would only be read twice.
    extra = [
        key
        for key in rows[0]
        if key not in usual and any(row.get(key) != row.get("value") for row in rows)
    ]
    return {"name": name, "title": title, "rows": rows, "extra": extra, "plot": Markup(plot)}


def _by_video(failed: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Failures with one row per video and reason, in the order they stand in."""
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    for item in failed:
        key = (item["group"], item["split"], item["status"], item["error"])
        row = rows.setdefault(key, {**item, "ids": []})
        row["ids"].append(item["id"])
    return list(rows.values())


def _curves(shown: RunView, mark: str) -> list[dict[str, Any]]:
    table = shown.metrics
    if table is None or "step" not in table:
        return []
    made: list[dict[str, Any]] = []
    names = [c for c in table.select_dtypes("number") if c not in ("step", "epoch", "seconds")]
    for column in sorted(names, key=lambda c: (c != "loss", c == "lr")):
        plot = plots.curve(
            table, str(column), f"{column} over training steps", f"{mark}c{len(made)}"
        )
        if plot:
            last = table[column].dropna()
            made.append({"name": column, "plot": Markup(plot), "last": float(last.iloc[-1])})
    return made


def flat(value: Any, name: str = "") -> list[tuple[str, str]]:
    """Nested mappings as (dotted name, text) pairs; empty ones are left out."""
    if isinstance(value, dict):
        pairs: list[tuple[str, str]] = []
        for key, part in value.items():
            pairs += flat(part, f"{name}.{key}" if name else str(key))
        return pairs
    if value in (None, "", [], {}):
        return []
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return [(name, text)]


def number(value: float | None, unit: str = "") -> str:
    """A number for a table: two decimals, or three significant digits without a unit."""
    if value is None:
        return "–"
    text = f"{value:.2f}" if unit else f"{value:.4g}"
    return f"{text} {unit}".strip()


def signed(value: float | None) -> str:
    """A difference with its sign."""
    return "–" if value is None else f"{value:+.2f}".replace("-", "−")


def interval(pair: list[float] | None) -> str:
    """A 95 % interval."""
    return "–" if not pair or pair[0] is None else f"{pair[0]:.1f} to {pair[1]:.1f}"


def hours(seconds: float) -> str:
    """Seconds for people."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 7200:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"


def metrics_table(results: list[dict[str, Any]]) -> str:
    """Results as tab-separated text, one row per run and metric, sorted: small changes, small
    differences in git."""
    columns = ("model", "run", "metric", "value", "unit", "n", "low", "high", "published", "gap")
    lines = ["\t".join([*columns, "coverage", "verdict"])]
    for result in sorted(results, key=lambda r: (r["model"], r["run"])):
        for name, m in result["metrics"].items():
            low, high = m["ci95"] or (None, None)
            numbers = (m["value"], m["unit"], m["n"], low, high, m["published"], m["gap"])
            cells = [result["model"], result["run"], name]
            cells += [
                "" if v is None else f"{v:.6g}" if isinstance(v, float) else str(v) for v in numbers
            ]
            lines.append("\t".join([*cells, f"{result['coverage']['share']:.4f}", m["verdict"]]))
    return "\n".join(lines) + "\n"


def summary(paths: list[Path]) -> str:
    """A few lines of plain text per result, for the end of a command."""
    from vireo.report.load import read_result

    lines = []
    for path in paths:
        result = read_result(path)
        metric = result["metrics"][result["primary"]]
        lines.append(f"{result['model_title']} on {result['benchmark_title']} ({result['run']})")
        facts = f"  {result['primary']} {number(metric['value'], metric['unit'])}"
        facts += f", 95 % interval {interval(metric['ci95'])}, n = {metric['n']}"
        if result["chance"] is not None:
            facts += f", chance {number(result['chance'], metric['unit'])}"
        lines.append(facts)
        for name, control in result["controls"].items():
            inside = {True: ", chance inside its interval", False: "", None: ""}
            lines.append(
                f"  control {name}: {number(control['value'], metric['unit'])}"
                f" ({interval(control['ci95'])}{inside[control['contains_chance']]})"
            )
            for probe in control["probes"]:
                change = " -> ".join(number(probe[k], metric["unit"]) for k in ("main", "control"))
                lines.append(f"    on {probe['label']} questions: {change}")
        cover = result["coverage"]
        names = ("kept", "missing", "undecodable", "error")
        lost = [f"{cover[s]} {s}" for s in names if cover.get(s)]
        lines.append(
            f"  coverage {cover['ok']} of {cover['items']} items, {cover['groups_ok']} of "
            f"{cover['groups']} videos{' (items: ' + ', '.join(lost) + ')' if lost else ''}"
        )
        lines.append(f"  verdict: {'; '.join([result['verdict']['word'], *plain_reasons(result)])}")
    return "\n".join(lines)
