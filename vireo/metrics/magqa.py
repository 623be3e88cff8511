"""Multi-answer questions on video (Shot2Story-MAGQA): in-span score from a judge's marks 1..5.

Facts: docs/reference/mmduet.md section 3.2. A judge sees a gold answer and a predicted one only if
some predicted time with that text lies in some gold span with that text; everything else is marked
1.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Pair = tuple[str, str, str]  # question, gold answer, predicted answer
WORST, BEST = 1.0, 5.0


def in_span(time: float, span: Sequence[float]) -> bool:
    """Whether an answer was given in a span, ends included; -1 means any time."""
    return time == -1 or span[0] <= time <= span[1]


@dataclass
class Example:
    """One question with gold answers (text, span) and predicted ones (text, time)."""

    id: str
    question: str
    gold: list[tuple[str, list[float]]]
    predicted: list[tuple[str, float]]

    def pairs(self) -> list[Pair]:
        """What a judge has to mark, each pair of texts once, in order."""
        found: dict[Pair, None] = {}
        for text, span in self.gold:
            for said, time in self.predicted:
                if in_span(time, span):
                    found[(self.question, text, said)] = None
        return list(found)

    def matrix(self, marks: dict[Pair, float]) -> list[list[float]]:
        """Marks [gold, predicted]; unjudged cells are 1."""
        return [
            [marks.get((self.question, text, said), WORST) for said, _ in self.predicted]
            for text, _ in self.gold
        ]


def example(entry: dict[str, Any], turns: Sequence[dict[str, Any]]) -> Example:
    """A gold entry (`question_id`, `conversation`, `answer`) and a prediction's turns."""
    asked = [turn["content"] for turn in entry["conversation"] if turn["role"] == "user"]
    gold = [(answer["content"], list(answer["time"])) for answer in entry["answer"]]
    said = [(turn["content"], turn["time"]) for turn in turns if turn["role"] == "assistant"]
    return Example(str(entry["question_id"]), asked[0] if asked else "", gold, said)


def in_span_score(one: Example, matrix: Sequence[Sequence[float]]) -> float:
    """Mean over gold answers of the mean mark of the predictions inside the span, 1 if none."""
    rows = []
    for (_, span), marks in zip(one.gold, matrix, strict=True):
        both = zip(marks, one.predicted, strict=True)
        inside = [mark for mark, (_, time) in both if in_span(time, span)]
        rows.append(float(np.mean(inside)) if inside else WORST)
    return float(np.mean(rows)) if rows else WORST


@dataclass
class Summary:
    """In-span score, turns per example, distinct turns per example."""

    score: float
    turns: float
    distinct: float
    each: list[float] = field(default_factory=list)  # scores, in the order of the examples

    def line(self) -> str:
        """As the original analysis prints it."""
        # parity: NumPy's rounding, which takes 2.775 to 2.78 | the last printed digit | none
        score, turns, distinct = (
            float(np.round(v, 2)) for v in (self.score, self.turns, self.distinct)
        )
        return f"{score} & {turns}/{distinct} & \\"


def summarise(
    examples: Sequence[Example], marks: dict[Pair, float], number: int | None = None
) -> Summary:
    """Means over examples that have an answer; with `number` the first so many, padded.

    Padding counts as score 1 and no turn (the original script pads to 2,000 test questions). An
    example that repeats an id counts again.
    """
    kept = [one for one in examples if one.predicted]
    kept = kept if number is None else kept[:number]
    each = [in_span_score(one, one.matrix(marks)) for one in kept]
    turns = [len(one.predicted) for one in kept]
    distinct = [len({text for text, _ in one.predicted}) for one in kept]
    pad = max(0, (number or 0) - len(kept))
    count = len(kept) + pad
    if not count:
        return Summary(WORST, 0.0, 0.0)
    return Summary(
        (sum(each) + WORST * pad) / count,
        sum(turns) / count,
        sum(distinct) / count,
        each,
    )
