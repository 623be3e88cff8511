"""QVHighlights at every window, against the authors' scripts."""

import numpy as np

from tests.metrics.mmduet_golden import read, series
from vireo.metrics import highlight


def test_highlights_at_every_window() -> None:
    gold, predicted = read("qvh_gold.jsonl"), read("qvh_pred.jsonl")
    for wanted in read("qvh_expected.json"):
        window = wanted["smooth_window_size"]
        scores = {
            row["question_id"]: highlight.clip_scores(*series(row), window) for row in predicted
        }
        found = highlight.evaluate(gold, scores)
        for name, values in found.items():
            rounded = {k: round(v, 2) for k, v in values.items()}
            assert rounded == wanted["results"][f"HL-min-{name}"], (window, name)


def test_average_precision_of_no_and_of_all_positive_clips() -> None:
    assert highlight.average_precision(np.zeros(3, bool), np.ones(3)) == 0
    assert highlight.average_precision(np.ones(3, bool), np.zeros(3)) == 1
