"""Do ClipBERT's weights and the answer dictionary belong together?

The classifier has more rows than there are answers. A row that was never a training target has been
pushed down at every step and never up, so its bias lies in a narrow band below all others; where
that band begins shows the size of the dictionary that training used.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from vireo import config as cfg
from vireo.doctor.finding import Finding
from vireo.errors import VireoError
from vireo.inference import cache_key
from vireo.inference.weights import weights_source
from vireo.tables import predictions
from vireo.utils.files import sha256

BIAS = "transformer.classifier.2.bias"
OUTSIDE = 0.01
TAIL = 0.05  # of the rows, at the end: never targets, if there are any such rows


def trained_rows(bias: np.ndarray) -> int | None:
    """Number of rows up to the last one that was a training target; None when it cannot be told.

    bias: of the classifier's last layer, [V].
    """
    tail = bias[-max(8, int(TAIL * len(bias))) :]
    middle = float(np.median(tail))
    width = float(np.max(np.abs(tail - middle)))
    rest = bias[: -len(tail)]
    # Targets among the last rows: the band is as wide as everything else, nothing can be told.
    if not len(rest) or width > 0.25 * float(np.std(rest)) + 1e-12:
        return None
    apart = np.flatnonzero(np.abs(bias - middle) > 4 * width + 1e-6)
    return int(apart[-1]) + 1 if len(apart) else None


def check(config: cfg.Config, run: str) -> Iterator[Finding]:
    """Findings about the head of a ClipBERT block whose weights and dictionary are here."""
    model = run.split("/")[0]
    block = cfg.model(config, model)
    try:
        where = weights_source(config, model)
        weights = cache_key.find_weights(where or None, block)
        dictionary = _dictionary(block)
        if weights is None or dictionary is None:
            return
    except VireoError:
        return  # not here yet, which other findings say
    from vireo.nn import answers, checkpoint

    known = len(answers.read(dictionary))
    what = f"{run}: the dictionary {dictionary.name} (sha256 {sha256(dictionary)[:16]}…)"
    yield Finding("note", f"{what} has {known} answers")
    held = checkpoint.tensors(weights, ("model_state_dict", *checkpoint.WRAPPERS)).get(BIAS)
    if held is not None:
        rows = trained_rows(held.load().float().numpy())
        if rows is not None and rows != known:
            yield Finding(
                "problem",
                f"{run}: the last row of the classifier in {weights.name} that was ever a training "
                f"target is number {rows - 1}, but the dictionary has {known} answers: the weights "
                "were probably trained with another one; set `files: {answers: …}` of the model to "
                "the right one",
            )
    table = Path(f"results/{run}/predictions.parquet")
    if table.exists():
        share = outside(table)
        if share > OUTSIDE:
            yield Finding(
                "problem",
                f"{run}: {100 * share:.1f} % of the predictions are rows outside of the dictionary",
            )


def _dictionary(block: cfg.Config) -> Path | None:
    from vireo.fetch import receipt

    return receipt.named(block, "answers")


def outside(table: Path) -> float:
    """Share of predictions whose class has no answer."""
    rows = predictions.read(table)
    given = [json.loads(text) for text in rows.loc[rows["status"] == "ok", "prediction"]]
    return sum(p.get("answer") is None for p in given) / max(len(given), 1)
