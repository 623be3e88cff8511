"""What MMDuet's four benchmarks share: annotations, prediction lines in either format, inventories.

An annotation entry is `{question_id, video, conversation: [{role, content, time}], …}`; a line of
predictions is `{question_id, model_response_list, debug_data}`, where `debug_data` holds per frame
`time` and scores, or in the older format `video_time` and [p(false), p(true)]. Metrics use scores
of three decimals in both.
"""

import json
import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vireo.benchmarks.annotations import lists, user_files
from vireo.benchmarks.annotations.action_lists import stem
from vireo.errors import VireoError, unknown
from vireo.tables import items as item_table
from vireo.utils.files import inside, write_text

log = logging.getLogger("vireo")

PREDICTS = "watch"
HEADS = ("informative_score", "relevance_score")


@dataclass
class StreamedVideo:
    """One prediction: turns in the order of time, and per frame its time and scores."""

    id: str
    turns: list[dict[str, Any]]
    times: list[float]
    informative: list[float]
    relevance: list[float]


def read_json_or_lines(path: str | Path) -> list[dict[str, Any]]:
    """Entries of a JSON list, or of one JSON object a line; VireoError for anything else."""
    return user_files.objects(path)


def gold_entries(path: str | Path, keys: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Annotation entries by question id; VireoError unless each has `keys` and an id of its own."""
    entries = user_files.objects(path)
    for number, entry in enumerate(entries):
        missing = [key for key in ("question_id", *keys) if key not in entry]
        if missing:
            raise VireoError(
                f"{path}: entry {number} has no {', '.join(missing)}; is this an annotation file "
                "of MMDuetIT for this benchmark?"
            )
    ids = [str(entry["question_id"]) for entry in entries]
    if several := user_files.repeated(ids):
        raise VireoError(f"{path}: question {next(iter(several))!r} occurs more than once")
    return dict(zip(ids, entries, strict=True))


def _score(frame: dict[str, Any], head: str) -> float:
    # parity: a frame without a score counts as 0 | files that leave frames out | none
    value = frame.get(head, 0.0)
    return float(value[1]) if isinstance(value, list | tuple) else float(value)


def read_line(line: dict[str, Any], source: str | Path = "") -> StreamedVideo:
    """A line of the original code, in either format; VireoError names file and question id.

    Scores and times must be finite; a frame without a score has 0.
    """
    where = f"{source}: prediction {line.get('question_id')!r}"
    try:
        frames = line.get("debug_data") or []
        one = StreamedVideo(
            str(line["question_id"]),
            list(line.get("model_response_list") or []),
            [float(f["time"] if "time" in f else f["video_time"]) for f in frames],
            [_score(f, HEADS[0]) for f in frames],
            [_score(f, HEADS[1]) for f in frames],
        )
        for turn in one.turns:
            if not isinstance(turn["content"], str) or not isinstance(turn["role"], str):
                raise TypeError("`role` and `content` of a turn must be texts")
            user_files.finite(turn["time"], f"{where}, time of a turn")
    except (KeyError, TypeError, IndexError, ValueError, AttributeError) as error:
        raise VireoError(
            f"{where} is not as test/inference.py writes it ({type(error).__name__}: {error})"
        ) from error
    for name, values in (
        ("time", one.times),
        (HEADS[0], one.informative),
        (HEADS[1], one.relevance),
    ):
        user_files.finite(values, f"{where}, {name}")
    return one


def read_lines(path: str | Path) -> list[StreamedVideo]:
    """Every prediction line of a file, repeated ids included."""
    lines = user_files.objects(path)
    result = [read_line(line, path) for line in lines]
    frames = [frame for line in lines for frame in line.get("debug_data") or []]
    absent = sum(HEADS[1] not in frame for frame in frames)
    if absent:
        log.warning(
            "%s: %d of %d frames have no %s; they count as 0, as in the reference",
            *(path, absent, len(frames), HEADS[1]),
        )
    return result


def last_of_each(lines: Iterable[StreamedVideo], path: str | Path) -> dict[str, StreamedVideo]:
    """Question id -> its last line; repeated ids are counted in the log."""
    lines = list(lines)
    user_files.warn_repeated((one.id for one in lines), path, "the last line of each counts")
    return {one.id: one for one in lines}


def annotations(
    sources: dict[str, Path], block: dict[str, Any], option: str = "file"
) -> tuple[Path, list[dict[str, Any]]]:
    """The annotation file that `options.<option>` names, below any of the data folders."""
    name = (block.get("options") or {}).get(option)
    if not name:
        raise VireoError(f"benchmark options: `{option}` must name the annotation file")
    for root in map(Path, sources.values()):
        if root.is_file():  # `paths` names this very file
            exact = root if root.name == Path(name).name else root.with_name(Path(name).name)
        else:
            exact = inside(root, name)
        if exact.exists():
            return exact, read_json_or_lines(exact)
        if root.is_dir() and any(root.glob(f"**/{Path(name).name}")):
            path = lists.chosen(root, [Path(name).name], [], "annotation file")
            return path, read_json_or_lines(path)
    raise VireoError(f"no {name} below {', '.join(map(str, sources.values()))}")


def item_rows(
    entries: Iterable[dict[str, Any]], split: str, source: Path, keep: Sequence[str]
) -> pd.DataFrame:
    """Annotation entries -> items; `keep` names what of them is needed for scoring.

    `options` holds the user's turns as JSON, one each: they decide the predictions.
    """
    rows = []
    for entry in entries:
        try:
            turns = [turn for turn in entry["conversation"] if turn["role"] == "user"]
            video = stem(entry["video"])
            asked = [{"time": float(t["time"]), "content": str(t["content"])} for t in turns]
            meta = {key: entry[key] for key in keep}
        except (KeyError, TypeError) as error:
            raise VireoError(
                f"{source}: entry {entry.get('question_id')!r} does not have {error}"
            ) from error
        rows.append(
            {
                "id": str(entry["question_id"]),
                "split": split,
                "video": video,
                "start": math.nan,
                "end": math.nan,
                "question": asked[0]["content"] if asked else "",
                "options": [json.dumps(turn, ensure_ascii=False) for turn in asked],
                "answer": "",
                "group": video,
                "meta": json.dumps(meta, ensure_ascii=False),
            }
        )
    return pd.DataFrame(rows)


def videos(sources: dict[str, Path], items: pd.DataFrame, block: dict[str, Any]) -> pd.DataFrame:
    """Where each video lies: `<stem>.*` at any depth of any data folder, the first that has it."""
    from vireo.media import inventory

    ids = list(dict.fromkeys(items["video"]))
    result = None
    for root in dict.fromkeys(Path(root) for root in sources.values()):
        found = inventory.find(ids, root, ["{id}.*"])
        result = found if result is None else result.where(result["status"] == "found", found)
    assert result is not None
    return result


def prompts(items: pd.DataFrame, protocol: dict[str, Any]) -> dict[str, list[str]]:
    """Item id -> the texts of its user turns."""
    return {
        row.id: [json.loads(text)["content"] for text in row.options]
        for row in item_table.rows(items)
    }


def from_rows(
    items: pd.DataFrame, predictions: pd.DataFrame, block: dict[str, Any]
) -> dict[str, StreamedVideo]:
    """Prediction rows of the workflow; `options.threshold` picks one of those that were swept."""
    wanted = (block.get("options") or {}).get("threshold")
    done = predictions.loc[predictions["status"] == "ok"]
    known = set(items["id"])
    result = {}
    for row in done.itertuples():
        if row.id not in known:
            continue
        value = json.loads(str(row.prediction))
        answers = value["answers"]
        key = next(iter(answers)) if wanted is None else str(float(wanted))
        if key not in answers:
            raise unknown("threshold", key, answers, "(options.threshold; protocol.prompt.watch)")
        scores = user_files.row_scores(row.scores, str(row.id)).reshape(2, -1)
        # parity: metrics are computed from scores of three decimals | scores near a threshold |
        # none
        informative, relevance = np.round(scores, 3).tolist()
        times = list(_times(value["fps"], len(informative)))
        turns = value["asked"] + answers[key]
        turns = sorted(turns, key=lambda turn: turn["time"])
        result[str(row.id)] = StreamedVideo(str(row.id), turns, times, informative, relevance)
    return result


def _times(fps: float, count: int) -> Iterator[float]:
    now: float = 0.0
    for _ in range(count):
        yield now
        now += 1 / fps


def shuffled(predicted: dict[str, StreamedVideo], times: int) -> Iterator[dict[str, StreamedVideo]]:
    """The control of per-frame scores: relevance in another order within each video."""
    for number in range(times):
        result = {}
        for id, one in predicted.items():
            rng = np.random.default_rng([number, *id.encode()])
            result[id] = replace(one, relevance=rng.permutation(one.relevance).tolist())
        yield result


def export(
    items: pd.DataFrame, predictions: pd.DataFrame, outdir: Path, block: dict[str, Any]
) -> list[Path]:
    """The original code's output file, one line per question."""
    lines = []
    for one in from_rows(items, predictions, block).values():
        scores = zip(one.times, one.informative, one.relevance, strict=True)
        debug = [{"time": t, HEADS[0]: i, HEADS[1]: r} for t, i, r in scores]
        line = {"question_id": one.id, "model_response_list": one.turns, "debug_data": debug}
        lines.append(json.dumps(line, ensure_ascii=False))
    path = Path(outdir) / f"{block.get('model', 'model')}_predictions.jsonl"
    write_text(path, "".join(line + "\n" for line in lines))
    return [path]


def last_line(value: Any) -> str:
    """JSON for the last line of an evaluation."""
    return json.dumps(value, ensure_ascii=False) + "\n"
