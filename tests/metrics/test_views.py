"""Views of one video merged: mean probabilities, repetitions dropped, permuted classes noticed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vireo.metrics import views


def view(id: str, scores: list[float], chunk: int = 0, crop: int = 0, label: str = "1"):
    return views.View(id, np.array(scores, np.float32), label, str(chunk), str(crop))


def test_mean_of_probabilities_not_of_logits() -> None:
    merged = views.merge([np.array([0.0, 100.0]), np.array([1.0, 0.0])])
    first = 1 / (1 + np.exp(-1))
    np.testing.assert_allclose(merged, [first / 2, 1 - first / 2], rtol=1e-6)
    assert merged.dtype == np.float32


@given(st.permutations(range(6)), st.floats(-50, 50))
def test_order_and_a_constant_change_nothing(order, shift) -> None:
    logits = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    again = views.merge(logits[list(order)] + np.float32(shift))
    np.testing.assert_allclose(again, views.merge(logits), atol=1e-5)


def test_repetitions_of_the_sampler_and_further_windows() -> None:
    given = [view("a", [1, 2]), view("a", [3, 4]), view("a", [5, 6], crop=1), view("b", [0, 0])]
    first = views.gather([*given, *given])
    assert [s.tolist() for s in first["a"].views] == [[1, 2], [5, 6]] and len(first["b"].views) == 1
    every = views.gather([*given, *given], all_windows=True)
    assert [s.tolist() for s in every["a"].views] == [[1, 2], [3, 4], [5, 6]]


def test_labels_of_one_id_the_last_one_met_last() -> None:
    given = [view("a", [1], crop=n, label=label) for n, label in enumerate("xyx")]
    assert views.gather(given)["a"].labels == ["y", "x"]


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1]])
def test_any_renaming_of_classes_is_found(order) -> None:
    labels = np.array([0, 0, 1, 1, 2, 2])
    assert views.relabelled(np.array(order)[labels], labels, 3) == 1.0
    assert views.relabelled(np.array([0, 1, 0, 1, 0, 1]), labels, 3) == pytest.approx(1 / 3)
