"""Lists of labelled videos in every form VideoMamba is trained and scored on -> rows.

`list`: `path,label` or `path label`, further columns by `options.columns`; `breakfast` and `lvu`:
the files that ViS4mer keeps (github.com/md-mohaiminul/ViS4mer, folder `data`); `coin`: COIN.json.
Facts: docs/reference/videomamba.md section 3.1, checked on ViS4mer's own files.
"""

import json
import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from vireo.benchmarks.annotations import lists
from vireo.errors import VireoError, unknown
from vireo.utils.files import read_json

FORMATS = ("list", "breakfast", "coin", "lvu")
COLUMNS = ("path", "label", "duration", "frames")
MOST = 100_000  # classes
SUBSETS = {"train": "training", "val": "testing", "test": "testing"}  # COIN has two
# parity: the sums that make the targets' mean zero are ViS4mer's, not those of the list at hand |
# MSE of lists other than ViS4mer's is shifted | own lists: `format: list`
VIEW_MEAN, LIKE_MEAN = 11.76425435683139, 9.138220535629456
TASKS = {
    "relation": "relationship",
    "speak": "way_speaking",
    "scene": "scene",
    "director": "director",
    "genre": "genre",
    "writer": "writer",
    "year": "year",
    "view": "view_count",
    "like": "like_ratio",
}


@dataclass(frozen=True)
class Entry:
    """One video of a list: `path` as written there, class name or target, seconds if known."""

    path: str
    label: str
    duration: float | None = None
    frames: bool = False  # the path is a folder of pictures


@dataclass(frozen=True)
class Listing:
    """Entries of one split; `names` of all classes in the order of their numbers, if numbered."""

    entries: list[Entry]
    names: list[str] | None
    source: Path


def read(root: Path, split: str, options: dict[str, Any]) -> Listing:
    """The list of one split; VireoError names file and line of what cannot be read."""
    form = options["format"]
    if form not in FORMATS:
        raise unknown("format of action labels", form, FORMATS)
    readers = {"list": _plain, "breakfast": _breakfast, "coin": _coin, "lvu": _lvu}
    listing = readers[form](root, split, options)
    for entry in listing.entries:
        _refuse(entry.path, listing.source)
    return listing


def _refuse(path: str, source: Path) -> None:
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or any(c in path for c in "\\\0\n"):
        raise VireoError(f"{source}: path {path!r} is refused: it must stay below the folder")


def find(root: Path, names: Iterable[str], what: str) -> Path:
    """The one file of these names (patterns) below `root`; `root` if it is a file."""
    return lists.chosen(root, list(names), [], what)


def _plain(root: Path, split: str, options: dict[str, Any]) -> Listing:
    own = options.get("list")
    path = find(root, [own] if own else [f"*{split}*.csv", f"*{split}*.txt"], "list")
    columns = list(options.get("columns") or COLUMNS[:2])
    for column in columns:
        if column not in COLUMNS:
            raise unknown("column of a list", column, COLUMNS)
    entries = []
    for number, line in _lines(path):
        mark = options.get("separator") or ("," if "," in line else " ")
        # from the right: paths may hold the separator
        cells = [cell.strip() for cell in line.strip().rsplit(mark, len(columns) - 1)]
        row = dict(zip(columns, cells, strict=False))
        if len(cells) < len(columns) or not all(cells):
            raise VireoError(f"{path}, line {number}: write `{mark.join(columns)}`")
        seconds = _number(row["duration"], path, number) if "duration" in row else None
        entries.append(Entry(row["path"], row["label"], seconds, "frames" in row))
    names: list[str] | None = None
    if options.get("labels"):
        told = find(path.parent, [options["labels"]], "names of the classes")
        names = [name.strip() for name in told.read_text(encoding="utf-8").splitlines()]
        entries = [replace(e, label=named(e.label, names, path)) for e in entries]
    elif options.get("classes") and all(e.label.isdigit() for e in entries):
        names = [str(number) for number in range(options["classes"])]
        entries = [replace(e, label=named(e.label, names, path)) for e in entries]
    return Listing(entries, names, path)


def _lines(path: Path) -> list[tuple[int, str]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise VireoError(f"{path} is no text file: {error}") from error
    return [(n, line) for n, line in enumerate(text.splitlines(), 1) if line.strip()]


def named(label: str, names: list[str], path: Path) -> str:
    """Class name of a number; other labels are names already."""
    if not label.isdigit():
        return label
    if int(label) >= len(names):
        raise VireoError(f"{path}: label {label} has no name in a list of {len(names)}")
    return names[int(label)]


def _number(text: str, path: Path, line: int) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise VireoError(f"{path}, line {line}: {text!r} is not a number")
    return value


def _whole(text: str, path: Path, line: int) -> int:
    value = _number(text, path, line)
    if value != int(value) or value < 0:
        raise VireoError(f"{path}, line {line}: {text!r} is no number of a class")
    return int(value)


def _in_order(numbers: dict[str, int], count: int | None, path: Path) -> list[str]:
    """Name -> number, to names in the order of their numbers; gaps are called `class 3`."""
    if len(set(numbers.values())) != len(numbers):
        raise VireoError(f"{path}: two classes have the same number")
    count = max(count or 0, max(numbers.values(), default=-1) + 1)
    if count > MOST:
        raise VireoError(f"{path}: class number {count - 1} is no number of a class")
    by_number = {number: name for name, number in numbers.items()}
    return [by_number.get(number, f"class {number}") for number in range(count)]


def _breakfast(root: Path, split: str, options: dict[str, Any]) -> Listing:
    """`file_name,duration,action,class_id`; file names are `P03-cam01-P03_tea`."""
    path = find(root, ["train.csv"] if split == "train" else ["test.csv"], "Breakfast list")
    entries: list[Entry] = []
    numbers: dict[str, int] = {}
    for number, line in _lines(path):
        row = [cell.strip() for cell in line.split(",")]
        if row[0] == "file_name":
            continue
        if len(row) != 4 or not row[0] or not row[2]:
            raise VireoError(f"{path}, line {number}: needs file_name,duration,action,class_id")
        which = _whole(row[3], path, number)
        if numbers.setdefault(row[2], which) != which:
            raise VireoError(f"{path}, line {number}: {row[2]!r} has two numbers")
        entries.append(Entry(row[0], row[2], _number(row[1], path, number)))
    names = _in_order(numbers, options.get("classes"), path)
    wanted = options.get("names")
    # users with other lists got 86 or 21 % from weights that give 94 %
    if wanted and any(names[number] != wanted[number] for name, number in numbers.items()):
        raise VireoError(
            f"{path}: classes are numbered {', '.join(names)}, not {', '.join(wanted)}: these are "
            "not the lists that the published weights were trained on"
        )
    return Listing(entries, names, path)


def _coin(root: Path, split: str, options: dict[str, Any]) -> Listing:
    """COIN.json: `database` with `subset`, `recipe_type` (the label) and `duration`."""
    path = find(root, ["COIN.json", "*coin*.json"], "annotations")
    whole = read_json(path, "annotations of COIN")
    database = whole.get("database") if isinstance(whole, dict) else None
    if not isinstance(database, dict):
        raise VireoError(f"{path}: no object `database`")
    entries, numbers = [], set()
    for video, entry in database.items():
        try:
            subset, which = entry["subset"], int(entry["recipe_type"])
            seconds = float(entry["duration"]) if "duration" in entry else None
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise VireoError(
                f"{path}, video {video!r}: needs `subset` and `recipe_type`"
            ) from error
        numbers.add(which)
        if subset == SUBSETS[split]:
            entries.append(Entry(video, str(which), seconds))
    count = options.get("classes") or len(numbers)
    if not numbers <= set(range(count)):
        raise VireoError(f"{path}: recipe_type {max(numbers)}, {count} classes expected")
    return Listing(entries, [str(number) for number in range(count)], path)


def _lvu(root: Path, split: str, options: dict[str, Any]) -> Listing:
    """A task of LVU: text with a header, separated by blanks; targets of `view` and `like`."""
    task = options.get("task")
    if task not in TASKS:
        raise unknown("task of LVU", str(task), TASKS)
    folders = (TASKS[task], task)
    path = find(root, [f"{folder}/{split}.csv" for folder in folders], "list")
    seconds = _durations(root)
    entries: list[Entry] = []
    numbers: dict[str, int] = {}
    for number, line in _lines(path)[1:]:
        cells = line.split()
        if len(cells) != (3 if task == "view" else 4):
            raise VireoError(f"{path}, line {number}: {len(cells)} columns")
        # the id is the last but one; it may begin with a dash
        video = cells[-2]
        if task == "view":
            views = _number(cells[0], path, number)
            label = repr(math.log(views) - VIEW_MEAN) if views > 0 else ""
        elif task == "like":
            likes, dislikes = (_number(cell, path, number) for cell in cells[:2])
            total = likes + dislikes
            label = repr(10 * likes / total - LIKE_MEAN) if total > 0 else ""
        else:
            which, label = _whole(cells[0], path, number), cells[1]
            if numbers.setdefault(label, which) != which:
                raise VireoError(f"{path}, line {number}: {label!r} has two numbers")
        if not label:
            raise VireoError(f"{path}, line {number}: counts must be positive")
        entries.append(Entry(video, label, seconds.get(video)))
    if task in ("view", "like"):
        return Listing(entries, None, path)
    for other in path.parent.glob("*.csv"):  # a split may lack a class that another has
        for number, line in _lines(other)[1:]:
            cells = line.split()
            if len(cells) == 4 and cells[1] not in numbers:
                numbers[cells[1]] = _whole(cells[0], other, number)
    return Listing(entries, _in_order(numbers, options.get("classes"), path), path)


def _durations(root: Path) -> dict[str, float]:
    """Seconds of every video, where the table lies beside the tasks."""
    found = sorted(root.rglob("*durations.csv")) if root.is_dir() else []
    table: dict[str, float] = {}
    for number, line in _lines(found[0])[1:] if found else ():
        video, _, text = line.rpartition(",")
        table[video] = _number(text, found[0], number)
    return table


def stem(path: str) -> str:
    """The last part of a path without a video's ending; other dots belong to the name."""
    from vireo.media.inventory import VIDEOS

    name = PurePosixPath(path).name
    ending = PurePosixPath(name).suffix
    return (name[: -len(ending)] if ending.lower() in VIDEOS else name).rstrip(".") or name


def bare(path: str) -> str:
    """The last part of a path without any video ending or final dot: `a.mov.mp4` -> `a`."""
    name = stem(path)
    while (shorter := stem(name)) != name:
        name = shorter
    return name


def identifiers(paths: list[str]) -> list[str]:
    """One id per path: its stem; where that is not unique its path, with the ending if need be."""
    stems = [stem(path) for path in paths]
    longer = [str(PurePosixPath(p).with_name(s)) for p, s in zip(paths, stems, strict=True)]
    count, several = Counter(stems), Counter(longer)
    return [
        short if count[short] == 1 else long if several[long] == 1 else path
        for short, long, path in zip(stems, longer, paths, strict=True)
    ]


def videos(root: Path, items: pd.DataFrame) -> pd.DataFrame:
    """Where each video lies: under its own path, else by its name at any depth.

    A name that several videos share is not searched for. `P03-cam01-P03_tea` is also
    `P03/cam01/P03_tea`, as Breakfast is unpacked.
    """
    from vireo.media import inventory

    paths = {str(row.video): json.loads(str(row.meta)) for row in items.itertuples()}
    folders = [stem(said["path"]) for said in paths.values() if said.get("frames")]
    if folders:
        table = inventory.find(folders, root, ("{id}/*.jpg",))
        table["video"] = [video for video, said in paths.items() if said.get("frames")]
        return table
    known: dict[str, list[tuple[bool, int, str, Any]]] = {}
    for place, seen in inventory.videos(root):
        inside = PurePosixPath(Path(place).relative_to(Path(root).absolute()).as_posix())
        bare = str(inside.with_suffix(""))
        order = (seen.st_size == 0, len(inside.parts), place, seen)
        for key in {str(inside), bare, inside.stem, "-".join(PurePosixPath(bare).parts[-3:])}:
            known.setdefault(key, []).append(order)
    stems = Counter(stem(said["path"]) for said in paths.values())
    rows: list[tuple[str, str | None, str, int, int, str]] = []
    for video, said in paths.items():
        short = stem(said["path"])
        exact = (said["path"], str(PurePosixPath(said["path"]).with_name(short)))
        keys = exact if stems[short] > 1 else (*exact, short)
        found = next((known[key] for key in keys if key in known), None)
        if found:
            _, _, place, seen = min(found, key=lambda one: one[:3])
            rows.append((video, place, "file", seen.st_size, seen.st_mtime_ns, "found"))
        else:
            rows.append((video, None, "file", 0, 0, "missing"))
    return pd.DataFrame(rows, columns=inventory.COLUMNS).astype(
        {"size": "int64", "mtime_ns": "int64"}
    )
