"""Kinetics annotations -> items: the official CSV or ViCLIP's JSON list, and the class list.

CSV: `label,youtube_id,time_start,time_end,split` (further columns are ignored). JSON: a list of
`{"video": "folder/<file>.mp4", "caption": "playing volleyball"}`. Classes are those of the whole
annotation file, never of the folders or of the videos that happen to be there.
"""

import json
import re
from collections import Counter
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import pandas as pd

from vireo.benchmarks.annotations import lists, user_files
from vireo.benchmarks.annotations.action_lists import stem as file_stem
from vireo.errors import VireoError, unknown
from vireo.media.inventory import refuse_paths
from vireo.nn.text_clean import normalise_label
from vireo.utils.files import read_json

CSV_NAMES = {
    "val": ("val.csv", "validate.csv", "validation.csv", "*_val*.csv", "*val*.csv", "*val*.txt"),
    "train": ("train.csv", "*_train*.csv", "*train*.csv", "*train*.txt"),
}
DOCUMENTED = {"val": 3, "train": 1}  # of these names, the exact ones
JSON_NAMES = {"val": ("*val*.json", "*.json"), "train": ("*train*.json",)}
COLUMNS = ("label", "youtube_id", "time_start", "time_end", "split")
SPLITS = {"val": ("val", "validate", "validation"), "train": ("train", "training")}
ID_LENGTH = 11  # of a YouTube id, which may itself hold `_` and `-`


def items(sources: dict[str, Path], block: dict[str, Any]) -> pd.DataFrame:
    """One row per clip of the split `options.split` (val), in the order of the annotations.

    `sources["annotations"]` is the file or a folder with it; with a CSV and a JSON list side by
    side the JSON is used only when `options.list` names it, and its captions must then be classes
    of the CSV. VireoError unless there are `options.classes` classes.
    """
    options = block.get("options") or {}
    split = options.get("split", "val")
    path = _find(Path(sources["annotations"]), options.get("list"), split)
    rows = _csv_rows(path, split) if path.suffix in (".csv", ".txt") else _json_rows(path)
    beside = Path(sources["annotations"]).is_dir() and path.suffix == ".json"
    table = lists.companion(path, CSV_NAMES[split]) if beside else None
    if table is not None:
        official = sorted({row["answer"] for row in _csv_rows(table, split)})
        names = match([row["answer"] for row in rows], official, str(path))
        rows = [{**row, "answer": names[row["answer"]]} for row in rows]
    rows = _distinct(rows, path)
    _check_release(path, len(rows), options)
    classes = {row["answer"] for row in rows}
    wanted = options.get("classes")
    if wanted is not None and len(classes) != wanted:
        raise VireoError(
            f"{path}: {len(classes)} classes, {wanted} expected: the official annotations of "
            "this release are needed whole, whichever videos there are"
        )
    refuse_paths(row["video"] for row in rows)
    trim = bool(options.get("trim", False))
    for row in rows:
        start, end = row.pop("time_start"), row.pop("time_end")
        row["start"], row["end"] = (start, end) if trim else (float("nan"), float("nan"))
        row["meta"] = json.dumps({"time_start": start, "time_end": end} if start >= 0 else {})
    table_of_items = pd.DataFrame(rows)
    table_of_items["split"] = split
    table_of_items["question"] = ""
    table_of_items["options"] = [[] for _ in rows]
    wanted_rows = (block.get("rows") or {}).get(split)
    if wanted_rows is not None and len(rows) != wanted_rows and not block.get("partial"):
        raise VireoError(
            f"{path}: {len(rows)} clips, {wanted_rows} expected; another copy of the data set? "
            "Accept it with `partial: true` in the benchmark's block"
        )
    return table_of_items


def list_note(rows: int, options: dict[str, Any]) -> str:
    """Which of the known lists (`options.lists`, by number of rows) this is; "" without any."""
    known = [one for one in options.get("lists") or [] if one["release"] == options.get("release")]
    if not known:
        return ""
    for one in known:
        if one["rows"] == rows:
            return f"list of {rows} clips: {one['source']}"
    expected = ", ".join(str(one["rows"]) for one in known)
    return f"list of {rows} clips, which is none of the known ones ({expected}): not comparable"


def _check_release(path: Path, rows: int, options: dict[str, Any]) -> None:
    """VireoError when the list is one of another release, by its size or by its name."""
    release = options.get("release")
    known = {one["rows"]: one["release"] for one in options.get("lists") or []}
    other = known.get(rows)
    if release and other is None:
        years = {"2017", "2018", "2019", "2020"} & set(re.findall(r"20\d\d", path.name))
        other = years.pop() if len(years) == 1 else release
    if release and other != release:
        raise VireoError(
            f"{path} is the list of release {other}, this benchmark is release {release}; name the "
            "right file in `paths`, or run the benchmark of that release"
        )


def classes(items: pd.DataFrame) -> list[str]:
    """The class names, sorted; column k of the scores is the k-th."""
    return sorted(set(items["answer"]))


def _find(root: Path, name: str | None, split: str) -> Path:
    if split not in SPLITS:
        raise unknown("split of Kinetics", split, SPLITS)
    if name:
        return lists.chosen(root, [name], [], "Kinetics list")
    documented, patterns = CSV_NAMES[split][: DOCUMENTED[split]], CSV_NAMES[split]
    return lists.chosen(root, documented, (*patterns, *JSON_NAMES[split]), "Kinetics list")


def _csv_rows(path: Path, split: str) -> list[dict[str, Any]]:
    try:
        rows = user_files.csv_rows(path, COLUMNS[:4])
    except VireoError as error:
        raise VireoError(f"{error} (the official list has {','.join(COLUMNS)})") from error
    return [
        _csv_row(row, where) for where, row in rows if (row.get("split") or split) in SPLITS[split]
    ]


def _csv_row(row: dict[str, Any], where: str) -> dict[str, Any]:
    name, label = row["youtube_id"], row["label"]
    if not name or not label:
        raise VireoError(f"{where}: empty youtube_id or label")
    try:
        start, end = float(row["time_start"]), float(row["time_end"])
        id = f"{name}_{int(start):06d}_{int(end):06d}"
    except (TypeError, ValueError, OverflowError) as error:
        raise VireoError(f"{where}: time_start and time_end must be seconds") from error
    found = {"id": id, "video": id, "answer": label, "group": name}
    return {**found, "time_start": start, "time_end": end}


def _json_rows(path: Path) -> list[dict[str, Any]]:
    entries = read_json(path, "Kinetics list")
    if not isinstance(entries, list) or not entries:
        raise VireoError(f'{path} is not a list of {{"video": ..., "caption": ...}}')
    rows = []
    for number, entry in enumerate(entries):
        try:
            stem, label = file_stem(entry["video"]), entry["caption"].strip()
        except (KeyError, TypeError, AttributeError) as error:
            raise VireoError(f"{path}, entry {number}: needs `video` and `caption`") from error
        found = {"id": stem, "video": stem, "answer": label, "group": stem[:ID_LENGTH]}
        rows.append({**found, "time_start": -1.0, "time_end": -1.0})
    return rows


def _distinct(rows: list[dict[str, Any]], path: Path) -> list[dict[str, Any]]:
    """Rows without repeats; one clip under two labels is two items on one video."""
    if not rows:
        raise VireoError(f"{path}: no clip of this split (column `split`)")
    once = {(row["id"], row["answer"]): row for row in rows}
    counts = Counter(id for id, _ in once)
    return [
        {**row, "id": f"{row['id']}:{row['answer']}"} if counts[row["id"]] > 1 else row
        for row in once.values()
    ]


def match(names: list[str], official: list[str], where: str) -> dict[str, str]:
    """Names as folders or lists spell them -> official ones; VireoError lists near ones."""
    known = {normalise_label(name): name for name in official}
    result = {}
    for name in dict.fromkeys(names):
        if normalise_label(name) not in known:
            near = get_close_matches(normalise_label(name), known, n=3)
            hint = f"; near: {', '.join(known[n] for n in near)}" if near else ""
            raise VireoError(f"{where}: {name!r} is no class of the official list{hint}")
        result[name] = known[normalise_label(name)]
    return result
