"""A number told from a video: LVU's `view` and `like`, or own lists whose labels are numbers.

The prediction is the mean over test views; MSE in the units of the list. Data, views and windows
are those of vireo/benchmarks/actions.py.

One row of each list (values invented):

    like   like_count dislike_count youtube_id imdb_id   ->  1843 62 AbCdEfGhIjK tt0110912
    view   view_count youtube_id imdb_id                 ->  1004143 AbCdEfGhIjK tt0110912
    own    path,number                                   ->  videos/a.mp4,3.25
"""

import csv
import logging
import math
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vireo.benchmarks import actions
from vireo.benchmarks.annotations import user_files
from vireo.errors import VireoError
from vireo.metrics.scores import Metric, Scores
from vireo.utils.files import atomic

log = logging.getLogger("vireo")

NEEDS = "Classifier"
PREDICTS = "value"


def items(sources: dict[str, Path], block: dict[str, Any]) -> pd.DataFrame:
    """One row per video or window; `answer` is the target. VireoError unless all are numbers."""
    table = actions.items(sources, block)
    for id, answer in zip(table["id"], table["answer"], strict=True):
        try:
            good = math.isfinite(float(answer))
        except ValueError:
            good = False
        if not good:
            raise VireoError(f"{id!r}: target {answer!r} is not a number")
    return table


videos = actions.videos


def _values(
    items: pd.DataFrame, predictions: pd.DataFrame, block: dict[str, Any], every: bool = False
) -> tuple[pd.Series, pd.Series]:
    """Mean prediction and target of each video, indexed by item id."""
    by_id = actions.gathered(items, predictions, block, every)
    for id, views in by_id.items():
        if any(len(view) != 1 for view in views):
            raise VireoError(f"prediction of {id!r} is not one number: infer again")
    found = {id: float(np.mean([view[0] for view in views])) for id, views in by_id.items()}
    targets = items.set_index("id")["answer"].astype(float)
    values = pd.Series(found, dtype=float)
    return values, targets.loc[values.index]


def score(items: pd.DataFrame, predictions: pd.DataFrame, block: dict[str, Any]) -> Scores:
    """Mean squared error (lower is better); chance is that of predicting the items' mean."""
    values, targets = _values(items, predictions, block)
    title = "mean squared error"
    errors = (values - targets) ** 2
    metrics = {"mse": Metric.mean(errors, "", 0.0, None, title, lower_is_better=True)}
    distance = (values - targets).abs()
    metrics["mae"] = Metric.mean(distance, "", 0.0, None, "mean distance", lower_is_better=True)
    if (block.get("options") or {}).get("windows"):
        wide, _ = _values(items, predictions, block, every=True)
        title = "mean squared error, mean over all windows"
        metrics["mse_all_windows"] = Metric.mean(
            (wide - targets) ** 2, "", 0.0, None, title, lower_is_better=True
        )
    first = items.drop_duplicates("video")["answer"].astype(float)
    return Scores(
        metrics=metrics,
        primary=block.get("primary") or "mse",
        chance=float(first.var(ddof=0)),
        notes=[
            "Lower is better. Chance is the error of always saying the mean of the targets; the "
            "video of another item is worse than that"
        ],
    )


def export(
    items: pd.DataFrame, predictions: pd.DataFrame, outdir: Path, block: dict[str, Any]
) -> list[Path]:
    """Write predictions.csv: id, target and prediction."""
    values, targets = _values(items, predictions, block)
    path = Path(outdir) / "predictions.csv"
    with atomic(path) as tmp, open(tmp, "w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["id", "target", "prediction"])
        for id in values.index:
            writer.writerow([id, repr(float(targets[id])), repr(float(values[id]))])
    return [path]


def add_arguments(parser: ArgumentParser) -> None:
    """Flags of `vireo evaluate regression`."""
    parser.add_argument(
        "--predictions", required=True, type=Path, help="CSV with id, target, prediction"
    )


def evaluate(args: Namespace) -> str:
    """Print the mean squared error of a CSV; rows of one id are views of one video."""
    views: dict[str, list[float]] = {}
    targets: dict[str, list[float]] = {}
    for where, row in user_files.csv_rows(args.predictions, ("id", "target", "prediction")):
        target, value = (_number(row[name], where, name) for name in ("target", "prediction"))
        views.setdefault(row["id"], []).append(value)
        targets.setdefault(row["id"], []).append(target)
    several = [id for id, own in targets.items() if len(set(own)) > 1]
    if several:
        log.warning(
            "%s: %d videos have several targets, the first is %r; the last of each counts, as in "
            "the reference",
            *(args.predictions, len(several), several[0]),
        )
    # parity: of several targets of one video the last counts | lists that repeat a video, with a
    # warning | none
    errors = [(float(np.mean(views[id])) - own[-1]) ** 2 for id, own in targets.items()]
    return f"videos: {len(errors)}\nmse: {math.fsum(errors) / len(errors):.6f}\n"


def _number(text: str, where: str, name: str) -> float:
    try:
        value = float(text)
    except ValueError as error:
        raise VireoError(f"{where}: {name} {text!r} is not a number") from error
    return float(user_files.finite(value, f"{where}: {name}"))
