"""Top-k against ViCLIP's text recall and against plain counting, ties included."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.metrics import viclip_golden
from vireo.metrics import retrieval, topk


def test_zero_shot_top_k_is_the_text_recall() -> None:
    misc, expected = viclip_golden.misc(), viclip_golden.expected()
    sims, labels = viclip_golden.zero_shot(misc), misc["zs.labels"]
    for k in (1, 5, 10):
        assert round(100 * topk.hits(sims, labels, k).mean(), 2) == expected["zs"][f"txt_r{k}"]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 8), st.integers(1, 6), st.integers(0, 9999))
def test_ranks_with_ties_are_those_of_a_reversed_sort(rows, classes, seed) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 3, (rows, classes)).astype(np.float32)
    labels = rng.integers(0, classes, rows)
    plain = [
        list(np.argsort(row, kind="stable")[::-1]).index(label)
        for row, label in zip(scores, labels, strict=True)
    ]
    assert topk.ranks(scores, labels).tolist() == plain
    assert retrieval.ranks(scores, labels[:, None]).tolist() == plain
