"""What pydantic found wrong, as sentences that name the key, the file that holds it and the fix."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from vireo.config import reading
from vireo.config.merging import INHERITS, Raw
from vireo.errors import VireoError, unknown

KINDS = {
    "int": "integer",
    "string": "string",
    "bool": "boolean",
    "list": "list",
    "dict": "mapping",
    "model": "mapping",
    "model_attributes": "mapping",
    "number": "number",
    "float": "number",
}
BOUNDS = {
    "greater_than": ("gt", "is not greater than"),
    "greater_than_equal": ("ge", "is less than the minimum of"),
    "less_than": ("lt", "is not less than"),
    "less_than_equal": ("le", "is more than the maximum of"),
}
MOST = 5  # problems that are listed


@dataclass(frozen=True)
class Layer:
    """One file (or `--config`) of those that were merged."""

    name: str
    data: Raw
    readable: bool = True  # a YAML file whose lines can be named


def error_of(
    error: ValidationError, layers: Sequence[Layer] = (), where: Sequence[str] = ()
) -> VireoError:
    """One error that lists the first problems. `where`: path of the checked value."""
    each: list[dict[str, Any]] = [{**one} for one in error.errors(include_url=False)]
    found = [_sentence(one, where, layers) for one in each if one["type"] != "missing"]
    missing: dict[tuple[Any, ...], list[str]] = {}
    for one in each:
        if one["type"] == "missing":
            missing.setdefault(one["loc"][:-1], []).append(f"`{one['loc'][-1]}`")
    for block, names in missing.items():
        path = (*where, *map(str, block))
        text = f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} missing"
        found.append(_placed(text, path, layers))
    return VireoError("configuration: " + "; ".join(found[:MOST]))


def checked(
    kind: type[BaseModel], value: Any, layers: Sequence[Layer], where: Sequence[str]
) -> Any:
    """`value` as an object of `kind`; VireoError lists what is wrong with it."""
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise error_of(error, layers, where) from None


def problem(
    text: str, where: Sequence[str], layers: Sequence[Layer] = (), key: str | None = None
) -> VireoError:
    """The error `text` about the value at `where`, or about its `key`."""
    return VireoError(f"configuration: {_placed(text, tuple(where), layers, key)}")


def _sentence(error: dict[str, Any], above: Sequence[str], layers: Sequence[Layer]) -> str:
    path = (*above, *(str(part) for part in error["loc"]))
    kind, given, context = error["type"], error["input"], error.get("ctx") or {}
    if kind == "unknown_key":
        return _placed(error["msg"], path, layers, context["key"])
    if kind == "literal_error":
        known = re.findall(r"'([^']*)'", context["expected"])
        return _placed(str(unknown("value", str(given), known)), path, layers)
    if kind in BOUNDS:
        name, text = BOUNDS[kind]
        return _placed(f"{given!r} {text} {context[name]}", path, layers)
    if kind == "finite_number":
        return _placed(f"{given!r} is not a finite number", path, layers)
    if kind == "string_pattern_mismatch":
        return _placed(f"{given!r} does not match {context['pattern']}", path, layers)
    wanted = KINDS.get(kind.removesuffix("_type").removesuffix("_from_float"))
    if wanted:
        return _placed(f"{_short(given)} should be of type {wanted}", path, layers)
    return _placed(str(error["msg"]), path, layers)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _placed(
    text: str, path: tuple[str, ...], layers: Sequence[Layer], key: str | None = None
) -> str:
    named = ".".join(path) or "top level"
    place = _place((*path, key) if key else path, layers)
    return f"{named}: {text}" + (f" ({place})" if place else "")


def _place(path: tuple[str, ...], layers: Sequence[Layer]) -> str | None:
    """The last layer that holds a key, or failing that the block around it, with its line."""
    tried = path
    for _ in range(len(layers) + 8):
        if found := _holder(tried, layers):
            return (found.readable and reading.find(found.name, tried)) or found.name
        parent = _inherited(path, layers)
        if parent is not None:
            path = tried = parent
        elif len(tried) > 1:
            tried = tried[:-1]
        else:
            break
    return None


def _holder(path: tuple[str, ...], layers: Sequence[Layer]) -> Layer | None:
    """The last layer that holds a key.

    Snakemake hands over what its `--configfile` files hold together with `--config`: the file is
    named unless its value was replaced.
    """
    holding = [layer for layer in layers if _value(layer.data, path) is not _NOWHERE]
    last = holding[-1] if holding else None
    if last is None or last.readable:
        return last
    value = _value(last.data, path)
    same = [layer for layer in holding if layer.readable and _value(layer.data, path) == value]
    return same[-1] if same else last


_NOWHERE = object()


def _value(data: Any, path: tuple[str, ...]) -> Any:
    for key in path:
        if isinstance(data, Mapping) and key in data:
            data = data[key]
        elif isinstance(data, list) and key.isdigit() and int(key) < len(data):
            data = data[int(key)]
        else:
            return _NOWHERE
    return data


def _inherited(path: tuple[str, ...], layers: Sequence[Layer]) -> tuple[str, ...] | None:
    """The same key in the block that this one inherits from."""
    for layer in reversed(layers):
        parent = _value(layer.data, (*path[:2], INHERITS))
        if len(path) > 2 and isinstance(parent, str):
            return (path[0], parent, *path[2:])
    return None


def shown(path: str | Path) -> str:
    """A file's name for messages: relative to the working directory where it lies below it."""
    full = Path(path).absolute()
    here = Path.cwd()
    return str(full.relative_to(here)) if full.is_relative_to(here) else str(path)
