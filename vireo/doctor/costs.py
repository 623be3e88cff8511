"""What a paper costs before anything is started: processor time, disk, downloads; docs/costs.md.

Every number is arithmetic on the shipped configuration: `hardware.minutes_per_1000` of a model,
`rows` of a benchmark, sizes of an artifact's files. Nothing here was measured at full size.
"""

from collections.abc import Iterator
from typing import Any

from vireo import config as cfg
from vireo.doctor.needs import Needs, resolve
from vireo.fetch import local
from vireo.fetch.receipt import readable
from vireo.media import resize, store
from vireo.results import published

PICTURE = (720, 1280)  # of a usual video, for frames kept at native size


def minutes(own: dict[str, Any], block: dict[str, Any], videos: int) -> float | None:
    """Minutes of a model for so many videos of a benchmark, its controls included; None: unsaid."""
    per_1000 = (own.get("hardware") or {}).get("minutes_per_1000")
    if not per_1000:
        return None
    return per_1000 * videos / 1000 * (1 + len(block.get("controls") or []))


def kept(protocol: dict[str, Any], videos: int) -> int:
    """Bytes of frames that are kept in cache/frames for so many videos."""
    if not store.stored(protocol):
        return 0
    rule = {k: v for k, v in protocol["frames"].items() if k != "store"}
    return store.estimate(videos, rule, resize.before_store(protocol.get("resize")), PICTURE)


def rows(config: cfg.Config, block: dict[str, Any], splits: list[str]) -> int:
    """Number of published items of the splits, else of videos in a usual copy, else 0."""
    known = block.get("rows") or {}
    if found := sum(known.get(split, 0) for split in splits) or known.get("all", 0):
        return int(found)
    videos = config["artifacts"].get(block["sources"].get("videos", ""), {})
    return max((int(want.get("count") or 0) for want in videos.get("wants") or []), default=0)


def page() -> str:
    """Text of docs/costs.md."""
    config = cfg.load([])
    papers = {row.paper: None for row in published.read(cfg.HOME / "config/published.tsv")}
    lines = [
        "# What a paper costs",
        "",
        "Made by `scripts/generate.py` from the shipped configuration. Times are estimates of the",
        "model blocks (`hardware.minutes_per_1000`, controls included, items counted as videos),",
        "not measurements; `vireo doctor paper_viclip` says the same for your machine",
        "and your data.",
        "",
    ]
    for paper in papers:
        if paper and paper != "toy":
            lines += [*_paper(config, paper), ""]
    return "\n".join(lines)


def _paper(config: cfg.Config, paper: str) -> Iterator[str]:
    needs = resolve(config, f"paper_{paper}")
    table, hours, disk = [], 0.0, 0
    for run in needs.runs:
        model, name = run.split("/")
        benchmark, splits = cfg.resolve_run(config, name)
        own, block = cfg.model(config, model), cfg.benchmark(config, benchmark)
        items = rows(config, block, splits)
        spent = minutes(own, block, items) if items else None
        size = kept(cfg.protocol(config, model, benchmark), items)
        hours, disk = hours + (spent or 0) / 60, disk + size
        cells = [f"`{run}`", f"{items:,}" if items else "unknown"]
        cells += [f"{spent / 60:.1f}" if spent else "unknown", readable(size) if size else "–"]
        table.append(f"| {' | '.join(cells)} |")
    download, unsized = _downloads(config, needs)
    unknown = sum("unknown" in row for row in table)
    yield f"## `paper_{paper}`"
    yield ""
    yield f"- {len(needs.runs)} runs, about {hours:.1f} hours of their models' hardware"
    if unknown:
        yield f"  ({unknown} of them of unknown length)"
    yield f"- downloads: {readable(download)}{_besides(unsized)}"
    yield f"- frames kept: {readable(disk)}"
    if needs.recipes:
        trained = ", ".join(f"`{recipe}` ({_steps(config, recipe)})" for recipe in needs.recipes)
        yield f"- trained here first: {trained}"
    if needs.left_out:
        yield f"- {sum(map(len, needs.left_out.values()))} published rows cannot be run; the page"
        yield "  of the paper says why"
    yield ""
    yield "| run | items | hours | frames kept |"
    yield "|---|---:|---:|---:|"
    yield from table


def _downloads(config: cfg.Config, needs: Needs) -> tuple[int, list[str]]:
    """Bytes that are known of, and the artifacts whose size is not."""
    total, unsized = 0, []
    for name in needs.artifacts:
        size = local.total_size(config["artifacts"].get(name, {}))
        total += size or 0
        if not size and not name.startswith("toy_"):
            unsized.append(name)
    return total, unsized


def _besides(unsized: list[str]) -> str:
    return f", and of unknown size {', '.join(f'`{name}`' for name in unsized)}" if unsized else ""


def _steps(config: cfg.Config, recipe: str) -> str:
    block = cfg.recipe(config, recipe)
    for unit in ("epochs", "steps"):
        if block.get(unit):
            return f"{block[unit]} {unit}"
    return "see config/recipes.yaml"
