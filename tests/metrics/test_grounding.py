"""Charades-STA at every window and threshold, against the authors' scripts."""

import pytest

from tests.metrics.mmduet_golden import read, series
from vireo.metrics import grounding


def test_grounding_at_every_window_and_threshold() -> None:
    predicted = {row["question_id"]: series(row) for row in read("charades_pred.jsonl")}
    gold = [e for e in read("charades_gold.json") if e["question_id"] in predicted]
    expected = read("charades_expected.json")
    oracle = read("expected.json")["charades"]["best_among_all_thresholds_by_window"]
    for window in grounding.WINDOWS:
        rows = [grounding.ious(*predicted[e["question_id"]], e["timestamps"], window) for e in gold]
        for k, threshold in enumerate(grounding.THRESHOLDS):
            wanted = expected[window * len(grounding.THRESHOLDS) + k]
            assert (wanted["smooth_window_size"], wanted["threshold"]) == (window, threshold)
            ours = grounding.summary([row[k] for row in rows])
            assert ours == pytest.approx(wanted["scores"], abs=1e-9)
        best = grounding.summary([max(row) for row in rows])
        assert oracle[window].endswith("/".join(f"{v:.2f}" for v in best))
