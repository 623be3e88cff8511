"""ViCLIP (Wang et al., InternVid, 2023): CLIP with joint space-time attention over video patches.

`build(arch)` has the parameter names of the released files; facts and vectors come from running the
authors' code (InternVideo/Data/InternVid). Sizes released: B/16 and L/14 (`SIZES`).
Precision: the whole model runs in the dtype it is loaded in (float32 unless the config says
bfloat16 or float16; no autocast); features are normalised in float32 whatever the dtype.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vireo.errors import VireoError, unknown
from vireo.nn import build as fresh
from vireo.nn import checkpoint, clip_weights, interpolate
from vireo.nn.clip import ACTIVATIONS, Transformer
from vireo.nn.formats import loaded
from vireo.nn.preprocess import Preprocess
from vireo.nn.tokenizer import Tokenizer
from vireo.utils.device import set_precision

SIZES: dict[str, dict[str, int]] = {
    "B/16": {
        "image_size": 224, "patch_size": 16, "width": 768, "layers": 12, "heads": 12,
        "embed_dim": 512, "num_frames": 8, "text_width": 512, "text_layers": 12, "text_heads": 8,
    },
    "L/14": {
        "image_size": 224, "patch_size": 14, "width": 1024, "layers": 24, "heads": 16,
        "embed_dim": 768, "num_frames": 8, "text_width": 768, "text_layers": 12, "text_heads": 12,
    },
}  # fmt: skip
OPTIONAL = {
    **{"context_length": 32, "vocab_size": 49408, "drop_path": 0.1, "checkpoint_num": 0},
    # parity: the authors' code has QuickGELU everywhere, also over weights trained with plain GELU
    # | scores of DataComp weights, which were trained with plain GELU | `arch.act: gelu`
    "act": "quick_gelu",
}
_MULTIPLES = {"image_size": "patch_size", "width": "heads", "text_width": "text_heads"}
# Only the class token leaves the video tower. It keeps some company to the end: for a few rows the
# matrix libraries take other kernels, and features would depend on the size of the batch.
_FEW = 16
TIME = "vision_encoder.temporal_positional_embedding"


class VisionEncoder(nn.Module):
    """Video [B,3,T,H,W] -> [B,D]: all patches of all frames attend to each other."""

    def __init__(self, arch: dict[str, Any]) -> None:
        super().__init__()
        width, patch = arch["width"], arch["patch_size"]
        grid = arch["image_size"] // patch
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.positional_embedding = nn.Parameter(torch.empty(grid * grid + 1, width))
        self.temporal_positional_embedding = nn.Parameter(torch.empty(1, arch["num_frames"], width))
        self.proj = nn.Parameter(torch.empty(width, arch["embed_dim"]))
        self.conv1 = nn.Conv3d(3, width, (1, patch, patch), (1, patch, patch), bias=False)
        self.ln_pre = nn.LayerNorm(width)
        depth, dropped = arch["layers"], arch["drop_path"]
        self.transformer = Transformer(
            width, depth, arch["heads"], dropped, arch["checkpoint_num"], arch["act"]
        )
        self.ln_post = nn.LayerNorm(width)

    def forward(
        self, x: Tensor, mask_ratio: float = 0.0, generator: torch.Generator | None = None
    ) -> Tensor:
        """[B,3,T,H,W] -> [B,D] raw features; `mask_ratio` of the patch tokens are left out."""
        return (self.last(x, mask_ratio, generator) @ self.proj)[:, 0]

    def last(
        self, x: Tensor, mask_ratio: float = 0.0, generator: torch.Generator | None = None
    ) -> Tensor:
        """[B,3,T,H,W] -> [B,few,W] after the last norm; the first is the class token."""
        tokens = self.patches(x)
        if mask_ratio > 0:
            keep = visible(tokens.shape[0], tokens.shape[1], mask_ratio, generator)
            keep = keep.to(tokens.device).unsqueeze(-1).expand(-1, -1, tokens.shape[2])
            tokens = tokens.gather(1, keep)
        first = self.class_embedding + self.positional_embedding[0]
        tokens = torch.cat([first.expand(len(tokens), 1, -1).to(tokens.dtype), tokens], dim=1)
        return self.ln_post(self.transformer(self.ln_pre(tokens), first=_FEW))

    def patches(self, x: Tensor) -> Tensor:
        """[B,3,T,H,W] -> [B,g*g*T,W] with positions added: position-major, time-minor."""
        count, stored = x.shape[2], self.temporal_positional_embedding.shape[1]
        if count not in (1, stored):
            raise VireoError(
                f"the clip has {count} frames, the model was built for {stored} (or one image): "
                "set arch.num_frames, the stored table is fitted on loading"
            )
        x = self.conv1(x)
        rows = len(self.positional_embedding) - 1
        if x.shape[-1] * x.shape[-2] != rows:
            raise VireoError(
                f"the frames make {x.shape[-2]} x {x.shape[-1]} patches, the model has positions "
                f"for {rows}: resize the frames to arch.image_size"
            )
        time = self.temporal_positional_embedding[0]
        if count == 1:
            # parity: an image gets the mean of all frames' rows | features of single frames | none
            time = time.mean(0, keepdim=True)
        x = x.flatten(3).permute(0, 3, 2, 1)  # [B,g*g,T,W]
        x = x + self.positional_embedding[1:, None] + time
        return x.flatten(1, 2)

    def init_rest(self, generator: torch.Generator | None = None) -> None:
        """CLIP's start of all but the transformer; frame positions start at zero."""
        tables = [self.class_embedding, self.positional_embedding]
        if hasattr(self, "proj"):  # a classifier has none
            tables.append(self.proj)
        for weight in tables:
            nn.init.normal_(weight, std=len(self.class_embedding) ** -0.5, generator=generator)
        patch = self.conv1.weight
        nn.init.normal_(patch, std=patch[0].numel() ** -0.5, generator=generator)
        nn.init.zeros_(self.temporal_positional_embedding)
        self.ln_pre.reset_parameters()
        self.ln_post.reset_parameters()


class TextEncoder(nn.Module):
    """Token ids [N,L] -> [N,D]: causal attention, read at the end-of-text token."""

    def __init__(self, arch: dict[str, Any]) -> None:
        super().__init__()
        width = arch["text_width"]
        self.positional_embedding = nn.Parameter(torch.empty(arch["context_length"], width))
        self.text_projection = nn.Parameter(torch.empty(width, arch["embed_dim"]))
        depth, heads = arch["text_layers"], arch["text_heads"]
        self.transformer = Transformer(width, depth, heads, act=arch["act"])
        self.token_embedding = nn.Embedding(arch["vocab_size"], width)
        self.ln_final = nn.LayerNorm(width)

    def forward(self, ids: Tensor) -> Tensor:
        """int [N,L] of exactly the context length -> [N,D] raw features."""
        x = self.token_embedding(ids.long()) + self.positional_embedding
        x = self.ln_final(self.transformer(x, causal=True))
        # The end-of-text id is the largest; argmax takes its first occurrence.
        return (x @ self.text_projection)[torch.arange(len(x), device=x.device), ids.argmax(-1)]


class ViCLIP(nn.Module):
    """Both towers and the temperature of the contrastive loss (a divisor; inference uses 100)."""

    def __init__(self, arch: dict[str, Any]) -> None:
        super().__init__()
        self.arch = arch
        self.temp = nn.Parameter(torch.empty(()))
        self.vision_encoder = VisionEncoder(arch)
        self.text_encoder = TextEncoder(arch)

    def encode_vision(
        self, video: Tensor, mask_ratio: float = 0.0, generator: torch.Generator | None = None
    ) -> Tensor:
        """[B,T,3,H,W], or images [B,3,H,W] -> [B,D] raw features.

        `mask_ratio` > 0 is for training: a random share of the patch tokens is left out, drawn on
        the CPU from `generator`.
        """
        video = video.unsqueeze(1) if video.ndim == 4 else video
        return self.vision_encoder(video.transpose(1, 2), mask_ratio, generator)

    def encode_text(self, ids: Tensor) -> Tensor:
        """int [N,context_length] -> [N,D] raw features."""
        return self.text_encoder(ids)

    def init_weights(self, generator: torch.Generator | None = None) -> None:
        """CLIP's initialisation of every parameter; frame positions start at zero."""
        vision, text = self.vision_encoder, self.text_encoder
        vision.init_rest(generator)
        normal = {
            text.token_embedding.weight: 0.02,
            text.positional_embedding: 0.01,
            text.text_projection: self.arch["text_width"] ** -0.5,
        }
        for weight, std in normal.items():
            nn.init.normal_(weight, std=std, generator=generator)
        nn.init.constant_(self.temp, 0.01)
        text.ln_final.reset_parameters()
        vision.transformer.init_weights(generator)
        text.transformer.init_weights(generator)


def visible(
    batch: int, tokens: int, mask_ratio: float, generator: torch.Generator | None = None
) -> Tensor:
    """Indices [B,n] of the patch tokens that stay, ascending, `int(mask_ratio * tokens)` fewer."""
    order = torch.rand(batch, tokens, generator=generator).argsort(dim=1)
    return order[:, int(mask_ratio * tokens) :].sort(dim=1).values


def build(arch: dict[str, Any], generator: torch.Generator | None = None) -> ViCLIP:
    """The model of `arch` (keys as in `SIZES`), freshly initialised, in train mode.

    See `fresh.model`. VireoError names wrong keys and sizes.
    """
    return fresh.model(ViCLIP, full_arch("a viclip arch", arch, SIZES["L/14"]), generator)


def full_arch(what: str, arch: dict[str, Any], required: Iterable[str]) -> dict[str, Any]:
    """`arch` with defaults; VireoError names wrong keys and sizes (see `fresh.arch`)."""
    full = fresh.arch(what, arch, OPTIONAL, required, _MULTIPLES)
    if full["act"] not in ACTIVATIONS:
        raise unknown(f"activation of {what}", str(full["act"]), ACTIVATIONS)
    return full


class Model:
    """A `DualEncoder`: video and text embedded on one device, in one dtype, without gradients."""

    # parity: inference multiplies by 100, whatever `temp` the file holds | the scale of option
    # probabilities; rankings are the same | none
    logit_scale = 100.0

    def __init__(self, module: ViCLIP, transform: Preprocess) -> None:
        self.module = module.eval().requires_grad_(False)
        self.transform = transform
        self.tokenizer = Tokenizer(module.arch["context_length"])
        self._like = module.vision_encoder.proj

    @torch.inference_mode()
    def embed_video(self, clips: Tensor) -> Tensor:
        """[B,T,3,H,W] as `transform` makes it -> [B,D] float32, L2-normalised."""
        clips = clips.to(self._like.device, self._like.dtype)
        return F.normalize(self.module.encode_vision(clips).float(), dim=-1)

    @torch.inference_mode()
    def embed_text(self, texts: list[str]) -> Tensor:
        """N strings -> [N,D] float32, L2-normalised."""
        ids = self.tokenizer(texts).to(self._like.device)
        return F.normalize(self.module.encode_text(ids).float(), dim=-1)


def load(
    cfg: dict[str, Any],
    weights: str | Path | None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | str = torch.float32,
) -> Model:
    """A model block and a ViCLIP or CLIP file (None: seeded random weights) -> `Model`.

    Position tables are fitted to arch.num_frames, context_length and image_size; everything else
    must match by name and shape, or VireoError says what does not. `cfg["wiseft"]` = {alpha, path}
    averages with a CLIP (see `average`).
    """
    dtype = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    set_precision(bool(cfg.get("tf32")))
    module = fresh.from_block(build, cfg, weights)
    if weights is None:
        module.to(device, dtype)
    else:
        table = torch.zeros(module.vision_encoder.temporal_positional_embedding.shape)
        named = _named(weights, module, {"temp": torch.tensor(0.01), TIME: table})
        if cfg.get("wiseft"):
            named = average(named, cfg["wiseft"]["path"], float(cfg["wiseft"]["alpha"]), module)
        checkpoint.load_into(module, named, weights, dtype, device, guess_size(cfg["arch"]))
    size = cfg.get("size") or module.arch["image_size"]
    return Model(module, Preprocess(cfg["mean"], cfg["std"], size))


def start_from(module: ViCLIP, path: str | Path) -> None:
    """Weights of a ViCLIP or CLIP file into a model before training.

    With CLIP's, temperature and frame positions stay as they are. Position tables are fitted;
    anything else that differs raises VireoError.
    """
    named = _named(path, module, {n: module.state_dict()[n] for n in ("temp", TIME)})
    device = module.temp.device
    checkpoint.load_into(module, named, path, device=device, hint=guess_size(module.arch))


def _named(path: str | Path, module: ViCLIP, not_in_clip: dict[str, Tensor]) -> dict[str, Any]:
    """Tensors of a ViCLIP file, or of CLIP's with `not_in_clip` added, fitted to the module."""
    named: dict[str, Any] = dict(checkpoint.tensors(path))
    if clip_weights.is_clip(named):  # CLIP seen as a ViCLIP of one frame
        named = {**clip_weights.rename(named), **not_in_clip}
    return fit(named, module)


def average(
    named: dict[str, Any], clip: str | Path, alpha: float, module: ViCLIP
) -> dict[str, Any]:
    """alpha x the trained tensor + (1 - alpha) x CLIP's, for all that the file `clip` has too.

    Never the table of frame positions, which CLIP's training never saw, nor the temperature. A
    file with one tower averages only that one.
    """
    if not 0 <= alpha <= 1:
        raise VireoError(f"wiseft: alpha is {alpha}, it must be between 0 and 1")
    named, other = dict(named), fit(clip_weights.read(clip), module)
    for name, theirs in other.items():
        ours = named.get(name)
        if ours is None or tuple(ours.shape) != tuple(theirs.shape):
            raise VireoError(
                f"wiseft: {name} {list(theirs.shape)} of {clip} has no equal in the trained model: "
                "the two must be of one size"
            )
        named[name] = alpha * loaded(ours).float() + (1 - alpha) * theirs.float()
    return named


def fit(named: dict[str, Any], module: nn.Module) -> dict[str, Any]:
    """Position tables of another number of frames, tokens or patches, fitted to the module's."""
    rules = {
        TIME: (interpolate.resize_temporal, 1),
        "vision_encoder.positional_embedding": (interpolate.resize_spatial, 0),
        "text_encoder.positional_embedding": (interpolate.resize_text, 0),
    }
    wanted = {name: p.shape for name, p in module.named_parameters() if name in rules}
    named = dict(named)
    for name, shape in wanted.items():
        change, dim = rules[name]
        stored = named.get(name)
        if stored is None or len(stored.shape) != len(shape) or stored.shape[-1] != shape[-1]:
            continue  # another model: the strict check says so
        if stored.shape[dim] != shape[dim]:
            named[name] = change(loaded(stored), shape[dim])
    return named


def guess_size(arch: dict[str, Any]) -> Callable[[dict[str, tuple[int, ...]]], str]:
    """A hint for `load_into`: the released size that a checkpoint's shapes are of."""

    def hint(shapes: dict[str, tuple[int, ...]]) -> str:
        found = _size_of(shapes)
        asked = next((n for n, a in SIZES.items() if a["width"] == arch["width"]), "another size")
        if found and found != asked:
            return f" This looks like the {found} size, the model block asks for {asked}."
        return ""

    return hint


def _size_of(shapes: dict[str, tuple[int, ...]]) -> str | None:
    """The released size whose width and patch a checkpoint has."""
    conv = shapes.get("vision_encoder.conv1.weight", ())
    for name, arch in SIZES.items():
        if conv and (conv[0], conv[-1]) == (arch["width"], arch["patch_size"]):
            return name
    return None
