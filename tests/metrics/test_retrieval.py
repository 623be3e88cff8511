"""Recall against the reference's numbers and against plain counting."""

import numpy as np
import pytest

from tests.metrics import viclip_golden
from tests.metrics.viclip_golden import unit, zero_shot
from vireo.metrics import retrieval


@pytest.fixture(scope="module")
def misc() -> dict[str, np.ndarray]:
    return viclip_golden.misc()


@pytest.fixture(scope="module")
def expected() -> dict[str, dict[str, float]]:
    return viclip_golden.expected()


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


@pytest.mark.parametrize(("name", "dual"), [("ret", False), ("ret_dsl", True)])
def test_retrieval_numbers(misc, expected, name, dual) -> None:
    video, text = (unit(misc[f"ret.{side}_feats_raw"]) for side in ("video", "text"))
    one, other = video @ text.T, text @ video.T
    if dual:
        one, other = retrieval.dual_softmax(one), retrieval.dual_softmax(other)
    found = retrieval.recalls(one, other, misc["ret.text_owner"])
    assert {k: round(v, 2) for k, v in found.items()} == expected[name]


def test_the_best_placed_text_counts() -> None:
    video_to_text = np.array([[0.1, 0.9, 0.5], [0.7, 0.2, 0.6]])
    found = retrieval.recalls(video_to_text, video_to_text.T, [0, 0, 1])
    assert found["txt_r1"] == 50.0  # video 1 sees text 0 before its own
    assert round(found["img_r1"], 2) == 66.67
