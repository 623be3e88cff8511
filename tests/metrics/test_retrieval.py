"""Recall and top-k against the reference's numbers and against plain counting."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from vireo.metrics import retrieval, topk

GOLDEN = Path(__file__).resolve().parents[1] / "golden/viclip"


@pytest.fixture(scope="module")
def misc() -> dict[str, np.ndarray]:
    return load_file(GOLDEN / "misc.safetensors")


@pytest.fixture(scope="module")
def expected() -> dict[str, dict[str, float]]:
    return json.loads((GOLDEN / "misc.json").read_text())["metrics"]


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def zero_shot(misc: dict[str, np.ndarray]) -> np.ndarray:
    prompts = unit(misc["zs.text_feats_raw"].astype(np.float64))
    return unit(misc["zs.video_feats_raw"].astype(np.float64)) @ prompts.mean(1).T


def test_mean_of_cosines_over_prompts(misc) -> None:
    np.testing.assert_allclose(zero_shot(misc), misc["zs.sims_v2t"], atol=2e-6)
    dual = retrieval.dual_softmax(zero_shot(misc))
    np.testing.assert_allclose(dual, misc["zs.sims_v2t_dsl"], atol=2e-6)


def by_class(sims: np.ndarray, labels: np.ndarray, dual: bool) -> dict[str, float]:
    """Zero-shot as retrieval: a class has several videos, a video one class."""
    soften = retrieval.dual_softmax if dual else (lambda x: x)
    right = [np.flatnonzero(labels == c) for c in range(sims.shape[1])]
    asked = [c for c, own in enumerate(right) if len(own)]
    return retrieval.summary(
        {
            "txt": retrieval.ranks(soften(sims), labels[:, None]),
            "img": retrieval.ranks(soften(sims.T)[asked], [right[c] for c in asked]),
        }
    )


@pytest.mark.parametrize(("name", "dual"), [("zs", False), ("zs_dsl", True)])
def test_zero_shot_numbers(misc, expected, name, dual) -> None:
    found = by_class(zero_shot(misc), misc["zs.labels"], dual)
    assert {k: round(v, 2) for k, v in found.items()} == expected[name]


def test_zero_shot_top_k_is_the_text_recall(misc, expected) -> None:
    sims, labels = zero_shot(misc), misc["zs.labels"]
    for k in (1, 5, 10):
        assert round(100 * topk.hits(sims, labels, k).mean(), 2) == expected["zs"][f"txt_r{k}"]


@pytest.mark.parametrize(("name", "dual"), [("ret", False), ("ret_dsl", True)])
def test_retrieval_numbers(misc, expected, name, dual) -> None:
    video, text = unit(misc["ret.video_feats_raw"]), unit(misc["ret.text_feats_raw"])
    one, other = video @ text.T, text @ video.T
    if dual:
        one, other = retrieval.dual_softmax(one), retrieval.dual_softmax(other)
    found = retrieval.recalls(one, other, misc["ret.text_owner"])
    assert {k: round(v, 2) for k, v in found.items()} == expected[name]


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


def test_the_best_placed_text_counts() -> None:
    video_to_text = np.array([[0.1, 0.9, 0.5], [0.7, 0.2, 0.6]])
    found = retrieval.recalls(video_to_text, video_to_text.T, [0, 0, 1])
    assert found["txt_r1"] == 50.0  # video 1 sees text 0 before its own
    assert round(found["img_r1"], 2) == 66.67
