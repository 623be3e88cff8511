"""MMDuet (Wang et al., 2024, arXiv 2411.17991): a language model that watches a video as it plays.

Assembled from transformers' SigLIP tower and Qwen2: 729 patch features a frame, a two-layer
projector, bilinear pooling to 49 tokens, and two heads that say at the last token of each frame how
informative and how relevant it is. `build(arch)` has transformers' LLaVA-OneVision names; `rename`
maps the names of the released base. Facts and vectors come from running the authors' code
(yellow-binary-tree/MMDuet, LLaVA-VL/LLaVA-NeXT).
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Qwen2Config, Qwen2Model, SiglipVisionConfig, SiglipVisionModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from vireo.errors import VireoError, unknown
from vireo.fetch import receipt
from vireo.nn import checkpoint, fresh, lora
from vireo.run.device import set_precision
from vireo.run.files import read_json
from vireo.streaming.conversation import Outcome, Settings, Text
from vireo.streaming.memory import Branches, Memory

VISION_BATCH = 32  # frames
# Released size: LLaVA-OneVision-Qwen2-7B with SigLIP so400m/14 at 384 pixels.
FULL: dict[str, Any] = {
    "hidden_size": 3584, "intermediate_size": 18944, "layers": 28, "heads": 28, "kv_heads": 4,
    "vocab_size": 152064, "rope_theta": 1e6, "positions": 32768, "rms_norm_eps": 1e-6,
    "pool_stride": 4, "tokenizer": "file",
    "vision": {
        "hidden_size": 1152, "intermediate_size": 4304, "layers": 26, "heads": 16,
        "image_size": 384, "patch_size": 14,
    },
}  # fmt: skip
# Ids that the released files must have; the toy tokenizer has its own.
RELEASED_IDS = {"start": 151644, "end": 151645, "pad": 151643}
TOKENIZERS = {"bytes": Text.of_bytes, "words": Text.of_words}
HEAD_NAMES = {"response_head": "informative_head", "related_head": "relevance_head"}
_HEADS = ("informative_head.weight", "relevance_head.weight")
_ATTENTION = "vireo_streaming"


def _attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Any, **more: Any
) -> tuple[Tensor, None]:
    """Attention through a `Memory` or `Branches`; with a plain mask it is torch's."""
    if isinstance(mask, Memory | Branches):
        scale: float = module.scaling  # type: ignore[assignment]
        return mask.attend(module.layer_idx, query, key, value, scale), None  # type: ignore
    return ALL_ATTENTION_FUNCTIONS["sdpa"](module, query, key, value, mask, **more)


ALL_ATTENTION_FUNCTIONS.register(_ATTENTION, _attend)


class Projector(nn.Module):
    """Patch features [..., vision width] -> [..., hidden]."""

    def __init__(self, vision: int, hidden: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(vision, hidden)
        self.linear_2 = nn.Linear(hidden, hidden)

    def forward(self, x: Tensor) -> Tensor:
        """Linear, exact GELU, linear."""
        return self.linear_2(F.gelu(self.linear_1(x)))


class MMDuet(nn.Module):
    """Tower, projector, language model, its output layer and the two score heads."""

    model: Any  # holds the parts under the names that transformers gives them

    def __init__(self, arch: dict[str, Any]) -> None:
        super().__init__()
        self.arch, vision = arch, arch["vision"]
        hidden = arch["hidden_size"]
        self.model = nn.Module()
        self.model.vision_tower = SiglipVisionModel(
            SiglipVisionConfig(
                hidden_size=vision["hidden_size"],
                intermediate_size=vision["intermediate_size"],
                num_hidden_layers=vision["layers"],
                num_attention_heads=vision["heads"],
                image_size=vision["image_size"],
                patch_size=vision["patch_size"],
                vision_use_head=False,
                attn_implementation="sdpa",  # type: ignore[call-arg]
            )
        )
        # What is read is the last layer's output, before this norm.
        self.model.vision_tower.post_layernorm = nn.Identity()
        self.model.multi_modal_projector = Projector(vision["hidden_size"], hidden)
        self.model.language_model = Qwen2Model(
            Qwen2Config(
                vocab_size=arch["vocab_size"],
                hidden_size=hidden,
                intermediate_size=arch["intermediate_size"],
                num_hidden_layers=arch["layers"],
                num_attention_heads=arch["heads"],
                num_key_value_heads=arch["kv_heads"],
                max_position_embeddings=arch["positions"],
                rms_norm_eps=arch["rms_norm_eps"],
                rope_parameters={"rope_type": "default", "rope_theta": arch["rope_theta"]},
                use_sliding_window=False,
                attn_implementation=_ATTENTION,  # type: ignore[call-arg]
            )
        )
        self.model.image_newline = nn.Parameter(torch.empty(hidden))  # in the files, never used
        self.lm_head = nn.Linear(hidden, arch["vocab_size"], bias=False)
        self.informative_head = nn.Linear(hidden, 2, bias=False)
        self.relevance_head = nn.Linear(hidden, 2, bias=False)
        self.tower_autocast: torch.dtype | None = None

    @property
    def frame_tokens(self) -> int:
        """Tokens of one frame (49 at the released size)."""
        vision = self.arch["vision"]
        side = vision["image_size"] // vision["patch_size"]
        return math.ceil(side / self.arch["pool_stride"]) ** 2

    def tower(self, pixels: Tensor) -> Tensor:
        """Pixels [T,3,S,S] in -1..1 -> patch features [T,729,vision width]."""
        vision = self.model.vision_tower
        with torch.autocast(
            pixels.device.type, self.tower_autocast, self.tower_autocast is not None
        ):
            features = vision.encoder(inputs_embeds=vision.embeddings(pixels)).last_hidden_state
        return features.to(pixels.dtype)

    def frames(self, pixels: Tensor) -> Tensor:
        """Pixels [T,3,S,S] -> frame embeddings [T,49,hidden]."""
        return pool(self.model.multi_modal_projector(self.tower(pixels)), self.arch["pool_stride"])

    def embed(self, ids: Tensor) -> Tensor:
        """Token ids [...] -> [..., hidden]; ids beyond the table count as its last row."""
        table = self.model.language_model.embed_tokens
        return table(ids.clamp(max=table.num_embeddings - 1))

    def read(self, embeds: Tensor, memory: Memory) -> Tensor:
        """Embeddings [n,hidden] after what is in memory -> final hidden states [n,hidden]."""
        positions = torch.arange(memory.length, memory.length + len(embeds), device=embeds.device)
        hidden = self._language(embeds[None], positions[None], memory)[0]
        memory.keep(len(embeds))
        return hidden

    def read_branches(self, embeds: Tensor, branches: Branches) -> Tensor:
        """Embeddings [B,n,hidden], one continuation each -> hidden states [B,n,hidden]."""
        positions = branches.positions(embeds.shape[1]).to(embeds.device)
        hidden = self._language(embeds, positions, branches)
        branches.keep(embeds.shape[1])
        return hidden

    def _language(self, embeds: Tensor, positions: Tensor, mask: Any) -> Tensor:
        output = self.model.language_model(
            inputs_embeds=embeds,
            position_ids=positions,
            attention_mask={"full_attention": mask},
            use_cache=False,
        )
        return output.last_hidden_state

    def forward(
        self, ids: Tensor, pixels: Tensor, padding: Tensor, image: int
    ) -> dict[str, Tensor]:
        """One pass over whole conversations, for training.

        ids [B,L] left-padded, `padding` [B,L] 1 where there is a token, pixels [T,3,S,S] of all
        conversations in their order -> `logits` [B,L,V], `informative`, `relevance` [B,L,2].
        """
        embeds = self.embed(ids)
        where = ids == image
        if pixels.shape[0]:
            flat = self.frames(pixels).flatten(0, 1).to(embeds.dtype)
            if len(flat) != int(where.sum()):
                raise VireoError(
                    f"{len(flat)} tokens of frames for {int(where.sum())} places in the text"
                )
            embeds = embeds.masked_scatter(where[..., None], flat)
        length = ids.shape[1]
        causal = torch.ones(length, length, dtype=torch.bool, device=ids.device).tril()
        mask = causal[None, None] & padding.bool()[:, None, None, :]
        # A padded position must attend to something, or its NaN would spread.
        mask = mask | torch.eye(length, dtype=torch.bool, device=ids.device)[None, None]
        positions = torch.arange(length, device=ids.device)[None].expand(len(ids), -1)
        hidden = self._language(embeds, positions, mask)
        return {
            "logits": self.lm_head(hidden),
            "informative": self.informative_head(hidden),
            "relevance": self.relevance_head(hidden),
        }

    def init_weights(self, generator: torch.Generator | None = None) -> None:
        """Normal weights, zero for biases, one for norms; buffers by `make_buffers`.

        A matrix's variance is 1 / inputs: the usual 0.02 is that of a width of thousands, and a
        small model trained from it learns nothing for hundreds of steps. Outputs start near 0.
        """
        make_buffers(self)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif "norm" in name:
                nn.init.ones_(parameter)
            else:
                std = parameter[0].numel() ** -0.5
                if "head" in name or parameter.dim() < 2:
                    std = 0.02
                elif "embed_tokens" in name or "position_embedding" in name:
                    std = 0.5
                nn.init.normal_(parameter, std=std, generator=generator)


def pool(features: Tensor, stride: int, mode: str = "bilinear") -> Tensor:
    """[T,g*g,C] -> [T,ceil(g/stride)^2,C]; `average` and `max` round the side down instead."""
    count, patches, width = features.shape
    side = math.isqrt(patches)
    grid = features.transpose(1, 2).reshape(count, width, side, side)
    if mode == "bilinear":
        small = F.interpolate(grid, size=[math.ceil(side / stride)] * 2, mode="bilinear")
    elif mode in ("average", "max"):
        small = (F.avg_pool2d if mode == "average" else F.max_pool2d)(grid, stride)
    else:
        raise unknown("pooling mode", mode, ("bilinear", "average", "max"))
    return small.flatten(2).transpose(1, 2)


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


def complete(arch: dict[str, Any]) -> dict[str, Any]:
    """An arch with what it leaves out; VireoError names an unknown key."""
    full = fresh.arch("an mmduet arch", arch, FULL)
    vision = fresh.arch("an mmduet arch's vision", full["vision"], FULL["vision"])
    return {**full, "vision": vision}


def build(arch: dict[str, Any], generator: torch.Generator | None = None) -> MMDuet:
    """The model of `arch` (keys of `FULL`; what is left out is the released size), initialised.

    See `fresh.model`. VireoError names wrong keys.
    """
    return fresh.model(MMDuet, complete(arch), generator)


def make_buffers(module: MMDuet) -> None:
    """Make the buffers that files do not hold: rotary frequencies and position numbers."""
    device = module.lm_head.weight.device
    language = module.model.language_model
    language.rotary_emb = type(language.rotary_emb)(config=language.config).to(device)
    embeddings = module.model.vision_tower.embeddings
    embeddings.position_ids = torch.arange(embeddings.num_positions, device=device)[None]


class Model:
    """A `Watcher`: whole videos by the fast engine, or frame by frame in a session."""

    def __init__(self, module: MMDuet, text: Text, options: dict[str, Any] | None = None) -> None:
        self.module = module.eval().requires_grad_(False)
        self.text = text
        self.options = options or {}

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.module.lm_head.weight.device

    def memory(self) -> Memory:
        """An empty memory for one conversation."""
        return Memory(self.module.arch["layers"], self.module.arch["positions"])

    def transform(self, frames: np.ndarray, view: dict[str, Any] | None = None) -> Tensor:
        """uint8 RGB [T,S,S,3] -> uint8 [T,3,S,S]; S must be the tower's."""
        size = self.module.arch["vision"]["image_size"]
        if frames.shape[1:3] != (size, size):
            raise VireoError(
                f"frames are {frames.shape[2]} x {frames.shape[1]}, the model wants {size} x {size}"
                " (resize: {library: cv2, fit: letterbox})"
            )
        return torch.from_numpy(np.ascontiguousarray(frames.transpose(0, 3, 1, 2)))

    @torch.inference_mode()
    def embed_frames(self, frames: Tensor) -> Tensor:
        """uint8 [T,3,S,S] -> embeddings [T,49,hidden] on the model's device."""
        like = self.module.lm_head.weight
        parts = []
        for batch in frames.split(VISION_BATCH):
            pixels = normalise(batch.to(like.device)).to(like.dtype)
            parts.append(self.module.frames(pixels))
        return torch.cat(parts)

    @torch.inference_mode()
    def embed_text(self, text: str) -> Tensor:
        """A rendered text -> embeddings [n,hidden]."""
        return self.embed_ids(self.text.ids(text))

    @torch.inference_mode()
    def embed_ids(self, ids: Sequence[int]) -> Tensor:
        """Token ids -> embeddings [n,hidden]."""
        return self.module.embed(torch.tensor(ids, dtype=torch.long, device=self.device))

    @torch.inference_mode()
    def scores(self, hidden: Tensor) -> Tensor:
        """Hidden states [n,hidden] of last frame tokens -> [n,2]: informative, relevance."""
        both = [self.module.informative_head(hidden), self.module.relevance_head(hidden)]
        return torch.stack([h.float().softmax(-1)[..., 1] for h in both], -1).cpu()

    def open(self, settings: Settings) -> Any:
        """A session that takes frames and questions as they come."""
        from vireo.streaming.plain import Session

        return Session(self, settings)

    def watch(
        self, frames: Tensor, questions: Sequence[dict[str, Any]], settings: Sequence[Settings]
    ) -> list[Outcome]:
        """uint8 [T,3,S,S] or embeddings [T,49,hidden] and user turns (`content`, `time`) -> an
        outcome per settings; settings that differ in thresholds only share one reading."""
        from vireo.streaming.fast import watch

        embeds = self.embed_frames(frames) if frames.dtype == torch.uint8 else frames
        return watch(self, embeds, questions, settings)


def normalise(frames: Tensor) -> Tensor:
    """uint8 [...] -> float32 in -1..1, as SigLIP's preprocessing."""
    return (frames.float() * (1 / 255) - 0.5) / 0.5


def load(
    cfg: dict[str, Any],
    weights: str | Path | None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | str = torch.float32,
) -> Model:
    """A model block and an adapter or a complete checkpoint -> `Model`.

    An adapter (`adapter_model.safetensors` or `.bin`) needs its base: the folder of the file that
    `files: {base: …}` names, or a folder `options.base`. `merge: false` keeps the low-rank pairs,
    `tower_autocast: float16` runs the tower as the reference does on a GPU. VireoError when a head,
    a tensor or a token is missing or the base's configuration is another one.
    """
    dtype = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    options = cfg.get("options") or {}
    for key in options:
        if key not in ("base", "merge", "tower_autocast"):
            raise unknown("option of mmduet", key, ("base", "merge", "tower_autocast"))
    set_precision(bool(cfg.get("tf32")))
    if beside := receipt.named(cfg, "base"):
        options = {"base": str(beside.parent), **options}
    module = fresh.start(build, cfg, weights)
    if weights is None:
        module.to(device, dtype)
        make_buffers(module)  # frequencies stay float32
        folders = [Path(options["base"])] if options.get("base") else []
    else:
        named, adapter, folders = gather(Path(weights), module.arch, options)
        checkpoint.load_into(module, named, weights, dtype, device)
        make_buffers(module)
        if adapter is not None:
            lora.attach(module, adapter, weights)
    autocast = options.get("tower_autocast")
    module.tower_autocast = getattr(torch, autocast) if autocast else None
    return Model(module.to(device), _tokenizer(module.arch, folders), options)


def gather(
    weights: Path, arch: dict[str, Any], options: dict[str, Any]
) -> tuple[dict[str, Any], lora.Adapter | None, list[Path]]:
    """(tensors by our names, adapter to attach or None, folders that may hold the tokenizer)."""
    named: dict[str, Any] = dict(checkpoint.tensors(weights))
    if not any(".lora_A." in name for name in named):
        named = {rename(name): value for name, value in named.items()}
        _need_heads(named, weights)
        return _without_norm(named), None, [weights.parent]
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


def _without_norm(named: dict[str, Any]) -> dict[str, Any]:
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
    return _without_norm({rename(name): value for name, value in shards(folder).items()})


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


def _tokenizer(arch: dict[str, Any], folders: list[Path]) -> Text:
    if arch["tokenizer"] in TOKENIZERS:
        return TOKENIZERS[arch["tokenizer"]]()
    for folder in folders:
        if (folder / "tokenizer.json").exists() or (folder / "vocab.json").exists():
            text = Text.read(folder)
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
