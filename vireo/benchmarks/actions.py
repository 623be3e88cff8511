"""Supervised recognition: Kinetics, Something-Something v2, Breakfast, COIN, LVU, or own lists.

Test views (segments x crops) are merged by the mean of their softmax. `options.format`: `kinetics`
(official CSV), `ssv2` (official JSON) or one of `action_lists`. Long videos may be cut into
windows (`options.windows: {length, stride}`, seconds), each of which is an item. Facts:
docs/reference/viclip.md section 6, docs/reference/videomamba.md section 3.

One row of each format (values invented):

    list       videos/a.mp4,37                           (path,class number)
    kinetics   playing volleyball,AbCdEfGhIjK,12,22,validate
    ssv2       {"id": "78687", "label": "holding a cup", "template": "Holding [something]"}
    breakfast  P99-cam01-P99_tea,41,tea,2                (file_name,duration,action,class_id)
    lvu        3 office AbCdEfGhIjK tt0110912            (class_id class_name youtube_id imdb_id)
"""

import csv
import json
import logging
from argparse import ArgumentParser, Namespace
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vireo.benchmarks import kinetics
from vireo.benchmarks.annotations import action_lists, kinetics_items, user_files
from vireo.errors import VireoError, unknown
from vireo.metrics import topk
from vireo.metrics import views as merging
from vireo.metrics.scores import Metric, Scores
from vireo.utils.files import atomic, read_json

log = logging.getLogger("vireo")

NEEDS = "Classifier"
PREDICTS = "classes"
FORMATS = ("kinetics", "ssv2", *action_lists.FORMATS)
MERGES = ("faithful", "all_windows")
# parity: VideoMamba's and UMT's merge takes the arg-max, so of equal scores the lowest class wins |
# bfloat16 logits tie often | `options.ties: highest`
TIES = "lowest"
LAST_FRAME = 1e-3  # seconds, less than one frame
SUSPICIOUS = 0.3  # top-1 that a renaming of the classes may add before it looks like a mix-up


def classes(items: pd.DataFrame) -> list[str]:
    """The class names in order: as the list numbers them, else sorted."""
    listed = items["options"].iloc[0] if "options" in items and len(items) else ()
    if len(listed):
        return [str(name) for name in listed]
    names = set(items["answer"])
    if all(name.isdigit() for name in names):
        return sorted(names, key=int)
    return sorted(names)


def items(sources: dict[str, Path], block: dict[str, Any]) -> pd.DataFrame:
    """One row per clip or window; `answer` is the class name (of `view` and `like` the target).

    Splits are those of the block, or only `options.split`. VireoError unless there are
    `options.classes` classes and the block's number of rows.
    """
    options = block.get("options") or {}
    form = options.get("format", "kinetics")
    if form not in FORMATS:
        raise unknown("format of action labels", form, FORMATS)
    if form == "kinetics":
        return kinetics_items.items(sources, block)
    splits = [options["split"]] if options.get("split") else block.get("splits") or ["val"]
    root = Path(sources["annotations"])
    parts = [_split(root, split, options, block) for split in splits]
    return pd.concat(parts, ignore_index=True)


def _split(root: Path, split: str, options: dict[str, Any], block: dict[str, Any]) -> pd.DataFrame:
    ssv2 = options["format"] == "ssv2"
    listing = _ssv2(root, split, options) if ssv2 else action_lists.read(root, split, options)
    entries, path, names = listing.entries, listing.source, listing.names
    wanted = options.get("classes")
    found = len(names or {entry.label for entry in entries})
    if wanted is not None and found != wanted:
        raise VireoError(f"{path}: {found} classes, {wanted} expected")
    paths = [entry.path for entry in entries]
    twice = [path for path, count in Counter(paths).items() if count > 1]
    if twice:
        raise VireoError(f"{path}: {twice[0]!r} occurs more than once")
    number = (block.get("rows") or {}).get(split)
    if number is not None and len(entries) != number and not block.get("partial"):
        raise VireoError(f"{path}: {len(entries)} clips, {number} expected (or `partial: true`)")
    rows: list[dict[str, Any]] = []
    for id, entry in zip(action_lists.identifiers(paths), entries, strict=True):
        meta: dict[str, Any] = {"path": entry.path} | ({"frames": True} if entry.frames else {})
        meta |= {} if entry.duration is None else {"duration": entry.duration}
        row: dict[str, Any] = {
            "id": id,
            "video": id,
            "group": id,
            "split": split,
            "answer": entry.label,
        }
        row |= {"start": float("nan"), "end": float("nan"), "question": ""}
        row |= {"options": names or [], "meta": json.dumps(meta, ensure_ascii=False)}
        rows += _windows(row, entry, options["windows"], path) if options.get("windows") else [row]
    return pd.DataFrame(rows)


def listed_path(row: dict[str, Any]) -> str:
    """The path of an item as its list has it; its id in annotations without paths."""
    return str(json.loads(row["meta"]).get("path", row["video"]))


def duration(row: dict[str, Any]) -> float | None:
    """Seconds of an item's video, if its list says them."""
    seconds = json.loads(row["meta"]).get("duration")
    return None if seconds is None else float(seconds)


def _windows(
    row: dict[str, Any], entry: action_lists.Entry, wanted: dict[str, float], path: Path
) -> list[dict[str, Any]]:
    from vireo.media import views

    if entry.duration is None:
        raise VireoError(f"{path}: windows of {entry.path!r} need its duration in the list")
    cut = views.windows(entry.duration, wanted["length"], wanted["stride"])
    # parity: the frame at a window's end belongs to it | one frame more at the end of a window |
    # none
    return [
        {**row, "id": f"{row['id']}#{number}", "start": float(start), "end": end + LAST_FRAME}
        for number, (start, end) in enumerate(cut)
    ]


def _ssv2(root: Path, split: str, options: dict[str, Any]) -> action_lists.Listing:
    """Video ids and classes of the official JSON; the class is the template without brackets."""
    word = {"val": "validation"}.get(split, split)
    names = [options["list"]] if options.get("list") else [f"*{word}*.json"]
    path = action_lists.find(root, names, "list")
    entries = read_json(path, "list of Something-Something")
    rows = []
    for number, entry in enumerate(entries if isinstance(entries, list) else [None]):
        try:
            label = entry["template"].replace("[", "").replace("]", "").strip()
            rows.append(action_lists.Entry(str(entry["id"]), label))
        except (KeyError, TypeError, AttributeError) as error:
            raise VireoError(f"{path}, entry {number}: needs `id` and `template`") from error
    return action_lists.Listing(rows, None, path)


def videos(sources: dict[str, Path], items: pd.DataFrame, block: dict[str, Any]) -> pd.DataFrame:
    """Where each clip lies: Kinetics by id and start, SSv2 by id, others by path or name."""
    form = (block.get("options") or {}).get("format", "kinetics")
    if form == "kinetics":
        return kinetics.videos(sources, items, block)
    if form != "ssv2":
        return action_lists.videos(Path(sources["videos"]), items)
    from vireo.media import inventory

    return inventory.find(list(items["video"]), Path(sources["videos"]))


def gathered(
    items: pd.DataFrame, predictions: pd.DataFrame, block: dict[str, Any], every: bool = False
) -> dict[str, list[np.ndarray]]:
    """Item id -> scores of its views; a video in windows stands under its first item's id.

    Of windows only the first with a prediction counts, unless `every` or `options.merge` is
    `all_windows`.
    """
    options = block.get("options") or {}
    if options.get("merge", "faithful") not in MERGES:
        raise unknown("merge of windows", options["merge"], MERGES)
    # parity: the reference merges windows under one name and keeps the first it meets | windows of
    # a long video but the first do not count | `options.merge: all_windows`
    every = every or options.get("merge") == "all_windows"
    done = user_files.check_predictions(predictions)
    by_id = {id: list(rows) for id, rows in done.groupby("id", sort=False)["scores"]}
    whole = "video" if options.get("windows") else "id"
    found: dict[str, list[np.ndarray]] = {}
    for _, own in items.groupby(whole, sort=False)["id"]:
        views = [by_id[id] for id in own if id in by_id]
        if views:
            found[own.iloc[0]] = [view for part in views[: None if every else 1] for view in part]
    return found


def merged(
    items: pd.DataFrame, predictions: pd.DataFrame, block: dict[str, Any], every: bool = False
) -> tuple[list[str], np.ndarray]:
    """Ids with a prediction and their mean probabilities [N,K] over the views."""
    names = classes(items)
    by_id = gathered(items, predictions, block, every)
    for id, views in by_id.items():
        if any(len(view) != len(names) for view in views):
            raise VireoError(f"prediction of {id!r} is not of {len(names)} classes: infer again")
    if not by_id:
        return [], np.zeros((0, len(names)), np.float32)
    return list(by_id), np.stack([merging.merge(views) for views in by_id.values()])


def score(items: pd.DataFrame, predictions: pd.DataFrame, block: dict[str, Any]) -> Scores:
    """Top-1 and top-5 of the merged views."""
    names = classes(items)
    windows = bool((block.get("options") or {}).get("windows"))
    ids, scores = merged(items, predictions, block)
    labels = _labels(items, ids, names)
    ties = rule(block)
    place = topk.ranks(scores, labels, ties) if ids else np.zeros(0, int)
    # an item without a prediction is a window, not a video: no bounds
    low, high = (None, None) if windows else (0.0, 100.0)
    metrics = {
        f"top{k}": Metric.mean(
            pd.Series(100.0 * (place < k), index=ids), "%", low, high, f"top-{k}"
        )
        for k in (1, 5)
    }
    if windows and ids:
        _, wide = merged(items, predictions, block, every=True)
        hits = pd.Series(100.0 * topk.hits(wide, labels, 1, ties), index=ids)
        title = "top-1, mean over all windows"
        metrics["top1_all_windows"] = Metric.mean(hits, "%", None, None, title)
    notes = []
    if listed := kinetics_items.list_note(len(items), block.get("options") or {}):
        notes.append(listed)
    if ids:
        top1 = metrics["top1"].value or 0.0
        other = merging.relabelled(scores.argmax(1), labels, len(names))
        # With few clips per class a renaming always finds something.
        if len(ids) >= 2 * len(names) and 100 * other - top1 > 100 * SUSPICIOUS:
            notes.append(
                f"class order looks permuted: another numbering of the classes gives top-1 "
                f"{100 * other:.1f}. Check the labels of the model's head"
            )
    return Scores(
        metrics=metrics,
        primary=block.get("primary") or "top1",
        chance=block.get("chance", 100.0 / len(names)),
        notes=[*notes, topk.note(ties, scores)],
    )


def rule(block: dict[str, Any]) -> str:
    """Which of equally scored classes wins: `options.ties`, else the reference's."""
    return str((block.get("options") or {}).get("ties", TIES))


def _labels(items: pd.DataFrame, ids: list[str], names: list[str]) -> np.ndarray:
    answer = dict(zip(items["id"], items["answer"], strict=True))
    place = {name: number for number, name in enumerate(names)}
    return np.array([place[answer[id]] for id in ids], dtype=int)


def export(
    items: pd.DataFrame, predictions: pd.DataFrame, outdir: Path, block: dict[str, Any]
) -> list[Path]:
    """Write predictions.csv: id, label and the five best classes."""
    names = classes(items)
    ids, scores = merged(items, predictions, block)
    order = topk.best(scores, 5, rule(block))
    labels = _labels(items, ids, names)
    path = Path(outdir) / "predictions.csv"
    with atomic(path) as tmp, open(tmp, "w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["id", "label", *(f"top{k + 1}" for k in range(order.shape[1]))])
        for id, label, best in zip(ids, labels, order, strict=True):
            writer.writerow([id, names[label], *(names[k] for k in best)])
    return [path]


def add_arguments(parser: ArgumentParser) -> None:
    """Flags of `vireo evaluate actions`."""
    parser.add_argument(
        "--views", required=True, type=Path, help="NPZ with logits [V,K], id [V] and label [V]"
    )
    parser.add_argument(
        "--ties",
        choices=topk.TIES,
        default=TIES,
        help="which of equally scored classes wins (default: %(default)s, the arg-max)",
    )


def evaluate(args: Namespace) -> str:
    """Merge views made elsewhere (one row of logits per view) and print top-1 and top-5."""
    logits, ids, labels = user_files.npz(args.views, ("logits", "id", "label"))
    logits = user_files.finite_rows(logits, args.views, "logits")
    if ids.shape != (len(logits),) or labels.shape != (len(logits),) or not len(logits):
        raise VireoError(
            f"{args.views}: {len(logits)} rows of logits need as many entries in id and label, not "
            f"{list(ids.shape)} and {list(labels.shape)}"
        )
    if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() >= logits.shape[1]:
        raise VireoError(f"{args.views}: labels must be numbers of the {logits.shape[1]} classes")
    pairs = dict.fromkeys(zip(ids.tolist(), labels.tolist(), strict=True))
    # parity: of several labels of one id the last counts | a list that repeats a video, with a
    # warning | none
    number = dict(zip(ids.tolist(), labels.tolist(), strict=True))
    if len(pairs) > len(number):
        log.warning(
            "%s: %d ids have several labels; the last of each counts, as in the reference",
            *(args.views, len(user_files.repeated(id for id, _ in pairs))),
        )
    scores = np.stack([merging.merge(logits[ids == id]) for id in number])
    place = topk.ranks(scores, list(number.values()), args.ties)
    tied = topk.tied(scores)
    head = {"videos": len(number), "views": len(logits), "ties": args.ties, "tied": tied}
    lines = [f"top-{k}: {100 * (place < k).mean():.2f}\n" for k in (1, 5)]
    return json.dumps(head) + "\n" + "".join(lines)
