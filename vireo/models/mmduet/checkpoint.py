"""MMDuet's files: the released base, adapters over it, complete checkpoints, tokenizers."""

from pathlib import Path
from typing import Any

from vireo.errors import VireoError
from vireo.models.mmduet.chat import ChatTokenizer
from vireo.models.mmduet.module import FULL
from vireo.nn import checkpoint, lora
from vireo.utils.files import read_json

# Ids that the released files must have; the toy tokenizer has its own.
RELEASED_IDS = {"start": 151644, "end": 151645, "pad": 151643}


TOKENIZERS = {"bytes": ChatTokenizer.of_bytes, "words": ChatTokenizer.of_words}


HEAD_NAMES = {"response_head": "informative_head", "related_head": "relevance_head"}


_HEADS = ("informative_head.weight", "relevance_head.weight")


_NAMES = (
    ("model.vision_tower.vision_tower.vision_model.", "model.vision_tower."),
    ("model.mm_projector.0.", "model.multi_modal_projector.linear_1."),
    ("model.mm_projector.2.", "model.multi_modal_projector.linear_2."),
    ("model.embed_tokens", "model.language_model.embed_tokens"),
    ("model.layers.", "model.language_model.layers."),
    ("model.norm.", "model.language_model.norm."),
)


def rename(name: str) -> str:
    """A tensor's name in the released files -> its name here; other names stay."""
    for theirs, ours in _NAMES:
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    head, dot, rest = name.partition(".")
    return HEAD_NAMES.get(head, head) + dot + rest


def original(name: str) -> str:
    """The inverse: a tensor's name here -> its name in the released files."""
    for theirs, ours in _NAMES:
        if name.startswith(ours):
            return theirs + name.removeprefix(ours)
    return name


def gather(
    weights: Path, arch: dict[str, Any], options: dict[str, Any]
) -> tuple[dict[str, Any], lora.Adapter | None, list[Path]]:
    """(tensors by our names, adapter to attach or None, folders that may hold the tokenizer)."""
    named: dict[str, Any] = dict(checkpoint.tensors(weights))
    if not any(".lora_A." in name for name in named):
        named = {rename(name): value for name, value in named.items()}
        _need_heads(named, weights)
        return without_norm(named), None, [weights.parent]
    base = find_base(weights, options.get("base"))
    check_base(base, arch)
    own = named.pop(lora.SCALE, None)  # adapters trained here say it themselves
    scale = lora.scale_of(weights.parent) if own is None else float(own.load())
    adapter = lora.parse(named, scale, weights)
    whole = {rename(name): value for name, value in adapter.whole.items()}
    _need_heads(whole, weights)
    pairs = {rename(f"{name}.").rstrip("."): value for name, value in adapter.pairs.items()}
    merge = options.get("merge", True)
    inside = lora.Adapter(scale, pairs if merge else {}, whole)
    beside = None if merge else lora.Adapter(scale, pairs)
    return lora.merged(base_tensors(base), inside, weights), beside, [weights.parent, base]


def without_norm(named: dict[str, Any]) -> dict[str, Any]:
    """Drop what a complete SigLIP has after the layer that is read."""
    unread = ("model.vision_tower.post_layernorm.", "model.vision_tower.head.")
    return {k: v for k, v in named.items() if not k.startswith(unread)}


def _need_heads(named: dict[str, Any], source: Path) -> None:
    # The reference would go on with random heads; every score would be noise.
    missing = [name for name in _HEADS if name not in named]
    if missing:
        raise VireoError(
            f"{source} has no {' and no '.join(missing)} (nor under the older names "
            f"{', '.join(HEAD_NAMES)}): it is no MMDuet checkpoint"
        )


def base_tensors(folder: Path) -> dict[str, Any]:
    """The base's tensors by our names, without what is never read."""
    return without_norm({rename(name): value for name, value in shards(folder).items()})


def shards(folder: Path) -> dict[str, Any]:
    """Tensors of a folder of `.safetensors` (or `.bin`) files, read when asked for."""
    index = folder / "model.safetensors.index.json"
    if index.exists():
        files = sorted(set(read_json(index, "index of shards")["weight_map"].values()))
        paths = [folder / Path(name).name for name in files]
    else:
        found = (sorted(folder.glob(p)) for p in ("*.safetensors", "pytorch_model*.bin"))
        paths = next((list(f) for f in found if f), [])
    if not paths:
        raise VireoError(f"no *.safetensors in {folder}: this must be the base's folder")
    tensors: dict[str, Any] = {}
    for path in paths:
        tensors |= checkpoint.tensors(path)
    return tensors


def find_base(adapter: Path, base: str | None) -> Path:
    """The base's folder; VireoError when none is given or it is not there."""
    if not base:
        raise VireoError(
            f"{adapter} is an adapter; say where its base lies: files: {{base: {{artifact: NAME, "
            "file: config.json}}} or options: {base: FOLDER}"
        )
    if not Path(base).is_dir():
        raise VireoError(f"the base of {adapter} is said to be in {base}, which is no folder")
    return Path(base)


def base_config(arch: dict[str, Any]) -> dict[str, Any]:
    """What config.json of a base of `arch` says."""
    return {
        "hidden_size": arch["hidden_size"],
        "intermediate_size": arch["intermediate_size"],
        "num_hidden_layers": arch["layers"],
        "num_attention_heads": arch["heads"],
        "num_key_value_heads": arch["kv_heads"],
        "vocab_size": arch["vocab_size"],
        "rope_theta": arch["rope_theta"],
        "mm_projector_type": "mlp2x_gelu",
        # Only this mode gives the 49 tokens that the heads were trained on.
        "mm_spatial_pool_mode": "bilinear",
        "tie_word_embeddings": False,
    }


def check_base(folder: Path, arch: dict[str, Any]) -> None:
    """VireoError unless the base's config.json describes the model of `arch`."""
    path = folder / "config.json"
    if not path.exists():
        raise VireoError(f"{path} is missing; fetch the whole base folder")
    config = read_json(path, "base configuration")
    for key, value in base_config(arch).items():
        if config.get(key) != value:
            raise VireoError(f"{path}: {key} is {config.get(key)!r}, MMDuet needs {value!r}")


def read_tokenizer(arch: dict[str, Any], folders: list[Path]) -> ChatTokenizer:
    """The tokenizer of an arch; VireoError when no folder holds it or its ids are others."""
    if arch["tokenizer"] in TOKENIZERS:
        return TOKENIZERS[arch["tokenizer"]]()
    for folder in folders:
        if (folder / "tokenizer.json").exists() or (folder / "vocab.json").exists():
            text = ChatTokenizer.read(folder)
            break
    else:
        where = ", ".join(map(str, folders)) or "anywhere (options: {base: FOLDER})"
        raise VireoError(f"no tokenizer found in {where}")
    if arch["vocab_size"] == FULL["vocab_size"]:
        for name, value in RELEASED_IDS.items():
            if getattr(text, name) != value:
                raise VireoError(
                    f"tokenizer: the {name} token has id {getattr(text, name)}, the released model "
                    f"was trained with {value}"
                )
    return text
