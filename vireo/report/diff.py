"""Why two results differ: what went in, which items are lacking, and which answers flipped.

Made from two result files, the predictions beside them and, where they are still there, the items
under cache/items. The difference is tested as vireo/report/paired.py says.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vireo import config as cfg
from vireo.errors import VireoError
from vireo.report import paired
from vireo.report.load import read_result, text_of
from vireo.report.page import number
from vireo.tables import predictions

SHOWN = 10
# Name for people -> where it stands in a result; the order is that of the pipeline.
CAUSES = {
    "benchmark": ("benchmark",),
    "splits": ("splits",),
    "model": ("model",),
    "annotations (copy of the data)": ("provenance", "hashes", "annotations"),
    "videos (copy of the data)": ("provenance", "hashes", "videos"),
    "predictions kept from an earlier copy": ("copies", "kept_from"),
    "weights": ("provenance", "hashes", "weights"),
    "files beside the weights": ("provenance", "hashes", "files"),
    "frames": ("protocol", "frames"),
    "resize": ("protocol", "resize"),
    "views": ("protocol", "views"),
    "prompt": ("protocol", "prompt"),
    "mean": ("protocol", "mean"),
    "std": ("protocol", "std"),
    "size": ("protocol", "size"),
    "decoder": ("provenance", "decoder"),
    "dtype": ("provenance", "dtype"),
    "device": ("provenance", "device"),
    "code": ("provenance", "git"),
}


def text(paths: list[Path], config: cfg.Config) -> str:
    """The comparison of two results for a terminal."""
    a, b = (read_result(path) for path in paths)
    lines = [f"a: {paths[0]}", f"b: {paths[1]}", "", *_values(a, b), "", "What differs:"]
    causes = list(_causes(a, b))
    lines += causes or ["  nothing that a result records"]
    lines += ["", *_rows(paths, a, b, config)]
    return "\n".join(lines)


def _values(a: dict[str, Any], b: dict[str, Any]) -> Iterator[str]:
    both = [name for name in a["metrics"] if name in b["metrics"]]
    width = max(map(len, both), default=0)
    for name in both:
        x, y = a["metrics"][name], b["metrics"][name]
        gap = ""
        if x["value"] is not None and y["value"] is not None:
            gap = f"  b - a {y['value'] - x['value']:+.4g}"
        values = (number(m["value"], m["unit"]).rjust(9) for m in (x, y))
        yield f"{name.ljust(width)}  {'  '.join(values)}{gap}"
    if not both:
        yield "no metric in common"


def _causes(a: dict[str, Any], b: dict[str, Any]) -> Iterator[str]:
    for name, place in CAUSES.items():
        x, y = _at(a, place), _at(b, place)
        if isinstance(x, dict) and isinstance(y, dict) and name != "code":
            for key in sorted({*x, *y}):
                if x.get(key) != y.get(key):
                    yield f"  {name}.{key}: {_short(x.get(key))} | {_short(y.get(key))}"
        elif x != y:
            yield f"  {name}: {_short(x)} | {_short(y)}"
    versions = [r["provenance"]["versions"] for r in (a, b)]
    for package in sorted({*versions[0], *versions[1]}):
        x, y = (v.get(package) for v in versions)
        if x != y:
            yield f"  {package}: {x} | {y}"


def _at(value: Any, place: tuple[str, ...]) -> Any:
    for key in place:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _short(value: Any) -> str:
    shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if len(shown) == 64 and set(shown) <= set("0123456789abcdef"):
        shown = f"{shown[:12]}…"
    return shown if len(shown) <= 90 else f"{shown[:89]}…"


def _rows(
    paths: list[Path], a: dict[str, Any], b: dict[str, Any], config: cfg.Config
) -> Iterator[str]:
    """Items that one of them does not have, other frames, and flipped answers."""
    try:
        tables_of = [predictions.read(p.with_suffix("") / "predictions.parquet") for p in paths]
    except VireoError as error:
        yield f"Items: not compared, {error}"
        return
    first, second = (rows[rows["view"] == 0].set_index("id") for rows in tables_of)
    yield "Items:"
    for letter, own, other in (("a", first, second), ("b", second, first)):
        if len(only := own.index.difference(other.index)):
            yield f"  only in {letter}: {len(only)}: {_some(only)}"
    both = first.index.intersection(second.index)
    x, y = first.loc[both], second.loc[both]
    for letter, own, other in (("a", x, y), ("b", y, x)):
        lost = both[(own["status"] != "ok") & (other["status"] == "ok")]
        if len(lost):
            kinds = own.loc[lost, "status"].value_counts().to_dict()
            said = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
            yield f"  without prediction in {letter} only: {said}: {_some(lost)}"
    done = both[(x["status"] == "ok") & (y["status"] == "ok")]
    seen_x, seen_y = (rows.loc[done, "frames"].map(list) for rows in (x, y))
    frames = done[(seen_x != seen_y).to_numpy()]
    if len(frames):
        yield f"  other frames: {len(frames)} of {len(done)}: {_some(frames)}"
    said_x, said_y = x.loc[done, "prediction"].map(text_of), y.loc[done, "prediction"].map(text_of)
    changed = done[(said_x != said_y).to_numpy()]
    yield f"  another answer: {len(changed)} of {len(done)}"
    yield from _score_gap(x, y, done)
    try:
        yield from _test(a, b, tables_of, config)
    except VireoError as error:
        yield f"  no test of the difference: {error}"


def _some(ids: Any) -> str:
    listed = list(ids)
    return ", ".join(map(str, listed[:SHOWN])) + (", …" if len(listed) > SHOWN else "")


def _score_gap(x: pd.DataFrame, y: pd.DataFrame, done: pd.Index) -> Iterator[str]:
    gaps = []
    for i in done:
        p, q = (np.asarray(rows.at[i, "scores"], np.float64) for rows in (x, y))
        if p.shape == q.shape and p.size:
            gaps.append(float(np.max(np.abs(p - q))))
    if gaps:
        yield f"  scores: largest difference {max(gaps):.3g}, median {float(np.median(gaps)):.3g}"


def _test(
    a: dict[str, Any], b: dict[str, Any], rows: list[pd.DataFrame], config: cfg.Config
) -> Iterator[str]:
    """Right and wrong per item, by the benchmark's own scoring."""
    if a["benchmark"] != b["benchmark"] or a["primary"] != b["primary"]:
        yield "  no test of the difference: not the same benchmark and metric"
        return
    both = zip((a, b), rows, strict=True)
    first, second = (paired.contributions(one, table, config) for one, table in both)
    yield from differences(first, second, paired.groups(a), a["primary"])


def differences(first: pd.Series, second: pd.Series, groups: pd.Series, name: str) -> Iterator[str]:
    """Lines about one metric on the items that both have; contributions indexed by item id."""
    found = paired.compare(first, second, groups)
    if found.first is None:
        yield f"  {name}: {found.reason}"
        return
    values = f"{found.first:.4g} | {found.second:.4g}"
    yield f"  {name} on the {found.n} items that both scored: {values}"
    if found.p is not None:
        for letter, only in (("a", found.only_first), ("b", found.only_second)):
            yield f"  right in {letter} only: {len(only)}{f': {_some(only)}' if only else ''}"
        yield f"  McNemar's exact test: p = {found.p:.3g} (questions taken as independent)"
    if pair := found.ci95:
        inside = "holds 0" if pair[0] <= 0 <= pair[1] else "does not hold 0"
        how = found.interval
        yield f"  b - a: 95 % interval {pair[0]:.3g} to {pair[1]:.3g} ({how}), {inside}"
    else:
        yield f"  b - a: no interval, {found.reason}"
