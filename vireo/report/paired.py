"""Two runs of one benchmark on the same items: how far apart, with interval and test.

Per-item contributions come from the benchmark's own scoring. Right/wrong items are compared by
McNemar's exact test, everything else by a paired bootstrap; both beside an interval that knows that
questions share videos.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from vireo import benchmarks
from vireo import config as cfg
from vireo.errors import VireoError
from vireo.metrics import intervals
from vireo.report.load import ITEMS
from vireo.results import assemble
from vireo.tables import items as item_table

CLUSTERED = "clustered by video"
BOOTSTRAP = "paired bootstrap over videos"


@dataclass
class Difference:
    """One metric of two runs on the `n` items that both scored; `difference` is second - first.

    `ci95` is null with a `reason`; `p` (McNemar, exact, questions taken as independent) and the
    ids that only one of them got right are there for right/wrong metrics only.
    """

    n: int
    first: float | None = None
    second: float | None = None
    difference: float | None = None
    ci95: list[float] | None = None
    reason: str | None = None
    interval: str | None = None
    p: float | None = None
    only_first: list[str] = field(default_factory=list)
    only_second: list[str] = field(default_factory=list)


def contributions(result: dict[str, Any], rows: pd.DataFrame, config: cfg.Config) -> pd.Series:
    """What each item adds to the primary metric of a result, by item id.

    VireoError when the items are gone, or when the metric is no mean over items.
    """
    name = result["primary"]
    block = cfg.benchmark(config, result["benchmark"])
    items = item_table.read_items(ITEMS / f"{result['benchmark']}.parquet")
    mine = items[items["split"].isin(result["splits"])].reset_index(drop=True)
    module = benchmarks.module(block.get("module") or result["benchmark"])
    scores = module.score(mine, assemble.complete(mine, rows), {**block, "model": result["model"]})
    values = scores.metrics[name].contributions
    if values is None:
        raise VireoError(f"{name} is not a mean over items")
    return values


def groups(result: dict[str, Any]) -> pd.Series:
    """The video of each item of a result's benchmark, by item id."""
    items = item_table.read_items(ITEMS / f"{result['benchmark']}.parquet")
    return items.set_index("id")["group"]


def compare(first: pd.Series, second: pd.Series, videos: pd.Series) -> Difference:
    """The difference of two runs; contributions indexed by item id."""
    both = first.index.intersection(second.index)
    x, y = first.loc[both], second.loc[both]
    if not len(both):
        return Difference(0, reason="no item was scored by both")
    found = Difference(len(both), float(x.mean()), float(y.mean()), float((y - x).mean()))
    if max(x.nunique(), y.nunique()) <= 2 and len({*x, *y}) <= 2:
        top = max({*x, *y})
        found.only_first = [str(n) for n in both[(x == top) & (y != top)]]
        found.only_second = [str(n) for n in both[(x != top) & (y == top)]]
        found.p = intervals.mcnemar(x == top, y == top)
        interval = intervals.paired_difference(y, x, videos)
        found.interval = CLUSTERED
    else:
        moved = np.asarray(y - x)
        interval = intervals.bootstrap(lambda at: float(moved[at].mean()), videos.reindex(both))
        found.interval = BOOTSTRAP
    found.ci95, found.reason = interval.pair(), interval.reason
    return found


def holm(values: Sequence[float | None]) -> list[float | None]:
    """p-values adjusted for their number by Holm's step-down procedure; None stays None."""
    known = sorted((p, n) for n, p in enumerate(values) if p is not None)
    adjusted: list[float | None] = [None] * len(values)
    largest = 0.0
    for rank, (p, n) in enumerate(known):
        largest = max(largest, min(1.0, p * (len(known) - rank)))
        adjusted[n] = largest
    return adjusted
