"""The configuration: config/*.yaml merged with the user's files, checked by config/schema.yaml.

Everything is refused that the schema does not name, with the nearest known key in the message;
duplicate keys are refused because YAML would silently keep the last one.
"""

import copy
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from vireo.errors import VireoError, unknown
from vireo.utils.home import HOME

FILES = ("config.yaml", "models.yaml", "benchmarks.yaml", "artifacts.yaml", "recipes.yaml")
Config = dict[str, Any]


class _StrictLoader(yaml.SafeLoader):
    """YAML without duplicate keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str | int | float | bool):
                raise VireoError(f"key {key!r} is not plain text, {_place(key_node)}")
            if key in seen:
                raise VireoError(f"duplicate key {key!r}, {_place(key_node)}: keep one of them")
            seen.add(key)
        return super().construct_mapping(node, deep)


# PyYAML follows YAML 1.1, where 5e-5 without a dot is text; JSON writes numbers so.
_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def _place(node: yaml.Node) -> str:
    mark = node.start_mark
    return f"{mark.name}, line {mark.line + 1}"


def read_yaml(path: str | Path) -> Config:
    """Read one YAML mapping; VireoError names file and line of duplicates and syntax errors."""
    try:
        with open(path, encoding="utf-8") as handle:
            value = yaml.load(handle, _StrictLoader)
    except FileNotFoundError as error:
        raise VireoError(f"configuration file not found: {path}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise VireoError(f"{path} is not valid YAML: {error}") from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise VireoError(f"{path} must hold `key: value` lines, it holds a {type(value).__name__}")
    return value


def merge(base: Config, over: Config) -> Config:
    """Deep-merge `over` into a copy of `base`: mappings join, everything else is replaced."""
    result = dict(base)
    for key, value in over.items():
        if isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merge(result[key], value)
        else:
            result[key] = copy.deepcopy(value)
    return result


def load(files: Iterable[str | Path] | None = None, over: Config | None = None) -> Config:
    """The merged and checked configuration.

    Without arguments: the resolved file that $VIREO_CONFIG names (set by the workflow), or the
    project's own config/*.yaml, over which config/config.yaml of the working directory is merged.
    `files` and then `over` are merged on top. Raises VireoError for anything that is not right.
    """
    resolved = os.environ.get("VIREO_CONFIG")
    if resolved and not over:
        config = read_yaml(resolved)
    else:
        config = {}
        for name in FILES:
            config = merge(config, read_yaml(HOME / "config" / name))
        own = Path("config/config.yaml")
        if own.exists() and own.resolve() != (HOME / "config/config.yaml").resolve():
            config = merge(config, read_yaml(own))
    for file in files or ():
        config = merge(config, read_yaml(file))
    return check(merge(config, over or {}))


def schema() -> Config:
    """config/schema.yaml as a dictionary."""
    return read_yaml(HOME / "config/schema.yaml")


def check(config: Config) -> Config:
    """Validate against the schema, fill defaults in, and check that names refer to something."""
    from jsonschema import Draft202012Validator

    rules = schema()
    config = copy.deepcopy(config)
    _fill(config, rules, rules)
    errors = sorted(Draft202012Validator(rules).iter_errors(config), key=lambda e: list(e.path))
    if errors:
        raise VireoError("configuration: " + "; ".join(_explain(e) for e in errors[:5]))
    _lift_artifacts(config)
    _check_names(config)
    return config


def _lift_artifacts(config: Config) -> None:
    """A block may hold its own artifacts, so that one block is all that a new model needs."""
    for section in ("models", "benchmarks", "recipes"):
        for name, block in config[section].items():
            for key, value in (block.pop("artifacts", None) or {}).items():
                if config["artifacts"].get(key, value) != value:
                    raise VireoError(
                        f"{section}.{name}.artifacts: {key!r} is described elsewhere too, "
                        "differently; keep one of the two"
                    )
                config["artifacts"][key] = value


def _fill(value: Any, rule: Config, root: Config) -> None:
    while "$ref" in rule:
        rule = root["$defs"][rule["$ref"].rsplit("/", 1)[1]]
    if isinstance(value, list):
        for entry in value:
            _fill(entry, rule.get("items", {}), root)
    if not isinstance(value, dict):
        return
    for key, sub in rule.get("properties", {}).items():
        if key not in value and "default" in sub:
            value[key] = copy.deepcopy(sub["default"])
        if sub.get("type") == "boolean" and value.get(key) in ("true", "false"):
            value[key] = value[key] == "true"  # `--config offline=true` comes as text
        if key in value:
            _fill(value[key], sub, root)
    extra = rule.get("additionalProperties")
    if isinstance(extra, dict):
        for key in value.keys() - rule.get("properties", {}).keys():
            _fill(value[key], extra, root)


def _explain(error: Any) -> str:
    where = ".".join(str(p) for p in error.absolute_path) or "top level"
    if error.validator == "additionalProperties":
        known = error.schema.get("properties", {})
        extra = [k for k in error.instance if k not in known]
        return f"{where}: " + ", ".join(str(unknown("key", str(k), known)) for k in extra)
    if error.validator == "enum":
        return f"{where}: {unknown('value', str(error.instance), map(str, error.validator_value))}"
    if error.validator == "type":
        return f"{where}: {error.instance!r} should be of type {error.validator_value}"
    return f"{where}: {error.message}"


def _check_names(config: Config) -> None:
    """Names inside blocks must exist, so that a typo is met before any job starts."""
    for section in ("models", "benchmarks", "artifacts", "recipes"):
        for name in config[section]:
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
                raise VireoError(
                    f"{section}.{name!r}: names hold letters, digits, '_', '-', '.' only "
                    "(they become file names)"
                )
    if "training" in config["models"]:
        raise VireoError("models.training: this name is taken (results/training holds recipes)")
    for name, block in config["models"].items():
        where = f"models.{name}"
        if block["weights"] is not None and not {"artifact", "recipe"} & set(block["weights"]):
            raise VireoError(f"{where}.weights: name an `artifact` or a `recipe`, or write null")
        for kind, known in (("artifact", config["artifacts"]), ("recipe", config["recipes"])):
            wanted = (block["weights"] or {}).get(kind)
            if wanted and not (kind == "artifact" and wanted.startswith("toy_")):
                _exists(f"{where}.weights", kind, wanted, known)
        if other := block.get("wiseft"):
            _exists(f"{where}.wiseft.with", "artifact", other["with"], config["artifacts"])
        for role, entry in block.get("files", {}).items():
            if not entry["artifact"].startswith("toy_"):
                known = config["artifacts"]
                _exists(f"{where}.files.{role}", "artifact", entry["artifact"], known)
        for target in block.get("protocols", {}):
            _exists(where, "benchmark", target, config["benchmarks"])
    for section in ("benchmarks", "recipes"):
        for name, block in config[section].items():
            for artifact_name in block.get("sources", {}).values():
                if not artifact_name.startswith("toy_"):
                    _exists(f"{section}.{name}", "artifact", artifact_name, config["artifacts"])
    for name, block in config["benchmarks"].items():
        for split in block.get("headline", []):
            _exists(f"benchmarks.{name}.headline", "split", split, block["splits"])
    for name in config["paths"]:
        if not name.startswith("toy_"):
            _exists("paths", "artifact", name, config["artifacts"])


def _exists(where: str, kind: str, name: str, known: Iterable[str]) -> None:
    if name not in known:
        raise VireoError(f"{where}: {unknown(kind, name, known)}")


def _block(config: Config, section: str, kind: str, name: str) -> Config:
    if name not in config[section]:
        raise unknown(kind, name, config[section], f"(config/{section}.yaml)")
    return config[section][name]


def model(config: Config, name: str) -> Config:
    """Block of a model; VireoError with near names for a typo."""
    return _block(config, "models", "model", name)


def benchmark(config: Config, name: str) -> Config:
    """Block of a benchmark; VireoError with near names for a typo."""
    return _block(config, "benchmarks", "benchmark", name)


def artifact(config: Config, name: str) -> Config:
    """Block of an artifact; VireoError with near names for a typo."""
    return _block(config, "artifacts", "artifact", name)


def recipe(config: Config, name: str) -> Config:
    """Block of a recipe; VireoError with near names for a typo."""
    return _block(config, "recipes", "recipe", name)


# Keys of a recipe that say how a run is carried out, not what comes out of it.
NON_SEMANTIC_KEYS = (
    *("title", "note", "hardware", "artifacts", "workers", "save_every", "save_steps"),
)


def recipe_description(config: Config, block: Config) -> Config:
    """What a training run's outcome depends on as far as the configuration says it.

    Rule train's key and the key of a run's checkpoints are digests of this.
    """
    kept = {k: v for k, v in block.items() if k not in NON_SEMANTIC_KEYS and v is not None}
    return {**kept, "tf32": True} if config.get("tf32") else kept


def resolve_run(config: Config, run: str) -> tuple[str, list[str]]:
    """`videomme` -> its headline splits; `videomme_short` -> that split. Returns (name, splits)."""
    blocks = config["benchmarks"]
    if run in blocks:
        return run, list(blocks[run].get("headline") or blocks[run]["splits"])
    for name in sorted(blocks, key=len, reverse=True):
        split = run[len(name) + 1 :]
        if run.startswith(f"{name}_") and split in blocks[name]["splits"]:
            return name, [split]
    runs = list(blocks) + [f"{n}_{s}" for n, b in blocks.items() for s in b["splits"]]
    raise unknown("benchmark", run, runs, "(config/benchmarks.yaml)")


def protocol(config: Config, model_name: str, benchmark_name: str) -> Config:
    """How this model meets this benchmark: the benchmark's protocol, overridden by the model's,
    with the model's mean, std and size. The frames of a view are as many as the model wants, the
    choices of frames as many as `views.segments`, where `frames` does not say."""
    block, bench = model(config, model_name), benchmark(config, benchmark_name)
    own = block.get("protocols", {}).get(benchmark_name, {})
    result = merge(bench.get("protocol", {}), own)
    for key in ("mean", "std", "size"):
        if key in block:
            result[key] = block[key]
    frames, views = result.get("frames") or {}, result.get("views") or {}
    if str(frames.get("rule")).endswith("_views"):
        told = {"n": (block.get("arch") or {}).get("num_frames"), "segments": views.get("segments")}
        result["frames"] = {**{k: v for k, v in told.items() if v is not None}, **frames}
    resize = result.get("resize")
    if resize is not None and "size" not in resize and "size" in block:
        result["resize"] = {**resize, "size": block["size"]}
    return result


def dtype(config: Config, model_name: str) -> str:
    """Number format of a model: its own, or the general one."""
    return str(model(config, model_name).get("dtype") or config["dtype"])


def write_resolved(config: Config, folder: str | Path = "cache/config") -> Path:
    """Write the configuration under a name made from its content; scripts read it by $VIREO_CONFIG.

    A new name per content means that jobs of an older run keep the configuration they began with.
    """
    from vireo.utils.files import digest, write_text

    path = Path(folder).resolve() / f"{digest(config)}.json"
    if not path.exists():
        write_text(path, json.dumps(config, indent=1, ensure_ascii=False) + "\n")
    return path
