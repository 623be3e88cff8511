"""Top-k accuracy from class scores. Ties follow a stable ascending sort read backwards.

So of equal scores the class with the higher number comes first, as where the reference sorts with
NumPy and reverses.
"""

from collections.abc import Sequence

import numpy as np


def ranks(scores: np.ndarray, labels: Sequence[int] | np.ndarray) -> np.ndarray:
    """Place (0 = best) of each row's label among its class scores.

    scores: float [N,K]; labels: N class numbers. Returns int [N].
    """
    scores, labels = np.asarray(scores), np.asarray(labels, dtype=int)
    own = scores[np.arange(len(labels)), labels][:, None]
    later = np.arange(scores.shape[1]) > labels[:, None]
    return (scores > own).sum(1) + ((scores == own) & later).sum(1)


def hits(scores: np.ndarray, labels: Sequence[int] | np.ndarray, k: int = 1) -> np.ndarray:
    """Whether each row's label is among its k best classes: bool [N]."""
    return ranks(scores, labels) < k
