"""What MMDuet's four benchmarks share: annotations, prediction lines in either format, inventories.

An annotation entry is `{question_id, video, conversation: [{role, content, time}], …}`; a line of
predictions is `{question_id, model_response_list, debug_data}`, where `debug_data` holds per frame
`time` and scores, or in the older format `video_time` and [p(false), p(true)]. Metrics use scores
of three decimals in both.
"""

import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vireo.errors import VireoError, unknown
from vireo.tables import items as item_table
from vireo.utils.files import inside, write_text

PREDICTS = "watch"
HEADS = ("informative_score", "relevance_score")


@dataclass
class Watched:
    """One prediction: turns in the order of time, and per frame its time and scores."""

    id: str
    turns: list[dict[str, Any]]
    times: list[float]
    informative: list[float]
    relevance: list[float]


def read_json_or_lines(path: str | Path) -> list[dict[str, Any]]:
    """A JSON list, or one JSON object a line."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise VireoError(f"file not found: {path}") from error
    try:
        if text.lstrip()[:1] == "[":
            return json.loads(text)
        return [json.loads(line) for line in text.splitlines() if line.strip()]
    except ValueError as error:
        raise VireoError(f"{path} is neither a JSON list nor JSON lines: {error}") from error


def _score(value: Any) -> float:
    return float(value[1]) if isinstance(value, list | tuple) else float(value)


def watched(line: dict[str, Any], source: str | Path = "") -> Watched:
    """A line of the original code, in either format."""
    try:
        frames = line.get("debug_data") or []
        return Watched(
            str(line["question_id"]),
            list(line.get("model_response_list") or []),
            [float(f["time"] if "time" in f else f["video_time"]) for f in frames],
            [_score(f.get("informative_score", math.nan)) for f in frames],
            [_score(f.get("relevance_score", math.nan)) for f in frames],
        )
    except (KeyError, TypeError, IndexError) as error:
        raise VireoError(
            f"{source}: prediction {line.get('question_id')!r} is not as test/inference.py writes "
            f"it ({type(error).__name__}: {error})"
        ) from error


def read_predictions(path: str | Path) -> dict[str, Watched]:
    """Predictions of a file by question id; of several lines the last counts."""
    lines = read_json_or_lines(path)
    return {one.id: one for one in (watched(line, path) for line in lines)}


def annotations(
    sources: dict[str, Path], block: dict[str, Any], option: str = "file"
) -> tuple[Path, list[dict[str, Any]]]:
    """The annotation file that `options.<option>` names, below any of the data folders."""
    name = (block.get("options") or {}).get(option)
    if not name:
        raise VireoError(f"benchmark options: `{option}` must name the annotation file")
    for root in sources.values():
        exact = inside(root, name)
        found = [exact] if exact.exists() else sorted(Path(root).glob(f"**/{Path(name).name}"))
        if found:
            return found[0], read_json_or_lines(found[0])
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
            video = Path(entry["video"])
            asked = [{"time": float(t["time"]), "content": str(t["content"])} for t in turns]
            meta = {key: entry[key] for key in keep}
        except (KeyError, TypeError) as error:
            raise VireoError(
                f"{source}: entry {entry.get('question_id')!r} lacks {error}"
            ) from error
        rows.append(
            {
                "id": str(entry["question_id"]),
                "split": split,
                "video": video.stem,
                "start": math.nan,
                "end": math.nan,
                "question": asked[0]["content"] if asked else "",
                "options": [json.dumps(turn, ensure_ascii=False) for turn in asked],
                "answer": "",
                "group": video.stem,
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
) -> dict[str, Watched]:
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
        scores = np.asarray(row.scores, dtype=np.float64).reshape(2, -1)
        # parity: metrics are computed from scores of three decimals
        informative, relevance = np.round(scores, 3).tolist()
        times = list(_times(value["fps"], len(informative)))
        turns = value["asked"] + answers[key]
        turns = sorted(turns, key=lambda turn: turn["time"])
        result[str(row.id)] = Watched(str(row.id), turns, times, informative, relevance)
    return result


def _times(fps: float, count: int) -> Iterator[float]:
    now: float = 0.0
    for _ in range(count):
        yield now
        now += 1 / fps


def shuffled(predicted: dict[str, Watched], times: int) -> Iterator[dict[str, Watched]]:
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
