"""Benchmarks, one file each; `module: videomme` in the config is `vireo/benchmarks/videomme.py`.

A benchmark file has (`block` is its config block; columns of the tables: vireo/tables/items.py and
vireo/tables/predictions.py)

- `NEEDS`: the protocol of vireo/models that a model must fulfil; `PREDICTS` of a DualEncoder's:
  "choice" (one of an item's options), "classes" (scores of classes that all items share),
  "embedding" (of the video) or "pairs" (of the video and of the item's texts);
- `items(sources, block) -> DataFrame`: role -> folder, to one row per question or clip;
- `videos(sources, items, block) -> DataFrame`: the inventory (vireo.media.inventory.find);
- `prompts(items, protocol) -> {id: texts}`: for "choice" and "pairs", the texts of each item;
- `shared_texts(items, protocol) -> [texts]`: for "classes", the prompts of each class, from all
  items of the benchmark;
- `score(items, predictions, block) -> Scores`: pure, see vireo/metrics/scores.py;
- `export(items, predictions, outdir, block) -> [paths]`: the official files (`block["model"]` is
  the model's name);
- `add_arguments(parser)`, `evaluate(args) -> str`: the official scorer's flags and printout, for
  `vireo evaluate <benchmark> ...`.

Helpers of a benchmark stand in files whose names begin with an underscore. Nothing here imports
torch.
"""

import importlib
from pathlib import Path
from types import ModuleType

from vireo.errors import unknown


def names() -> list[str]:
    """Names of all benchmark files, sorted."""
    return sorted(p.stem for p in Path(__file__).parent.glob("*.py") if not p.stem.startswith("_"))


def module(name: str) -> ModuleType:
    """Import `vireo/benchmarks/<name>.py`; VireoError lists near names."""
    if name not in names():
        raise unknown("benchmark module", name, names())
    return importlib.import_module(f"vireo.benchmarks.{name}")
