"""How each kind of model turns decoded clips into prediction rows, one class per protocol.

`vireo.inference.shard` owns everything around it: which clips are due, decoding, batches, journal,
statuses. An engine gets whole batches of clips and gives the rows of each.
"""

from importlib import import_module
from types import ModuleType
from typing import Any

from vireo import models
from vireo.errors import VireoError
from vireo.inference.engines.base import Engine

# What a benchmark needs -> module and class, imported when asked for: the streaming one brings
# transformers, six CPU seconds that a job of another kind need not pay.
ENGINES = {
    "DualEncoder": ("dual_encoder", "DualEncoder"),
    "Classifier": ("classifier", "Classifier"),
    "Answerer": ("answerer", "Answerer"),
    "StreamingModel": ("streaming", "StreamingEngine"),
}


def make_engine(
    model: Any, module: ModuleType, protocol: dict[str, Any], model_name: str, needs: str
) -> Engine:
    """The engine for what a benchmark needs; VireoError when the model is no such thing."""
    if needs not in ENGINES:
        raise VireoError(
            f"no engine for {needs}; vireo/inference/engines/registry.py has {', '.join(ENGINES)}"
        )
    if (wanted := getattr(module, "NEEDS", needs)) != needs:
        name = module.__name__.rpartition(".")[2]
        raise VireoError(
            f"the benchmark says `needs: {needs}`, but its module {name} needs a {wanted}: correct "
            "`needs` in its block"
        )
    if not isinstance(model, getattr(models, needs)):
        raise VireoError(
            f"model {model_name!r} is no {needs}, which this benchmark needs "
            "(`needs` in config/benchmarks.yaml, protocols in vireo/models/__init__.py)"
        )
    file, name = ENGINES[needs]
    made: Engine = getattr(import_module(f"vireo.inference.engines.{file}"), name)(
        model, module, protocol
    )
    return made
