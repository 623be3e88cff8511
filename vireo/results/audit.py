"""Is a result still exactly what its inputs give? Every input is read and hashed again.

Hashes are not taken from the cache. Weights and the files beside them, the items made anew from the
annotations, the videos as they are now (their frames decoded again, or by size and time with
`quick`), the predictions beside the result and the numbers scored from them are compared with what
the result records. Nothing is written.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from vireo import benchmarks
from vireo import config as cfg
from vireo.errors import VireoError
from vireo.fetch import receipt
from vireo.inference import cache_key, weights
from vireo.inference.decoding import checksum, decoded
from vireo.inference.pending import clip_tasks
from vireo.results import assemble, provenance
from vireo.tables import items as item_table
from vireo.tables import predictions
from vireo.utils.cli import Progress
from vireo.utils.files import read_json, sha256

SHOWN = 5


def audit(path: Path, config: cfg.Config, quick: bool = False) -> list[str]:
    """What is not what it was, in words; nothing when the result is exact.

    VireoError when the file is no result, or its model or benchmark is not configured.
    """
    result = read_json(path, "result")
    for name in ("model", "benchmark", "splits", "metrics", "provenance"):
        if name not in result:
            raise VireoError(f"{path} is no result: it has no {name}")
    found: list[str] = []
    for check in (_inputs, _annotations, _predictions, _videos):
        try:
            found += check(path, result, config, quick)
        except VireoError as error:
            found.append(str(error))
    return found


def _inputs(path: Path, result: dict, config: cfg.Config, quick: bool) -> Iterator[str]:
    """Weights and the files beside them."""
    hashes = result["provenance"]["hashes"]
    block = cfg.model(config, result["model"])
    file = cache_key.find_weights(weights.weights_source(config, result["model"]), block)
    now = sha256(file) if file else None
    if now != hashes["weights"]:
        yield f"weights {file}: sha256 {now}, the result was made with {hashes['weights']}"
    key = result["provenance"].get("key") or {}
    with receipt.read_again():
        described = cache_key.model_hashes(config, result["model"], file)
    for name in ("files", "beside", "wiseft"):
        then, here = key.get(name) or {}, described.get(name) or {}
        for role in sorted({*then, *here}):
            if then.get(role) != here.get(role):
                yield f"{name}.{role}: {here.get(role)}, the result was made with {then.get(role)}"


def _annotations(path: Path, result: dict, config: cfg.Config, quick: bool) -> Iterator[str]:
    """Annotation files, the items made from them, and the description of the run."""
    hashes = result["provenance"]["hashes"]
    for artifact, listed in (hashes.get("sources") or {}).items():
        root = Path(receipt.read(weights.receipt_path(artifact))["root"])
        for name, then in listed.items():
            if not (root / name).is_file():
                yield f"annotations {root / name}: not here"
            elif (now := sha256(root / name)) != then:
                yield f"annotations {root / name}: sha256 {now}, the result was made with {then}"
    items = _items(result, config)
    columns = ("id", "video", "options", "answer", "question")
    if provenance.table_hash(items, columns) != hashes["annotations"]:
        yield "items: those made from the annotations now are others than those that were scored"
    described = cache_key.prediction_description(config, result["model"], result["benchmark"])
    key = result["provenance"].get("key")
    for name in ("arch", "options", "protocol", "dtype", "tf32", "decoder") if key else ():
        if json.loads(json.dumps(described[name])) != key.get(name):
            yield f"{name}: the configuration says something else than the result was made with"


def _items(result: dict[str, Any], config: cfg.Config) -> pd.DataFrame:
    block = cfg.benchmark(config, result["benchmark"])
    module = benchmarks.module(block.get("module") or result["benchmark"])
    receipts = {r: weights.receipt_path(artifact) for r, artifact in block["sources"].items()}
    roots = {role: Path(receipt.read(file)["root"]) for role, file in receipts.items()}
    items = item_table.compact(module.items(roots, block))
    return items[items["split"].isin(result["splits"])].reset_index(drop=True)


def _predictions(path: Path, result: dict, config: cfg.Config, quick: bool) -> Iterator[str]:
    """The file beside the result, and the numbers that it gives."""
    file = path.with_suffix("") / "predictions.parquet"
    then = result["provenance"]["hashes"].get("predictions")
    if then and (now := sha256(file)) != then:
        yield f"{file}: sha256 {now}, the result was made with {then}"
    block = cfg.benchmark(config, result["benchmark"])
    module = benchmarks.module(block.get("module") or result["benchmark"])
    items = _items(result, config)
    rows = assemble.complete(items, predictions.read(file))
    scores = module.score(items, rows, {**block, "model": result["model"]})
    for name, metric in result["metrics"].items():
        again = scores.metrics.get(name)
        value = None if again is None else assemble.plain(again.value)
        if value != metric["value"]:
            yield f"{name}: {value} from its predictions, {metric['value']} in the result"


def _videos(path: Path, result: dict, config: cfg.Config, quick: bool) -> Iterator[str]:
    """The videos as they are now, against what each prediction was made from."""
    rows = predictions.read(path.with_suffix("") / "predictions.parquet")
    rows = rows[(rows["view"] == 0) & (rows["status"] == "ok")]
    kept = rows[rows["kept"].notna()]
    if len(kept):
        yield f"videos: {len(kept)} predictions are of an earlier copy: {_some(kept['id'])}"
    rows = rows[rows["kept"].isna()].set_index("id")
    items = _items(result, config)
    inventory = item_table.read_videos(f"cache/items/{result['benchmark']}.videos.parquet")
    tasks = clip_tasks(items[items["id"].isin(rows.index)], inventory)
    gone = [task for task in tasks if task.path is None or not Path(task.path).exists()]
    if gone:
        yield f"videos: {len(gone)} are not here: {_some(task.span[0] for task in gone)}"
    here = [task for task in tasks if task not in gone]
    changed = []
    if quick:
        for task in here:
            seen = Path(str(task.path)).stat()
            for item in task.items:
                source: Any = rows.at[item.id, "source"]
                known = task.kind == "file" and source is not None
                if known and [seen.st_size, seen.st_mtime_ns] != list(source):
                    changed.append(task.span[0])
                    break
    else:
        protocol = cfg.protocol(config, result["model"], result["benchmark"])
        # Not from the frame store, which trusts size and time.
        frames = {k: v for k, v in protocol["frames"].items() if k != "store"}
        with Progress(len(here), "videos decoded again", "video") as bar:
            for task, sample in decoded(here, {**protocol, "frames": frames}, config["decode"]):
                now = checksum(sample.frames) if sample.status == "ok" else sample.status
                made_from = [rows.at[item.id, "pixels"] for item in task.items]
                if any(pixels is not None and pixels != now for pixels in made_from):
                    changed.append(task.span[0])
                bar.update()
    if changed:
        what = "size or time" if quick else "frames"
        yield f"videos: {len(changed)} have other {what}: {_some(changed)}"


def _some(names: Any) -> str:
    listed = sorted(map(str, names))
    return ", ".join(listed[:SHOWN]) + (", …" if len(listed) > SHOWN else "")
