"""Are prediction files what their paths say? Their own record of model, weights, items, split and
control is compared with what a result is to be made of; others are put aside, never scored."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from vireo.errors import VireoError
from vireo.tables import predictions
from vireo.utils.cli import log

ASIDE = ".wrong"
# Fields of a key that only the weights' own files tell.
OF_WEIGHTS = ("weights", "wiseft", "beside", "seed")
SHOWN = 3


def check(
    files: Iterable[str | Path],
    expected: dict[str, Any],
    items: pd.DataFrame,
    ignore: tuple[str, ...] = (),
) -> None:
    """VireoError when a file is of another model, weights, items, split or control.

    expected: the description that `vireo.inference.cache_key.prediction_key` gives; items: all
    items of the benchmark (`id`, `split`); ignore: fields of the key that are not compared. What is
    wrong is renamed, so that the workflow makes it again (from the journal, without computing).
    """
    splits = items.set_index("id")["split"]
    wrong = {}
    for file in map(Path, files):
        if why := _why(file, expected, splits, ignore):
            wrong[file] = why
    for file, why in wrong.items():
        log.error("%s: %s", file, why)
        if of_workflow(file):
            put_aside(file)
    if wrong:
        first, why = next(iter(wrong.items()))
        more = f" (and {len(wrong) - 1} more files)" if len(wrong) > 1 else ""
        fix = (
            f"It is put aside as {first.name}{ASIDE}; run the same command again, which makes it "
            "from the journal"
            if of_workflow(first)
            else "Give the file that belongs there, or infer again"
        )
        raise VireoError(f"{first} is not what it is given for{more}: {why}. {fix}")


def of_workflow(file: Path) -> bool:
    """Whether a file lies where the workflow keeps its shards, so that it can make it again."""
    parts = file.parts
    return any(parts[n : n + 2] == ("cache", "shards") for n in range(len(parts)))


def put_aside(file: Path) -> None:
    """Rename a wrong file, and the list of a model's controls that names it."""
    os.replace(file, file.with_name(file.name + ASIDE))
    listing = file.parent.with_name(f"{file.parent.name}.json")
    if file.parent.name == "controls" and listing.exists():
        os.replace(listing, listing.with_name(listing.name + ASIDE))


def _why(
    file: Path, expected: dict[str, Any], splits: pd.Series, ignore: tuple[str, ...]
) -> str | None:
    info = predictions.info(file)
    if not info.get("key"):
        return "it does not say what it was made with"
    if differs := _differences(info["key"], json.loads(json.dumps(expected)), ignore):
        return f"it was made with another {'; '.join(differs)}"
    if why := misplaced(file, info):
        return why
    ids = predictions.read(file)["id"]
    found = set(splits.reindex(ids).dropna())
    place = _split(file)
    if place in set(splits) and not found <= {place}:
        return f"its items are of split {', '.join(sorted(found - {place}))}"
    return None


def misplaced(file: Path, info: dict[str, Any]) -> str | None:
    """In which place a file of the workflow (`cache/shards/…`) should lie instead, in words.

    None when it lies where its own record says, or says nothing (files of earlier versions).
    """
    place = info.get("place")
    if not place or not of_workflow(file):
        return None
    here = _place(file)
    if all(place.get(name) == value for name, value in here.items()):
        return None
    said = ", ".join(f"{name} {place.get(name)}" for name in here)
    return f"it was made as {said}"


def _place(file: Path) -> dict[str, Any]:
    """Model, benchmark, split, shard and control that a path below `shards` stands for."""
    parts = file.parts[len(file.parts) - file.parts[::-1].index("shards") :]
    if len(parts) != 4:
        return {}
    model, benchmark, folder, _ = parts
    here = {"model": model, "benchmark": benchmark, "split": _split(file)}
    if folder == "controls":
        return {**here, "control": file.name.split(".", 1)[0]}
    return {**here, "shard": file.stem, "control": None}


def _split(file: Path) -> str:
    if file.parent.name == "controls":
        return file.name.split(".", 1)[1].removesuffix(".parquet")
    return file.parent.name


def _differences(
    said: dict[str, Any], expected: dict[str, Any], ignore: tuple[str, ...]
) -> list[str]:
    """`field (it says x, expected y)` for each field that is not equal."""
    names = [
        name
        for name in dict.fromkeys((*expected, *said))
        if name not in ignore and said.get(name) != expected.get(name)
    ]
    shown = [
        f"{name} (it says {_short(said.get(name))}, expected {_short(expected.get(name))})"
        for name in names[:SHOWN]
    ]
    return shown + ([f"{len(names) - SHOWN} more fields"] if len(names) > SHOWN else [])


def _short(value: Any) -> str:
    text = "none" if value is None else value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 40 else f"{text[:12]}…"
