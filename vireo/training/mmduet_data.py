"""MMDuetIT: annotations of three kinds -> conversations with frames -> tokens and labels.

Facts: docs/reference/mmduet.md section 4.1; vectors: tests/golden/mmduet/datasets.json. The
instruction texts are our own, of the kinds and numbers that the reference draws from.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from vireo.errors import unknown
from vireo.models.mmduet import chat as talk
from vireo.models.mmduet.chat import ChatTokenizer

IGNORE = -100
WAITING = 20  # frames at most between the start and a question
NARRATE = (
    "Tell me what happens as you watch.",
    "Describe the video while it plays.",
    "Say what you see, step by step.",
    "Please report what is going on.",
    "Comment on the video as it goes on.",
    "Keep me informed about what is shown.",
    "What happens here? Tell me as you see it.",
    "Narrate this video for me.",
    "Describe every new thing that happens.",
    "Put what you see into words, please.",
)
LOCATE = (
    "{}",
    "{}.",
    "When does this happen: {}?",
    "Find the moments that show '{}'.",
    "Which part of the video shows '{}'?",
    "Where in the video can '{}' be seen?",
    "Tell me when you see '{}'.",
    "Look for '{}' in this video.",
    "Mark the frames that belong to '{}'.",
    "At what time is '{}' shown?",
    "Point out the section about '{}'.",
    "Watch for the following: {}",
)

Turn = dict[str, Any]
Metadata = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Sample:
    """One conversation on frames [start, end) of a video at `fps` frames a second."""

    kind: str
    video: str
    fps: float
    start: int
    end: int
    turns: tuple[Turn, ...]
    query: str = ""  # grounding: what is looked for


def _up(time: float, fps: float) -> float:
    return math.ceil(time * fps) / fps


def _response(time: float, span: Sequence[float], fps: float) -> int:
    middle = _up((span[0] + span[1]) / 2, fps)
    return int((time - middle) * fps) + 1


def captions(annotations: dict[str, Any], metadata: Metadata, fps: float) -> Iterator[Sample]:
    """{video: {id: [{text, time, timespan, learn?}]}}: stream and assistant turns alternate."""
    for video, lists in annotations.items():
        if video not in metadata:
            continue
        whole = math.floor(metadata[video]["duration"] * fps)
        for entries in lists.values():
            turns: list[Turn] = []
            seen, last_text = 0, None
            for entry in entries:
                if entry["text"] == last_text:
                    continue
                time = _up(entry["time"], fps)
                frames = min(round(time * fps), whole)
                last_text = entry["text"]
                if frames <= seen:
                    # parity: of two captions at one time the later text stands, with the earlier's
                    # response frames | one of the two captions is never learned | none
                    if turns:
                        turns[-1] = {**turns[-1], "content": entry["text"]}
                    continue
                number = _response(time, entry["timespan"], fps)
                turns.append({"role": "stream", "num_frames": frames - seen, "learn": True})
                turns.append(
                    {
                        "role": "assistant",
                        "content": entry["text"],
                        "learn": entry.get("learn", True),
                        # parity: not cut to the turn's frames, so labels can outgrow them | a few
                        # labels are cut off at the end of a sample | none
                        "response_frame_num": number,
                    }
                )
                seen = frames
            if turns:
                yield Sample("captions", video, fps, 0, seen, tuple(turns))


def questions(
    annotations: Sequence[dict[str, Any]], metadata: Metadata, fps: float
) -> Iterator[Sample]:
    """[{video_uid, conversation}]: the first user turn at frame `start`; see `with_waiting`."""
    for entry in annotations:
        video, given = entry["video_uid"], entry["conversation"]
        if video not in metadata or not given or given[0]["role"] != "user":
            continue
        duration = metadata[video]["duration"]
        if not 0 < given[0]["time"] <= duration:
            continue
        whole = math.floor(duration * fps)
        start = seen = min(round(_up(given[0]["time"], fps) * fps), whole)
        turns: list[Turn] = []
        for turn in given:
            grid = _up(turn["time"], fps)
            frames = min(round(grid * fps), whole)
            passed = frames - seen
            if passed > 0:
                turns.append({"role": "stream", "num_frames": passed, "learn": True})
                seen = frames
            shown = {"content": turn["content"], "time": turn["time"], "fps_time": grid}
            if turn["role"] == "user":
                turns.append({"role": "user", **shown})
                continue
            number = min(_response(turn["time"], turn["timespan"], fps), max(passed, 0))
            learn = {"learn": turn.get("learn", True), "response_frame_num": number}
            turns.append({"role": "assistant", **shown, **learn})
        yield Sample("questions", video, fps, start, seen, tuple(turns))


def grounding(
    annotations: Sequence[dict[str, Any]], metadata: Metadata, fps: float
) -> Iterator[Sample]:
    """[{video_uid, query, timestamps}]: one stream turn with in-span flags."""
    for entry in annotations:
        video = entry["video_uid"]
        if video not in metadata:
            continue
        whole = math.floor(metadata[video]["duration"] * fps)
        related: list[dict[str, Any]] = []
        seen = 0
        for first, last in entry["timestamps"]:
            start, end = int(first * fps), int(last * fps)
            if start > seen:
                related.append({"related": False, "num_frames": start - seen})
            # parity: overlapping spans count twice, so labels can outgrow the frames | frames in
            # two spans shift the labels behind them | none
            related.append({"related": True, "num_frames": end - start})
            seen = end
        if seen < whole:
            related.append({"related": False, "num_frames": whole - seen})
        turn = {"role": "stream", "num_frames": whole, "learn": True, "related": related}
        if whole:
            yield Sample("grounding", video, fps, 0, whole, (turn,), entry["query"])


KINDS: dict[str, Callable[..., Iterator[Sample]]] = {
    "captions": captions,
    "questions": questions,
    "grounding": grounding,
}


def samples(kind: str, annotations: Any, metadata: Metadata, fps: float) -> list[Sample]:
    """All samples of one annotation file."""
    if kind not in KINDS:
        raise unknown("kind of annotations", kind, KINDS)
    return list(KINDS[kind](annotations, metadata, fps))


def drawn(sample: Sample, rng: np.random.Generator) -> Sample:
    """The sample with what is drawn anew at each access: instruction, template, waiting frames."""
    if sample.kind == "captions":
        turn = {"role": "user", "content": str(rng.choice(NARRATE)), "learn": False}
        return replace(sample, turns=(turn, *sample.turns))
    if sample.kind == "grounding":
        text = str(rng.choice(LOCATE)).format(sample.query)
        turn = {"role": "user", "content": text, "learn": False}
        return replace(sample, turns=(turn, *sample.turns))
    return with_waiting(sample, int(rng.integers(0, WAITING + 1)))


def with_waiting(sample: Sample, frames: int) -> Sample:
    """Up to `frames` frames before the first question."""
    frames = min(frames, sample.start)
    if frames <= 0:
        return sample
    # parity: `learn` is the number of frames less one, so that a single frame is not learned | one
    # frame before a question carries no loss | none
    turn = {"role": "stream", "num_frames": frames, "learn": frames - 1}
    return replace(sample, start=sample.start - frames, turns=(turn, *sample.turns))


def clipped(sample: Sample, most: int) -> Sample:
    """At most `most` frames; what follows the cut is dropped, the annotation stays as it is."""
    seen, kept = 0, []
    for turn in sample.turns:
        if turn["role"] == "stream":
            # parity: at exactly the limit the answer that follows is dropped as well | a sample of
            # exactly the limit loses its last answer | none
            if seen + turn["num_frames"] >= most:
                kept.append({**turn, "num_frames": most - seen})
                return replace(sample, end=sample.start + most, turns=tuple(kept))
            seen += turn["num_frames"]
        kept.append(turn)
    return sample


@dataclass
class Encoded:
    """ids [L], labels [L] of the next token, both heads' labels [L] at a frame's last token."""

    ids: list[int]
    labels: list[int]
    informative: list[int]
    relevance: list[int]
    frames: int
    text: str = ""
    ranges: list[tuple[int, int]] = field(default_factory=list)


def render(turns: Sequence[Turn], system: str, tokens: int) -> tuple[str, list[tuple[int, int]]]:
    """(text with one <image> per visual token, character ranges that are learned)."""
    text, ranges = talk.system(system), []
    for turn in turns:
        if turn["role"] == "stream":
            text += talk.STREAM + talk.IMAGE * (tokens * turn["num_frames"]) + talk.END
        elif turn["role"] == "user":
            text += talk.user(turn["content"])
        else:
            whole = talk.assistant(turn["content"])
            if turn.get("learn", True):
                end = len(text) + len(whole)
                ranges.append((end - len(turn["content"]) - len(talk.END), end))
            text += whole
    return text, ranges


def frame_labels(turns: Sequence[Turn]) -> tuple[list[int] | None, list[int] | None]:
    """(informative, relevance) per frame; None where the kind of sample has none.

    The lists may be longer than the frames are; the excess is dropped when they are placed.
    """
    informative: list[int] = []
    relevance: list[int] = []
    grounded = any("related" in turn for turn in turns)
    for turn, after in zip(turns, [*turns[1:], {}], strict=True):
        if turn["role"] != "stream":
            continue
        count = turn["num_frames"]
        if not turn["learn"]:
            informative += [IGNORE] * count
        elif after.get("role") == "assistant":
            answer = after["response_frame_num"]
            informative += [0] * (count - answer) + [1] * answer
        else:
            informative += [0] * count
        for part in turn.get("related", ()):
            relevance += [int(part["related"])] * part["num_frames"]
    return (None, relevance) if grounded else (informative, None)


def encode(sample: Sample, text: ChatTokenizer, system: str, tokens: int) -> Encoded:
    """Token ids and all labels of a sample (after `drawn` and `clipped`)."""
    rendered, ranges = render(sample.turns, system, tokens)
    found = text.tokenizer.encode(rendered, add_special_tokens=False)
    ids = list(found.ids)
    labels = [IGNORE] * len(ids)
    for place, (first, last) in enumerate(found.offsets):
        if place and any(a <= first and last <= b for a, b in ranges):
            labels[place - 1] = ids[place]
    ends = [k for k, token in enumerate(ids) if token == text.image][tokens - 1 :: tokens]
    both = []
    for marks in frame_labels(sample.turns):
        row = [IGNORE] * len(ids)
        for place, mark in zip(ends, marks or (), strict=False):
            row[place] = mark
        both.append(row)
    return Encoded(ids, labels, both[0], both[1], len(ends), rendered, ranges)
