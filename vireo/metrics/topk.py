"""Top-k accuracy from class scores, with a named rule for equal scores.

`highest`: of equal scores the class with the higher number comes first, as where a reference sorts
ascending with NumPy and reverses (ViCLIP). `lowest`: the lower number comes first, as where it
takes the arg-max (VideoMamba, UMT). Scores in bfloat16 tie often, so the rule moves top-1.
"""

from collections.abc import Sequence

import numpy as np

from vireo.errors import unknown

TIES = ("lowest", "highest")


def _check(ties: str) -> None:
    if ties not in TIES:
        raise unknown("rule for ties", ties, TIES)


def ranks(
    scores: np.ndarray, labels: Sequence[int] | np.ndarray, ties: str = "highest"
) -> np.ndarray:
    """Place (0 = best) of each row's label among its class scores.

    scores: finite float [N,K]; labels: N class numbers; ties: one of `TIES`. Returns int [N].
    """
    _check(ties)
    scores, labels = np.asarray(scores), np.asarray(labels, dtype=int)
    own = scores[np.arange(len(labels)), labels][:, None]
    number = np.arange(scores.shape[1])
    before = number > labels[:, None] if ties == "highest" else number < labels[:, None]
    return (scores > own).sum(1) + ((scores == own) & before).sum(1)


def hits(
    scores: np.ndarray, labels: Sequence[int] | np.ndarray, k: int = 1, ties: str = "highest"
) -> np.ndarray:
    """Whether each row's label is among its k best classes: bool [N]."""
    return ranks(scores, labels, ties) < k


def best(scores: np.ndarray, k: int, ties: str = "highest") -> np.ndarray:
    """The k best classes of each row, best first: int [N,min(k,K)]; in step with `ranks`."""
    _check(ties)
    scores = np.asarray(scores)
    if ties == "highest":
        return np.argsort(scores, axis=1, kind="stable")[:, ::-1][:, :k]
    return np.argsort(-scores, axis=1, kind="stable")[:, :k]


def note(ties: str, scores: np.ndarray) -> str:
    """A sentence for results: the rule, and how many rows it decided."""
    return (
        f"of equally scored classes the {ties} number wins; {tied(scores)} of {len(scores)} best "
        "scores are shared by several classes"
    )


def tied(scores: np.ndarray) -> int:
    """Number of rows whose best score is shared by several classes."""
    scores = np.asarray(scores)
    if not scores.size:
        return 0
    return int(((scores == scores.max(axis=1, keepdims=True)).sum(1) > 1).sum())
