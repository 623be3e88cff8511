"""Supervised action recognition: Kinetics, Something-Something v2, or lists of `path,label`.

Test views (segments x crops) are merged by the mean of their softmax. `options.format`: `kinetics`
(official CSV), `ssv2` (official JSON: id, label, template, placeholders) or `list` (`path,label` or
`path label` rows; numbers become names where a file `labels` is given). Facts: reference/viclip.md
section 6.
"""

import csv
import json
from argparse import ArgumentParser, Namespace
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd

from vireo.benchmarks import _kinetics_items, kinetics
from vireo.errors import VireoError, unknown
from vireo.metrics import topk
from vireo.metrics import views as merging
from vireo.metrics.scores import Metric, Scores
from vireo.run.files import atomic, read_json

NEEDS = "Classifier"
PREDICTS = "classes"
FORMATS = ("kinetics", "ssv2", "list")
SUSPICIOUS = 0.3  # top-1 that a renaming of the classes may add before it looks like a mix-up


def classes(items: pd.DataFrame) -> list[str]:
    """The class names in order; numbers by their value."""
    names = set(items["answer"])
    if all(name.isdigit() for name in names):
        return sorted(names, key=int)
    return sorted(names)


def items(sources: dict[str, Path], block: dict[str, Any]) -> pd.DataFrame:
    """One row per clip; `answer` is the class name. `options.split` is `val` or `train`.

    VireoError unless there are `options.classes` classes.
    """
    options = block.get("options") or {}
    form = options.get("format", "kinetics")
    if form not in FORMATS:
        raise unknown("format of action labels", form, FORMATS)
    if form == "kinetics":
        return _kinetics_items.items(sources, block)
    root, split = Path(sources["annotations"]), options.get("split", "val")
    path = _list_of(root, options.get("list"), form, split)
    pairs = _ssv2(path) if form == "ssv2" else _rows(path, options.get("separator"))
    if options.get("labels"):
        names = (path.parent / options["labels"]).read_text(encoding="utf-8").splitlines()
        pairs = [(video, _named(label, names, path)) for video, label in pairs]
    found = {label for _, label in pairs}
    wanted = options.get("classes")
    if wanted is not None and len(found) != wanted:
        raise VireoError(f"{path}: {len(found)} classes, {wanted} expected")
    twice = [video for video, count in Counter(video for video, _ in pairs).items() if count > 1]
    if twice:
        raise VireoError(f"{path}: {twice[0]!r} occurs more than once")
    number = (block.get("rows") or {}).get(split)
    if number is not None and len(pairs) != number and not block.get("partial"):
        raise VireoError(f"{path}: {len(pairs)} clips, {number} expected (or `partial: true`)")
    table = pd.DataFrame(pairs, columns=["id", "answer"])
    table["video"], table["group"], table["split"] = table["id"], table["id"], split
    table["start"] = table["end"] = float("nan")
    table["question"], table["meta"] = "", "{}"
    table["options"] = [[] for _ in pairs]
    return table


def _list_of(root: Path, name: str | None, form: str, split: str) -> Path:
    if root.is_file():
        return root
    word = {"val": "validation", "train": "train"}[split] if form == "ssv2" else split
    endings = (".json",) if form == "ssv2" else (".csv", ".txt")
    patterns = [name] if name else [f"*{word}*{ending}" for ending in endings]
    for pattern in patterns:
        found = sorted(root.rglob(pattern), key=lambda path: (len(path.parts), path))
        if found:
            return found[0]
    raise VireoError(f"no list {' or '.join(patterns)} in {root}")


def _ssv2(path: Path) -> list[tuple[str, str]]:
    """(video id, class) of the official JSON; the class is the template without brackets."""
    entries = read_json(path, "list of Something-Something")
    pairs = []
    for number, entry in enumerate(entries if isinstance(entries, list) else [None]):
        try:
            label = entry["template"].replace("[", "").replace("]", "").strip()
            pairs.append((str(entry["id"]), label))
        except (KeyError, TypeError, AttributeError) as error:
            raise VireoError(f"{path}, entry {number}: needs `id` and `template`") from error
    return pairs


def _rows(path: Path, separator: str | None) -> list[tuple[str, str]]:
    pairs = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        mark = separator or ("," if "," in line else " ")
        video, found, label = line.strip().rpartition(mark)
        if not found or not video or not label:
            raise VireoError(f"{path}, line {number}: write `path{mark}label`")
        pairs.append((PurePosixPath(video.strip()).stem, label.strip()))
    return pairs


def _named(label: str, names: list[str], path: Path) -> str:
    if not label.isdigit():
        return label
    if int(label) >= len(names):
        raise VireoError(f"{path}: label {label} has no name in a list of {len(names)}")
    return names[int(label)].strip()


def videos(sources: dict[str, Path], items: pd.DataFrame, block: dict[str, Any]) -> pd.DataFrame:
    """Where each clip lies: Kinetics by id and start, others by name."""
    if (block.get("options") or {}).get("format", "kinetics") == "kinetics":
        return kinetics.videos(sources, items, block)
    from vireo.media import inventory

    return inventory.find(list(items["video"]), Path(sources["videos"]))


def merged(items: pd.DataFrame, predictions: pd.DataFrame) -> tuple[list[str], np.ndarray]:
    """Ids with a prediction and their mean probabilities [N,K] over the views."""
    names = classes(items)
    done = predictions.loc[predictions["status"] == "ok"]
    by_id = {id: list(rows) for id, rows in done.groupby("id", sort=False)["scores"]}
    ids = [id for id in items["id"] if id in by_id]
    for id in ids:
        if any(len(view) != len(names) for view in by_id[id]):
            raise VireoError(f"prediction of {id!r} is not of {len(names)} classes: infer again")
    if not ids:
        return [], np.zeros((0, len(names)), np.float32)
    return ids, np.stack([merging.merge(by_id[id]) for id in ids])


def score(items: pd.DataFrame, predictions: pd.DataFrame, block: dict[str, Any]) -> Scores:
    """Top-1 and top-5 of the merged views."""
    names = classes(items)
    ids, scores = merged(items, predictions)
    labels = _labels(items, ids, names)
    place = topk.ranks(scores, labels) if ids else np.zeros(0, int)
    top1, top5 = (pd.Series(100.0 * (place < k), index=ids) for k in (1, 5))
    notes = []
    if ids:
        other = merging.relabelled(scores.argmax(1), labels, len(names))
        # With few clips per class a renaming always finds something.
        if len(ids) >= 2 * len(names) and 100 * other - top1.mean() > 100 * SUSPICIOUS:
            notes.append(
                f"class order looks permuted: another numbering of the classes gives top-1 "
                f"{100 * other:.1f}. Check the labels of the model's head"
            )
    return Scores(
        metrics={
            "top1": Metric.mean(top1, "%", 0.0, 100.0, "top-1"),
            "top5": Metric.mean(top5, "%", 0.0, 100.0, "top-5"),
        },
        primary=block.get("primary") or "top1",
        chance=block.get("chance", 100.0 / len(names)),
        notes=notes,
    )


def _labels(items: pd.DataFrame, ids: list[str], names: list[str]) -> np.ndarray:
    answer = dict(zip(items["id"], items["answer"], strict=True))
    place = {name: number for number, name in enumerate(names)}
    return np.array([place[answer[id]] for id in ids], dtype=int)


def export(
    items: pd.DataFrame, predictions: pd.DataFrame, outdir: Path, block: dict[str, Any]
) -> list[Path]:
    """Write predictions.csv: id, label and the five best classes."""
    names = classes(items)
    ids, scores = merged(items, predictions)
    order = np.argsort(scores, axis=1, kind="stable")[:, ::-1][:, :5]
    labels = _labels(items, ids, names)
    path = Path(outdir) / "predictions.csv"
    with atomic(path) as tmp, open(tmp, "w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["id", "label", *(f"top{k + 1}" for k in range(order.shape[1]))])
        for id, label, best in zip(ids, labels, order, strict=True):
            writer.writerow([id, names[label], *(names[k] for k in best)])
    return [path]


def add_arguments(parser: ArgumentParser) -> None:
    """Flags of `evaluate.py actions`."""
    parser.add_argument(
        "--views", required=True, type=Path, help="NPZ with logits [V,K], id [V] and label [V]"
    )


def evaluate(args: Namespace) -> str:
    """Merge views made elsewhere (one row of logits per view) and print top-1 and top-5."""
    try:
        with np.load(args.views, allow_pickle=False) as data:
            logits, ids, labels = (data[name] for name in ("logits", "id", "label"))
    except (OSError, KeyError, ValueError) as error:
        raise VireoError(f"{args.views}: needs logits, id and label ({error})") from error
    number = {id: int(label) for id, label in zip(ids.tolist(), labels, strict=True)}
    scores = np.stack([merging.merge(logits[ids == id]) for id in number])
    place = topk.ranks(scores, list(number.values()))
    head = json.dumps({"videos": len(number), "views": len(logits)})
    return f"{head}\n" + "".join(f"top-{k}: {100 * (place < k).mean():.2f}\n" for k in (1, 5))
