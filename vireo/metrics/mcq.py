"""The official Video-MME scorer: a letter from each response, counts per label, a printout.

Made from the facts of its public behaviour (reference: thanku-all/parse_answer,
`eval_your_results.py`): which strings it deletes, how it counts and what it prints, byte for byte.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vireo.errors import VireoError, unknown

# parity: deleted wherever they stand, case-sensitive, in this order. Entries 5 and 6 are each two
# phrases that the authors meant to keep apart, so in practice they never match | which letter is
# read out of a free reply | none
DELETED = (
    "The best answer is",
    "The correct answer is",
    "The answer is",
    "The answer",
    "The best option isThe correct option is",
    "Best answer:Best option:",
    "Answer:",
    "Option:",
    "The correct answer",
    "The correct option",
)
VIDEOS_PER_DURATION = 300
# Bucket kind -> (title of a duration's block, title of the whole data set's block).
TITLES = {
    "domain": ("Video Categories", "Video Domains"),
    "sub_category": ("Video Sub Categories", "Video Sub Categories"),
    "task_type": ("Task Categories", "Task Categories"),
}

Video = Mapping[str, Any]
Labels = Mapping[str, Sequence[str]]


@dataclass
class Bucket:
    """Questions of one label: answered ones only, as the official scorer counts."""

    correct: int = 0
    answered: int = 0

    def add(self, other: "Bucket") -> None:
        """Sum in place."""
        self.correct += other.correct
        self.answered += other.answered


Counts = dict[str, dict[str, Bucket]]


def letter(response: str) -> str:
    """The answer "A".."D" that the official scorer reads from a response, "" for none.

    parity: the first capital A-D anywhere counts, so "All of the above" is A and "Best answer: C"
    is B. (The official rule that empties answers of more than ten words without such a capital
    changes nothing: without one the result is empty anyway.)
    """
    for phrase in DELETED:
        response = response.replace(phrase, "")
    found = re.search("[ABCD]", response)
    return found[0] if found else ""


def count(
    videos: Sequence[Video],
    durations: Sequence[str],
    labels: Labels,
    skip_missing: bool = False,
    source: str = "results",
) -> list[tuple[str, Counts]]:
    """Correct and answered questions per duration, kind and label, in the order of `durations`.

    `videos` is the official grouped format; `labels` gives the known domains, sub-categories and
    task types in print order. parity: responses without a letter enter neither side of the
    fraction, and without `skip_missing` each duration must have exactly 300 videos.
    Raises VireoError in the situations in which the official scorer fails.
    """
    result = []
    for duration in durations:
        chosen = [v for v in videos if _get(v, "duration", source) == duration]
        _check_number(videos, duration, len(chosen), skip_missing, source)
        counts: Counts = {kind: {n: Bucket() for n in names} for kind, names in labels.items()}
        for video in chosen:
            where = f"{source}, video {video.get('video_id', '?')!r}"
            if skip_missing and _get(video, "missing", where):
                continue
            for question in _get(video, "questions", where):
                _count_question(counts, video, question, labels, where)
        result.append((duration, counts))
    return result


def _count_question(
    counts: Counts, video: Video, question: Video, labels: Labels, where: str
) -> None:
    where = f"{where}, question {question.get('question_id', '?')!r}"
    response = _get(question, "response", where)
    if not isinstance(response, str):
        raise VireoError(f'{where}: the response is {response!r}; it must be text ("" for none)')
    given = letter(response)
    if not given:
        return
    right = int(given == _get(question, "answer", where))
    for kind, names in labels.items():
        name = _get(question if kind == "task_type" else video, kind, where)
        if name not in counts[kind]:
            raise VireoError(f"{where}: {unknown(kind, str(name), names)}")
        counts[kind][name].add(Bucket(right, 1))


def _get(mapping: Video, key: str, where: str) -> Any:
    try:
        return mapping[key]
    except (KeyError, TypeError):
        hint = ""
        if key == "missing":
            hint = "; with --skip_missing every video needs `missing: true` or `missing: false`"
        raise VireoError(f"{where}: no key {key!r}{hint}") from None


def _check_number(
    videos: Sequence[Video], duration: str, number: int, skip_missing: bool, source: str
) -> None:
    known = sorted({"short", "medium", "long"} | {str(v["duration"]) for v in videos})
    if skip_missing:
        if not number and duration not in known:
            raise unknown("duration", duration, known)
        return
    if number == VIDEOS_PER_DURATION:
        return
    if duration not in known and duration.strip(" []'\"") in known:
        hint = "write the durations as short,medium,long without blanks, quotes or brackets"
    elif duration not in known:
        hint = str(unknown("duration", duration, known))
    else:
        hint = "check for missing files, or score what is there with --skip_missing"
    raise VireoError(
        f"{source}: {number} videos of duration {duration!r}, not {VIDEOS_PER_DURATION}; {hint}"
    )


def total(parts: Sequence[Counts]) -> Counts:
    """Sum of several durations."""
    result: Counts = {}
    for counts in parts:
        for kind, buckets in counts.items():
            for name, bucket in buckets.items():
                result.setdefault(kind, {}).setdefault(name, Bucket()).add(bucket)
    return result


def overall(counts: Counts) -> Bucket:
    """All questions: the sum over task types."""
    result = Bucket()
    for bucket in counts["task_type"].values():
        result.add(bucket)
    return result


def printout(counted: Sequence[tuple[str, Counts]], show: Sequence[str] = tuple(TITLES)) -> str:
    """The official scorer's standard output; `show` names the kinds of label that get a block."""
    text = ""
    for duration, counts in counted:
        text += _section(f"Evaluation on video Type: {duration}", counts, show, 0) + "\n\n"
    whole = total([counts for _, counts in counted])
    return text + _section("Evaluation on the entire dataset", whole, show, 1)


def _section(header: str, counts: Counts, show: Sequence[str], which: int) -> str:
    lines = ["=" * 37, header, "=" * 37]
    for kind, titles in TITLES.items():
        if kind in show:
            lines += ["-" * 37, titles[which], "-" * 37]
            lines += [_line(name, bucket) for name, bucket in counts[kind].items()]
    lines += ["-" * 37, "Overall Performance", "-" * 37, _line("Overall", overall(counts))]
    return "\n".join(lines) + "\n"


def _line(name: str, bucket: Bucket) -> str:
    share = 100 * bucket.correct / bucket.answered if bucket.answered else 0
    return f"{name}: {share: .1f}%"
