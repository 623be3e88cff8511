"""YAML files read strictly: no duplicate keys, no loops, every error with file, line and column."""

import io
import os
import re
from collections.abc import Hashable
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from vireo.errors import VireoError

LARGEST = 1_000_000  # entries that a file may stand for after its aliases are written out
DEEPEST = 100  # levels; libyaml's composer recurses on the C stack and dies of a few ten thousand
_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # four times as fast, where it is built


class StrictLoader(_Base):  # type: ignore[misc]
    """YAML without duplicate keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """A mapping; VireoError for a key that is given twice or is no plain text."""
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str | int | float | bool):
                raise VireoError(f"key {key!r} is not plain text, {place(key_node)}")
            if key in seen:
                raise VireoError(f"duplicate key {key!r}, {place(key_node)}: keep one of them")
            seen.add(key)
        return super().construct_mapping(node, deep)  # type: ignore[no-any-return]


# PyYAML follows YAML 1.1, where 5e-5 without a dot is text; JSON writes numbers so.
StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def place(node: yaml.Node) -> str:
    """File, line and column of a node."""
    mark = node.start_mark
    return f"{mark.name}, line {mark.line + 1}, column {mark.column + 1}"


def _entries(node: yaml.Node, above: set[int], counted: dict[int, int]) -> int:
    """Entries below a node with its aliases written out; VireoError for a loop."""
    if id(node) in above:
        raise VireoError(
            f"{place(node)}: this entry contains itself (an alias `*name` inside of what `&name` "
            "marks); write the inner one out"
        )
    if id(node) not in counted:
        above.add(id(node))
        parts = node.value if isinstance(node, yaml.CollectionNode) else ()
        below = [sub for part in parts for sub in (part if isinstance(part, tuple) else (part,))]
        counted[id(node)] = 1 + sum(_entries(sub, above, counted) for sub in below)
        above.discard(id(node))
    return counted[id(node)]


def _refuse_depth(path: str | Path, text: str) -> None:
    level = deepest = 0
    for mark in re.finditer(r"[\[{]|[\]}]", text):
        level += 1 if mark[0] in "[{" else -1
        deepest = max(deepest, level)
    opened = max((len(run) for run in re.findall(r"^[ \-?:]+", text, re.M)), default=0)
    if max(deepest, opened) <= DEEPEST:
        return
    level = 0  # brackets in texts and long indents count above, so look closely
    for event in yaml.parse(text, StrictLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            level += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            level -= 1
        if level > DEEPEST:
            line = f", line {event.start_mark.line + 1}" if event.start_mark else ""
            raise VireoError(f"{path}{line}: nested more than {DEEPEST} levels deep")


def compose(path: str | Path, text: str) -> tuple[yaml.Node | None, Any]:
    """Node tree and value of a YAML text; VireoError names file, line and column of mistakes."""
    stream = io.StringIO(text)
    stream.name = str(path)  # what marks call the file
    try:
        loader = StrictLoader(stream)
    except yaml.YAMLError as error:  # a character that YAML does not have
        raise VireoError(f"{path} is not valid YAML: {error}") from error
    try:
        _refuse_depth(path, text)
        node = loader.get_single_node()
        if node is None:
            return None, None
        if _entries(node, set(), {}) > LARGEST:
            raise VireoError(f"{path}: its aliases stand for more than {LARGEST} entries")
        return node, loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        what = ": ".join(part for part in (error.context, error.problem) if part)
        raise VireoError(f"{path}{where}: not valid YAML: {what}") from error
    except (yaml.YAMLError, ValueError) as error:
        raise VireoError(f"{path} is not valid YAML: {error}") from error
    finally:
        loader.dispose()


def read_shared(path: str | Path) -> dict[str, Any]:
    """The same, read once while the file stays as it is: the caller must not change the result."""
    try:
        state = Path(path).stat()
    except OSError:
        return read_yaml(path)
    return _read_once(str(path), os.getcwd(), state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=16)
def _read_once(path: str, folder: str, mtime_ns: int, size: int) -> dict[str, Any]:
    return read_yaml(path)


def _text(path: str | Path) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise VireoError(f"configuration file not found: {path}") from error
    except OSError as error:
        raise VireoError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise VireoError(f"{path} is not valid YAML: it is not UTF-8 text ({error})") from error


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read one YAML mapping; VireoError names file, line and column of what is wrong."""
    _, value = compose(path, _text(path))
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise VireoError(f"{path} must hold `key: value` lines, it holds a {type(value).__name__}")
    return value


@lru_cache(maxsize=16)
def _tree(path: str, folder: str, mtime_ns: int) -> yaml.Node | None:
    return compose(path, _text(path))[0]


def find(path: str | Path, keys: tuple[str, ...]) -> str | None:
    """`file, line N` where a nested key is written in a YAML file; None when it is not there."""
    node, found = _tree(str(path), os.getcwd(), os.stat(path).st_mtime_ns), None
    for key in keys:
        node, found = _child(node, key)
        if found is None:
            return None
    return f"{path}, line {found.start_mark.line + 1}" if found is not None else None


def _child(node: yaml.Node | None, key: str) -> tuple[yaml.Node | None, yaml.Node | None]:
    """(value node, node whose line is meant) of a key or an index; merged mappings count."""
    if isinstance(node, yaml.SequenceNode) and key.isdigit() and int(key) < len(node.value):
        return node.value[int(key)], node.value[int(key)]
    if not isinstance(node, yaml.MappingNode):
        return None, None
    for key_node, value in node.value:
        if str(key_node.value) == key:
            return value, key_node
    for key_node, value in node.value:
        if key_node.tag == "tag:yaml.org,2002:merge":
            for one in value.value if isinstance(value, yaml.SequenceNode) else [value]:
                if (found := _child(one, key))[1] is not None:
                    return found
    return None, None
