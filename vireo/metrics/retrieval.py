"""Recall at k between videos and texts, both ways, plain and with dual softmax.

Names are ViCLIP's: `txt_*` looks for the text of a video, `img_*` for the video of a text. A video
may have several texts; its best placed one counts. Source: docs/reference/viclip.md sections 5.1,
8.1.
"""

from collections.abc import Mapping, Sequence

import numpy as np

CUTS = (1, 5, 10)


def ranks(
    similarities: np.ndarray, correct: Sequence[Sequence[int] | np.ndarray] | np.ndarray
) -> np.ndarray:
    """Place (0 = best) of the best of each row's correct columns.

    similarities: float [Q,G]; correct: for each row the numbers of its right columns, at least one.
    """
    order = np.argsort(similarities, axis=1, kind="stable")[:, ::-1]
    place = np.empty_like(order)
    np.put_along_axis(place, order, np.arange(order.shape[1])[None], axis=1)
    return np.array([place[row, list(columns)].min() for row, columns in enumerate(correct)])


def dual_softmax(similarities: np.ndarray) -> np.ndarray:
    """[Q,G] -> [Q,G]: each score times its share of its column's softmax at temperature 1.

    The column is the softmax over all queries, so this needs the whole test set.
    """
    shifted = np.exp(similarities - similarities.max(axis=0, keepdims=True))
    return similarities * shifted / shifted.sum(axis=0, keepdims=True)


def recalls(
    video_to_text: np.ndarray, text_to_video: np.ndarray, owner: Sequence[int] | np.ndarray
) -> dict[str, float]:
    """All recalls and their means in percent, not rounded.

    video_to_text: [V,T]; text_to_video: [T,V]; owner: the video of each text.
    """
    owner = np.asarray(owner, dtype=int)
    texts: list[list[int]] = [[] for _ in range(len(video_to_text))]
    for text, video in enumerate(owner):
        texts[video].append(text)
    # parity: a video without texts stands in no list of the reference either | video-to-text recall
    # is over videos with texts | none
    asked = [video for video, own in enumerate(texts) if own]
    places = {
        "txt": ranks(video_to_text[asked], [texts[video] for video in asked]),
        "img": ranks(text_to_video, owner[:, None]),
    }
    return summary(places)


def summary(places: Mapping[str, np.ndarray]) -> dict[str, float]:
    """`txt_r1` ... `txt_r_mean`, the same with `img`, and `r_mean`, from both ways' places."""
    result: dict[str, float] = {}
    for side in ("txt", "img"):
        for k in CUTS:
            result[f"{side}_r{k}"] = 100 * float((places[side] < k).mean())
        result[f"{side}_r_mean"] = float(np.mean([result[f"{side}_r{k}"] for k in CUTS]))
    result["r_mean"] = (result["txt_r_mean"] + result["img_r_mean"]) / 2
    return result
