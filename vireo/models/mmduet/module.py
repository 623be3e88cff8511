"""MMDuet's architecture: transformers' SigLIP tower and Qwen2, a projector and two score heads.

729 patch features a frame, a two-layer projector, bilinear pooling to 49 tokens, and two heads that
say at the last token of each frame how informative and how relevant it is. Parameter names are
those of transformers' LLaVA-OneVision.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Qwen2Config, Qwen2Model, SiglipVisionConfig, SiglipVisionModel
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from vireo.errors import VireoError, unknown
from vireo.models.mmduet.kv_cache import KVCache, SharedPrefixCache
from vireo.nn import build as fresh

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


_ATTENTION = "vireo_streaming"


def _attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Any, **more: Any
) -> tuple[Tensor, None]:
    """Attention through a `Memory` or `Branches`; with a plain mask it is torch's."""
    if isinstance(mask, KVCache | SharedPrefixCache):
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

    def read(self, embeds: Tensor, memory: KVCache) -> Tensor:
        """Embeddings [n,hidden] after what is in memory -> final hidden states [n,hidden]."""
        positions = torch.arange(memory.length, memory.length + len(embeds), device=embeds.device)
        hidden = self._language(embeds[None], positions[None], memory)[0]
        memory.keep(len(embeds))
        return hidden

    def read_branches(self, embeds: Tensor, branches: SharedPrefixCache) -> Tensor:
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


def normalise(frames: Tensor) -> Tensor:
    """uint8 [...] -> float32 in -1..1, as SigLIP's preprocessing."""
    return (frames.float() * (1 / 255) - 0.5) / 0.5
