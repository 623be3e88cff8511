"""Read what the page shows: result files, their items and predictions, training metrics."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from vireo import config as cfg
from vireo.errors import VireoError
from vireo.tables import items as item_table
from vireo.tables import predictions
from vireo.utils.cli import log
from vireo.utils.files import read_sealed_json

ITEMS = Path("cache/items")
TRAINING = Path("results/training")


@dataclass
class RunView:
    """One run as the page needs it."""

    path: Path
    result: dict[str, Any]
    items: pd.DataFrame | None = None
    rows: pd.DataFrame | None = None
    why_no_examples: str = ""
    recipe: str = ""
    metrics: pd.DataFrame | None = None
    module: str = ""  # file of vireo/benchmarks

    @property
    def key(self) -> str:
        """Name of the section: model/run."""
        return f"{self.result['model']}/{self.result['run']}"


@dataclass
class ReportData:
    """All runs, and the files that could not be shown with the reason."""

    runs: list[RunView] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)


def load_report(paths: list[Path], config: cfg.Config) -> ReportData:
    """Read every result; one that is no result is named on the page instead of ending it.

    Raises VireoError when none of them can be shown.
    """
    found = ReportData()
    for path in dict.fromkeys(paths):
        try:
            result = read_result(path)
        except VireoError as error:
            log.warning("%s", error)
            found.skipped.append((str(path), str(error)))
            continue
        shown = RunView(path, result)
        block = config["benchmarks"].get(result["benchmark"], {})
        shown.module = block.get("module") or result["benchmark"]
        _add_rows(shown)
        _add_training(shown, config)
        found.runs.append(shown)
    if not found.runs:
        reasons = "; ".join(reason for _, reason in found.skipped)
        raise VireoError(f"no result to report{': ' + reasons if reasons else ''}")
    return found


def read_result(path: Path) -> dict[str, Any]:
    """A result file, checked against its schema."""
    from jsonschema import ValidationError

    from vireo.results.assemble import check

    result = read_sealed_json(path, "result")
    try:
        check(result)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.absolute_path) or "top level"
        raise VireoError(
            f"{path} is not a result of this version: {where}: {error.message}"
        ) from None
    return result


def _add_rows(shown: RunView) -> None:
    """Predictions and items, for the examples; the page does without them if they are gone."""
    try:
        shown.rows = predictions.read(shown.path.with_suffix("") / "predictions.parquet")
        shown.items = item_table.read_items(
            ITEMS / f"{shown.result['benchmark']}.parquet", shown.result["splits"]
        )
    except VireoError as error:
        shown.why_no_examples = str(error)


def _add_training(shown: RunView, config: cfg.Config) -> None:
    weights = config["models"].get(shown.result["model"], {}).get("weights") or {}
    shown.recipe = weights.get("recipe", "")
    path = TRAINING / shown.recipe / "metrics.csv"
    if shown.recipe and path.is_file():
        try:
            shown.metrics = pd.read_csv(path)
        except (ValueError, OSError) as error:
            log.warning("%s cannot be read, so the training curve is left out: %s", path, error)


def text_of(prediction: Any) -> str:
    """The prediction column (JSON text) for people; of an answer with runners-up the answer."""
    if not isinstance(prediction, str):
        return ""
    try:
        value = json.loads(prediction)
    except ValueError:
        return prediction
    if isinstance(value, dict) and "answer" in value:
        value = value["answer"]
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
