"""What a prediction depends on: the description behind a journal key, and the weights it names."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from vireo import benchmarks
from vireo import config as cfg
from vireo.errors import VireoError
from vireo.fetch import receipt
from vireo.media.video import ENGINE
from vireo.tables import items as item_table
from vireo.utils.files import digest

# What inference reads of an item; answers and labels may be corrected without computing again.
ITEM_COLUMNS = ("id", "split", "video", "start", "end", "question", "options", "group")


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
    bench = cfg.benchmark(config, benchmark)
    protocol = cfg.protocol(config, model, benchmark)
    frames = {k: v for k, v in protocol.get("frames", {}).items() if k != "store"}
    description = {
        **_model(config, model, weights),
        "protocol": {**protocol, "frames": frames},
        "decoder": ENGINE,
        "benchmark": bench.get("module") or benchmark,
        "benchmark_version": bench["version"],
        "items": items_hash(items),
        "classes": _classes(bench.get("module") or benchmark, items, protocol),
        "control": control,
    }
    return {key: value for key, value in description.items() if value is not None}


def _model(config: cfg.Config, model: str, weights: Path | None) -> dict[str, Any]:
    """What a model computes depends on."""
    block = cfg.model(config, model)
    other = None if weights is None else wiseft(block)
    return {
        "family": block["family"],
        "arch": block["arch"],
        "options": block.get("options"),
        "weights": None if weights is None else weights_hash(weights),
        "wiseft": other and {"alpha": other["alpha"], "with": weights_hash(other["path"])},
        "files": _files(block),
        "seed": block.get("seed", 0) if weights is None else None,
        "model_version": block["version"],
        "dtype": cfg.dtype(config, model),
        "tf32": config["tf32"],
    }


def _files(block: dict[str, Any]) -> dict[str, str] | None:
    """Role -> hash of the files beside the weights (vocabulary, names of answers)."""
    paths = {role: receipt.named(block, role) for role in block.get("files") or {}}
    return {role: receipt.hash_of(path) for role, path in paths.items() if path} or None


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
    """Name of the folder with a watcher's frame embeddings, whatever the benchmark."""
    rule = {k: v for k, v in protocol.get("frames", {}).items() if k != "store"}
    return digest([_model(config, model, weights), rule, protocol.get("resize"), ENGINE])


def _classes(module: str, items: Path, protocol: dict[str, Any]) -> str | None:
    """Digest of the prompts that all items share; they come from answers, not in `items_hash`."""
    shared = getattr(benchmarks.module(module), "shared_texts", None)
    return digest(shared(item_table.read_items(items), protocol)) if shared else None


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
    """sha256 of a weights file; kept under cache/ so that shards do not each read gigabytes."""
    return receipt.hash_of(path)
