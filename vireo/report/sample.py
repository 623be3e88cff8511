"""One sample of a benchmark on a page: frames, transformed input, prompt, scores, answer.

Made from the prepared items and videos by the very steps of inference, so that what is seen here is
what the model sees.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from vireo import benchmarks
from vireo import config as cfg
from vireo.errors import VireoError, unknown
from vireo.inference import cache_key, text_cache, video
from vireo.inference.engines import registry
from vireo.inference.engines.base import Clip
from vireo.inference.pending import clip_tasks
from vireo.report import examples
from vireo.report.load import ITEMS, text_of
from vireo.report.page import HERE, flat, number
from vireo.tables import items as item_table
from vireo.utils import gpu_lock
from vireo.utils.cli import log
from vireo.utils.files import write_text

PICTURES = 32  # of the input; a long video has hundreds
ROWS = 20


@dataclass
class SampleRequest:
    """What to show: one item of a benchmark as one model sees it."""

    model: str
    benchmark: str
    item: str
    weights: str | None = None
    device: str | None = None


def write(config: cfg.Config, asked: SampleRequest, out: Path) -> None:
    """Write the page. VireoError for unknown names and items, and when the model is not here."""
    facts = describe(config, asked)
    page = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True)
    page.filters["number"] = number
    template = page.from_string((HERE / "show.html.j2").read_text(encoding="utf-8"))
    style = Markup((HERE / "style.css").read_text(encoding="utf-8"))
    write_text(out, template.render(style=style, **facts))
    log.info("%s × %s, item %s: %s", asked.model, asked.benchmark, asked.item, out)


def describe(config: cfg.Config, asked: SampleRequest) -> dict[str, Any]:
    """Everything that the page shows, as plain values."""
    bench, block = cfg.benchmark(config, asked.benchmark), cfg.model(config, asked.model)
    items = item_table.read_items(ITEMS / f"{asked.benchmark}.parquet")
    mine = items[items["id"].astype(str) == asked.item]
    if mine.empty:
        raise unknown("item", asked.item, map(str, items["id"]), f"(benchmark {asked.benchmark})")
    item = next(iter(item_table.rows(mine)))
    inventory = item_table.read_videos(ITEMS / f"{asked.benchmark}.videos.parquet", [item.video])
    (work,) = clip_tasks(mine, inventory)
    protocol = cfg.protocol(config, asked.model, asked.benchmark)
    from vireo.inference import decoding, runner

    if work.path is None:
        raise VireoError(f"item {asked.item!r}: no file for video {work.span[0]!r}")
    settings = {**config["decode"], "workers": 1}
    ((_, sample),) = decoding.decoded([work], protocol, settings)
    if sample.frames is None:
        raise VireoError(f"item {asked.item!r}: {sample.error}")
    weights = video.find_weights(config, asked.model, asked.weights)
    module = benchmarks.module(bench.get("module") or asked.benchmark)
    with gpu_lock.acquire(asked.device or config["device"]) as where:
        model = runner.load_model(config, asked.model, weights, where, protocol)
        engine = registry.make_engine(model, module, protocol, asked.model, bench["needs"])
        context = (protocol.get("prompt") or {}).get("context_length")
        key = cache_key.texts_key(config, asked.model, weights, context)
        engine.prepare(mine, lambda: items, text_cache.FOLDER / key)
        clip = Clip(work.items, frames=[int(n) for n in sample.indices])
        clip.tensor = engine.transform(np.ascontiguousarray(sample.frames))
        rows = engine.predict([clip])[0]
    names = _names(module, items, item, rows[0])
    times = zip(sample.indices, sample.times, sample.frames, strict=True)
    return {
        "asked": asked,
        "item": item,
        "frames": [
            examples.thumbnail(picture, f"frame {n}, {time:.2f} s")
            for n, time, picture in list(times)[:PICTURES]
        ],
        "shape": list(sample.frames.shape),
        "flags": list(sample.flags),
        "input": _pictures(clip.tensor, block),
        "input_shape": list(clip.tensor.shape),
        "prompts": _prompts(engine, item),
        "scores": _scores(rows, names),
        "prediction": _prediction(rows[0], names),
        "answer": str(item.answer),
        "views": len(rows),
        "protocol": flat(protocol),
    }


def _pictures(tensor: Any, block: dict[str, Any]) -> list[examples.Frame]:
    """The model's input as pictures: the normalisation is taken back, nothing else."""
    clips = tensor.reshape(-1, *tensor.shape[-3:])[:PICTURES].cpu()
    if clips.is_floating_point() and clips.shape[1] == 3:
        mean, std = (
            np.array(block.get(k) or d)[:, None, None]
            for k, d in (("mean", [0.0] * 3), ("std", [1.0] * 3))
        )
        clips = np.clip(clips.numpy() * std + mean, 0, 1) * 255
    pictures = np.asarray(clips).round().astype(np.uint8).transpose(0, 2, 3, 1)
    return [examples.thumbnail(picture, f"input {n}") for n, picture in enumerate(pictures)]


def _names(module: Any, items: pd.DataFrame, item: Any, row: dict[str, Any]) -> list[str]:
    """What the scores stand for, [] where they are no list of choices."""
    count = len(row["scores"])
    if getattr(module, "PREDICTS", "") == "classes":
        made = getattr(module, "classes", None)
        names = [str(n) for n in made(items)] if made else []
        return names if len(names) == count else []
    options = [str(text) for text in item.options]
    return options if len(options) == count else []


def _prompts(engine: Any, item: Any) -> list[str]:
    own = getattr(engine, "texts", {}).get(item.id)
    if own:
        return [str(text) for text in own]
    return [str(text) for text in item.options] or [str(item.question)]


def _scores(rows: list[dict[str, Any]], names: list[str]) -> list[dict[str, Any]]:
    """The best choices with score and share (views: the mean of their softmax)."""
    if not names:
        top = _json(rows[0]["prediction"])
        if isinstance(top, dict) and "top" in top:
            shares = np.exp(np.asarray(rows[0]["scores"], np.float64))
            pairs = zip(top["top"], rows[0]["scores"], shares, strict=False)
            return [
                {"text": name or f"(row {label})", "score": float(score), "share": float(share)}
                for (name, label), score, share in pairs
            ]
        return []
    scores = np.stack([np.asarray(row["scores"], np.float64) for row in rows])
    powers = np.exp(scores - scores.max(1, keepdims=True))
    shares = (powers / powers.sum(1, keepdims=True)).mean(0)
    order = np.argsort(-shares, kind="stable")[:ROWS]
    means = scores.mean(0)
    return [{"text": names[n], "score": float(means[n]), "share": float(shares[n])} for n in order]


def _prediction(row: dict[str, Any], names: list[str]) -> str:
    value = _json(row["prediction"])
    if isinstance(value, int) and not isinstance(value, bool) and value < len(names):
        return names[value]
    return text_of(row["prediction"])


def _json(text: Any) -> Any:
    try:
        return json.loads(text)
    except (TypeError, ValueError):
        return text
