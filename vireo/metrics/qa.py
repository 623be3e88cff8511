"""Exact match of short answers by type of question, as SQA3D's ClipBERT scores them.

No normalisation and no aliases: `label -> answer` of the arg-max, compared as a string.
"""

from collections.abc import Iterable
from typing import Any

TYPES = ("what", "is", "how", "can", "which", "others")


def question_type(question: str) -> str:
    """First word of a question, in lower case, if it is one of the five; else `others`."""
    first = question.split(" ")[0].lower()
    # parity: split at blanks only, so "What's" and a leading blank are `others` | accuracy by
    # question type | none
    return first if first in TYPES[:-1] else "others"


def scores(answers: Iterable[tuple[str | None, str, str]]) -> dict[str, Any]:
    """(predicted, right, type) per question -> fractions under the reference's names.

    None (no prediction, or a class without a name) is wrong. A type without questions has 0.
    """
    right: dict[str, list[bool]] = {kind: [] for kind in TYPES}
    for predicted, answer, kind in answers:
        right[kind].append(predicted == answer)
    everything = [hit for hits in right.values() for hit in hits]
    total = max(len(everything), 1)
    return {
        "ratios": {f"{k}_ratio": [len(hits) / total, len(hits)] for k, hits in right.items()},
        "overall_acc": sum(everything) / total,
        **{f"{k}_acc": sum(hits) / len(hits) if hits else 0.0 for k, hits in right.items()},
    }


def in_percent(fractions: dict[str, Any]) -> dict[str, Any]:
    """The same as the reference writes it into scores.json: percent with two decimals."""
    ratios = {k: [round(share * 100, 2), n] for k, (share, n) in fractions["ratios"].items()}
    rest = {k: round(v * 100, 2) for k, v in fractions.items() if k != "ratios"}
    return {"ratios": ratios, **rest}
