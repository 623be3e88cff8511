"""Predictions and gold made elsewhere: read, checked, and matched with each other.

Everything here comes from a user's file, so each problem is a VireoError with file and place.
"""

import csv
import json
import logging
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vireo.errors import VireoError

log = logging.getLogger("vireo")

MAX_UNMATCHED = 0.2  # share of ids without a partner above which files are refused


def finite(values: Any, where: str) -> np.ndarray:
    """Numbers as float64; VireoError names the place when one is NaN, infinite or no number."""
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise VireoError(f"{where}: not a list of numbers ({error})") from error
    if not np.isfinite(array).all():
        bad = array[~np.isfinite(array)].flat[0]
        raise VireoError(
            f"{where}: a value is {bad}, which cannot be scored; predict this item again, or leave "
            "it out of the file"
        )
    return array


def finite_rows(array: np.ndarray, path: str | Path, name: str) -> np.ndarray:
    """A table [rows, columns] of a file; VireoError names the first row that is not finite."""
    if array.dtype.kind not in "fiu" or array.ndim != 2:
        raise VireoError(f"{path}: {name} must be numbers [rows, columns], not {array.dtype}"
                         f"{list(array.shape)}")  # fmt: skip
    bad = ~np.isfinite(array).all(axis=1)
    if bad.any():
        raise VireoError(
            f"{path}: {name}, row {int(np.flatnonzero(bad)[0])}: NaN or infinite "
            f"({int(bad.sum())} of {len(array)} rows); make these predictions again"
        )
    return array


def row_scores(values: Any, id: str) -> np.ndarray:
    """Scores of one prediction row; VireoError names the item when one is not finite."""
    return finite(values, f"prediction of {id!r}")


def npz(path: str | Path, names: Collection[str]) -> list[np.ndarray]:
    """Arrays of an NPZ file, never unpickled; VireoError for any other file."""
    needs = f"{path}: needs an NPZ file with {', '.join(names)}"
    try:
        loaded = np.load(path, allow_pickle=False)
    except FileNotFoundError as error:
        raise VireoError(f"file not found: {path}") from error
    except Exception as error:  # zipfile, NumPy's header parser, the operating system
        raise VireoError(f"{needs} ({error})") from error
    if not isinstance(loaded, np.lib.npyio.NpzFile):
        raise VireoError(f"{needs}; it is a single array")
    with loaded as data:
        missing = [name for name in names if name not in data.files]
        if missing:
            raise VireoError(f"{needs}; {', '.join(missing)} is missing")
        try:
            return [data[name] for name in names]
        except Exception as error:
            raise VireoError(f"{needs} ({error})") from error


def text(path: str | Path) -> str:
    """A text file in UTF-8 (a byte-order mark is dropped)."""
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise VireoError(f"file not found: {path}") from error
    except UnicodeDecodeError as error:
        raise VireoError(f"{path} is not a text file in UTF-8 ({error.reason})") from error
    except OSError as error:
        raise VireoError(f"cannot read {path}: {error.strerror}") from error


def csv_rows(path: str | Path, columns: Collection[str]) -> list[tuple[str, dict[str, str]]]:
    """(place, row) of a CSV with a header; separated by commas, semicolons or tabs."""
    lines = text(path).splitlines()
    head = lines[0] if lines else ""
    mark = max(",;\t", key=head.count)
    try:
        reader = csv.DictReader(lines, delimiter=mark, strict=True)
        names = [name.strip() for name in reader.fieldnames or []]
        missing = [name for name in columns if name not in names]
        if missing:
            raise VireoError(f"{path}: no column {', '.join(missing)}; needs {', '.join(columns)}")
        reader.fieldnames = names
        found = []
        for row in reader:
            where = f"{path}, line {reader.line_num}"
            if None in row or any(row[name] is None for name in columns):
                raise VireoError(f"{where}: {len(names)} columns expected")
            found.append((where, {key: (value or "").strip() for key, value in row.items()}))
    except csv.Error as error:
        raise VireoError(f"{path} is not a readable CSV: {error}") from error
    if not found:
        raise VireoError(f"{path}: no rows below the header")
    return found


def json_or_lines(path: str | Path) -> Any:
    """A JSON value, or the list of a file with one JSON value a line."""
    content = text(path)
    if not content.strip():
        raise VireoError(f"{path} is empty")
    try:
        return json.loads(content)
    except RecursionError as error:
        raise VireoError(f"{path} is nested too deeply for JSON of this kind") from error
    except ValueError as whole:
        lines = [line for line in content.splitlines() if line.strip()]
        values = []
        for number, line in enumerate(lines, 1):
            try:
                values.append(json.loads(line))
            except (ValueError, RecursionError) as error:
                why = whole if number == 1 else error
                raise VireoError(
                    f"{path}, line {number}: neither JSON nor JSON lines ({why}); a download that "
                    "was cut off?"
                ) from error
        return values


def objects(path: str | Path) -> list[dict[str, Any]]:
    """A JSON list of objects, or one object a line; VireoError for an empty file."""
    value = json_or_lines(path)
    entries = [value] if isinstance(value, dict) else value
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise VireoError(f"{path}: neither a JSON list of objects nor one object a line")
    if not entries:
        raise VireoError(f"{path} is empty: it holds no entries")
    return entries


def repeated(ids: Iterable[Any]) -> dict[str, int]:
    """Ids that occur more than once, with their number."""
    return {str(id): count for id, count in Counter(ids).items() if count > 1}


def warn_repeated(ids: Iterable[Any], path: str | Path, what: str) -> int:
    """Log how many lines repeat an id and `what` is done with them; returns that number."""
    several = repeated(ids)
    extra = sum(several.values()) - len(several)
    if several:
        log.warning(
            "%s: %d ids occur more than once (%d lines too many), the first is %r: %s",
            *(path, len(several), extra, next(iter(several)), what),
        )
    return extra


def add_unmatched(parser: ArgumentParser) -> None:
    """The flag that says how many ids may be without a partner."""
    parser.add_argument(
        "--max_unmatched",
        type=float,
        default=MAX_UNMATCHED,
        metavar="SHARE",
        help="refuse files when more than this share of the gold ids has no prediction, or of the "
        "predicted ids no gold (default: %(default)s; 1 accepts everything)",
    )


def matched(
    gold: Collection[str],
    predicted: Collection[str],
    files: tuple[str | Path, str | Path],
    most: float = MAX_UNMATCHED,
) -> int:
    """Number of gold ids with a prediction, logged; VireoError when too few match.

    files: of gold and predictions. most: share of either side that may be without a partner; the
    files must have something in common in any case.
    """
    gold_ids, predicted_ids = set(gold), set(predicted)
    both = gold_ids & predicted_ids
    fact = (
        f"{len(both)} of {len(gold_ids)} ids of {files[0]} have a prediction; {len(both)} of "
        f"{len(predicted_ids)} ids of {files[1]} are in the gold file"
    )
    alone = max(1 - len(both) / max(len(gold_ids), 1), 1 - len(both) / max(len(predicted_ids), 1))
    if not both or alone > most:
        hint = "; a part of a split on purpose: --max_unmatched 1" if both else ""
        raise VireoError(f"{fact}. Predictions and gold must be of one split{hint}")
    log.info("%s", fact)
    return len(both)


def check_predictions(predictions: pd.DataFrame) -> pd.DataFrame:
    """Rows with status `ok`; VireoError names the first whose scores are not finite."""
    done = predictions.loc[predictions["status"] == "ok"]
    for id, scores in zip(done["id"], done["scores"], strict=True):
        if scores is not None and len(scores):
            row_scores(scores, str(id))
    return done
