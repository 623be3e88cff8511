"""The configuration: config/* merged with the user's files, checked against the types of this room.

Everything is refused that no type names, with the nearest known key and the file that holds it in
the message; duplicate keys are refused because YAML would silently keep the last one. Each section
has a file (`model.py`, `benchmark.py`, …); config/README.md and config/schema.json are generated
from them.
"""

from vireo.config.load import (
    FILES,
    HOME,
    NON_SEMANTIC_KEYS,
    Config,
    artifact,
    benchmark,
    check,
    dtype,
    load,
    model,
    protocol,
    recipe,
    recipe_description,
    resolve_run,
    write_resolved,
)
from vireo.config.merging import merge
from vireo.config.reading import read_yaml

__all__ = [
    "FILES",
    "HOME",
    "NON_SEMANTIC_KEYS",
    "Config",
    "artifact",
    "benchmark",
    "check",
    "dtype",
    "load",
    "merge",
    "model",
    "protocol",
    "read_yaml",
    "recipe",
    "recipe_description",
    "resolve_run",
    "write_resolved",
]
