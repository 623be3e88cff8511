"""VideoMamba (Li et al., 2024): bidirectional Mamba blocks over the patches of all frames.

`build(arch)` has the parameter names of the released files; facts and vectors come from running the
authors' code (OpenGVLab/VideoMamba, video_sm). Sizes: Ti, S, M for video, B for images (`SIZES`).
Tokens are [CLS, frame 0 row by row, frame 1, ...]; only CLS is read at the end, so the last block
computes only that. Precision: parameters stay in float32; bfloat16 and float16 mean autocast, as in
the reference, with residual stream, norms and scan in float32.
"""

import ast
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vireo.errors import VireoError, unknown
from vireo.fetch import receipt
from vireo.media import views
from vireo.nn import build as fresh
from vireo.nn import checkpoint, interpolate, scan
from vireo.nn.clip import DropPath
from vireo.nn.formats import Lazy, loaded
from vireo.nn.mamba import Block, RMSNorm, conv_init, linear_init
from vireo.utils.device import set_precision
from vireo.utils.files import read_json

log = logging.getLogger("vireo")

SIZES: dict[str, dict[str, int]] = {
    "Ti": {"width": 192, "depth": 24},
    "S": {"width": 384, "depth": 24},
    "M": {"width": 576, "depth": 32},
    "B": {"width": 768, "depth": 24},
}
DEFAULTS: dict[str, Any] = {
    "image_size": 224,
    "patch_size": 16,
    "num_frames": 8,
    # parity: the reference's argument defaults to 2, every published script says 1 | 2 would halve
    # the temporal positions | `arch.tubelet: 2`
    "tubelet": 1,
    "image": False,  # the image model: one frame, 2-D patches, no temporal table
    "drop": 0.0,
    "drop_path": 0.1,
    "fc_drop": 0.0,
    "checkpoint_num": 0,
    "scan": "auto",
    "steps": "authors",  # how the scan's step sizes start; "mamba" reaches further from the first
}
STEPS = ("authors", "mamba")
REQUIRED = ("width", "depth", "num_classes")


class PatchEmbed(nn.Module):
    """Non-overlapping patches, or tubelets of frames, by a convolution."""

    def __init__(self, arch: dict[str, Any]) -> None:
        super().__init__()
        patch, width = arch["patch_size"], arch["width"]
        size = (arch["tubelet"], patch, patch)
        self.proj: nn.Conv2d | nn.Conv3d
        if arch["image"]:
            self.proj = nn.Conv2d(3, width, patch, patch)
        else:
            self.proj = nn.Conv3d(3, width, size, size)

    def forward(self, clips: Tensor) -> Tensor:
        """[B,T,3,H,W] -> [B,T',g,d], patches row by row."""
        if isinstance(self.proj, nn.Conv2d):
            x = self.proj(clips.flatten(0, 1)).unflatten(0, clips.shape[:2])
            return x.flatten(3).transpose(2, 3)
        return self.proj(clips.transpose(1, 2)).flatten(3).permute(0, 2, 3, 1)


class Trunk(nn.Module):
    """Embedding and blocks, shared by the classifier and the masked student."""

    def __init__(self, arch: dict[str, Any]) -> None:
        super().__init__()
        scan.check(arch["scan"])
        self.arch = arch
        width, depth = arch["width"], arch["depth"]
        grid = arch["image_size"] // arch["patch_size"]
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.pos_embed = nn.Parameter(torch.empty(1, grid * grid + 1, width))
        if not arch["image"]:
            steps = arch["num_frames"] // arch["tubelet"]
            self.temporal_pos_embedding = nn.Parameter(torch.empty(1, steps, width))
        self.patch_embed = PatchEmbed(arch)
        self.pos_drop = nn.Dropout(arch["drop"])
        rates = np.linspace(0, arch["drop_path"], depth).tolist()
        # parity: one more 0 in front shifts the rates by one block; the last goes to the final sum
        # | drop-path rates lag by one block in training; inference is not touched | none
        self.layers = nn.ModuleList(
            Block(width, rate, arch["scan"]) for rate in [0.0, *rates][:depth]
        )
        self.drop_path = DropPath(arch["drop_path"])

    def embed(self, clips: Tensor) -> Tensor:
        """[B,T,3,H,W] -> tokens [B,1+T'*g,d] with all positions added."""
        arch = self.arch
        frames = 1 if arch["image"] else arch["num_frames"]
        size = (frames, 3, arch["image_size"], arch["image_size"])
        if tuple(clips.shape[1:]) != size:
            raise VireoError(
                f"a clip has shape {list(clips.shape[1:])}, the model wants {list(size)}: "
                "set arch.num_frames and arch.image_size, stored tables are fitted on loading"
            )
        x = self.patch_embed(clips) + self.pos_embed[:, None, 1:]
        if not arch["image"]:
            x = x + self.temporal_pos_embedding.unsqueeze(2)
        cls = (self.cls_token + self.pos_embed[:, :1]).expand(len(x), -1, -1)
        return self.pos_drop(torch.cat([cls.to(x.dtype), x.flatten(1, 2)], dim=1))

    def init_trunk(self, generator: torch.Generator | None = None) -> None:
        """The authors' initialisation of everything here."""
        conv_init(self.patch_embed.proj, generator)
        nn.init.trunc_normal_(self.pos_embed, std=0.02, generator=generator)
        nn.init.zeros_(self.cls_token)
        if not self.arch["image"]:
            nn.init.zeros_(self.temporal_pos_embedding)
        for block in self.layers:
            assert isinstance(block, Block)
            nn.init.ones_(block.norm.weight)
            block.mixer.init_weights(len(self.layers), generator, self.arch["steps"])


class VideoMamba(Trunk):
    """Clips [B,T,3,H,W] -> logits [B,K]."""

    def __init__(self, arch: dict[str, Any]) -> None:
        super().__init__(arch)
        self.norm_f = RMSNorm(arch["width"])
        self.head_drop = nn.Dropout(arch["fc_drop"])
        self.head = nn.Linear(arch["width"], arch["num_classes"])

    def features(self, clips: Tensor) -> Tensor:
        """[B,T,3,H,W] -> the normalised CLS token [B,d], float32."""
        hidden, residual = self.embed(clips), None
        last = len(self.layers) - 1
        for i, block in enumerate(self.layers):
            recompute = i < self.arch["checkpoint_num"]
            hidden, residual = block(hidden, residual, first_only=i == last, recompute=recompute)
        assert residual is not None
        return self.norm_f(residual[:, 0] + self.drop_path(hidden[:, 0]))

    def forward(self, clips: Tensor) -> Tensor:
        """[B,T,3,H,W] -> [B,K]."""
        return self.head(self.head_drop(self.features(clips)))

    def init_weights(self, generator: torch.Generator | None = None) -> None:
        """The authors' initialisation."""
        self.init_trunk(generator)
        nn.init.ones_(self.norm_f.weight)
        linear_init(self.head, generator)


def full_arch(
    arch: dict[str, Any], defaults: dict[str, Any], required: Iterable[str]
) -> dict[str, Any]:
    """`arch` with defaults; VireoError names wrong keys and sizes (see `fresh.arch`)."""
    multiples = {"image_size": "patch_size", "num_frames": "tubelet"}
    full = fresh.arch("a videomamba arch", arch, defaults, required, multiples)
    if full["steps"] not in STEPS:
        raise unknown("start of the steps", full["steps"], STEPS)
    return full


def build(arch: dict[str, Any], generator: torch.Generator | None = None) -> VideoMamba:
    """The classifier of `arch` (`REQUIRED` and `DEFAULTS`), freshly initialised, in train mode.

    See `fresh.model`. VireoError names wrong keys and sizes.
    """
    return fresh.model(VideoMamba, full_arch(arch, DEFAULTS, REQUIRED), generator)


class Transform:
    """Picklable callable `(frames uint8 [T,H,W,3] RGB, view) -> float32 [T,3,size,size]`.

    `view`: `resize: {size}` (short side; the model's size by default), `views: {crops}` and `crop`
    (which of them). Without `views` it is the centre crop of evaluation during training.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], size: int) -> None:
        self.mean, self.std, self.size = tuple(mean), tuple(std), size

    def __call__(self, frames: np.ndarray, view: dict[str, Any] | None = None) -> Tensor:
        """Short side by OpenCV bilinear, crop, normalise."""
        view = view or {}
        short = (view.get("resize") or {}).get("size") or self.size
        crops = (view.get("views") or {}).get("crops")
        small = views.short_side(frames, short)
        if crops is None:
            small = views.centre_crop(small, self.size)
        else:
            small = views.long_side_crop(small, short, crops, view.get("crop", 0))
        return torch.from_numpy(views.normalise(small, self.mean, self.std))


class Model:
    """A `Classifier` on one device; `labels` are the names of the head's rows, if known."""

    def __init__(
        self,
        module: VideoMamba,
        transform: Transform,
        dtype: torch.dtype,
        labels: list[str] | None = None,
    ) -> None:
        self.module = module.eval().requires_grad_(False)
        self.transform, self.dtype, self.labels = transform, dtype, labels

    @torch.inference_mode()
    def classify(self, clips: Tensor) -> Tensor:
        """[B,T,3,H,W] as `transform` makes it -> logits [B,K] float32 (K = 1: regression)."""
        device = self.module.cls_token.device
        clips = clips.to(device, torch.float32)
        half = self.dtype != torch.float32
        with torch.autocast(device.type, self.dtype if half else None, enabled=half):
            return self.module(clips).float()


def load(
    cfg: dict[str, Any],
    weights: str | Path | None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | str = torch.float32,
) -> Model:
    """A model block and a checkpoint file (None: seeded random weights) -> `Model`.

    Tables are fitted to arch.num_frames and image_size, and a 710-row head to 400 classes;
    everything else must match by name and shape, or VireoError says what does not.
    `cfg["label_names"]`, if given, must have one name per head row.
    """
    dtype = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    set_precision(bool(cfg.get("tf32")))
    module = fresh.from_block(build, cfg, weights)
    if weights is None:
        module.to(device)
    else:
        named = fit(read(weights), module)
        checkpoint.load_into(module, named, weights, torch.float32, device, hint(module))
    rows = module.arch["num_classes"]
    names = labels(cfg, weights)
    if names is not None and len(names) != rows:
        raise VireoError(
            f"{len(names)} class names for a head of {rows} rows: the labels of the model block "
            "belong to another head"
        )
    size = cfg.get("size") or module.arch["image_size"]
    return Model(module, Transform(cfg["mean"], cfg["std"], size), dtype, names)


def labels(cfg: dict[str, Any], weights: str | Path | None) -> list[str] | None:
    """Names of the head's rows, None when nothing tells them (and for regression).

    From `options.labels` (a list; a number stands for that many numbered classes), the file
    `files.labels` (one name a line, or a dictionary of names and rows), or the metadata of weights
    trained here.
    """
    given = (cfg.get("options") or {}).get("labels")
    if given is not None:
        return [str(name) for name in (range(given) if isinstance(given, int) else given)]
    path = receipt.named(cfg, "labels")
    if path is None:
        return checkpoint.labels(weights) if weights is not None else None
    if path.suffix not in (".json", ".py"):
        return path.read_text(encoding="utf-8").splitlines()
    if path.suffix == ".json":
        told = read_json(path, "class names")
    else:  # the authors' list is a Python file with one dictionary
        told = ast.literal_eval(path.read_text(encoding="utf-8").partition("=")[2].strip())
    pairs = [(str(key), str(value)) for key, value in told.items()]
    if not all(key.isdigit() for key, _ in pairs):
        pairs = [(value, key) for key, value in pairs]
    named = {int(number): name for number, name in pairs if number.isdigit()}
    if sorted(named) != list(range(len(pairs))):
        raise VireoError(f"{path}: its numbers are not 0 to {len(pairs) - 1}, each once")
    return [named[row] for row in range(len(pairs))]


def read(path: str | Path) -> dict[str, Lazy | Tensor]:
    """Tensors of a file in any released wrapping: `model`, `module`, flat; encoder prefixes off."""
    named: dict[str, Lazy | Tensor] = {}
    for name, value in checkpoint.tensors(path).items():
        for prefix in ("backbone.", "encoder."):
            name = name.removeprefix(prefix)
        named[name] = value
    return named


def fit(
    named: dict[str, Lazy | Tensor],
    module: Trunk,
    *,
    centre: bool = True,
    head_rows: Sequence[int] | None = None,
) -> dict[str, Lazy | Tensor]:
    """Everything the reference changes in a checkpoint while loading; other differences are kept.

    2-D patches become 3-D (`centre`: in the middle slice, else spread evenly), the position table
    is resampled in space (bicubic), the temporal one in time (linear), and the head of K710 keeps
    `head_rows`, for 400 classes its first 400.
    """
    named = dict(named)
    wanted = {name: tuple(value.shape) for name, value in module.state_dict().items()}

    def change(name: str, make: Any) -> None:
        named[name] = make(loaded(named[name]))

    def differs(name: str, same: Iterable[int]) -> bool:
        """Both have it, with another shape, but equal along the axes `same`."""
        if name not in named or name not in wanted:
            return False
        have, want = tuple(named[name].shape), wanted[name]
        return have != want and len(have) == len(want) and all(have[i] == want[i] for i in same)

    patch = "patch_embed.proj.weight"
    if patch in named and len(named[patch].shape) == 4 and len(wanted[patch]) == 5:
        change(patch, lambda x: interpolate.inflate_2d(x, wanted[patch][2], centre))
    if differs("pos_embed", (0, 2)):
        rows = wanted["pos_embed"][1]
        change("pos_embed", lambda x: interpolate.resize_spatial(x[0], rows)[None])
    temporal = "temporal_pos_embedding"
    if differs(temporal, (0, 2)):
        change(temporal, lambda x: resample(x, wanted[temporal][1]))
    keep = head_rows
    if keep is None and wanted.get("head.bias") == (400,) and _rows(named) == 710:
        # parity: K710's first 400 classes are K400's | the head keeps its first 400 rows |
        # `head_rows`
        keep = range(400)
    if keep is not None:
        if len(keep) != module.arch["num_classes"] or max(keep) >= _rows(named):
            raise VireoError(
                f"head_rows picks {len(keep)} of {_rows(named)} rows for a head of "
                f"{module.arch['num_classes']} classes"
            )
        index = torch.as_tensor(list(keep))
        for name in ("head.weight", "head.bias"):
            change(name, lambda x: x[index])
    return named


def _rows(named: dict[str, Lazy | Tensor]) -> int:
    return named["head.bias"].shape[0] if "head.bias" in named else 0


def resample(table: Tensor, count: int) -> Tensor:
    """[1,T,d] -> [1,count,d], linear along time (up or down), ends aligned by pixel edges."""
    return interpolate.linear(table, count).to(table.dtype)


@dataclass(frozen=True)
class Start:
    """What a training run takes from a file: `drop` is left in it, `fresh` keeps its own start."""

    drop: tuple[str, ...] = ()
    fresh: tuple[str, ...] = ()


# Names are prefixes. Everything not listed must fit.
STARTS: dict[str, Start] = {
    "same": Start(),
    "new_head": Start(("head.",), ("head.",)),
    "image": Start(("head.",), ("head.", "temporal_pos_embedding")),
    "pretrain": Start(("norm.", "clip_decoder."), ("norm_f.", "head.")),
    # parity: the Breakfast and COIN Ti scripts load a 32-frame table into a 64-frame model and so
    # leave it at zero | temporal positions start at zero there | `model.start: new_head`
    "new_head_and_time": Start(
        ("head.", "temporal_pos_embedding"), ("head.", "temporal_pos_embedding")
    ),
}


def start_from(
    module: VideoMamba,
    weights: str | Path,
    start: str,
    *,
    centre: bool = True,
    head_rows: Sequence[int] | None = None,
) -> list[str]:
    """Load a file into an initialised model for training, by the rule `STARTS[start]`.

    Returns the parameters that keep their own start. VireoError lists every other difference.
    """
    if start not in STARTS:
        raise unknown("start of a videomamba recipe", start, STARTS)
    rule = STARTS[start]
    named = {k: v for k, v in read(weights).items() if not k.startswith(rule.drop or ("\0",))}
    named = fit(named, module, centre=centre, head_rows=head_rows)
    own = module.state_dict()
    kept = [name for name in own if name.startswith(rule.fresh or ("\0",)) and name not in named]
    device = module.cls_token.device
    full = {**named, **{name: own[name].clone() for name in kept}}
    checkpoint.load_into(module, full, weights, torch.float32, device, hint(module))
    log.info("%s: kept from the start: %s", weights, ", ".join(kept) or "nothing")
    return kept


def hint(module: Trunk) -> Any:
    """A guess for `load_into`'s message: which released size a checkpoint is of."""

    def guess(shapes: dict[str, tuple[int, ...]]) -> str:
        width = shapes.get("cls_token", (0,))[-1]
        depth = 1 + max(
            (int(n.split(".")[1]) for n in shapes if n.startswith("layers.")), default=-1
        )
        found = next(
            (n for n, s in SIZES.items() if (s["width"], s["depth"]) == (width, depth)), ""
        )
        asked = (module.arch["width"], module.arch["depth"])
        if found and (width, depth) != asked:
            return f" This looks like VideoMamba-{found} (width {width}, depth {depth})."
        return ""

    return guess
