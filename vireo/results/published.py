"""The published numbers: config/published.tsv, and `published:` lists inside config blocks."""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vireo.errors import VireoError, unknown

COLUMNS = (
    *("paper", "table", "model", "benchmark", "metric", "value", "unit", "n", "split", "copy"),
    *("protocol", "tolerance", "tolerance_reason", "source", "from_memory", "note"),
)


@dataclass(frozen=True)
class Published:
    """One row. An empty value says that nobody published the number (`note` says how we know).

    n, split, copy: the items it was made from, as far as is known ("" or None = not known).
    decimals: digits after the point as printed, from which the default tolerance follows.
    """

    model: str
    benchmark: str
    metric: str
    value: float | None
    decimals: int = 0
    paper: str = ""
    table: str = ""
    unit: str = ""
    n: int | None = None
    split: str = ""
    copy: str = ""
    protocol: str = ""
    tolerance: float | None = None
    tolerance_reason: str = ""
    source: str = ""
    from_memory: bool = False
    note: str = ""

    @property
    def kind(self) -> str:
        """ "target" for a number of our own toy world, which nobody published, else "published"."""
        return "target" if self.paper == "toy" else "published"

    def tolerance_and_reason(self) -> tuple[float, str]:
        """The row's tolerance, else half the last printed digit + 0.1 point (both for percent)."""
        if self.tolerance is not None:
            return self.tolerance, self.tolerance_reason or "given with the published value"
        digit = 0.5 * 10.0**-self.decimals
        if self.unit in ("", "%"):
            return digit + 0.1, "half the last printed digit + 0.1 point"
        return digit, "half the last printed digit"


def read(path: str | Path) -> list[Published]:
    """All rows of the table; VireoError names line and column of what cannot be read."""
    path = Path(path)
    try:
        with open(path, encoding="utf-8", newline="") as handle:
            reader = csv.DictReader(handle, delimiter="\t", quoting=csv.QUOTE_NONE)
            names = reader.fieldnames or []
            if list(names) != list(COLUMNS):
                raise VireoError(f"{path}: the columns must be {', '.join(COLUMNS)}")
            return [parse(row, f"{path}, line {number}") for number, row in enumerate(reader, 2)]
    except FileNotFoundError as error:
        raise VireoError(f"published numbers not found: {path}") from error


def parse(row: dict[Any, Any], where: str) -> Published:
    """One row given as texts (table) or values (config block)."""
    if None in row or any(v is None for v in row.values()):
        raise VireoError(f"{where}: needs {len(COLUMNS)} columns separated by tabs")
    for key in row:
        if key not in COLUMNS:
            raise VireoError(f"{where}: {unknown('column', str(key), COLUMNS)}")
    text = {key: str(value).strip() for key, value in row.items()}
    for key in ("model", "benchmark", "metric"):
        if not text.get(key):
            raise VireoError(f"{where}: no {key}")
    if not text.get("source") and not text.get("note"):
        raise VireoError(f"{where}: say where the number comes from (source)")
    value = text.get("value", "")
    known = {key: text.get(key, "") for key in ("paper", "table", "unit", "split", "copy")}
    return Published(
        model=text["model"],
        benchmark=text["benchmark"],
        metric=text["metric"],
        value=_number(value, where, "value"),
        decimals=len(value.split(".")[1]) if "." in value else 0,
        n=_whole(text.get("n", ""), where),
        tolerance=_number(text.get("tolerance", ""), where, "tolerance"),
        tolerance_reason=text.get("tolerance_reason", ""),
        protocol=text.get("protocol", ""),
        source=text.get("source", ""),
        from_memory=text.get("from_memory", "").lower() in ("true", "yes", "1"),
        note=text.get("note", ""),
        **known,
    )


def _number(text: str, where: str, column: str) -> float | None:
    try:
        return float(text) if text else None
    except ValueError as error:
        raise VireoError(f"{where}: {column} {text!r} is not a number") from error


def _whole(text: str, where: str) -> int | None:
    number = _number(text.replace(",", ""), where, "n")
    if number is not None and number != int(number):
        raise VireoError(f"{where}: n {text!r} is not a whole number")
    return None if number is None else int(number)


def inline(config: dict[str, Any]) -> list[Published]:
    """Numbers inside config blocks; each names the other side (`model` or `benchmark`)."""
    rows = []
    for section, own in (("models", "model"), ("benchmarks", "benchmark")):
        for name, block in config.get(section, {}).items():
            for number, row in enumerate(block.get("published") or []):
                where = f"{section}.{name}.published[{number}]"
                rows.append(parse({own: name, **row}, where))
    return rows


def find(
    rows: list[Published], model: str, benchmark: str, splits: list[str], headline: bool
) -> dict[str, Published]:
    """Metric -> the row for this run; a number with a value wins over a note that there is none.

    A row without a split (or `all`) is about the headline run, one with a split about that split
    (several: joined by `+`).
    """
    result: dict[str, Published] = {}
    for row in rows:
        if (row.model, row.benchmark) != (model, benchmark):
            continue
        whole = row.split in ("", "all")
        if headline if whole else set(row.split.split("+")) == set(splits):
            old = result.get(row.metric)
            if old is None or (old.value is None and row.value is not None):
                result[row.metric] = row
    return result
