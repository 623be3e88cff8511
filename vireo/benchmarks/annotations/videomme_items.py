"""The official Video-MME parquet -> items, with every spelling of `options` that is around.

Facts: dataset card of lmms-lab/Video-MME; the seed guide's parquet held `options` as the text of a
Python list with stray NUL bytes.
"""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from vireo.errors import VireoError, unknown
from vireo.tables import items as item_table

# In the official print order.
LABELS = {
    "domain": (
        "Knowledge",
        "Film & Television",
        "Sports Competition",
        "Artistic Performance",
        "Life Record",
        "Multilingual",
    ),
    "sub_category": (
        *("Humanity & History", "Literature & Art", "Biology & Medicine", "Finance & Commerce"),
        *("Astronomy", "Geography", "Law", "Life Tip", "Technology"),
        *("Animation", "Movie & TV Show", "Documentary", "News Report"),
        *("Esports", "Basketball", "Football", "Athletics", "Other Sports"),
        *("Stage Play", "Magic Show", "Variety Show", "Acrobatics"),
        *("Handicraft", "Food", "Fashion", "Daily Life", "Travel", "Pet & Animal", "Exercise"),
        "Multilingual",
    ),
    "task_type": (
        *("Temporal Perception", "Spatial Perception", "Attribute Perception"),
        *("Action Recognition", "Object Recognition", "OCR Problems", "Counting Problem"),
        *("Temporal Reasoning", "Spatial Reasoning", "Action Reasoning", "Object Reasoning"),
        "Information Synopsis",
    ),
}
DURATIONS = ("short", "medium", "long")
REQUIRED = ("videoID", "question_id", "duration", *LABELS, "question", "options", "answer")
PART = 4096  # rows read at once
VIDEO_COLUMNS = ("videoID", "duration", "domain", "sub_category")


def options(value: Any) -> list[str]:
    """The four options of a question from an array, a list, or the text of a list literal.

    Stray NUL bytes are dropped. Raises ValueError with a reason unless there are exactly four texts
    that begin with "A.", "B.", "C.", "D.".
    """
    if isinstance(value, bytes):
        value = value.decode("utf-8")
    if isinstance(value, str):
        text = value.replace("\x00", "").strip()
        value = _literal(text)
        if (
            isinstance(value, list | tuple)
            and len(value) == 1
            and re.search(r"['\"]\s+['\"]", text)
        ):
            # A literal parser silently joins neighbours without commas into one string.
            raise ValueError(
                "printed form of a NumPy array without commas, which cannot be read back safely; "
                "save the column as lists"
            )
    if not isinstance(value, list | tuple | np.ndarray):
        raise ValueError(f"not a list of options but a {type(value).__name__}")
    found = [v.replace("\x00", "") if isinstance(v, str) else v for v in value]
    if not all(isinstance(v, str) for v in found):
        raise ValueError("an option is not text")
    if len(found) != 4:
        raise ValueError(f"{len(found)} options instead of 4")
    for mark, option in zip("ABCD", found, strict=True):
        if not option.lstrip().startswith(f"{mark}."):
            raise ValueError(f"option {option[:40]!r} does not begin with '{mark}.'")
    return found


def _literal(text: str) -> Any:
    for parse in (json.loads, ast.literal_eval):
        try:
            return parse(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            continue
    raise ValueError(f"not a list of options: {text[:80]!r}")


def items(sources: dict[str, Path], block: dict[str, Any]) -> pd.DataFrame:
    """Questions of the official parquet in its order, one row each.

    `sources` maps roles to folders (or the parquet itself). Raises VireoError for an empty file,
    missing columns, bad options, unknown labels, duplicate ids, ids that are paths, and another
    number of rows than `block["rows"]` unless `block["partial"]`.
    """
    # A few thousand rows at a time: what pandas makes of a large file is many times its size.
    parts = [(path, _items(table, path, block)) for path, table in _read(sources)]
    path, full = parts[0][0], [part for _, part in parts if len(part)]
    if not full:
        raise VireoError(f"{path}: no rows; the download is not complete, fetch it again")
    result = pd.concat(full, ignore_index=True)
    duplicates = result.loc[result["id"].duplicated(), "id"]
    if len(duplicates):
        raise VireoError(f"{path}: question_id {duplicates.iloc[0]!r} occurs more than once")
    _check_videos(result, path)
    _check_rows(result, path, block)
    return result


def _items(table: pd.DataFrame, path: Path, block: dict[str, Any]) -> pd.DataFrame:
    missing = [c for c in REQUIRED if c not in table]
    if missing:
        raise VireoError(
            f"{path}: no column {', '.join(missing)} (it has {', '.join(table.columns)}); is this "
            "the test parquet of lmms-lab/Video-MME?"
        )
    table = _text_columns(table, path)
    _check_labels(table, path, block)
    rows = [_item(row, path) for row in table.to_dict("records")]
    return item_table.compact(pd.DataFrame(rows, columns=list(item_table.ITEM_COLUMNS)))


def _read(sources: dict[str, Path]) -> Iterator[tuple[Path, pd.DataFrame]]:
    """Every parquet in pieces with running row numbers, the first perhaps without rows."""
    files: list[Path] = []
    for root in dict.fromkeys(Path(p) for p in sources.values()):
        files += [root] if root.suffix == ".parquet" else sorted(root.rglob("test-*.parquet"))
    if not files:
        where = ", ".join(str(p) for p in sources.values())
        raise VireoError(
            f"no test-*.parquet below {where}; Video-MME's questions are "
            "videomme/test-00000-of-00001.parquet of lmms-lab/Video-MME"
        )
    # A copy of the whole hub repository may hold other configurations beside `videomme/`.
    named = [f for f in files if f.parent.name == "videomme"]
    chosen = named or files
    if len({f.parent for f in chosen}) > 1:
        listing = ", ".join(str(f) for f in chosen[:4])
        raise VireoError(f"several test parquets ({listing}); keep one copy of Video-MME there")
    for path in chosen:
        try:
            with pq.ParquetFile(path) as file:
                yield path, file.schema_arrow.empty_table().to_pandas()
                start = 0
                for batch in file.iter_batches(PART):
                    part = batch.to_pandas().reset_index(drop=True)
                    part.index += start
                    start += len(part)
                    yield path, part
        except (OSError, ValueError) as error:
            raise VireoError(
                f"{path} is not a readable parquet file ({error}); fetch it again"
            ) from error


def _text_columns(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    table = table.copy()
    if "video_id" not in table:
        table["video_id"] = [str(q).rsplit("-", 1)[0] for q in table["question_id"]]
    for column in ("video_id", *(c for c in REQUIRED if c != "options")):
        empty = table[column].isna()
        if empty.any():
            raise VireoError(f"{path}: row {empty.idxmax()} has no {column}")
        table[column] = [str(v).replace("\x00", "") for v in table[column]]
    return table


def _check_labels(table: pd.DataFrame, path: Path, block: dict[str, Any]) -> None:
    known = {**LABELS, "duration": tuple(block.get("splits") or DURATIONS), "answer": tuple("ABCD")}
    for column, names in known.items():
        wrong = table.loc[~table[column].isin(names)]
        if len(wrong):
            row = wrong.iloc[0]
            problem = unknown(column, row[column], names)
            raise VireoError(f"{path}: question {row['question_id']!r}: {problem}")


def _item(row: dict[Any, Any], path: Path) -> dict[str, Any]:
    video = row["videoID"]
    if not re.fullmatch(r"[^/\\\x00-\x1f]+", video) or video in (".", ".."):
        raise VireoError(
            f"{path}: question {row['question_id']!r}: videoID {video!r} is not a file name"
        )
    try:
        choices = options(row["options"])
    except ValueError as error:
        raise VireoError(f"{path}: question {row['question_id']!r}: options: {error}") from error
    meta = {k: row[k] for k in ("video_id", "duration", "domain", "sub_category", "task_type")}
    # Other columns (url; earlier revisions: language; ours: probe) travel along if they are short.
    for key, value in row.items():
        plain = value.item() if isinstance(value, np.generic) else value
        short = isinstance(plain, bool | int) or (isinstance(plain, str) and len(plain) <= 200)
        if short and key not in (*REQUIRED, *meta):
            meta[key] = plain.replace("\x00", "") if isinstance(plain, str) else plain
    return {
        "id": row["question_id"],
        "split": row["duration"],
        "video": video,
        "start": float("nan"),
        "end": float("nan"),
        "question": row["question"],
        "options": choices,
        "answer": row["answer"],
        "group": video,
        "meta": json.dumps(meta, ensure_ascii=False),
    }


def _check_videos(result: pd.DataFrame, path: Path) -> None:
    """Questions of one video agree about it: the grouped file has one object per video."""
    seen: dict[str, tuple[str, ...]] = {}
    for video, text in zip(result["video"], result["meta"], strict=True):
        m = json.loads(text)
        facts = (video, m["duration"], m["domain"], m["sub_category"])
        if seen.setdefault(m["video_id"], facts) != facts:
            raise VireoError(
                f"{path}: the questions of video_id {m['video_id']!r} disagree about "
                f"{', '.join(VIDEO_COLUMNS)}: {seen[m['video_id']]} and {facts}"
            )


def _check_rows(result: pd.DataFrame, path: Path, block: dict[str, Any]) -> None:
    wanted = dict(block.get("rows") or {})
    if not wanted or block.get("partial"):
        return
    found = result["split"].value_counts()
    counts = {k: len(result) if k == "all" else int(found.get(k, 0)) for k in wanted}
    if counts != wanted:
        differing = ", ".join(f"{k}: {counts[k]} of {n}" for k, n in wanted.items())
        raise VireoError(
            f"{path}: {len(result)} rows ({differing}). Video-MME has 2,700; earlier revisions had "
            "2,541 or 2,544. Fetch the current parquet, or set `partial: true` in the benchmark's "
            "block to score what is there"
        )
