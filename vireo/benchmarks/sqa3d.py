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
from vireo.errors import VireoError
from vireo.metrics import qa
from vireo.metrics.intervals import breakdown
from vireo.metrics.scores import Metric, Scores
from vireo.nn import answers
from vireo.tables import items as item_table
from vireo.utils.files import read_json, write_json

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
    """The files of the original evaluation."""
    parser.add_argument("--results_file", required=True, help="results_all.json")
    parser.add_argument(
        "--ans2label", required=True, help="train_ans2label.json, or SQA3D's answer_dict.json"
    )


def evaluate(args: Namespace) -> str:
    """Score a results_all.json of ClipBERT; returns the text of its scores.json."""
    names = answers.read(args.ans2label)
    results = read_json(args.results_file, "results file")
    chosen, outside = [], 0
    for number, entry in enumerate(results if isinstance(results, list) else []):
        try:
            label, data = int(entry["answer"]), entry["data"]
            # parity: a label without an answer stops the reference; here it is wrong
            known = 0 <= label < len(names)
            chosen.append((names[label] if known else None, data["answer"], data["answer_type"]))
            outside += not known
        except (KeyError, TypeError, ValueError) as error:
            raise VireoError(
                f"{args.results_file}: entry {number} has no answer and data ({error!r})"
            ) from error
    if not chosen:
        raise VireoError(f"{args.results_file}: not a list of results (results_all.json)")
    if outside:
        log.warning("%d of %d answers are outside the dictionary", outside, len(chosen))
    return json.dumps(qa.in_percent(qa.scores(chosen)), indent=4) + "\n"
