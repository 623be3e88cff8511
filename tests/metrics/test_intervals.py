"""Intervals, bounds and paired tests, against formulas written out and against simulation."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vireo.metrics import intervals


def table(values: list[float], groups: list[str]) -> tuple[pd.Series, pd.Series]:
    ids = [f"q{i}" for i in range(len(values))]
    return pd.Series(values, index=ids, dtype=float), pd.Series(groups, index=ids)


def test_one_item_per_group_is_the_textbook_interval():
    values, groups = table([1, 2, 4, 5, 8], list("abcde"))
    interval = intervals.clustered_mean(values, groups)
    half = 2.776445105 * values.std(ddof=1) / math.sqrt(5)  # t quantile, 4 degrees of freedom
    assert interval.pair() == pytest.approx([4 - half, 4 + half])


def test_copies_of_an_item_in_its_group_add_nothing():
    once = intervals.clustered_mean(*table([0, 1, 1, 0, 1], list("abcde")))
    thrice = intervals.clustered_mean(*table([0, 1, 1, 0, 1] * 3, list("abcde") * 3))
    assert thrice.pair() == pytest.approx(once.pair())
    apart = intervals.clustered_mean(*table([0, 1, 1, 0, 1] * 3, [str(i) for i in range(15)]))
    assert apart.high - apart.low < once.high - once.low


def test_unequal_groups_against_the_formula():
    values, groups = table([1, 0, 1, 1, 0], ["a", "a", "a", "b", "c"])
    mean = 0.6
    sums = [2 - 3 * mean, 1 - mean, 0 - mean]
    error = math.sqrt(3 / 2 * sum(s * s for s in sums)) / 5
    interval = intervals.clustered_mean(values, groups)
    assert (interval.high - interval.low) / 2 == pytest.approx(4.302652730 * error)


def test_interval_stays_inside_what_an_item_can_be():
    interval = intervals.clustered_mean(*table([100, 100, 0], list("abc")), low=0, high=100)
    assert interval.pair()[1] == 100


@pytest.mark.parametrize("value", [0.0, 100.0])
def test_all_right_or_all_wrong_is_not_certainty(value):
    interval = intervals.clustered_mean(*table([value] * 20, list("abcdefghij") * 2), 0.0, 100.0)
    low, high = interval.pair()
    assert low <= value <= high and 20 < high - low < 40


def test_reasons_for_no_interval():
    assert intervals.clustered_mean(*table([], [])).reason == "nothing was scored"
    assert "two groups" in intervals.clustered_mean(*table([1, 0], ["a", "a"])).reason


def test_coverage_of_the_interval_in_simulation():
    random = np.random.default_rng(0)
    hits = 0
    for _ in range(300):
        ease = random.beta(2, 2, 60)
        values = (random.random((60, 3)) < ease[:, None]).astype(float).ravel()
        groups = np.repeat(np.arange(60).astype(str), 3)
        low, high = intervals.clustered_mean(*table(list(values), list(groups))).pair()
        hits += low <= 0.5 <= high
    assert 0.91 <= hits / 300 <= 0.985


def test_bootstrap_agrees_with_the_analytic_interval():
    random = np.random.default_rng(1)
    values = random.random(300)
    groups = np.repeat(np.arange(100), 3).astype(str)
    drawn = intervals.bootstrap(lambda rows: float(values[rows].mean()), groups)
    exact = intervals.clustered_mean(*table(list(values), list(groups)))
    assert drawn.pair() == pytest.approx(exact.pair(), abs=0.01)
    assert drawn == intervals.bootstrap(lambda rows: float(values[rows].mean()), groups)


def test_bootstrap_of_an_undefined_statistic():
    assert "undefined" in intervals.bootstrap(lambda rows: None, list("abc"), draws=20).reason
    assert "two groups" in intervals.bootstrap(lambda rows: 1.0, ["a", "a"]).reason


@settings(max_examples=50)
@given(st.lists(st.booleans(), min_size=1, max_size=30), st.integers(0, 20), st.randoms())
def test_bounds_hold_for_every_completion(right, missing, random):
    low, high = intervals.bounds(pd.Series(right, dtype=float), missing, 0.0, 1.0)
    filled = right + [random.random() < 0.5 for _ in range(missing)]
    assert low - 1e-9 <= sum(filled) / len(filled) <= high + 1e-9


def test_bounds_of_nothing():
    assert intervals.bounds(pd.Series(dtype=float), 0, 0, 1) is None
    assert intervals.bounds(pd.Series(dtype=float), 3, 0, 1) == [0, 1]


def test_paired_difference_is_narrower_than_two_intervals():
    random = np.random.default_rng(2)
    ease = random.random(200)
    first, groups = table(list(ease + 0.1), [str(i) for i in range(200)])
    second = pd.Series(ease + random.normal(0, 0.02, 200), index=first.index)
    low, high = intervals.paired_difference(first, second, groups).pair()
    assert low < 0.1 < high and high - low < 0.02


def test_mcnemar():
    first, _ = table([1, 1, 1, 1, 1, 1, 0, 1], list("abcdefgh"))
    second, _ = table([0, 0, 0, 0, 0, 0, 0, 1], list("abcdefgh"))
    assert intervals.mcnemar(first, second) == pytest.approx(2 / 64)
    assert intervals.mcnemar(first, first) == 1.0


def test_breakdown_orders_and_leaves_out_empty_labels():
    values, groups = table([100, 0, 100, 100], ["a", "a", "b", "c"])
    labels = pd.Series(["x", "x", "y", "x"], index=values.index)
    part = values.drop("q3")
    shown = intervals.breakdown({"v": part, "all": values}, labels, groups, ["y", "z", "x"])
    assert list(shown["label"]) == ["y", "x"]
    assert list(shown["items"]) == [1, 3] and list(shown["n"]) == [1, 2]
    assert list(shown["value"]) == [100, 50]
    assert list(shown["all"]) == pytest.approx([100, 200 / 3])
