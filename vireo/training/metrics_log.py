"""The written trace of a run: one CSV row per step, and the curve drawn from it."""

import csv
import math
import os
from pathlib import Path
from typing import Any

from vireo.utils import files

FIRST = ["step", "epoch", "lr", "loss"]
# Okabe and Ito: told apart by colour-blind readers and in grey print.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"]


def read(path: Path) -> list[dict[str, str]]:
    """Return the whole rows of a metrics file; a line truncated by a kill is left out."""
    if not path.is_file():
        return []
    with open(path, newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(handle))
    return [
        row for row in rows if str(row.get("step") or "").isdigit() and None not in row.values()
    ]


class MetricsLog:
    """Appends to `metrics.csv`; opening it cuts the rows after `step`, which will be run again."""

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        rows = [row for row in read(path) if int(row["step"]) <= step]
        self.columns = list(rows[0]) if rows else []
        self.seconds = sum(float(row.get("seconds") or 0) for row in rows)
        self._rewrite(rows)

    def _rewrite(self, rows: list[dict[str, str]]) -> None:
        with files.atomic(self.path) as tmp, open(tmp, "w", newline="", encoding="utf-8") as out:
            writer = csv.DictWriter(out, self.columns, restval="")
            if self.columns:
                writer.writeheader()
            writer.writerows(rows)
        self.handle = self.path.open("a", newline="", encoding="utf-8")

    def write(self, row: dict[str, Any]) -> None:
        """Append a row; unseen columns are added to the whole file (rare: the first validation)."""
        new = [key for key in row if key not in self.columns]
        if new:
            self.handle.close()
            middle = [c for c in [*self.columns, *new] if c not in FIRST and c != "seconds"]
            old = read(self.path)
            self.columns = [*FIRST, *middle, "seconds"]
            self._rewrite(old)
        csv.DictWriter(self.handle, self.columns, restval="").writerow(row)
        self.handle.flush()
        self.seconds += float(row.get("seconds") or 0)

    def sync(self) -> None:
        """Force the rows to disk, so that no checkpoint is newer than its rows."""
        self.handle.flush()
        os.fsync(self.handle.fileno())

    def close(self) -> None:
        """Close the file."""
        self.handle.close()


def _smooth(values: list[float], width: int) -> list[float]:
    total, out = 0.0, []
    for i, value in enumerate(values):
        total += value - (values[i - width] if i >= width else 0.0)
        out.append(total / min(i + 1, width))
    return out


def curve(path: Path, out: Path, title: str) -> None:
    """Draw every number of `metrics.csv` over the steps, one panel each, as SVG."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    rows = read(path)
    names = [c for c in (rows[0] if rows else []) if c not in ("step", "epoch", "seconds")]
    names.sort(key=lambda c: (c != "loss", c == "lr"))
    if not names:
        return
    across = min(3, len(names))
    down = math.ceil(len(names) / across)
    style: dict[Any, Any] = {
        "svg.hashsalt": "vireo",
        "font.size": 9,
        "axes.grid": True,
        "grid.alpha": 0.3,
    }
    with plt.rc_context(style):
        figure, axes = plt.subplots(
            down, across, figsize=(4 * across, 2.8 * down), squeeze=False, layout="constrained"
        )
        for i, axis in enumerate(axes.flat):
            if i >= len(names):
                axis.axis("off")
                continue
            points = [(int(r["step"]), float(r[names[i]])) for r in rows if r[names[i]] != ""]
            steps, values = [p[0] for p in points], [p[1] for p in points]
            dense = len(points) > 60 and names[i] != "lr"
            colour = COLOURS[i % len(COLOURS)]
            few = {"marker": "o", "markersize": 3} if len(points) < 30 else {}
            axis.plot(steps, values, color=colour, alpha=0.3 if dense else 1, linewidth=1.2, **few)
            if dense:
                axis.plot(steps, _smooth(values, len(values) // 30), color=colour, linewidth=1.8)
            axis.set(title=names[i], xlabel="step")
        figure.suptitle(title)
        with files.atomic(out, suffix=".svg") as tmp:
            figure.savefig(tmp, format="svg", metadata={"Date": None})
        plt.close(figure)
