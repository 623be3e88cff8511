"""A paper's published numbers as rows of a table: which can be met here, and by which result.

The rows are those of config/published.tsv with this `paper`. Nothing is run here.
"""

from dataclasses import dataclass
from pathlib import Path

from vireo import config as cfg
from vireo.errors import unknown
from vireo.results import published


@dataclass(frozen=True)
class Row:
    """One model on one benchmark with all its published metrics."""

    table: str
    model: str
    benchmark: str
    numbers: tuple[tuple[str, float | None], ...]
    result: str | None  # the file to ask for, None when it cannot be had
    reason: str = ""  # why not


def names(config: cfg.Config) -> list[str]:
    """All papers, in the order in which they are first met."""
    known = published.read(cfg.HOME / "config/published.tsv") + published.inline(config)
    return list(dict.fromkeys(row.paper for row in known if row.paper))


def rows(config: cfg.Config, paper: str, trained: Path = Path("results/training")) -> list[Row]:
    """Rows of a paper in the order of the file.

    A model of a recipe counts only when its weights exist or `train: true` allows to train it.
    VireoError for a paper that has no rows.
    """
    known = published.read(cfg.HOME / "config/published.tsv") + published.inline(config)
    found: dict[tuple[str, str, str], list[published.Published]] = {}
    for row in known:
        if row.paper == paper:
            found.setdefault((row.table, row.model, row.benchmark), []).append(row)
    if not found:
        raise unknown("paper", paper, sorted({row.paper for row in known if row.paper}))
    return [_row(config, *key, own, trained) for key, own in found.items()]


def _row(
    config: cfg.Config,
    table: str,
    model: str,
    benchmark: str,
    own: list[published.Published],
    trained: Path,
) -> Row:
    numbers = tuple((row.metric, row.value) for row in own)
    block = config["models"].get(model)
    recipe = ((block or {}).get("weights") or {}).get("recipe")
    free = config["train"] or model.startswith("toy_")  # toy recipes take minutes
    reason = ""
    if block is None or benchmark not in config["benchmarks"]:
        reason = own[0].note or "published only"
    elif not block["weights"]:
        reason = "no weights released"
    elif recipe and not free and not (trained / recipe / "weights.safetensors").exists():
        reason = f"no weights released; recipe {recipe} is ours, `--config train=True` trains it"
    split = next((row.split for row in own if row.split not in ("", "all")), "")
    run = f"{benchmark}_{split}" if split and "+" not in split else benchmark
    return Row(table, model, benchmark, numbers, None if reason else f"{model}/{run}", reason)


def results(config: cfg.Config, paper: str) -> list[str]:
    """Result files of all rows that can be met, each once."""
    wanted = (row.result for row in rows(config, paper))
    return [f"results/{run}.json" for run in dict.fromkeys(run for run in wanted if run)]


def listing(config: cfg.Config, paper: str) -> str:
    """All rows for people: table, model, benchmark, published numbers, and what becomes of them."""
    lines = [f"{paper}: published numbers and where ours come from"]
    for row in rows(config, paper):
        numbers = ", ".join(f"{name} {value:g}" for name, value in row.numbers if value is not None)
        fate = f"results/{row.result}.json" if row.result else f"not run: {row.reason}"
        lines.append(f"  {row.table}  {row.model} x {row.benchmark}: {numbers} -> {fate}")
    return "\n".join(lines)
