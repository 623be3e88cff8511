"""Uncertainty of a score: intervals that know that questions share videos, bounds, paired tests.

Questions on one video are not independent, so every interval treats the group (the video) as the
unit that was sampled: Liang-Zeger clustered standard errors for means, a bootstrap over groups for
everything else.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

CONFIDENCE = 0.95
Z = 1.959963984540054  # two-sided 95 % quantile of the normal distribution


@dataclass(frozen=True)
class Interval:
    """A 95 % interval, or the reason why there is none."""

    low: float | None
    high: float | None
    reason: str | None = None

    def pair(self) -> list[float] | None:
        """[low, high] or None."""
        return None if self.low is None or self.high is None else [self.low, self.high]


def clustered_mean(
    values: pd.Series, groups: pd.Series, low: float | None = None, high: float | None = None
) -> Interval:
    """95 % interval of a mean whose items come in groups.

    values: Series indexed by item id; groups: Series of group names with the same ids (others are
    ignored). low, high: smallest and largest value an item can have; the interval stays inside.
    """
    if not len(values):
        return Interval(None, None, "nothing was scored")
    names = groups.reindex(values.index)
    mean = float(values.mean())
    sums = (values - mean).groupby(names.to_numpy()).sum()
    number = len(sums)
    if number < 2:
        return Interval(None, None, "needs at least two groups")
    error = math.sqrt(number / (number - 1) * float((sums**2).sum())) / len(values)
    if error < 1e-12 and low is not None and high is not None and mean in (low, high):
        # All right or all wrong: the standard error is 0, which is not certainty. Wilson's interval
        # with one independent draw per group.
        width = (high - low) * Z**2 / (number + Z**2)
        return Interval(low, low + width) if mean == low else Interval(high - width, high)
    half = _t_quantile(number - 1) * error
    bottom, top = mean - half, mean + half
    return Interval(
        bottom if low is None else max(bottom, low), top if high is None else min(top, high)
    )


def _t_quantile(degrees: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(degrees, 0.5 + CONFIDENCE / 2))


def bootstrap(
    statistic: Callable[[np.ndarray], float | None],
    groups: Sequence[str] | pd.Series,
    draws: int = 1000,
    seed: int = 0,
) -> Interval:
    """95 % percentile interval of any statistic, by drawing whole groups with replacement.

    statistic: takes positions of items (with repetitions) and returns the number; None (undefined
    on that draw) is passed over. For a paired comparison return the difference of two systems.
    """
    codes, names = pd.factorize(np.asarray(groups))
    if len(names) < 2:
        return Interval(None, None, "needs at least two groups")
    members = [np.flatnonzero(codes == k) for k in range(len(names))]
    random = np.random.default_rng(seed)
    values = []
    for _ in range(draws):
        chosen = random.integers(0, len(names), len(names))
        value = statistic(np.concatenate([members[k] for k in chosen]))
        if value is not None and np.isfinite(value):
            values.append(value)
    if len(values) < draws / 2:
        return Interval(None, None, "undefined on most resamples")
    tail = (1 - CONFIDENCE) / 2
    return Interval(float(np.quantile(values, tail)), float(np.quantile(values, 1 - tail)))


def bounds(predicted: pd.Series, missing: int, low: float, high: float) -> list[float] | None:
    """[worst, best] mean if the `missing` items had a prediction; None when there are no items.

    predicted: contributions of items with a prediction; low, high: extremes of one item.
    """
    number = len(predicted) + missing
    if not number:
        return None
    total = float(predicted.sum())
    return [(total + missing * low) / number, (total + missing * high) / number]


def paired_difference(first: pd.Series, second: pd.Series, groups: pd.Series) -> Interval:
    """95 % interval of mean(first - second) over the items that both have."""
    both = first.index.intersection(second.index)
    return clustered_mean(first.loc[both] - second.loc[both], groups)


def mcnemar(first: pd.Series, second: pd.Series) -> float:
    """Two-sided exact p-value that two systems are right equally often (ignores the groups).

    first, second: per-item right/wrong, compared on the items that both have.
    """
    from scipy.special import bdtr

    both = first.index.intersection(second.index)
    a, b = first.loc[both].astype(bool), second.loc[both].astype(bool)
    only_a, only_b = int((a & ~b).sum()), int((~a & b).sum())
    number = only_a + only_b
    return 1.0 if not number else min(1.0, 2 * float(bdtr(min(only_a, only_b), number, 0.5)))


def breakdown(
    parts: dict[str, pd.Series],
    labels: pd.Series,
    groups: pd.Series,
    order: Sequence[str],
    low: float | None = None,
    high: float | None = None,
) -> pd.DataFrame:
    """One metric, or several, per label: rows in `order`, labels without items left out.

    parts: metric name -> contributions (Series indexed by item id). Columns: `label`, `items`, then
    for the first metric `n`, `value`, `ci_low`, `ci_high`, and the value of each further metric
    under its name.
    """
    first, *others = parts
    rows = []
    for label in order:
        ids = labels.index[labels == label]
        if not len(ids):
            continue
        chosen = {name: s.loc[s.index.intersection(ids)] for name, s in parts.items()}
        interval = clustered_mean(chosen[first], groups, low, high)
        row: dict[str, object] = {"label": label, "items": len(ids), "n": len(chosen[first])}
        row["value"] = float(chosen[first].mean()) if len(chosen[first]) else None
        row |= {"ci_low": interval.low, "ci_high": interval.high}
        row |= {n: float(chosen[n].mean()) if len(chosen[n]) else None for n in others}
        rows.append(row)
    columns = ["label", "items", "n", "value", "ci_low", "ci_high", *others]
    return pd.DataFrame(rows, columns=columns)
