"""Several results of one benchmark: the primary metric of each, and how far from the first.

The first result is the baseline; every other is compared with it on the items that both scored.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from vireo import config as cfg
from vireo.errors import VireoError
from vireo.report import paired
from vireo.report.load import read_result
from vireo.report.page import interval, number
from vireo.tables import predictions

SAME = ("benchmark", "splits", "primary")


def compare(paths: Sequence[Path], config: cfg.Config) -> dict[str, Any]:
    """Everything that `vireo compare` says, as plain values.

    VireoError when the results are not of one benchmark, its splits and its metric. A comparison
    that cannot be made (items or predictions gone, a metric that is no mean) carries its reason.
    """
    results = [read_result(path) for path in paths]
    for path, result in zip(paths, results, strict=True):
        for key in SAME:
            if result[key] != results[0][key]:
                raise VireoError(
                    f"results of one {key} are compared: {paths[0]} has {_words(results[0][key])}, "
                    f"{path} has {_words(result[key])} (vireo diff says what differs)"
                )
    metric = results[0]["metrics"][results[0]["primary"]]
    values = [_contributions(p, r, config) for p, r in zip(paths, results, strict=True)]
    pairs = [_pair(results[0], values[0], values[n], paths[n]) for n in range(1, len(paths))]
    for pair, p in zip(pairs, paired.holm([pair["p"] for pair in pairs]), strict=True):
        pair["p_holm"] = p
    return {
        "benchmark": results[0]["benchmark"],
        "splits": results[0]["splits"],
        "metric": results[0]["primary"],
        "unit": metric["unit"],
        "lower_is_better": metric["lower_is_better"],
        "results": [_row(path, result) for path, result in zip(paths, results, strict=True)],
        "differences": pairs,
    }


def _words(value: Any) -> str:
    return ", ".join(value) if isinstance(value, list) else str(value)


def _row(path: Path, result: dict[str, Any]) -> dict[str, Any]:
    metric = result["metrics"][result["primary"]]
    facts = {key: metric[key] for key in ("value", "n", "ci95")}
    return {"path": str(path), "model": result["model"], **facts}


def _contributions(path: Path, result: dict[str, Any], config: cfg.Config) -> pd.Series | str:
    """Per-item contributions, or the reason why there are none."""
    try:
        rows = predictions.read(path.with_suffix("") / "predictions.parquet")
        return paired.contributions(result, rows, config)
    except VireoError as error:
        return str(error)


def _pair(
    result: dict[str, Any], first: pd.Series | str, second: pd.Series | str, path: Path
) -> dict[str, Any]:
    if isinstance(first, str) or isinstance(second, str):
        reason = first if isinstance(first, str) else second
        found = paired.Difference(0, reason=str(reason))
    else:
        found = paired.compare(first, second, paired.groups(result))
    return {"path": str(path), **asdict(found)}


def text(facts: dict[str, Any]) -> str:
    """The comparison for a terminal."""
    unit, rows = facts["unit"], facts["results"]
    better = " (lower is better)" if facts["lower_is_better"] else ""
    lines = [f"{facts['benchmark']} ({', '.join(facts['splits'])}): {facts['metric']}{better}", ""]
    width = max(len(row["model"]) for row in rows)
    for letter, row in zip(_letters(len(rows)), rows, strict=True):
        lines.append(
            f"  {letter}  {row['model'].ljust(width)}  {number(row['value'], unit).rjust(9)}"
            f"  95 % interval {interval(row['ci95'])}  n = {row['n']}  {row['path']}"
        )
    lines.append("")
    for letter, pair in zip(_letters(len(rows))[1:], facts["differences"], strict=True):
        lines += _lines(letter, pair, len(facts["differences"]))
    return "\n".join(lines)


def _letters(count: int) -> list[str]:
    return [chr(ord("a") + n) if n < 26 else f"r{n + 1}" for n in range(count)]


def _lines(letter: str, pair: dict[str, Any], count: int) -> list[str]:
    if pair["difference"] is None:
        return [f"  {letter} - a: not compared, {pair['reason']}"]
    line = f"  {letter} - a: {pair['difference']:+.4g} on {pair['n']} items"
    if low_high := pair["ci95"]:
        line += f", 95 % interval {low_high[0]:+.3g} to {low_high[1]:+.3g} ({pair['interval']})"
    else:
        line += f", no interval: {pair['reason']}"
    lines = [line]
    if pair["p"] is not None:
        more = f", {pair['p_holm']:.3g} for {count} comparisons (Holm)" if count > 1 else ""
        lines.append(
            f"         right in a only: {len(pair['only_first'])}, in {letter} only: "
            f"{len(pair['only_second'])}; McNemar's exact test: p = {pair['p']:.3g}{more}"
        )
    return lines
