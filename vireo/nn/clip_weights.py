"""CLIP weights from the three places they are published, under ViCLIP's parameter names.

OpenAI's TorchScript archives (their pickle is read, their code never), Hugging Face's
`openai/clip-*` files (q, k and v apart, projections transposed) and open_clip's checkpoints; also
the bare vision and text files that ViCLIP's authors cut out of the first. What ViCLIP has and CLIP
has not (`temp`, the table of frame positions) is not in the result.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vireo.errors import VireoError
from vireo.nn import checkpoint, interpolate
from vireo.nn.formats import Lazy

# Not weights of the towers: the learned scale, masks, and numbers kept as tensors.
_IGNORED = re.compile(
    r"(^|\.)(logit_scale|logit_bias|attn_mask|position_ids|input_resolution|context_length"
    r"|vocab_size)$"
)
_MARKS = (
    *("visual.", "token_embedding.", "text.token_embedding."),  # OpenAI, open_clip
    *("vision_model.", "text_model."),  # Hugging Face
    "class_embedding",  # the authors' vision file
)
_HUGGING_FACE = {
    "vision_model.": "vision_encoder.",
    "text_model.": "text_encoder.",
    "visual_projection.weight": "vision_encoder.proj",
    "text_projection.weight": "text_encoder.text_projection",
    "embeddings.class_embedding": "class_embedding",
    "embeddings.patch_embedding": "conv1",
    "embeddings.position_embedding.weight": "positional_embedding",
    "embeddings.token_embedding": "token_embedding",
    "pre_layrnorm": "ln_pre",  # spelled so in the files
    "post_layernorm": "ln_post",
    "final_layer_norm": "ln_final",
    "encoder.layers.": "transformer.resblocks.",
    "self_attn.": "attn.",
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
}


def is_clip(named: Mapping[str, Any]) -> bool:
    """Whether the names are those of a CLIP file in any spelling (ViCLIP's own are not)."""
    return any(name.startswith(_MARKS) for name in named)


def read(path: str | Path) -> dict[str, Tensor]:
    """`rename` of a file's tensors; VireoError when the file is no CLIP."""
    named = checkpoint.tensors(path)
    if not is_clip(named):
        raise VireoError(f"{path} holds no CLIP: neither vision nor text tower under known names")
    return rename(named)


def rename(named: Mapping[str, Lazy]) -> dict[str, Tensor]:
    """Tensors of a CLIP file -> the same under `vision_encoder.*` and `text_encoder.*`.

    Data types stay; the patch convolution becomes 3-D with depth 1; position tables keep the
    file's length. A file with only one tower gives only that.
    """
    named = {name: value for name, value in named.items() if not _IGNORED.search(name)}
    if any(name.startswith(("vision_model.", "text_model.")) for name in named):
        found = _from_hugging_face(named)
    else:
        found = _from_openai(named)
    conv = "vision_encoder.conv1.weight"
    if conv in found:
        found[conv] = interpolate.inflate_2d(found[conv], 1)
    return found


def towers(path: str | Path) -> dict[str, dict[str, Tensor]]:
    """`vision` and `text` of a CLIP file as ViCLIP's authors cut them out of OpenAI's archive.

    OpenAI's names, without `visual.` in front, without the learned scale; data types stay, the
    patch convolution is 2-D. A file with one tower gives an empty dict for the other.
    """
    found: dict[str, dict[str, Tensor]] = {"vision": {}, "text": {}}
    for name, tensor in read(path).items():
        tower, _, inner = name.partition("_encoder.")
        flat = tensor.squeeze(2) if inner == "conv1.weight" else tensor
        found[tower][inner] = flat.contiguous()
    return found


def _from_openai(named: Mapping[str, Lazy]) -> dict[str, Tensor]:
    """OpenAI's and open_clip's names: `visual.` for vision, nothing or `text.` for text."""
    bare_vision = "class_embedding" in named
    found = {}
    for name, value in named.items():
        if name.startswith("visual.") or bare_vision:
            found["vision_encoder." + name.removeprefix("visual.")] = value.load()
        else:
            found["text_encoder." + name.removeprefix("text.")] = value.load()
    return found


def _from_hugging_face(named: Mapping[str, Lazy]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for name, value in named.items():
        for theirs, ours in _HUGGING_FACE.items():
            name = name.replace(theirs, ours)
        tensor = value.load()
        found[name] = tensor.T if name.endswith((".proj", ".text_projection")) else tensor
    for name in [n for n in found if ".attn.q_proj." in n]:
        parts = [name.replace(".q_proj.", f".{part}_proj.") for part in "qkv"]
        if all(part in found for part in parts):
            joined = torch.cat([found.pop(part) for part in parts])
            found[name.replace(".q_proj.", ".in_proj_")] = joined
    return found
