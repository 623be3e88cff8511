"""What a benchmark's `score` returns: numbers, with the per-item parts they are means of."""

from dataclasses import dataclass, field

import pandas as pd


@dataclass
class Metric:
    """One number of a run.

    value: None when nothing could be scored. n: items that entered the value.
    contributions: Series indexed by item id whose mean is `value`, or None when the metric is no
    mean (mAP, CIDEr); intervals and bounds are made from it. low, high: what an item without a
    prediction could have contributed at worst and at best, in the metric's unit; None = no bounds.
    lower_is_better: of errors and distances.
    """

    value: float | None
    n: int
    unit: str = ""
    contributions: pd.Series | None = None
    low: float | None = None
    high: float | None = None
    title: str = ""
    lower_is_better: bool = False

    @classmethod
    def mean(
        cls,
        contributions: pd.Series,
        unit: str = "",
        low: float | None = None,
        high: float | None = None,
        title: str = "",
        lower_is_better: bool = False,
    ) -> "Metric":
        """The metric that is the mean of `contributions` (Series indexed by item id)."""
        value = float(contributions.mean()) if len(contributions) else None
        return cls(
            value, len(contributions), unit, contributions, low, high, title, lower_is_better
        )


@dataclass
class Scores:
    """Everything a benchmark computes from one set of predictions.

    breakdowns: name -> DataFrame with a column `label` and further columns of numbers, in the
    order people expect. printout: what the official scorer would print, "" without one.
    notes: sentences for people (what was left out and why).
    """

    metrics: dict[str, Metric]
    primary: str
    breakdowns: dict[str, pd.DataFrame] = field(default_factory=dict)
    printout: str = ""
    chance: float | None = None
    notes: list[str] = field(default_factory=list)
