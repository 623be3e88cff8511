"""ClipBERT on SQA3D: `build` and `load` as every family has them."""

from vireo.models.clipbert.checkpoint import start_from, start_from_parts
from vireo.models.clipbert.inputs import Tokenizer, Transform
from vireo.models.clipbert.model import Model, aux_file, load
from vireo.models.clipbert.module import AGGREGATIONS, ClipBERT, aggregate, build, loss

__all__ = [
    "AGGREGATIONS",
    "ClipBERT",
    "Model",
    "Tokenizer",
    "Transform",
    "aggregate",
    "aux_file",
    "build",
    "load",
    "loss",
    "start_from",
    "start_from_parts",
]
