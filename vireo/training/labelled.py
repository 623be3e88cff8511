"""Clips of labelled lists as training data: what the benchmark module `actions` reads, as `Clips`.

Used by every task that trains on Kinetics, SSv2, Breakfast, COIN, LVU or lists like theirs; long
videos may be cut into windows, each of which is a sample.
"""

import math
import os
from pathlib import Path
from typing import Any

import pandas as pd

from vireo.benchmarks import actions
from vireo.errors import VireoError
from vireo.training import recipe as blocks
from vireo.training.clips import Clips
from vireo.training.lists import Pair
from vireo.utils.cli import log

# How the lists are read (options of the benchmark module), and one list or both.
LISTS = {
    "format": "kinetics",
    "list": None,
    "val_list": None,
    "labels": None,
    "separator": None,
    "columns": None,
    "classes": None,
    "names": None,
    "task": None,
    "windows": None,
}


def sources(recipe: dict[str, Any], split: str) -> dict[str, Path]:
    """Folders of annotations and videos; `val_annotations` and `val_videos` where they differ."""
    named = recipe.get("sources") or {}
    roles = {}
    for role in ("annotations", "videos"):
        name = named.get(f"val_{role}") if split == "val" else None
        name = name or named.get(role)
        if name is None:
            raise VireoError(f"a {recipe['task']} recipe needs `sources: {{{role}: ARTIFACT}}`")
        roles[role] = blocks.list_of(name) if role == "annotations" else blocks.root_of(name)
    return roles


def block(data: dict[str, Any], split: str) -> dict[str, Any]:
    """What the benchmark module is asked for."""
    options = {key: data[key] for key in LISTS if key not in ("list", "val_list")}
    options["list"] = data["val_list" if split == "val" else "list"]
    return {"options": {**options, "split": split}, "partial": True}


def items(recipe: dict[str, Any], data: dict[str, Any], split: str) -> pd.DataFrame:
    """Rows of a split as `actions.items` gives them."""
    return actions.items(sources(recipe, split), block(data, split))


def clips(
    recipe: dict[str, Any],
    config: dict[str, Any],
    data: dict[str, Any],
    split: str,
    table: pd.DataFrame,
    known: set[str] | None = None,
) -> Clips:
    """Clips of the rows whose video is there and whose answer is `known`; captions are answers."""
    folders = sources(recipe, split)
    found = actions.videos(folders, table, block(data, split)).set_index("video")
    root = folders["videos"]
    pairs: list[Pair] = []
    for row in table.itertuples():
        video, answer = str(row.video), str(row.answer)
        if video not in found.index or found.at[video, "status"] != "found":
            continue
        if known is not None and answer not in known:
            continue
        path = os.path.relpath(str(found.at[video, "path"]), root.absolute())
        part = [float(str(value)) for value in (row.start, row.end)]
        start, end = (None if math.isnan(second) else second for second in part)
        kind = str(found.at[video, "kind"])
        pairs.append(Pair(path, answer, len(pairs), start, end, kind))
    log.info("%s: %d of %d clips found", split, len(pairs), len(table))
    return Clips(
        [(pairs, root)],
        data["frames" if split == "train" else "val_frames"],
        int(recipe.get("seed", 0)),
        blocks.decoding(config),
        cache=data["cache_decoded"],
    )
