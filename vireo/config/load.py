"""Loading: which files are merged, and the blocks that names stand for."""

import json
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from vireo.config import checks, families, merging, problems, readers, videomamba
from vireo.config.merging import merge
from vireo.config.problems import Layer
from vireo.config.protocol import Resolved
from vireo.config.reading import read_shared, read_yaml
from vireo.config.settings import Settings
from vireo.errors import VireoError, unknown
from vireo.utils.home import HOME

FILES = ("config.yaml", "models.yaml", "benchmarks.yaml", "artifacts.yaml", "recipes.yaml")
TABLE = "videomamba.tsv"
Config = dict[str, Any]


def local_files(module: bool = False) -> list[Path]:
    """Configuration files in config/ of the working directory, where that is not Vireo's own.

    All of them when the folder is a copy of Vireo's, as deployment tools make it; config.yaml
    alone otherwise. For a `module` config.yaml belongs to the workflow around it.
    """
    own = [Path("config", name) for name in FILES]
    if Path("config").resolve() == (HOME / "config").resolve():
        return []
    found = own if all(path.is_file() for path in own) else [Path("config/config.yaml")]
    return [p for p in found if p.is_file() and not (module and p.name == "config.yaml")]


def load(
    files: Iterable[str | Path] | None = None, over: Config | None = None, module: bool = False
) -> Config:
    """The merged and checked configuration.

    Without arguments: the resolved file that $VIREO_CONFIG names (set by the workflow), or the
    shipped config/*, over which those of the working directory are merged (`local_files`).
    `files` and then `over` are merged on top. module: another workflow uses Vireo's rules, `over`
    is the configuration that it hands on. Raises VireoError for anything that is not right.
    """
    resolved = os.environ.get("VIREO_CONFIG")
    layers = []
    if resolved and not over:
        layers.append(Layer(resolved, _read_resolved(resolved), readable=False))
    else:
        for name in FILES:
            layers.append(_layer(HOME / "config" / name))
        table = problems.shown(HOME / "config" / TABLE)
        layers.append(Layer(table, videomamba.read(table), readable=False))
        layers += [_layer(path) for path in local_files(module)]
    layers += [_layer(file) for file in files or ()]
    if over:
        layers.append(Layer("--config", over, readable=False))
    config: Config = {}
    for layer in layers:
        config = merge(config, layer.data)
    return check(config, layers)


def _layer(path: str | Path) -> Layer:
    shown = problems.shown(path)
    return Layer(shown, read_shared(shown))


def _read_resolved(path: str) -> Config:
    """The workflow's own file (`write_resolved`)."""
    try:
        with open(path, encoding="utf-8") as handle:
            value = json.load(handle)
    except FileNotFoundError as error:
        raise VireoError(f"configuration file not found: {path} ($VIREO_CONFIG)") from error
    except ValueError:
        return read_yaml(path)
    if not isinstance(value, dict):
        raise VireoError(f"{path} must hold a mapping, it holds a {type(value).__name__}")
    if re.fullmatch(r"[0-9a-f]{16}", Path(path).stem) and not _named_by_content(Path(path)):
        raise VireoError(
            f"{path} is damaged: its content is not what its name says; give the same command "
            "again, which writes it anew"
        )
    return value


def _named_by_content(path: Path) -> bool:
    """Whether a resolved configuration is the one that its name was made from."""
    from vireo.utils.files import digest

    try:
        return digest(json.loads(path.read_text(encoding="utf-8"))) == path.stem
    except (OSError, ValueError):
        return False


def check(config: Config, layers: Sequence[Layer] = ()) -> Config:
    """Resolve `inherits`, validate, fill defaults in, and check that names refer to something."""
    settings = problems.checked(Settings, merging.inherit(config), layers, ())
    _lift_artifacts(settings)
    checks.check(settings, layers)
    return settings.dump()


def _lift_artifacts(settings: Settings) -> None:
    """A block may hold its own artifacts, so that one block is all that a new model needs."""
    known = settings.artifacts
    for section in merging.SECTIONS:
        blocks = getattr(settings, section)
        for name, block in blocks.items():
            if not block.written("artifacts"):
                continue
            for key, value in (block.artifacts or {}).items():
                if known.setdefault(key, value) != value:
                    raise VireoError(
                        f"{section}.{name}.artifacts: {key!r} is described elsewhere too, "
                        "differently; keep one of the two"
                    )
            blocks[name] = block.without("artifacts")


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
    choices of frames as many as `views.segments`, where `frames` does not say. VireoError when the
    frame rule or its number of frames does not suit."""
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
    where = f"{model_name} on {benchmark_name}"
    problems.checked(Resolved, result, (), (where,))
    _check_frames(result["frames"], block, where)
    return result


def _check_frames(frames: Config, block: Config, where: str) -> None:
    """Refuse a setting that the frame rule does not have, and more frames than the model takes."""
    rule = checks.frame_rule(frames.get("rule"))
    settings = readers.FRAME_RULES[rule] if rule else {}
    for key in frames:
        if key not in ("rule", "reader", "store", *settings):
            raise VireoError(
                f"{where}: {unknown(f'setting of the frame rule {rule}', key, settings)}"
            )
    arch = families.ARCHS.get(block["family"])
    taken = arch.model_validate(block["arch"]).frames_taken() if arch else ()
    number = frames.get("n", settings.get("n"))
    if taken and number is not None and number not in taken:
        raise VireoError(
            f"{where}: the protocol takes {number} frames (frames.n), the model's architecture "
            f"{' or '.join(map(str, taken))} (arch.num_frames): make them equal, in the "
            f"benchmark's protocol or under models.{where.split()[0]}.protocols"
        )


def dtype(config: Config, model_name: str) -> str:
    """Number format of a model: its own, or the general one."""
    return str(model(config, model_name).get("dtype") or config["dtype"])


def write_resolved(config: Config, folder: str | Path = "cache/config") -> Path:
    """Write the configuration under a name made from its content; scripts read it by $VIREO_CONFIG.

    A new name per content means that jobs of an older run keep the configuration they began with.
    """
    from vireo.utils.files import digest, write_text

    path = Path(folder).resolve() / f"{digest(config)}.json"
    if not path.exists() or not _named_by_content(path):
        write_text(path, json.dumps(config, indent=1, ensure_ascii=False) + "\n")
    return path
