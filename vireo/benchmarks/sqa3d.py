"""SQA3D: questions about a situation in a ScanNet room, answered from its video by ClipBERT.

Items come from SQA3D's files or from ClipBERT's jsonl; videos from a tree of mp4 files (the
released video.zip, or made from .sens scans) or from ClipBERT's LMDB. The score is exact match in
percent (EM@1), in all and by type of question; the official files are `results_all.json` and
`scores.json` of ClipBERT's own evaluation.

One question and its annotation (values invented):

    {"question_id": 220602000001, "scene_id": "scene0380_00", "question": "What is on my left?",
     "situation": "I am facing a window.", "alternative_situation": ["A window is ahead."]}
    {"question_id": 220602000001, "answers": [{"answer": "table", "answer_id": 1}], …}
"""

import json
import logging
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

import pandas as pd

from vireo.benchmarks.annotations import sqa3d_items as annotations
from vireo.benchmarks.annotations import user_files
from vireo.errors import VireoError, unknown
from vireo.metrics import qa
from vireo.metrics.intervals import breakdown
from vireo.metrics.scores import Metric, Scores
from vireo.nn import answers
from vireo.tables import items as item_table
from vireo.utils.files import write_json

log = logging.getLogger("vireo")

NEEDS = "Answerer"
OUTSIDE = 0.01  # share of answers outside the dictionary that is worth a sentence


def items(sources: dict[str, Path], block: dict[str, Any]) -> pd.DataFrame:
    """One row per question of the block's splits; source role `questions`."""
    folder = Path(sources["questions"])
    return annotations.items(
        folder, list(block["splits"]), block.get("rows") or {}, bool(block.get("partial"))
    )


def videos(sources: dict[str, Path], items: pd.DataFrame, block: dict[str, Any]) -> pd.DataFrame:
    """Where each scene's video lies: an LMDB folder below role `videos`, or mp4 files."""
    from vireo.media import inventory, lmdb  # OpenCV and LMDB, which scoring does not need

    ids, root = list(dict.fromkeys(items["video"])), Path(sources["videos"])
    inventory.refuse_paths(ids)
    if root.name == "data.mdb":
        root = root.parent
    databases = sorted(root.rglob("data.mdb"), key=lambda p: (len(p.parts), str(p)))
    if databases:
        return lmdb.find(ids, databases[0].parent)
    return inventory.find(ids, root)


def score(items: pd.DataFrame, predictions: pd.DataFrame, block: dict[str, Any]) -> Scores:
    """EM@1 in percent over all questions and per type; questions without prediction count not."""
    given = _predicted(predictions)
    kinds = _meta(items, "answer_type")
    hits = {
        row.id: 100.0 * (given[row.id].get("answer") == row.answer)
        for row in item_table.rows(items)
        if row.id in given
    }
    everything = pd.Series(hits, dtype=float)
    metrics = {"em1": Metric.mean(everything, "%", 0.0, 100.0, "EM@1")}
    for kind in qa.TYPES:
        part = everything.loc[everything.index.intersection(kinds.index[kinds == kind])]
        metrics[f"em1_{kind}"] = Metric.mean(part, "%", 0.0, 100.0, f"EM@1, {kind}")
    groups = items.set_index("id")["group"]
    parts = {"em1": everything}
    breakdowns = {"question type": breakdown(parts, kinds, groups, qa.TYPES, 0.0, 100.0)}
    probes = _meta(items, "probe").dropna()
    if len(probes):
        order = sorted(probes.unique())
        breakdowns["probe"] = breakdown(parts, probes, groups, order, 0.0, 100.0)
    chosen = [(given.get(row.id, {}).get("answer"), row.answer, kinds[row.id])
              for row in item_table.rows(items)]  # fmt: skip
    return Scores(
        metrics=metrics,
        primary=block.get("primary") or "em1",
        breakdowns=breakdowns,
        printout=json.dumps(qa.in_percent(qa.scores(chosen)), indent=4) + "\n",
        chance=block.get("chance"),
        notes=list(_notes(items, given)),
    )


def _predicted(predictions: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Item id -> `answer` (None: a class without a name), `label`, `top`."""
    done = predictions.loc[predictions["status"] == "ok"]
    return {
        str(id): json.loads(text) for id, text in zip(done["id"], done["prediction"], strict=True)
    }


def _meta(items: pd.DataFrame, key: str) -> pd.Series:
    return pd.Series({row.id: json.loads(row.meta).get(key) for row in item_table.rows(items)})


def _notes(items: pd.DataFrame, given: dict[str, dict[str, Any]]) -> list[str]:
    notes = []
    outside = sum(p["answer"] is None for p in given.values())
    if outside > OUTSIDE * len(given):
        notes.append(
            f"{outside} of {len(given)} answers are classes outside the answer dictionary: the "
            "weights were trained with another one"
        )
    unknown = int((items["answer"] == annotations.UNKNOWN).sum())
    if unknown:
        notes.append(f"{unknown} right answers are not in the dictionary and cannot be given")
    return notes


def export(
    items: pd.DataFrame, predictions: pd.DataFrame, outdir: Path, block: dict[str, Any]
) -> list[Path]:
    """Write `results_all.json` and `scores.json` of the original, and `answers.json` of ours.

    The original numbers questions by line and groups them by video in order of first appearance;
    a question without prediction gets the label -1, which no dictionary holds. `answers.json` has
    SQA3D's ids, the answer in words, and the best answers with their log-probabilities.
    """
    given = _predicted(predictions)
    order = {video: n for n, video in enumerate(dict.fromkeys(items["video"]))}
    grouped = items.iloc[items["video"].map(order).argsort(kind="stable")]
    results, worded, chosen = [], [], []
    for row in item_table.rows(grouped):
        meta, found = json.loads(row.meta), given.get(row.id)
        data = {
            "question": row.question,
            "vid_id": row.video,
            "answer": row.answer,
            "question_id": meta["line"],
            "answer_type": meta["answer_type"],
        }
        label = found["label"] if found else -1
        results.append({"question_id": meta["line"], "answer": label, "data": data})
        worded.append({"question_id": row.id, "scene_id": row.video, **(found or {})})
        chosen.append((found["answer"] if found else None, row.answer, meta["answer_type"]))
    outdir = Path(outdir)
    paths = [outdir / name for name in ("results_all.json", "scores.json", "answers.json")]
    values = (results, qa.in_percent(qa.scores(chosen)), worded)
    for path, value in zip(paths, values, strict=True):
        write_json(path, value)
    return paths


def add_arguments(parser: ArgumentParser) -> None:
    """The files of ClipBERT's evaluation, or SQA3D's own."""
    parser.add_argument(
        "--results_file",
        required=True,
        help="results_all.json of ClipBERT (with --ans2label); or answers by SQA3D's question ids "
        "(with --questions): {id: answer}, or a list with question_id and answer or answer_top10",
    )
    parser.add_argument(
        "--ans2label", help="train_ans2label.json, or SQA3D's answer_dict.json (results_all.json)"
    )
    parser.add_argument(
        "--questions",
        help="SQA3D's v1_balanced_questions_<split>_scannetv2.json, with its annotations beside",
    )
    user_files.add_unmatched(parser)


def evaluate(args: Namespace) -> str:
    """Score a file of answers; returns the text of ClipBERT's scores.json."""
    if bool(args.ans2label) == bool(args.questions):
        raise VireoError(
            "give --ans2label with a results_all.json of ClipBERT, or --questions with answers by "
            "SQA3D's question ids"
        )
    chosen = _by_question(args) if args.questions else _by_label(args)
    return json.dumps(qa.in_percent(qa.scores(chosen)), indent=4) + "\n"


def _by_label(args: Namespace) -> list[tuple[str | None, str, str]]:
    """(predicted, right, type) of a results_all.json of ClipBERT."""
    names = answers.read(args.ans2label)
    results = user_files.objects(args.results_file)
    found: dict[Any, tuple[str | None, str, str]] = {}
    outside, ids = 0, []
    for number, entry in enumerate(results):
        try:
            label, data = int(entry["answer"]), entry["data"]
            # parity: a label without an answer stops the reference; here it is wrong | none where
            # the dictionary is complete | none
            known = 0 <= label < len(names)
            one = (names[label] if known else None, str(data["answer"]), str(data["answer_type"]))
            id = str(entry.get("question_id", f"entry {number}"))
        except (KeyError, TypeError, ValueError) as error:
            raise VireoError(
                f"{args.results_file}: entry {number} has no answer and data ({error!r}); this "
                "must be ClipBERT's results_all.json (answers by SQA3D's ids: --questions)"
            ) from error
        if one[2] not in qa.TYPES:
            raise VireoError(
                f"{args.results_file}: entry {number}: {unknown('answer_type', one[2], qa.TYPES)}"
            )
        # parity: of a repeated question the last result counts | files that repeat one, with a
        # warning | none
        found[id] = one
        ids.append(id)
        outside += not known
    user_files.warn_repeated(ids, args.results_file, "the last result of each counts")
    if outside:
        log.warning("%d of %d answers are outside the dictionary", outside, len(results))
    return list(found.values())


def _by_question(args: Namespace) -> list[tuple[str | None, str, str]]:
    """(predicted, right, type) of answers in words, joined by SQA3D's question ids."""
    gold = annotations.official_answers(Path(args.questions))
    given = _worded(args.results_file)
    files = (args.questions, args.results_file)
    user_files.matched(gold, [id for id, _ in given], files, args.max_unmatched)
    user_files.warn_repeated((id for id, _ in given), args.results_file, "the last answer counts")
    predicted = dict(given)
    return [(predicted[id], *gold[id]) for id in gold if id in predicted]


def _worded(path: str) -> list[tuple[str, str]]:
    value = user_files.json_or_lines(path)
    if isinstance(value, dict) and "question_id" not in value:
        value = [{"question_id": id, "answer": answer} for id, answer in value.items()]
    entries = [value] if isinstance(value, dict) else value
    result = []
    for number, entry in enumerate(entries if isinstance(entries, list) else []):
        try:
            best = entry["answer_top10"][0] if "answer_top10" in entry else entry["answer"]
            id = str(entry["question_id"])
        except (KeyError, TypeError, IndexError) as error:
            raise VireoError(
                f"{path}: entry {number} needs question_id and answer (or answer_top10)"
            ) from error
        if not isinstance(best, str):
            raise VireoError(f"{path}: question {id}: the answer must be text, not {best!r}")
        result.append((id, best))
    if not result:
        raise VireoError(f"{path}: no answers")
    return result
