"""Video-text retrieval: MSR-VTT 1k-A, DiDeMo, ActivityNet, LSMDC, MSVD from one kind of list.

Lists: every form in which these sets are published (annotations/caption_lists.py has a row of
each). One item per video; its captions are `options`. A prediction holds the video's embedding
followed by those of its texts. Facts: docs/reference/viclip.md section 8.1.
"""

import json
import logging
from argparse import ArgumentParser, Namespace
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vireo.benchmarks.annotations import action_lists, caption_lists, lists, user_files
from vireo.errors import VireoError
from vireo.media.inventory import refuse_paths
from vireo.metrics import retrieval
from vireo.metrics.scores import Metric, Scores
from vireo.nn.text_clean import clean_caption
from vireo.tables import items as item_table
from vireo.utils.files import write_json

log = logging.getLogger("vireo")

NEEDS = "DualEncoder"
PREDICTS = "pairs"
PATTERNS = ("*test*.json", "*val*.json", "*.json", "*.jsonl", "*test*.csv", "*.csv", "*.tsv")
SIDES = {"img": ("t2v", "text to video"), "txt": ("v2t", "video to text")}


def items(sources: dict[str, Path], block: dict[str, Any]) -> pd.DataFrame:
    """One row per video in the order of the list, `options` = all its captions.

    `options` of the block: `list` (file name), `names` (documented names of it), `sizes`
    (numbers of videos that a complete test set may have), `texts` (number of captions), `trim_s`
    (only the first seconds are looked at). Another number of videos or captions raises VireoError
    unless `partial`.
    """
    options = block.get("options") or {}
    path = find_list(Path(sources["annotations"]), options)
    texts: dict[str, list[str]] = {}
    files: dict[str, str] = {}
    for where, video, captions in caption_lists.entries(path):
        stem = action_lists.stem(video)
        refuse_paths([stem])
        if files.setdefault(stem, video) != video:
            raise VireoError(f"{where}: {video} and {files[stem]} have the same name")
        texts.setdefault(stem, []).extend(captions)
    if not texts:
        raise VireoError(f"{path}: no entries")
    _check_sizes(path, texts, block)
    end = options.get("trim_s")
    rows = [
        {
            "id": stem,
            "split": "test",
            "video": stem,
            "start": 0.0 if end else float("nan"),
            "end": float(end) if end else float("nan"),
            "question": "",
            "options": captions,
            "answer": "",
            "group": stem,
            "meta": json.dumps({"file": files[stem]}),
        }
        for stem, captions in texts.items()
    ]
    return pd.DataFrame(rows)


def find_list(root: Path, options: dict[str, Any]) -> Path:
    """The list of captions: `options.list`, else a documented name (`options.names`), else the only
    candidate of a folder."""
    if options.get("list"):
        return lists.chosen(root, [options["list"]], [], "list of captions")
    return lists.chosen(root, options.get("names") or [], PATTERNS, "list of captions")


def _check_sizes(path: Path, texts: dict[str, list[str]], block: dict[str, Any]) -> None:
    options, number = block.get("options") or {}, sum(map(len, texts.values()))
    sizes, many = options.get("sizes"), options.get("texts")
    wrong = []
    if sizes and len(texts) not in sizes:
        wrong.append(f"{len(texts)} videos, {' or '.join(map(str, sizes))} expected")
    if many and number != many:
        wrong.append(f"{number} captions, {many} expected")
    if wrong and not block.get("partial"):
        raise VireoError(
            f"{path}: {'; '.join(wrong)}. Recall depends on the size of the set; accept another "
            "one with `partial: true` in the benchmark's block"
        )


def videos(sources: dict[str, Path], items: pd.DataFrame, block: dict[str, Any]) -> pd.DataFrame:
    """Where each video lies: by its name, at any depth, with any ending.

    Where no other listed video has the name, further endings do not matter on either side
    (`a.mov` is `a.mov.mp4`, and DiDeMo's `b.` is `b.mp4`).
    """
    from vireo.media import inventory  # imports OpenCV, which scoring does not need

    root = Path(sources["videos"])
    table = inventory.find(list(items["video"]), root)
    absent = table.index[table["status"] == "missing"]
    if not len(absent):
        return table
    names = dict(zip(items["video"], (json.loads(m)["file"] for m in items["meta"]), strict=True))
    several = Counter(action_lists.bare(name) for name in names.values())
    known: dict[str, list[tuple[int, str, int, int]]] = {}
    for path, seen in inventory.files(root):
        fact = (path.count("/"), path, seen.st_size, seen.st_mtime_ns)
        known.setdefault(action_lists.bare(path), []).append(fact)
    for row in absent:
        key = action_lists.bare(names[table.loc[row, "video"]])
        found = [f for f in known.get(key, []) if several[key] == 1 and f[2] > 0]
        if found:
            _, path, size, mtime = min(found)
            facts: dict[str, str | int] = {"path": path, "size": size, "mtime_ns": mtime}
            facts["status"] = "found"
            for column, value in facts.items():
                table.at[row, column] = value
    return table


def prompts(items: pd.DataFrame, protocol: dict[str, Any]) -> dict[str, list[str]]:
    """Cleaned captions of each video; with `prompt: {paragraph: true}` joined into one text."""
    joined = bool((protocol.get("prompt") or {}).get("paragraph", False))
    result = {}
    for row in item_table.rows(items):
        texts = [" ".join(row.options)] if joined else list(row.options)
        result[row.id] = [clean_caption(text) for text in texts]
    return result


def features(
    items: pd.DataFrame, predictions: pd.DataFrame, paragraph: bool
) -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray]:
    """Ids with a prediction, videos [V,D], texts [T,D], and the number of each text's video."""
    done = user_files.check_predictions(predictions)
    given = dict(zip(done["id"], done["scores"], strict=True))
    chosen = items[items["id"].isin(given)]
    video, text, owner = [], [], []
    for place, row in enumerate(item_table.rows(chosen)):
        parts = 2 if paragraph else 1 + len(row.options)
        flat = np.asarray(given[row.id], dtype=np.float32)
        if not len(flat) or len(flat) % parts:
            raise VireoError(
                f"prediction of {row.id!r}: {len(flat)} numbers are not {parts} embeddings: the "
                "captions have changed, infer again"
            )
        first, *others = flat.reshape(parts, -1)
        video.append(first)
        text += others
        owner += [place] * len(others)
    if not video:
        return [], np.zeros((0, 1)), np.zeros((0, 1)), np.zeros(0, int)
    return list(chosen["id"]), np.stack(video), np.stack(text), np.array(owner)


def places(
    video: np.ndarray, text: np.ndarray, owner: np.ndarray, dual: bool
) -> dict[str, np.ndarray]:
    """Places (0 = best) of the right text per video (`txt`) and of the right video per text."""
    v2t, t2v = video @ text.T, text @ video.T
    if dual:
        v2t, t2v = retrieval.dual_softmax(v2t), retrieval.dual_softmax(t2v)
    own = [np.flatnonzero(owner == number) for number in range(len(video))]
    return {"txt": retrieval.ranks(v2t, own), "img": retrieval.ranks(t2v, owner[:, None])}


def score(items: pd.DataFrame, predictions: pd.DataFrame, block: dict[str, Any]) -> Scores:
    """Recall at 1, 5, 10 both ways, their means, and the same after dual softmax."""
    paragraph = bool((block.get("protocol", {}).get("prompt") or {}).get("paragraph", False))
    ids, video, text, owner = features(items, predictions, paragraph)
    metrics: dict[str, Metric] = {}
    for ending, dual in (("", False), ("_dsl", True)):
        found = places(video, text, owner, dual) if ids else {}
        numbers = retrieval.summary(found) if ids else {}
        whole = len(ids) == len(items)
        for side, (short, long) in SIDES.items():
            for k in retrieval.CUTS:
                name = f"{short}_r{k}{ending}"
                title = f"{long} R@{k}" + (", dual softmax" if dual else "")
                metrics[name] = _metric(found.get(side), k, ids, owner, side, title, whole)
            mean = numbers.get(f"{side}_r_mean")
            metrics[f"{short}_mean{ending}"] = Metric(mean, len(ids), "%", title=f"{long} mean")
        both = numbers.get("r_mean")
        metrics[f"r_mean{ending}"] = Metric(both, len(ids), "%", title="mean of all recalls")
    notes = [f"{len(ids)} videos, {len(text)} texts"]
    if len(ids) < len(items):
        notes.append(
            f"{len(items) - len(ids)} videos and their texts are left out: the smaller set is "
            "easier, so these recalls are too high"
        )
    return Scores(
        metrics=metrics,
        primary=block.get("primary") or "t2v_r1",
        chance=block.get("chance", 100.0 / max(len(items), 1)),
        notes=notes,
    )


def _metric(
    found: np.ndarray | None,
    k: int,
    ids: list[str],
    owner: np.ndarray,
    side: str,
    title: str,
    whole: bool,
) -> Metric:
    """Recall at k. A video's contribution is its share of all texts' hits, so that the mean over
    videos is the mean over texts."""
    if found is None:
        return Metric(None, 0, "%", title=title)
    hits = 100.0 * (found < k)
    if side == "img":
        hits = np.bincount(owner, hits, minlength=len(ids)) * len(ids) / len(owner)
    single = whole and len(owner) == len(ids)
    low, high = (0.0, 100.0) if single else (None, None)  # other items change the gallery
    metric = Metric.mean(pd.Series(hits, index=ids), "%", low, high, title)
    metric.n = len(found)
    return metric


def export(
    items: pd.DataFrame, predictions: pd.DataFrame, outdir: Path, block: dict[str, Any]
) -> list[Path]:
    """Write retrieval.json: the reference's names and rounding, plain and `emb` (dual softmax)."""
    paragraph = bool((block.get("protocol", {}).get("prompt") or {}).get("paragraph", False))
    _, video, text, owner = features(items, predictions, paragraph)
    path = Path(outdir) / "retrieval.json"
    write_json(path, _reference(video, text, owner) if len(video) else {})
    return [path]


def _reference(
    video: np.ndarray, text: np.ndarray, owner: np.ndarray
) -> dict[str, dict[str, float]]:
    found = {"plain": False, "emb": True}
    return {
        name: {
            key: round(value, 2)
            for key, value in retrieval.summary(places(video, text, owner, dual)).items()
        }
        for name, dual in found.items()
    }


def add_arguments(parser: ArgumentParser) -> None:
    """Flags of `vireo evaluate retrieval`."""
    parser.add_argument(
        "--features",
        required=True,
        type=Path,
        help="NPZ with video [V,D], text [T,D] and owner [T] (the video of each text)",
    )


def evaluate(args: Namespace) -> str:
    """Recalls of features made elsewhere; they are L2-normalised first."""
    video, text, owner = user_files.npz(args.features, ("video", "text", "owner"))
    video = user_files.finite_rows(video, args.features, "video")
    text = user_files.finite_rows(text, args.features, "text")
    if not len(video) or not len(text) or video.shape[1] != text.shape[1]:
        raise VireoError(
            f"{args.features}: video {list(video.shape)} and text {list(text.shape)} must have "
            "rows of one length"
        )
    if owner.shape != (len(text),) or owner.dtype.kind not in "iu":
        raise VireoError(f"{args.features}: owner must be one whole number per text")
    if owner.min() < 0 or owner.max() >= len(video):
        raise VireoError(f"{args.features}: owner must be rows of video, 0 to {len(video) - 1}")
    lonely = len(video) - len(np.unique(owner))
    if lonely:
        raise VireoError(f"{args.features}: {lonely} of {len(video)} videos have no text")
    video, text = (_normalised(x, args.features, n) for x, n in ((video, "video"), (text, "text")))
    lines = []
    for name, numbers in _reference(video, text, owner.astype(int)).items():
        lines.append(f"{name}: " + ", ".join(f"{k} {v:.2f}" for k, v in numbers.items()))
    return "\n".join(lines) + "\n"


def _normalised(rows: np.ndarray, path: Path, name: str) -> np.ndarray:
    """Rows of length 1; a row of zeros stays one, as the reference's normalise leaves it."""
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    if zeros := int((length == 0).sum()):
        log.warning("%s: %d rows of %s are all zero: they match nothing", path, zeros, name)
    return rows / np.maximum(length, 1e-12)
