"""Scores, controls, published numbers and provenance -> the JSON that people and the report read.

Its shape is config/result.schema.yaml; every key is described there.
"""

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vireo import config as cfg
from vireo.metrics import intervals
from vireo.metrics.scores import Metric, Scores
from vireo.results.published import Published
from vireo.results.verdict import judge
from vireo.tables import items as item_table

SCHEMA_FILE = cfg.HOME / "config/result.schema.yaml"
ABSENT = "no row in any predictions file"


@dataclass
class Run:
    """One model on some splits of one benchmark, with everything that was read."""

    config: cfg.Config
    model: str
    name: str  # as in results/<model>/<name>.json
    items: pd.DataFrame
    predictions: pd.DataFrame  # complete: see `complete`
    scores: Scores

    def __post_init__(self) -> None:
        self.benchmark, self.splits = cfg.resolve_run(self.config, self.name)
        self.block = cfg.benchmark(self.config, self.benchmark)


def complete(items: pd.DataFrame, predictions: pd.DataFrame) -> pd.DataFrame:
    """Predictions of these items, in their order; an item without a row gets one that says so."""
    kept = predictions.loc[predictions["id"].isin(items["id"])]
    absent = items.loc[~items["id"].isin(kept["id"]), ["id", "group"]]
    rows = absent.assign(view=0, status="error", error=ABSENT)
    for column in ("scores", "frames", "flags"):
        rows[column] = [[] for _ in range(len(rows))]
    for column in predictions.columns.difference(rows.columns):
        rows[column] = pd.Series([None] * len(rows), rows.index, dtype=object)
    whole = pd.concat([kept, rows], ignore_index=True) if len(rows) else kept
    order = {id: n for n, id in enumerate(items["id"])}
    place = whole["id"].map(order)
    return whole.iloc[np.lexsort((whole["view"], place))].reset_index(drop=True)


def item_status(items: pd.DataFrame, predictions: pd.DataFrame) -> pd.Series:
    """Item id -> `ok` if any view has a prediction, else the status of its first view."""
    ok = set(predictions.loc[predictions["status"] == "ok", "id"])
    first = predictions.drop_duplicates("id").set_index("id")["status"]
    return pd.Series({id: "ok" if id in ok else first[id] for id in items["id"]}, dtype=object)


def assemble(
    run: Run,
    published: dict[str, Published],
    provenance: dict[str, Any],
    controls: dict[str, Run] | None = None,
    files: list[str] | None = None,
) -> dict[str, Any]:
    """The result as a JSON-like dict; keys as in config/result.schema.yaml."""
    model, block = cfg.model(run.config, run.model), run.block
    status = item_status(run.items, run.predictions)
    metrics = {
        name: _metric(run, metric, status, published.get(name))
        for name, metric in run.scores.metrics.items()
    }
    primary = metrics[run.scores.primary]
    result = {
        "schema": 1,
        "model": run.model,
        "model_title": model.get("title", run.model),
        "run": run.name,
        "benchmark": run.benchmark,
        "benchmark_title": block.get("title", run.benchmark),
        "splits": run.splits,
        "headline": run.name == run.benchmark,
        "primary": run.scores.primary,
        "chance": run.scores.chance,
        "verdict": {"word": primary["verdict"], "reasons": primary["reasons"]},
        "metrics": metrics,
        "coverage": coverage(run.items, run.predictions, status),
        "copies": copies(run.predictions, status),
        "flags": dict(Counter(f for flags in run.predictions["flags"] for f in _listed(flags))),
        "breakdowns": {n: _records(table) for n, table in run.scores.breakdowns.items()},
        "controls": {name: _control(run, other) for name, other in (controls or {}).items()},
        "failed": _failed(run, status),
        "notes": [
            *kept_note(run.predictions),
            *run.scores.notes,
            *([block["note"]] if block.get("note") else []),
        ],
        "protocol": cfg.protocol(run.config, run.model, run.benchmark),
        "provenance": provenance,
        "files": files or [],
    }
    return plain(result)


def _metric(
    run: Run, metric: Metric, status: pd.Series, published: Published | None
) -> dict[str, Any]:
    groups = run.items.set_index("id")["group"]
    bounds, why_no_bounds = _bounds(metric, status)
    if metric.contributions is None:
        interval = intervals.Interval(None, None, "this metric is not a mean over items")
    else:
        interval = intervals.clustered_mean(metric.contributions, groups, *limits(metric))
    verdict = judge(
        published,
        metric.value,
        coverage=_share(status, kept_items(run.predictions)),
        same_set=same_set(run, published),
        ci95=interval.pair(),
        bounds=bounds,
        weights=weights_kind(cfg.model(run.config, run.model)),
        note=run.block.get("note", ""),
    )
    return {
        "title": metric.title,
        "value": metric.value,
        "unit": metric.unit,
        "lower_is_better": metric.lower_is_better,
        "n": metric.n,
        "ci95": interval.pair(),
        "ci95_reason": interval.reason,
        "bounds": bounds,
        "bounds_reason": why_no_bounds,
        "published": published.value if published else None,
        "kind": published.kind if published else None,
        "source": (published.source or None) if published else None,
        "paper": (published.paper or None) if published else None,
        "table": (published.table or None) if published else None,
        "from_memory": published.from_memory if published else None,
        "gap": verdict.gap,
        "tolerance": verdict.tolerance,
        "tolerance_reason": verdict.tolerance_reason,
        "verdict": verdict.word,
        "reasons": verdict.reasons,
    }


def limits(metric: Metric) -> tuple[float | None, float | None]:
    """Smallest and largest value of one item; percent has them even where there are no bounds."""
    known = (metric.low, metric.high)
    return (0.0, 100.0) if metric.unit == "%" and known == (None, None) else known


def _bounds(metric: Metric, status: pd.Series) -> tuple[list[float] | None, str | None]:
    if metric.contributions is None or metric.low is None or metric.high is None:
        return None, "no cheap bound for this metric"
    lacking = status.index[status != "ok"]
    predicted = metric.contributions.drop(lacking, errors="ignore")
    return intervals.bounds(predicted, len(lacking), metric.low, metric.high), None


def same_set(run: Run, published: Published | None) -> bool | None:
    """Whether the run's items are those of the published number, None when nobody can say.

    The number of items must be published and equal; a published copy of the data must be the one
    that the benchmark's block names in `options.copy`.
    """
    if published is None or published.n is None:
        return None
    if published.n != len(run.items):
        return False
    ours = (run.block.get("options") or {}).get("copy")
    if published.copy and ours != published.copy:
        return None if ours is None else False
    return True


def weights_kind(model: dict[str, Any]) -> str:
    """`released` (an artifact), `ours` (a recipe) or `none` (random)."""
    weights = model.get("weights") or {}
    return "ours" if "recipe" in weights else "released" if "artifact" in weights else "none"


def coverage(items: pd.DataFrame, predictions: pd.DataFrame, status: pd.Series) -> dict[str, Any]:
    """Items and groups by status, in all and per split; predictions kept from a copy of the videos
    that is not here now are counted apart."""
    absent = int((predictions["error"] == ABSENT).sum())
    group = items.set_index("id")["group"]
    splits = items.set_index("id")["split"]
    kept = kept_items(predictions)
    done = set(group[status.index[(status == "ok") & ~status.index.isin(list(kept))]])
    return {
        **_by_status(status, kept),
        "absent": absent,
        "share": _share(status, kept),
        "groups": int(group.nunique()),
        "groups_ok": len(done),
        "by_split": {
            split: _by_status(status[splits.index[splits == split]], kept)
            for split in splits.unique()
        },
    }


def _share(status: pd.Series, kept: set[str]) -> float:
    """Share of the items that were computed from the videos that are here."""
    here = (status == "ok") & ~status.index.isin(list(kept))
    return float(here.mean()) if len(status) else 0.0


def _by_status(status: pd.Series, kept: set[str]) -> dict[str, int]:
    counts = Counter("kept" if id in kept else word for id, word in status.items())
    names = ("ok", "kept", "missing", "undecodable", "error")
    return {"items": len(status), **{name: counts[name] for name in names}}


def kept_items(predictions: pd.DataFrame) -> set[str]:
    """Items whose prediction is of an earlier copy of a video that is not here now."""
    if "kept" not in predictions:
        return set()
    return set(predictions.loc[predictions["kept"].notna(), "id"])


def copies(predictions: pd.DataFrame, status: pd.Series) -> dict[str, Any]:
    """How many items were computed from the videos that are here, and from which earlier copies
    predictions were kept (folder -> items)."""
    kept = kept_items(predictions)
    folders: Counter[str] = Counter()
    if kept:
        rows = predictions.loc[predictions["kept"].notna()].drop_duplicates("id")
        folders.update(str(Path(path).parent) if "/" in path else path for path in rows["kept"])
    return {
        "present": int((status == "ok").sum()) - len(kept),
        "kept": len(kept),
        "missing": int((status == "missing").sum()),
        "kept_from": dict(folders.most_common()),
    }


def kept_note(predictions: pd.DataFrame) -> list[str]:
    """A sentence for people when predictions of absent videos are among those scored."""
    kept = kept_items(predictions)
    if not kept:
        return []
    places = ", ".join(copies(predictions, pd.Series(dtype=object))["kept_from"])
    return [
        f"{len(kept)} predictions were kept from an earlier copy of videos that are not here now "
        f"({places}); they are scored and counted apart from coverage"
    ]


def _failed(run: Run, status: pd.Series) -> list[dict[str, Any]]:
    lacking = set(status.index[status != "ok"])
    split = run.items.set_index("id")["split"]
    rows = run.predictions.drop_duplicates("id")
    return [
        {
            "id": row.id,
            "group": row.group,
            "split": split[row.id],
            "status": row.status,
            "error": row.error if isinstance(row.error, str) else None,
        }
        for row in item_table.rows(rows)
        if row.id in lacking
    ]


def _control(run: Run, other: Run) -> dict[str, Any]:
    """A control beside the main run: its value, what it costs, and both on each probe subset."""
    name = run.scores.primary
    main, metric = run.scores.metrics[name], other.scores.metrics[name]
    groups = run.items.set_index("id")["group"]
    interval = intervals.Interval(None, None, "this metric is not a mean over items")
    drop_interval = interval

    def pick(a: Any, b: Any) -> tuple[Any, Any]:
        """A loss counts as positive, whichever direction is better."""
        return (b, a) if main.lower_is_better else (a, b)

    if metric.contributions is not None and main.contributions is not None:
        interval = intervals.clustered_mean(metric.contributions, groups, *limits(metric))
        both = pick(main.contributions, metric.contributions)
        drop_interval = intervals.paired_difference(*both, groups)
    chance, span = run.scores.chance, interval.pair()
    inside = span[0] <= chance <= span[1] if span and chance is not None else None
    return {
        "metric": name,
        "value": metric.value,
        "n": metric.n,
        "ci95": span,
        "contains_chance": inside,
        "drop": _minus(*pick(main.value, metric.value)),
        "drop_ci95": drop_interval.pair(),
        "coverage": _by_status(
            item_status(other.items, other.predictions), kept_items(other.predictions)
        ),
        "probes": _probes(run.scores, other.scores),
    }


def _probes(main: Scores, other: Scores) -> list[dict[str, Any]]:
    """Per probe subset (questions built so that one control must hurt): main, control, drop."""
    if "probe" not in main.breakdowns or "probe" not in other.breakdowns:
        return []
    perturbed = {row["label"]: row for row in _records(other.breakdowns["probe"])}
    rows = []
    for row in _records(main.breakdowns["probe"]):
        value = perturbed.get(row["label"], {}).get("value")
        drop = _minus(row["value"], value)
        rows.append({"label": row["label"], "n": row["n"], "main": row["value"]})
        rows[-1] |= {"control": value, "drop": drop}
    return rows


def _minus(a: float | None, b: float | None) -> float | None:
    return None if a is None or b is None else a - b


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return plain(table.to_dict("records"))


def _listed(value: Any) -> list[str]:
    return [] if value is None or isinstance(value, float) else list(value)


def plain(value: Any) -> Any:
    """Python values that JSON can hold: NumPy scalars unwrapped, NaN and infinities to None."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def check(result: dict[str, Any]) -> None:
    """Raise jsonschema.ValidationError when a result is not as the schema says."""
    from jsonschema import Draft202012Validator

    Draft202012Validator(cfg.read_yaml(SCHEMA_FILE)).validate(result)
