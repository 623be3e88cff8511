"""Plots as SVG text that stands inside the page and takes its colours from the page's style.

Made from rows of numbers with intervals. Colours are those of Okabe and Ito, which colour-blind
readers can tell apart; ink and grid are written as CSS variables, so that dark mode turns them.
Every plot stands beside a table with the same numbers.
"""

import io
import re
from typing import Any

import pandas as pd

BLUE, ORANGE = "#0072B2", "#D55E00"
# Stand-ins that matplotlib understands; replaced by CSS variables in the finished text.
INK, LINE = "#010203", "#040506"
VARIABLES = {INK: "var(--ink)", LINE: "var(--line)", BLUE.lower(): "var(--blue)"}
VARIABLES |= {ORANGE.lower(): "var(--orange)"}
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "vireo",
    "text.parse_math": False,  # labels are data, a dollar sign is a dollar sign
    "font.size": 10.5,
    "font.family": "DejaVu Sans",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": LINE,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": LINE,
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
}
WIDTH = 4.8  # inches; narrow, so that letters stay readable when a phone shrinks it


def intervals(
    rows: list[dict[str, Any]], unit: str, chance: float | None, description: str, prefix: str
) -> str:
    """Horizontal dots with 95 % intervals, one per row, first row on top; a line at chance.

    rows: `label`, `value`, `ci_low`, `ci_high` (None where absent), `main` (drawn strongly).
    """
    rows = [row for row in rows if row["value"] is not None]
    if not rows:
        return ""
    with _figure(len(rows) * 0.29 + 0.9) as (figure, axis):
        for place, row in enumerate(rows):
            colour = BLUE if row.get("main", True) else ORANGE
            if row.get("ci_low") is not None and row.get("ci_high") is not None:
                axis.plot(
                    [row["ci_low"], row["ci_high"]],
                    [place] * 2,
                    color=colour,
                    linewidth=2,
                    clip_on=False,
                )
            marker = "o" if row.get("main", True) else "D"
            axis.plot([row["value"]], [place], marker, color=colour, markersize=6.5, clip_on=False)
        if chance is not None:
            axis.axvline(chance, color=INK, linestyle=(0, (4, 3)), linewidth=1)
            axis.annotate(
                "chance",
                (chance, 1),
                xycoords=("data", "axes fraction"),
                xytext=(0, 3),
                textcoords="offset points",
                ha="center",
                color=INK,
            )
        axis.set_yticks(range(len(rows)), [_short(row["label"]) for row in rows])
        axis.set_ylim(len(rows) - 0.5, -0.5)
        axis.grid(axis="y", visible=False)
        axis.tick_params(length=0)
        axis.set_xlim(*_range(rows, unit, chance))
        axis.set_xlabel(unit or "value")
        return _svg(figure, description, prefix)


def pairs(rows: list[dict[str, Any]], unit: str, description: str, prefix: str) -> str:
    """Ours (dot with interval) and published (diamond) per row, on one scale.

    rows: `label`, `value`, `ci_low`, `ci_high`, `published`; None where absent.
    """
    with _figure(len(rows) * 0.29 + 0.9) as (figure, axis):
        for place, row in enumerate(rows):
            if row["published"] is not None:
                axis.plot(
                    [row["published"]], [place], "D", color=ORANGE, markersize=6.5,
                    markerfacecolor="none", clip_on=False,
                )  # fmt: skip
            if row["value"] is None:
                continue
            if row.get("ci_low") is not None:
                span = [row["ci_low"], row["ci_high"]]
                axis.plot(span, [place] * 2, color=BLUE, linewidth=2, clip_on=False)
            axis.plot([row["value"]], [place], "o", color=BLUE, markersize=5.5, clip_on=False)
        axis.set_yticks(range(len(rows)), [_short(row["label"]) for row in rows])
        axis.set_ylim(len(rows) - 0.5, -0.5)
        axis.grid(axis="y", visible=False)
        axis.tick_params(length=0)
        keys = ("value", "ci_low", "ci_high", "published")
        values = [row[key] for row in rows for key in keys if row.get(key) is not None]
        room = 0.08 * ((max(values) - min(values)) or abs(max(values)) or 1.0)
        axis.set_xlim(min(values) - room, max(values) + room)
        axis.set_xlabel(unit or "value")
        return _svg(figure, description, prefix)


def curve(table: pd.DataFrame, column: str, description: str, prefix: str) -> str:
    """One number of a training run over its steps; many points get a running mean on top."""
    points = table[["step", column]].dropna()
    if len(points) < 2:
        return ""
    with _figure(2.4) as (figure, axis):
        dense = len(points) > 60 and column != "lr"
        raw = {"alpha": 0.3, "linewidth": 0.8} if dense else {"linewidth": 1.8}
        axis.plot(points["step"], points[column], color=BLUE, **raw)
        if dense:
            smooth = points[column].rolling(max(len(points) // 30, 1), min_periods=1).mean()
            axis.plot(points["step"], smooth, color=BLUE, linewidth=2)
        axis.set_xlabel("step")
        axis.set_ylabel(column)
        return _svg(figure, description, prefix)


def _range(rows: list[dict[str, Any]], unit: str, chance: float | None) -> tuple[float, float]:
    """Percent always start at 0, so that lengths can be compared; they end at 100 if near it."""
    keys = ("value", "ci_low", "ci_high")
    values = [row[key] for row in rows for key in keys if row.get(key) is not None]
    values += [chance] if chance is not None else []
    low, high = min(values), max(values)
    if unit == "%":
        return 0.0, 100.0 if high > 55 else max(60.0, high * 1.1)
    room = 0.08 * ((high - low) or abs(high) or 1.0)
    return low - room, high + room


def _short(label: Any) -> str:
    text = str(label)
    return text if len(text) <= 28 else text[:27] + "…"


class _figure:
    """A figure of the page's style, closed at the end; no display and no global state is used."""

    def __init__(self, height: float) -> None:
        import matplotlib

        self.context = matplotlib.rc_context(STYLE)
        self.height = height

    def __enter__(self) -> tuple[Any, Any]:
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure

        self.context.__enter__()
        figure = Figure((WIDTH, self.height), layout="constrained")
        FigureCanvasSVG(figure)
        figure.patch.set_alpha(0)
        axis = figure.add_subplot()
        axis.patch.set_alpha(0)
        return figure, axis

    def __exit__(self, *exc: Any) -> None:
        self.context.__exit__(*exc)


def _svg(figure: Any, description: str, prefix: str) -> str:
    """The figure as an <svg> element: ids made unique in the page, colours handed to its style."""
    from markupsafe import escape

    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(r'\bid="', f'id="{prefix}-', text)
    text = text.replace("url(#", f"url(#{prefix}-").replace('href="#', f'href="#{prefix}-')
    for stand_in, variable in VARIABLES.items():
        text = text.replace(stand_in, variable)
    text = text.replace("'DejaVu Sans'", "inherit")
    text = re.sub(r'<svg ([^>]*?)width="[^"]*"', r"<svg \1", text, count=1)
    text = re.sub(r'(<svg [^>]*?)height="[^"]*"', r"\1", text, count=1)
    label = f'role="img" aria-label="{escape(description)}"'
    return text.replace("<svg ", f"<svg {label} ", 1)
