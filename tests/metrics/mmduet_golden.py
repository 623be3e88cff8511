"""Predictions of the four MMDuet benchmarks and what the authors' scripts print of them."""

import json
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).resolve().parents[1] / "golden/mmduet_eval"


def read(name: str) -> Any:
    text = (GOLDEN / name).read_text()
    return (
        [json.loads(line) for line in text.splitlines()] if name.endswith("l") else json.loads(text)
    )


def series(row: dict[str, Any]) -> tuple[list[float], list[float]]:
    return [d["time"] for d in row["debug_data"]], [d["relevance_score"] for d in row["debug_data"]]
