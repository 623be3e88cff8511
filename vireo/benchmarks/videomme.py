"""Video-MME: 900 videos, 2,700 multiple-choice questions, from the official parquet to its scores.

Facts: dataset card of lmms-lab/Video-MME and the official scorer (thanku-all/parse_answer, see
vireo/metrics/mcq.py). Accuracy counts answered questions, as the official scorer does; accuracy_all
counts unanswered ones as wrong. Subtitles are counted, never shown to the model.

One row of the parquet (values invented):

    video_id 001 | duration short | domain Knowledge | sub_category Geography
    videoID AbCdEfGhIjK | question_id 001-1 | task_type Counting Problem
    question "How many cups?" | options ["A. One.", "B. Two.", "C. Three.", "D. Four."] | answer B
"""

import json
import logging
import re
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from vireo.benchmarks.annotations.videomme_items import DURATIONS, LABELS, items, options
from vireo.errors import VireoError
from vireo.metrics import mcq
from vireo.metrics.intervals import breakdown
from vireo.metrics.scores import Metric, Scores
from vireo.tables import items as item_table
from vireo.utils.files import read_json, write_json

log = logging.getLogger("vireo")

NEEDS = "DualEncoder"
PREDICTS = "choice"

__all__ = ["DURATIONS", "LABELS", "items", "options"]


def videos(sources: dict[str, Path], items: pd.DataFrame, block: dict[str, Any]) -> pd.DataFrame:
    """Where each video lies, in either layout, one row per video (columns: vireo/tables/items.py).

    `<videoID>.mp4` (any video ending, any depth) or `<videoID>/frames/*.jpg`; of several data
    folders the first that has it. The further column `subtitles` says whether `<videoID>.srt` or
    `<videoID>/subtitles.txt` is there; the model never sees them.
    """
    from vireo.media import inventory  # imports OpenCV, which scoring does not need

    ids = list(dict.fromkeys(items["video"]))
    roots = list(dict.fromkeys(Path(root) for root in sources.values()))
    result = inventory.find(ids, roots[0])
    spoken = inventory.find(ids, roots[0], ["{id}.srt"])["status"] == "found"
    for root in roots[1:]:
        other = inventory.find(ids, root)
        result = result.where(result["status"] == "found", other)
        spoken |= inventory.find(ids, root, ["{id}.srt"])["status"] == "found"
    sliced = [
        kind == "jpegs" and Path(path).with_name("subtitles.txt").exists()
        for path, kind in zip(result["path"], result["kind"], strict=True)
    ]
    if not (result["status"] == "found").any():
        log.warning(
            "no video in %s: expected <videoID>.mp4 at any depth or <videoID>/frames/*.jpg",
            ", ".join(map(str, roots)),
        )
    result["subtitles"] = spoken | pd.Series(sliced, dtype=bool)
    log.info("subtitles of %d of %d videos (never used)", result["subtitles"].sum(), len(result))
    return result


def prompts(items: pd.DataFrame, protocol: dict[str, Any]) -> dict[str, list[str]]:
    """Item id -> the four texts compared with the video.

    Default: the raw options with their letters, as the reference feeds them. Switches of
    `protocol["prompt"]`: `letter_prefix: false` strips "A. ", `question_in_text: true` puts the
    question in front.
    """
    prompt = protocol.get("prompt") or {}
    result = {}
    for row in item_table.rows(items):
        texts = list(row.options)
        if not prompt.get("letter_prefix", True):
            texts = [re.sub(r"^\s*[A-D]\.\s*", "", text) for text in texts]
        if prompt.get("question_in_text", False):
            texts = [f"{row.question} {text}" for text in texts]
        result[row.id] = texts
    return result


def responses(items: pd.DataFrame, predictions: pd.DataFrame) -> dict[str, str | None]:
    """Item id -> chosen option with its letter, None where there is no prediction.

    `prediction` holds the chosen option's index or the response text, as JSON.
    """
    done = predictions.loc[predictions["status"] == "ok"]
    given = dict(zip(done["id"], done["prediction"], strict=True))
    result: dict[str, str | None] = {}
    for row in item_table.rows(items):
        value = json.loads(given[row.id]) if row.id in given else None
        if isinstance(value, int):
            if not 0 <= value < len(row.options):
                raise VireoError(f"prediction of {row.id!r}: there is no option number {value}")
            value = row.options[value]
        if value is not None and not isinstance(value, str):
            raise VireoError(f"prediction of {row.id!r}: {value!r} is no option number and no text")
        result[row.id] = value
    return result


def grouped(items: pd.DataFrame, answers: dict[str, str | None]) -> list[dict[str, Any]]:
    """The official grouped format in dataset order; videos without any prediction are `missing`."""
    videos: dict[str, dict[str, Any]] = {}
    for row in item_table.rows(items):
        meta = json.loads(row.meta)
        head = {k: meta[k] for k in ("video_id", "duration", "domain", "sub_category")}
        video = videos.setdefault(meta["video_id"], {**head, "missing": True, "questions": []})
        response = answers[row.id]
        video["missing"] &= response is None
        video["questions"].append(
            {
                "question_id": row.id,
                "task_type": meta["task_type"],
                "question": row.question,
                "options": list(row.options),
                "answer": row.answer,
                "response": response or "",
            }
        )
    return list(videos.values())


def flat(items: pd.DataFrame, answers: dict[str, str | None]) -> list[dict[str, Any]]:
    """The seed guide's list of questions; its `video_id` is the file stem (`videoID`)."""
    result = []
    for row in item_table.rows(items):
        meta = json.loads(row.meta)
        result.append(
            {
                "video_id": row.video,
                "question_id": row.id,
                "answer": row.answer,
                "response": answers[row.id] or "",
                **{k: v for k, v in meta.items() if k != "video_id"},
                "videoID": row.video,
                "question": row.question,
                "options": list(row.options),
            }
        )
    return result


def export(
    items: pd.DataFrame, predictions: pd.DataFrame, outdir: Path, block: dict[str, Any]
) -> list[Path]:
    """Write `<model>_predictions.json` (flat) and `<model>_output_test.json` (grouped)."""
    answers = responses(items, predictions)
    name = block.get("model", "model")
    paths = [Path(outdir) / f"{name}_predictions.json", Path(outdir) / f"{name}_output_test.json"]
    write_json(paths[0], flat(items, answers))
    write_json(paths[1], grouped(items, answers))
    return paths


def score(items: pd.DataFrame, predictions: pd.DataFrame, block: dict[str, Any]) -> Scores:
    """Accuracy over answered questions and over all, by every label, and the official printout."""
    answers = responses(items, predictions)
    right, answered = {}, []
    for row in item_table.rows(items):
        given = mcq.letter(answers[row.id] or "")
        right[row.id] = 100.0 * (given == row.answer)
        answered += [row.id] if given else []
    everything = pd.Series(right, dtype=float)
    official = everything.loc[answered]
    metrics = {
        "accuracy": Metric.mean(official, "%", 0.0, 100.0, "official (answered only)"),
        "accuracy_all": Metric.mean(everything, "%", 0.0, 100.0, "all questions"),
    }
    parts = {name: m.contributions for name, m in metrics.items() if m.contributions is not None}
    labels = pd.DataFrame([json.loads(m) for m in items["meta"]], index=items["id"])
    groups = items.set_index("id")["group"]
    names = {"duration": tuple(block.get("splits") or DURATIONS), **LABELS}
    if "probe" in labels:
        names["probe"] = tuple(sorted(labels["probe"].dropna().unique()))
    breakdowns = {
        kind: breakdown(parts, labels[kind], groups, order, 0.0, 100.0)
        for kind, order in names.items()
    }
    videos = grouped(items, answers)
    durations = [d for d in names["duration"] if d in set(labels["duration"])]
    number = {d: sum(v["duration"] == d for v in videos) for d in durations}
    skip = any(n != mcq.VIDEOS_PER_DURATION for n in number.values())
    counted = mcq.count(videos, durations, LABELS, skip_missing=skip)
    notes = list(_notes(items, answers, answered, number if skip else {}))
    return Scores(
        metrics=metrics,
        primary=block.get("primary") or "accuracy",
        breakdowns=breakdowns,
        printout=mcq.printout(counted),
        chance=block.get("chance", 25.0),
        notes=notes,
    )


def _notes(
    items: pd.DataFrame,
    answers: dict[str, str | None],
    answered: list[str],
    short_of: dict[str, int],
) -> Iterator[str]:
    none = sum(a is None for a in answers.values())
    if len(answered) < len(items):
        yield (
            f"{len(items) - len(answered)} of {len(items)} questions are unanswered: {none} "
            f"without prediction, {len(items) - len(answered) - none} without a letter in the "
            "response"
        )
    if short_of:
        listing = ", ".join(f"{duration} {n}" for duration, n in short_of.items())
        yield (
            f"not {mcq.VIDEOS_PER_DURATION} videos per duration ({listing}): the official scorer's "
            "numbers are made with skip_missing"
        )


def add_arguments(parser: ArgumentParser) -> None:
    """The official scorer's flags, and its function argument skip_missing as a flag."""
    parser.add_argument("--results_file", required=True, help="grouped JSON, one object per video")
    parser.add_argument(
        "--video_duration_type", required=True, help="short, medium, long, joined by commas"
    )
    parser.add_argument("--return_categories_accuracy", action="store_true")
    parser.add_argument("--return_sub_categories_accuracy", action="store_true")
    parser.add_argument("--return_task_types_accuracy", action="store_true")
    parser.add_argument(
        "--skip_missing",
        action="store_true",
        help="leave out videos with `missing: true` and accept other numbers than 300 per duration",
    )


def evaluate(args: Namespace) -> str:
    """Score a grouped results file; returns what the official script prints."""
    videos = read_json(args.results_file, "results file")
    if not isinstance(videos, list):
        raise VireoError(f"{args.results_file}: not a list with one object per video")
    if any(isinstance(v, dict) and "response" in v and "questions" not in v for v in videos):
        raise VireoError(
            f"{args.results_file} is a flat list of questions; give the grouped file, with one "
            "object per video (<model>_output_test.json)"
        )
    durations = args.video_duration_type.split(",")
    counted = mcq.count(videos, durations, LABELS, args.skip_missing, str(args.results_file))
    chosen = {
        "domain": args.return_categories_accuracy,
        "sub_category": args.return_sub_categories_accuracy,
        "task_type": args.return_task_types_accuracy,
    }
    both = mcq.overall(mcq.total([counts for _, counts in counted]))
    number = sum(len(v["questions"]) for v in videos if v["duration"] in durations)
    log.info(
        "official (answered only): %d of %d; all questions: %d of %d = %.1f%%, %d unanswered",
        *(both.correct, both.answered, both.correct, number),
        *(100 * both.correct / max(number, 1), number - both.answered),
    )
    return mcq.printout(counted, [kind for kind, wanted in chosen.items() if wanted])
