"""What a prediction depends on: the description behind a journal key, and the weights it names."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from vireo import benchmarks
from vireo import config as cfg
from vireo.errors import VireoError
from vireo.fetch import receipt
from vireo.media.engine import ENGINE
from vireo.tables import items as item_table
from vireo.utils import seal
from vireo.utils.files import digest

# What inference reads of an item; answers and labels may be corrected without computing again.
ITEM_COLUMNS = ("id", "split", "video", "start", "end", "question", "options", "group")

# What a family reads from the folder of its weights unasked: an adapter's rank and scale,
# a tokenizer.
BESIDE = {
    "mmduet": (
        *("adapter_config.json", "tokenizer.json", "tokenizer_config.json"),
        *("vocab.json", "merges.txt", "added_tokens.json", "special_tokens_map.json"),
    )
}


def prediction_description(
    config: cfg.Config, model: str, benchmark: str, control: str | None = None
) -> dict[str, Any]:
    """What predictions depend on as far as the configuration says it, files by their names.

    The rules' key is a digest of this; the journal's key is this with `prediction_key`'s hashes in
    the place of names. A field that changes predictions has to be here and nowhere else.
    """
    bench = cfg.benchmark(config, benchmark)
    protocol = cfg.protocol(config, model, benchmark)
    frames = {k: v for k, v in protocol.get("frames", {}).items() if k != "store"}
    return {
        **model_description(config, model, untrained=control == "untrained"),
        "protocol": {**protocol, "frames": frames},
        "decoder": ENGINE,
        "benchmark": bench.get("module") or benchmark,
        "benchmark_version": bench["version"],
        "control": control,
    }


def model_description(config: cfg.Config, model: str, untrained: bool = False) -> dict[str, Any]:
    """What a model computes depends on, files by their names (see `prediction_description`)."""
    block = cfg.model(config, model)
    weights = None if untrained else block.get("weights") or None
    return {
        "family": block["family"],
        "arch": block["arch"],
        "options": block.get("options"),
        "weights": weights,
        "wiseft": (block.get("wiseft") or None) if weights else None,
        "files": block.get("files") or None,
        "seed": None if weights else block.get("seed", 0),
        "model_version": block["version"],
        "dtype": cfg.dtype(config, model),
        "tf32": config["tf32"],
    }


def prediction_key(
    config: cfg.Config,
    model: str,
    benchmark: str,
    items: Path,
    weights: Path | None,
    control: str | None = None,
) -> dict[str, Any]:
    """Everything that changes predictions and nothing else, readable by a person.

    items: the benchmark's file, all splits, so that splits typed alone share predictions.
    """
    described = prediction_description(config, model, benchmark, control)
    description = {
        **_hashed(described, cfg.model(config, model), weights),
        "items": items_hash(items),
        "classes": _classes(described["benchmark"], items, described["protocol"]),
    }
    return {key: value for key, value in description.items() if value is not None}


def model_hashes(config: cfg.Config, model: str, weights: Path | None) -> dict[str, Any]:
    """`model_description` with the hashes of the model's files as they are now."""
    return _hashed(model_description(config, model), cfg.model(config, model), weights)


def _hashed(
    described: dict[str, Any], block: dict[str, Any], weights: Path | None
) -> dict[str, Any]:
    """A description with hashes in place of names; `weights`: the file in use, None = random."""
    other = None if weights is None else wiseft(block)
    return {
        **described,
        "weights": None if weights is None else weights_hash(weights),
        "wiseft": other and {"alpha": other["alpha"], "with": weights_hash(other["path"])},
        "files": _files(block),
        "beside": _beside(block["family"], weights),
        "seed": block.get("seed", 0) if weights is None else None,
    }


def _files(block: dict[str, Any]) -> dict[str, str] | None:
    """Role -> hash of the files beside the weights (vocabulary, names of answers, a base model)."""
    found = {role: receipt.role_hash(block, role) for role in block.get("files") or {}}
    # A base that a block names as a folder instead of an artifact.
    folder = (block.get("options") or {}).get("base")
    if "base" not in found and isinstance(folder, str) and Path(folder).is_dir():
        found["base"] = receipt.folder_hash(Path(folder))
    return {role: value for role, value in found.items() if value} or None


def _beside(family: str, weights: Path | None) -> dict[str, str] | None:
    """Name -> hash of what a family reads from the weights' own folder."""
    if weights is None:
        return None
    paths = [weights.parent / name for name in BESIDE.get(family, ())]
    return {path.name: receipt.hash_of(path) for path in paths if path.is_file()} or None


def texts_key(
    config: cfg.Config, model: str, weights: Path | None, context: int | None = None
) -> str:
    """Name of the folder with a model's text features, whatever the benchmark.

    context: tokens per text where the benchmark's protocol asks for another number.
    """
    return digest([_model(config, model, weights), context])


def embeddings_key(
    config: cfg.Config, model: str, weights: Path | None, protocol: dict[str, Any]
) -> str:
    """Name of the folder with a streaming model's frame embeddings, whatever the benchmark."""
    rule = {k: v for k, v in protocol.get("frames", {}).items() if k != "store"}
    return digest([_model(config, model, weights), rule, protocol.get("resize"), ENGINE])


def _model(config: cfg.Config, model: str, weights: Path | None) -> dict[str, Any]:
    """What a model computes depends on, by hashes."""
    described = model_hashes(config, model, weights)
    if described["beside"] is None:
        del described["beside"]  # keys of models without any are older than this entry
    return described


def _classes(module: str, items: Path, protocol: dict[str, Any]) -> str | None:
    """Digest of what all items share and `items_hash` does not hold, as it comes from the answers:
    the prompts of the classes, or the order of the classes that scores are written in."""
    known = benchmarks.module(module)
    if shared := getattr(known, "shared_texts", None):
        return digest(shared(item_table.read_items(items), protocol))
    order = getattr(known, "classes", None)
    if order is None:
        return None
    table = item_table.read_items(items, columns=("options", "answer"))
    if table.empty or len(table["options"].iloc[0]):
        return None  # a list of classes is among the options
    return digest(order(table))


def items_hash(path: Path) -> str:
    """Digest of the columns that inference reads, whatever the order of the rows."""
    each = bytearray()  # 16 bytes an item, whatever its texts
    for part in item_table.item_parts(path, ITEM_COLUMNS):
        for row in part.itertuples(index=False, name=None):
            each += hashlib.sha256(repr(list(row)).encode()).digest()[:16]
    ordered = np.sort(np.frombuffer(each, [("high", ">u8"), ("low", ">u8")]))
    return hashlib.sha256(ordered.tobytes()).hexdigest()[:16]


def find_weights(given: str | Path | None, block: dict[str, Any]) -> Path | None:
    """The weights file behind `--weights`: a receipt, a file, or "none" (untrained).

    VireoError when it is absent, or when a receipt has several files and the block names none.
    """
    if given is None or str(given) in ("", "none"):
        return None
    path = Path(given)
    if path.suffix == ".json":
        return receipt.only_file(path, (block.get("weights") or {}).get("file"))
    if not path.is_file():
        raise VireoError(f"no weights at {path}: give a receipt, a checkpoint file, or 'none'")
    return path


def wiseft(block: dict[str, Any]) -> dict[str, Any] | None:
    """`alpha` and `path` of a model block's weight averaging, None without it."""
    given = block.get("wiseft")
    if not given:
        return None
    listed = Path("data/receipts") / f"{given['with']}.json"
    return {"alpha": given["alpha"], "path": receipt.only_file(listed, given.get("file"))}


def weights_hash(path: Path) -> str:
    """sha256 of a weights file; kept under cache/ so that shards do not each read gigabytes.

    VireoError when weights trained here are not what their recipe wrote.
    """
    value = receipt.hash_of(path)
    seal.check(path, value)
    return value
