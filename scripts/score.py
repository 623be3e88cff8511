"""Predictions -> a checked number: results/MODEL/RUN.json and the official files. Never infers."""

import argparse
import sys
import time
from functools import cache
from pathlib import Path
from types import ModuleType

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import pandas as pd

from vireo import benchmarks
from vireo import config as configuration
from vireo.errors import VireoError
from vireo.inference import cache_key
from vireo.results import assemble, provenance, published, shards
from vireo.tables import items as item_table
from vireo.tables import predictions
from vireo.utils import cli
from vireo.utils.cli import log
from vireo.utils.files import read_sealed_json, write_json, write_text

PUBLISHED = configuration.HOME / "config/published.tsv"


def main() -> int:
    """Parse the command line, score, write the result last."""
    started = time.time()
    args = parse()
    cli.setup(args.log)
    config = configuration.load(args.config)
    block_of_model = configuration.model(config, args.model)
    name, splits = configuration.resolve_run(config, args.run)
    block = {**configuration.benchmark(config, name), "model": args.model}
    module = benchmarks.module(block.get("module") or name)
    every = item_table.read_items(args.items)
    items = every[every["split"].isin(splits)].reset_index(drop=True)
    if items.empty:
        raise VireoError(f"{args.items} holds no items of {', '.join(splits)}")

    path = None
    if args.weights not in (None, "none"):
        path = cache_key.find_weights(args.weights, block_of_model)
    unknown = shards.OF_WEIGHTS if args.weights is None else ()

    @cache
    def described(used: Path | None) -> dict:
        return cache_key.prediction_key(config, args.model, name, Path(args.items), used)

    def scored(files: list[str], control: str | None = None) -> assemble.Run:
        key = described(None if control == "untrained" else path)
        shards.check(files, key | ({"control": control} if control else {}), every, unknown)
        rows = merge(every, items, files)
        scores = module.score(items, rows, block)
        return assemble.Run(config, args.model, args.run, items, rows, scores)

    run = scored(args.predictions)
    inventory = item_table.read_videos(args.videos)
    unlisted = int(inventory["unlisted"].max()) if "unlisted" in inventory else 0
    if unlisted:
        run.scores.notes.append(
            f"{unlisted} clips in the folder are in no row of the list: they are not scored"
        )
    told = read_sealed_json(args.controls, "list of controls") if args.controls != "none" else {}
    controls = {control: scored(files, control) for control, files in told.items()}
    made = [predictions.info(file) for file in args.predictions]
    cut = sum(shard.get("truncated_texts") or 0 for shard in made)
    if cut:
        run.scores.notes.append(f"{cut} texts were longer than the model's context and were cut")
    out = Path(args.out)
    files = write_beside(run, out.with_suffix(""), module, block)
    numbers = published.read(PUBLISHED) + published.inline(config)
    facts = provenance.collect(
        config,
        weights=None if args.weights in (None, "none") else args.weights,
        items=items,
        videos=item_table.read_videos(args.videos),
        shards=made,
        sources=block["sources"],
        predictions=out.with_suffix("") / "predictions.parquet",
        started=started,
    )
    chosen = published.find(numbers, args.model, name, splits, headline=args.run == name)
    whole = assemble.assemble(run, chosen, facts, controls, files)
    say(whole)
    write_json(out, whole, sealed=True)
    return 0


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="name in config/models.yaml")
    parser.add_argument("run", help="benchmark, or benchmark_split")
    parser.add_argument("--items", required=True, metavar="FILE", help="items (Parquet)")
    parser.add_argument("--videos", required=True, metavar="FILE", help="inventory of videos")
    parser.add_argument(
        "--predictions", nargs="+", required=True, metavar="FILE", help="all shards of the splits"
    )
    parser.add_argument(
        "--controls", default="none", metavar="FILE", help="list of the controls' shards (JSON)"
    )
    parser.add_argument("--weights", metavar="FILE", help="receipt or file of the weights, or none")
    parser.add_argument("--out", required=True, metavar="FILE", help="result to write (JSON)")
    cli.add_common(parser)
    return parser.parse_args()


def merge(every: pd.DataFrame, items: pd.DataFrame, files: list[str]) -> pd.DataFrame:
    """All rows of the shards for `items`, each with at least one; foreign rows are refused."""
    rows = predictions.read(files)
    foreign = rows.loc[~rows["id"].isin(every["id"]), "id"]
    if len(foreign):
        raise VireoError(
            f"predictions hold {foreign.iloc[0]!r} ({len(foreign)} in all), which is no item of "
            "this benchmark: the items have changed, infer again"
        )
    absent = int((~items["id"].isin(rows["id"])).sum())
    if absent:
        log.warning("%d of %d items have no row in any shard", absent, len(items))
    return assemble.complete(items, rows)


def write_beside(run: assemble.Run, folder: Path, module: ModuleType, block: dict) -> list[str]:
    """Write predictions.parquet, the official files and printout; returns their names."""
    predictions.write_frame(folder / "predictions.parquet", run.predictions)
    files = [folder / "predictions.parquet"]
    files += module.export(run.items, run.predictions, folder, block)
    if run.scores.printout:
        files.append(folder / "official_scorer.txt")
        write_text(files[-1], run.scores.printout)
    return [file.name for file in files]


def say(whole: dict) -> None:
    """Log the numbers for people who watch the log."""
    for metric in whole["metrics"].values():
        if metric["value"] is not None:
            interval = " to ".join(f"{x:.1f}" for x in metric["ci95"] or ())
            log.info(
                "%s: %.2f%s (n = %d%s)",
                *(metric["title"] or "value", metric["value"], metric["unit"], metric["n"]),
                f", 95 % interval {interval}" if interval else "",
            )
    for name, control in whole["controls"].items():
        if control["value"] is not None:
            log.info("control %s: %.2f", name, control["value"])
    cover = whole["coverage"]
    log.info(
        "coverage: %d of %d items (kept from an earlier copy %d, missing %d, undecodable %d, "
        "error %d); verdict: %s",
        *(cover["ok"], cover["items"], cover["kept"]),
        *(cover["missing"], cover["undecodable"], cover["error"]),
        whole["verdict"]["word"],
    )
    for note in whole["notes"]:
        log.info("note: %s", note)


if __name__ == "__main__":
    cli.run(main)
