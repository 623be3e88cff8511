"""Zero-shot Kinetics-400/600/700: each clip against the names of all classes, in 16 sentences each.

Score of a class = mean over its prompts of the cosine with the video; top-1, top-5 and their mean
(AVG). Facts: docs/reference/viclip.md section 5, from running the authors' evaluation code.

One row of the official CSV (`label,youtube_id,time_start,time_end,split`), and of ViCLIP's JSON:

    playing volleyball,AbCdEfGhIjK,12,22,validate
    {"video": "playing_volleyball/AbCdEfGhIjK_000012_000022.mp4", "caption": "playing volleyball"}
"""

import csv
import json
import logging
import re
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vireo.benchmarks.annotations import user_files
from vireo.benchmarks.annotations.kinetics_items import (
    ID_LENGTH,
    classes,
    items,
    list_note,
    match,
)
from vireo.errors import VireoError
from vireo.metrics import retrieval, topk
from vireo.metrics.scores import Metric, Scores
from vireo.nn import templates
from vireo.utils.files import atomic, write_text

log = logging.getLogger("vireo")

NEEDS = "DualEncoder"
PREDICTS = "classes"
SHOWN = 5  # classes per clip in predictions.csv

__all__ = ["classes", "items"]


def videos(sources: dict[str, Path], items: pd.DataFrame, block: dict[str, Any]) -> pd.DataFrame:
    """Where each clip lies: `<id>_<start>_<end>.mp4` and its usual variants, found by id.

    Any ending, depth and folder; numbers with or without leading zeros, `_` or `-` between them,
    the end left out, or the bare id. A file that says another start is another clip. The column
    `unlisted` is the number of clips in the folders that no row of the list names.
    """
    from vireo.media import inventory  # imports OpenCV, which scoring does not need

    by_id: dict[str, list[tuple[str, float | None]]] = {}
    for row in items.drop_duplicates("video").itertuples():
        start = json.loads(str(row.meta)).get("time_start")
        by_id.setdefault(str(row.video)[:ID_LENGTH], []).append((str(row.video), start))
    best: dict[str, tuple[tuple[int, bool, int, str], Any]] = {}
    unlisted = 0
    for root in dict.fromkeys(Path(root) for root in sources.values()):
        for path, seen in inventory.videos(root) if root.is_dir() else ():
            stem = Path(path).stem
            known = False
            for video, start in by_id.get(stem[:ID_LENGTH], ()):
                rank = _rank(stem, video, start)
                known |= rank is not None
                order = (rank or 0, seen.st_size == 0, path.count("/"), path)
                if rank is not None and (video not in best or order < best[video][0]):
                    best[video] = (order, seen)
            unlisted += not known
    if unlisted:
        log.warning(
            "%d clips in the folder are in no row of the list: they are not scored. Is this the "
            "list of these clips (docs/data.md)?",
            unlisted,
        )
    table: list[tuple[Any, ...]] = []
    for video in dict.fromkeys(items["video"]):
        if video in best:
            order, seen = best[video]
            table.append((video, order[3], "file", seen.st_size, seen.st_mtime_ns, "found"))
        else:
            table.append((video, None, "file", 0, 0, "missing"))
    if not best:
        log.warning(
            "no clip in %s: expected <youtube id>_<start>_<end>.mp4 at any depth",
            ", ".join(str(root) for root in sources.values()),
        )
    made = pd.DataFrame(table, columns=inventory.COLUMNS)
    made["unlisted"] = unlisted
    return made.astype({"size": "int64", "mtime_ns": "int64"})


def _rank(stem: str, video: str, start: float | None) -> int | None:
    """How well a file name fits a clip (0 best), None when it is another clip's."""
    if stem == video:
        return 0
    rest = stem[ID_LENGTH:]
    if not rest:
        return 2
    numbers = re.fullmatch(r"[_-](\d+)(?:[_-](\d+))?", rest)
    if start is None:  # the list says no times: only its own name or the bare id
        return None
    return 1 if numbers and int(numbers[1]) == int(start) else None


def shared_texts(items: pd.DataFrame, protocol: dict[str, Any]) -> list[list[str]]:
    """The prompts of every class, in the order of `classes(items)`."""
    which = (protocol.get("prompt") or {}).get("templates", "action16")
    return [templates.expand(name, which) for name in classes(items)]


def score(items: pd.DataFrame, predictions: pd.DataFrame, block: dict[str, Any]) -> Scores:
    """Top-1, top-5 and AVG over the clips that have a prediction."""
    ids, scores, labels, names = _matrix(items, predictions)
    ties = rule(block)
    place = topk.ranks(scores, labels, ties) if len(ids) else np.zeros(0, int)
    top1 = pd.Series(100.0 * (place < 1), index=ids)
    top5 = pd.Series(100.0 * (place < 5), index=ids)
    metrics = {
        "top1": Metric.mean(top1, "%", 0.0, 100.0, "top-1"),
        "top5": Metric.mean(top5, "%", 0.0, 100.0, "top-5"),
        "avg": Metric.mean((top1 + top5) / 2, "%", 0.0, 100.0, "AVG of top-1 and top-5"),
    }
    options = block.get("options") or {}
    notes = []
    if options.get("release"):
        notes.append(
            f"annotations: {block.get('title', 'Kinetics')}, release {options['release']}, "
            f"{len(names)} classes, {len(items)} clips"
        )
    if listed := list_note(len(items), options):
        notes.append(listed)
    breakdowns = {}
    if len(ids):
        dual = topk.ranks(retrieval.dual_softmax(scores), labels, ties)
        row = {"label": "dual softmax over the whole set", "n": len(ids)}
        row |= {f"top{k}": 100.0 * float((dual < k).mean()) for k in (1, 5)}
        breakdowns["other"] = pd.DataFrame([row])
    return Scores(
        metrics=metrics,
        primary=block.get("primary") or "top1",
        breakdowns=breakdowns,
        chance=block.get("chance", 100.0 / len(names)),
        notes=[*notes, topk.note(ties, scores)],
    )


def rule(block: dict[str, Any]) -> str:
    """Which of equally scored classes wins: `options.ties`, else ViCLIP's."""
    # parity: the reference sorts ascending and reverses, so of equal scores the highest class wins
    # | equal scores are rare in float32 | `options.ties: lowest`
    return str((block.get("options") or {}).get("ties", "highest"))


def _matrix(
    items: pd.DataFrame, predictions: pd.DataFrame
) -> tuple[list[str], np.ndarray, np.ndarray, list[str]]:
    """Ids with a prediction, their scores [N,K], their labels [N], and the K class names."""
    names = classes(items)
    done = user_files.check_predictions(predictions)
    given = dict(zip(done["id"], done["scores"], strict=True))
    chosen = items[items["id"].isin(given)]
    ids = list(chosen["id"])
    for id in ids:
        if len(given[id]) != len(names):
            raise VireoError(
                f"prediction of {id!r} has {len(given[id])} scores for {len(names)} classes: the "
                "annotations have changed, infer again"
            )
    place = {name: k for k, name in enumerate(names)}
    scores = np.stack([given[id] for id in ids]) if ids else np.zeros((0, len(names)))
    return ids, scores, chosen["answer"].map(place).to_numpy(dtype=int), names


def export(
    items: pd.DataFrame, predictions: pd.DataFrame, outdir: Path, block: dict[str, Any]
) -> list[Path]:
    """Write predictions.csv (id, label and the best classes) and per_class.csv."""
    ids, scores, labels, names = _matrix(items, predictions)
    shown = min(SHOWN, len(names))
    paths = [Path(outdir) / "predictions.csv", Path(outdir) / "per_class.csv"]
    order = topk.best(scores, shown, rule(block))
    with atomic(paths[0]) as tmp, open(tmp, "w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["id", "label", *(f"top{k + 1}" for k in range(shown))])
        for id, label, best in zip(ids, labels, order, strict=True):
            writer.writerow([id, names[label], *(names[k] for k in best)])
    place = topk.ranks(scores, labels, rule(block)) if ids else np.zeros(0, int)
    lines = ["label,n,top1,top5"]
    for k, name in enumerate(names):
        own = place[labels == k]
        cells = [f"{100 * (own < top).mean():.2f}" if len(own) else "" for top in (1, 5)]
        quoted = '"' + name.replace('"', '""') + '"' if re.search('[,"]', name) else name
        lines.append(",".join([quoted, str(len(own)), *cells]))
    write_text(paths[1], "\n".join(lines) + "\n")
    return paths


def add_arguments(parser: ArgumentParser) -> None:
    """Flags of `vireo evaluate kinetics`."""
    parser.add_argument("--annotations", required=True, type=Path, help="official CSV or JSON list")
    parser.add_argument(
        "--predictions", required=True, type=Path, help="CSV with id, top1, …, top5 (class names)"
    )
    parser.add_argument("--classes", type=int, help="number of classes that there must be")
    user_files.add_unmatched(parser)


def evaluate(args: Namespace) -> str:
    """Score a CSV of the best five classes of each clip."""
    known = items({"annotations": args.annotations}, {"options": {"classes": args.classes}})
    answers = dict(zip(known["id"], known["answer"], strict=True))
    names = classes(known)
    rows = user_files.csv_rows(args.predictions, ("id", "top1"))
    ids = [row["id"] for _, row in rows]
    if several := user_files.repeated(ids):
        raise VireoError(
            f"{args.predictions}: {len(several)} clips occur more than once, the first is "
            f"{next(iter(several))!r}; each clip counts once"
        )
    user_files.matched(answers, ids, (args.annotations, args.predictions), args.max_unmatched)
    hits = {1: 0, 5: 0}
    rows = [(where, row) for where, row in rows if row["id"] in answers]
    for where, row in rows:
        given = [row[f"top{k}"] for k in range(1, 6) if row.get(f"top{k}")]
        spelt = match(given, names, where)
        for k in hits:
            hits[k] += answers[row["id"]] in [spelt[name] for name in given[:k]]
    top1, top5 = (100 * hits[k] / len(rows) for k in (1, 5))
    return (
        f"clips: {len(rows)} of {len(known)}\n"
        f"top-1: {top1:.2f}\ntop-5: {top5:.2f}\nAVG: {(top1 + top5) / 2:.2f}\n"
    )
