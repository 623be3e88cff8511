"""One configuration out of several files: merged key by key, then `inherits` resolved."""

import copy
from collections.abc import Mapping
from typing import Any

from vireo.errors import VireoError, unknown

Raw = dict[str, Any]  # a configuration before it is checked
INHERITS = "inherits"
SECTIONS = ("models", "benchmarks", "recipes")
# Names and claims are a block's own.
NOT_INHERITED = ("title", "published", "artifacts")
# A block names one source of weights: another one replaces it.
ONE_SOURCE = ("weights", "init")


def merge(base: Raw, over: Mapping[str, Any]) -> Raw:
    """Deep-merge `over` into a copy of `base`: mappings join, everything else is replaced."""
    result = dict(base)
    for key, value in over.items():
        old = result.get(key)
        if isinstance(value, dict) and isinstance(old, dict) and not _other_source(key, value):
            result[key] = merge(old, value)
        else:
            result[key] = copy.deepcopy(value)
    return result


def _other_source(key: str, value: Raw) -> bool:
    return key in ONE_SOURCE and bool({"artifact", "recipe"} & value.keys())


def inherit(config: Raw) -> Raw:
    """`config` with every `inherits: NAME` replaced by what the named block of its section holds.

    VireoError for an unknown name and for blocks that inherit from each other in a circle.
    """
    result = dict(config)
    for section in SECTIONS:
        blocks = config.get(section)
        if isinstance(blocks, dict):
            done: Raw = {}
            for name in blocks:
                _resolve(section, blocks, name, done, [])
            result[section] = {name: done[name] for name in blocks}
    return result


def _resolve(section: str, blocks: Raw, name: str, done: Raw, above: list[str]) -> Any:
    if name in done:
        return done[name]
    block = blocks[name]
    if not isinstance(block, dict) or INHERITS not in block:
        done[name] = block
        return block
    parent, where = block[INHERITS], f"{section}.{name}.{INHERITS}"
    if not isinstance(parent, str):
        raise VireoError(f"{where}: {parent!r} should be the name of one block of `{section}`")
    if parent not in blocks:
        raise VireoError(f"{where}: {unknown(section.removesuffix('s'), parent, blocks)}")
    if parent in [*above, name]:
        circle = [*above, name][[*above, name].index(parent) :]
        raise VireoError(f"{where}: {' -> '.join([*circle, parent])} is a circle")
    base = _resolve(section, blocks, parent, done, [*above, name])
    if not isinstance(base, dict):
        raise VireoError(f"{where}: {section}.{parent} is no block of keys")
    kept = {key: value for key, value in base.items() if key not in NOT_INHERITED}
    own = {key: value for key, value in block.items() if key != INHERITS}
    done[name] = merge(kept, own)
    return done[name]
