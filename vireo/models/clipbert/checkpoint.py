"""ClipBERT's files: the fine-tuned and the image-text checkpoint, grid features and BERT."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vireo.models.clipbert.module import ClipBERT
from vireo.nn import checkpoint

# In the released file, used by no part of this model: the detector's heads beside the backbone, the
# pre-training heads, and buffers that other versions of the libraries write.
IGNORED = (
    r"cnn\.feature\.(proposal_generator|roi_heads)\..*",
    r"cnn\.feature\.pixel_(mean|std)",
    r"transformer\.bert\.embeddings\.position_ids",
    r"transformer\.cls\..*",
    r".*\.num_batches_tracked",
)


WRAPPERS = ("model_state_dict", *checkpoint.WRAPPERS)


def start_from(module: ClipBERT, path: str | Path) -> None:
    """Weights of a ClipBERT file into a model before training.

    From the image-text checkpoint, which has no answer classifier, the classifier stays as
    initialised; anything else that differs raises VireoError.
    """
    named = released(path)
    own = module.state_dict()
    if not any(name.startswith("transformer.classifier.") for name in named):
        named |= {k: v for k, v in own.items() if k.startswith("transformer.classifier.")}
    checkpoint.load_into(module, named, path)


def start_from_parts(module: ClipBERT, grid: str | Path, bert: str | Path) -> None:
    """The fallback: a grid-feature ResNet (detectron2) and BERT; the rest stays as initialised.

    Row and column tables, the grid encoder and the classifier are in neither file.
    """
    parts = {
        "cnn.feature.backbone.": (grid, _grid_name),
        "transformer.bert.embeddings.": (bert, _bert_name),
        "transformer.bert.encoder.": (bert, _bert_name),
        "transformer.bert.pooler.": (bert, _bert_name),
    }
    own = module.state_dict()
    for prefix, (path, rename) in parts.items():
        found = {rename(k): v for k, v in checkpoint.tensors(path, WRAPPERS).items()}
        named = _used({k: v for k, v in found.items() if k.startswith(prefix)})
        rest = {k: v for k, v in own.items() if not k.startswith(prefix)}
        checkpoint.load_into(module, rest | named, path)
        own = module.state_dict()


def _grid_name(name: str) -> str:
    return f"cnn.feature.{name}" if name.startswith("backbone.") else name


def _bert_name(name: str) -> str:
    name = name if name.startswith("bert.") else f"bert.{name}"
    # Files of 2018 call the two parameters of a LayerNorm by their letters.
    name = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", name)
    return "transformer." + re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", name)


def released(path: str | Path) -> dict[str, Any]:
    """Tensors of a ClipBERT checkpoint without the ones that no part of the model uses."""
    return _used(checkpoint.tensors(path, WRAPPERS))


def _used(named: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in named.items() if not any(re.fullmatch(p, k) for p in IGNORED)}
