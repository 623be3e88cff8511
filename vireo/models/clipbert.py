"""ClipBERT (Lei et al., CVPR 2021) as SQA3D trains it: grid features of sparse frames, then BERT.

`build(arch)` has the parameter names of the released checkpoint `clipbert.pt`; facts and vectors
come from running the authors' code (docs/reference/clipbert.md section 3). The whole model runs
in the dtype it is loaded in; logits are combined in float32.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vireo.errors import VireoError, unknown
from vireo.fetch import receipt
from vireo.nn import answers, checkpoint
from vireo.nn import build as fresh
from vireo.nn.resnet_grid import ResNet
from vireo.utils.device import set_precision

BASE: dict[str, Any] = {
    "hidden_size": 768, "layers": 12, "heads": 12, "intermediate_size": 3072,
    "vocab_size": 30522, "positions": 512, "token_types": 2, "rows": 100, "columns": 100,
    "stem": 64, "res2": 256, "width": 64, "blocks": [3, 4, 6, 3], "labels": 1500,
    "dropout": 0.1, "init_range": 0.02, "blind": False,
}  # fmt: skip
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
AGGREGATIONS = ("lse", "mean", "max")


class Feature(nn.Module):
    """The backbone, under the name that the detector around it gave it."""

    def __init__(self, arch: dict[str, Any]) -> None:
        super().__init__()
        self.backbone = ResNet(arch["stem"], arch["res2"], arch["width"], arch["blocks"])


class GridFeatures(nn.Module):
    """Pictures -> grid of hidden vectors (the authors' `cnn`)."""

    def __init__(self, arch: dict[str, Any]) -> None:
        super().__init__()
        self.feature = Feature(arch)
        self.grid_encoder = nn.Sequential(
            nn.Conv2d(
                self.feature.backbone.channels, arch["hidden_size"], 3, padding=1, bias=False
            ),
            nn.MaxPool2d(2, 2),
            nn.ReLU(),
        )

    def forward(self, x: Tensor) -> Tensor:
        """RGB [B,3,H,W], mean subtracted, 0..255 scale -> [B,H/64,W/64,C]."""
        # parity: the backbone came from Caffe, which reads BGR
        grid = self.grid_encoder(self.feature.backbone(x.flip(1)))
        return grid.permute(0, 2, 3, 1)


class TextEmbeddings(nn.Module):
    """Words, their positions, and segment 0."""

    def __init__(self, arch: dict[str, Any]) -> None:
        super().__init__()
        width = arch["hidden_size"]
        self.word_embeddings = nn.Embedding(arch["vocab_size"], width, padding_idx=0)
        self.position_embeddings = nn.Embedding(arch["positions"], width)
        self.token_type_embeddings = nn.Embedding(arch["token_types"], width)
        self.LayerNorm = nn.LayerNorm(width, eps=1e-12)
        self.dropout = nn.Dropout(arch["dropout"])

    def forward(self, ids: Tensor) -> Tensor:
        """Token ids [N,L] -> [N,L,C]."""
        places = torch.arange(ids.shape[1], device=ids.device)
        x = self.word_embeddings(ids) + self.token_type_embeddings.weight[0]
        return self.dropout(self.LayerNorm(x + self.position_embeddings(places)))


class VisualEmbeddings(nn.Module):
    """Grid cells, their row and column, and a type of their own."""

    def __init__(self, arch: dict[str, Any]) -> None:
        super().__init__()
        width = arch["hidden_size"]
        # parity: a table of positions is in the files and never used
        self.position_embeddings = nn.Embedding(arch["positions"], width)
        self.row_position_embeddings = nn.Embedding(arch["rows"], width)
        self.col_position_embeddings = nn.Embedding(arch["columns"], width)
        self.token_type_embeddings = nn.Embedding(1, width)
        self.LayerNorm = nn.LayerNorm(width, eps=1e-12)
        self.dropout = nn.Dropout(arch["dropout"])

    def forward(self, grid: Tensor) -> Tensor:
        """Grid [N,h,w,C] -> tokens [N,h*w,C], row by row."""
        rows, columns = grid.shape[1:3]
        x = grid + self.row_position_embeddings.weight[:rows, None]
        x = x + self.col_position_embeddings.weight[:columns]
        x = x.flatten(1, 2) + self.token_type_embeddings.weight[0]
        return self.dropout(self.LayerNorm(x))


class Bert(nn.Module):
    """Text and grid tokens through one BERT encoder (blocks of `transformers`)."""

    def __init__(self, arch: dict[str, Any]) -> None:
        super().__init__()
        from transformers import BertConfig
        from transformers.models.bert.modeling_bert import BertEncoder, BertPooler

        config = BertConfig(
            vocab_size=arch["vocab_size"],
            hidden_size=arch["hidden_size"],
            num_hidden_layers=arch["layers"],
            num_attention_heads=arch["heads"],
            intermediate_size=arch["intermediate_size"],
            hidden_act="gelu",
            hidden_dropout_prob=arch["dropout"],
            attention_probs_dropout_prob=arch["dropout"],
            layer_norm_eps=1e-12,
            attn_implementation="sdpa",  # type: ignore[call-arg]
        )
        self.embeddings = TextEmbeddings(arch)
        self.visual_embeddings = VisualEmbeddings(arch)
        self.encoder = BertEncoder(config)
        self.pooler = BertPooler(config)

    def forward(self, ids: Tensor, mask: Tensor, grid: Tensor) -> Tensor:
        """ids, mask [N,L] and grid [N,h,w,C] -> encoded tokens [N,L+h*w,C], text first."""
        visual = self.visual_embeddings(grid)
        x = torch.cat([self.embeddings(ids), visual], dim=1)
        seen = torch.cat([mask, mask.new_ones(visual.shape[:2])], dim=1)
        # parity: padding gets -10000 added to its attention, not minus infinity
        bias = (1.0 - seen.to(x.dtype))[:, None, None] * -10000.0
        bias = bias.expand(-1, 1, x.shape[1], -1)
        return self.encoder(x, attention_mask=bias).last_hidden_state


class Transformer(nn.Module):
    """BERT and the answer classifier (the authors' `transformer`)."""

    def __init__(self, arch: dict[str, Any]) -> None:
        super().__init__()
        width = arch["hidden_size"]
        self.bert = Bert(arch)
        self.dropout = nn.Dropout(arch["dropout"])
        self.classifier = nn.Sequential(
            nn.Linear(width, 2 * width), nn.ReLU(), nn.Linear(2 * width, arch["labels"])
        )

    def forward(self, ids: Tensor, mask: Tensor, grid: Tensor) -> Tensor:
        """ids, mask [N,L] and grid [N,h,w,C] -> logits [N,labels]."""
        pooled = self.bert.pooler(self.bert(ids, mask, grid))
        return self.classifier(self.dropout(pooled))


class ClipBERT(nn.Module):
    """Frames and questions -> logits over the answer dictionary, per clip."""

    def __init__(self, arch: dict[str, Any]) -> None:
        super().__init__()
        self.arch = arch
        self.cnn = GridFeatures(arch)
        self.transformer = Transformer(arch)

    def encode(self, clips: Tensor) -> Tensor:
        """Clips [B,n,T,3,H,W] -> grids [B,n,h,w,C]: the mean over a clip's frames."""
        if self.arch["blind"]:  # the baseline that sees nothing: one empty cell per clip
            return clips.new_zeros(*clips.shape[:2], 1, 1, self.arch["hidden_size"])
        # parity: no position in time; a clip is the mean of its frames
        grids = self.cnn(clips.flatten(0, 2))
        return grids.unflatten(0, clips.shape[:3]).mean(2)

    def forward(self, ids: Tensor, mask: Tensor, grids: Tensor) -> Tensor:
        """ids, mask [N,L] and grids [N,n,h,w,C] (one set per question) -> logits [N,n,labels]."""
        count = grids.shape[1]
        ids, mask = (t.repeat_interleave(count, 0) for t in (ids, mask))
        return self.transformer(ids, mask, grids.flatten(0, 1)).unflatten(0, (-1, count))

    def init_weights(self, generator: torch.Generator | None = None) -> None:
        """BERT's initialisation (normal, zero biases) and He's for the convolutions."""
        spread = self.arch["init_range"]
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                fan_out = module.out_channels * module.kernel_size[0] ** 2
                nn.init.normal_(module.weight, std=(2 / fan_out) ** 0.5, generator=generator)
            elif isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=spread, generator=generator)
                if isinstance(module, nn.Linear):
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.LayerNorm):
                module.reset_parameters()
        for name, buffer in self.named_buffers():
            nn.init.constant_(buffer, float(name.endswith((".weight", ".running_var"))))

    def freeze(self, stages: Iterable[str] = ("stem", "res2")) -> None:
        """Leave the named stages of the backbone as they are; all norms are frozen anyway."""
        for stage in stages:
            self.cnn.feature.backbone.get_submodule(stage).requires_grad_(False)


def aggregate(logits: Tensor, how: str = "lse") -> Tensor:
    """Logits [N,n,V] of n clips -> [N,V] float32: log-sum-exp, mean or maximum over clips."""
    logits = logits.float()
    if how == "lse":
        return logits.logsumexp(1)
    if how == "mean":
        return logits.mean(1)
    if how == "max":
        return logits.amax(1)
    raise unknown("aggregation of clips", how, AGGREGATIONS)


def loss(logits: Tensor, labels: Tensor, how: str = "lse") -> Tensor:
    """Logits [N,n,V] and label ids [N] -> loss per question [N], float32.

    `lse`: logsumexp over clips and labels minus logsumexp over clips of the right label; otherwise
    the cross entropy of the aggregated logits.
    """
    logits = logits.float()
    if how == "lse":
        right = logits.gather(2, labels[:, None, None].expand(-1, logits.shape[1], 1))
        return logits.flatten(1).logsumexp(1) - right.flatten(1).logsumexp(1)
    return F.cross_entropy(aggregate(logits, how), labels, reduction="none")


def build(arch: dict[str, Any], generator: torch.Generator | None = None) -> ClipBERT:
    """The model of `arch` (keys and defaults as in `BASE`), freshly initialised, in train mode.

    See `fresh.model`. VireoError names wrong keys and sizes.
    """
    full = fresh.arch("a clipbert arch", arch, BASE, multiples={"hidden_size": "heads"})
    return fresh.model(ClipBERT, full, generator)


class Tokenizer:
    """BERT's WordPiece from a vocabulary file; callable on strings, counts the texts it cut."""

    def __init__(self, vocab: str | Path) -> None:
        from transformers import BertTokenizer

        words = Path(vocab).read_text(encoding="utf-8").splitlines()
        missing = [w for w in ("[PAD]", "[UNK]", "[CLS]", "[SEP]") if w not in words]
        if missing or words[0] != "[PAD]":
            raise VireoError(f"{vocab} is no BERT vocabulary (one word a line, [PAD] first)")
        self.size, self.truncated = len(words), 0
        self._tokenizer = BertTokenizer(vocab=str(vocab), do_lower_case=True)

    def __call__(self, texts: Sequence[str], length: int) -> tuple[Tensor, Tensor]:
        """N texts -> ids and mask, int64 [N,length]: [CLS] text [SEP], cut and padded."""
        whole = self._tokenizer(list(texts), add_special_tokens=True)["input_ids"]
        self.truncated += sum(len(ids) > length for ids in whole)
        end = self._tokenizer.sep_token_id
        ids = torch.zeros(len(texts), length, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, (seen, words) in enumerate(zip(mask, whole, strict=True)):
            words = words if len(words) <= length else [*words[: length - 1], end]
            ids[row, : len(words)] = torch.tensor(words)
            seen[: len(words)] = 1
        return ids, mask


class Transform:
    """uint8 frames -> resized, padded, mean-free frames; runs in loader workers."""

    def __init__(self, mean: Sequence[float], std: Sequence[float], size: int) -> None:
        shape = (1, 3, 1, 1)
        self.mean = (torch.tensor(mean, dtype=torch.float64) * 255).float().view(shape)
        self.std = (torch.tensor(std, dtype=torch.float64) * 255).float().view(shape)
        self.size = size

    def __call__(self, frames: np.ndarray, view: dict[str, Any] | None = None) -> Tensor:
        """uint8 RGB [T,H,W,3] -> float32 [T,3,size,size]."""
        x = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float()
        return self.normalise(self.fit(x))

    def fit(self, x: Tensor) -> Tensor:
        """[T,3,H,W] -> [T,3,size,size]: longer side to `size`, zeros right and below."""
        height, width = x.shape[-2:]
        size = self.size
        target = (
            (size, int(size * width / height))
            if height >= width
            else (int(size * height / width), size)
        )
        x = F.interpolate(x, size=target, mode="bilinear", align_corners=False)
        # parity: padding is 0 before the mean is subtracted, so it ends as minus the mean
        return F.pad(x, (0, size - target[1], 0, size - target[0]))

    def normalise(self, x: Tensor) -> Tensor:
        """Subtract the mean, divide by the deviation (1 in the released recipe)."""
        return (x - self.mean.to(x.device)) / self.std.to(x.device)


class Model:
    """An `Answerer` on one device, in one dtype, without gradients."""

    def __init__(
        self, module: ClipBERT, transform: Transform, tokenizer: Tokenizer, answers: list[str]
    ) -> None:
        self.module, self.answers = module.eval().requires_grad_(False), answers
        self.transform, self.tokenizer = transform, tokenizer
        self._like: Tensor = module.transformer.bert.pooler.dense.weight

    @torch.inference_mode()
    def encode(self, clips: Tensor) -> Tensor:
        """[B,n,T,3,H,W] as `transform` makes frames -> features [B,n,h,w,C]."""
        return self.module.encode(clips.to(self._like.device, self._like.dtype))

    @torch.inference_mode()
    def answer(
        self, features: Tensor, scene_index: Sequence[int], questions: Sequence[str], length: int
    ) -> Tensor:
        """Features [B,n,h,w,C], the row of each question, Q texts -> logits [Q,n,V] float32.

        `length`: longest text in tokens; shorter texts are not padded up to it, which changes no
        number, because padding is masked.
        """
        device = self._like.device
        ids, mask = self.tokenizer(questions, length)
        longest = int(mask.sum(1).max())
        rows = torch.as_tensor(scene_index, device=features.device)
        logits = self.module(
            ids[:, :longest].to(device), mask[:, :longest].to(device), features[rows]
        )
        return logits.float()

    aggregate = staticmethod(aggregate)


def load(
    cfg: dict[str, Any],
    weights: str | Path | None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | str = torch.float32,
) -> Model:
    """A model block and a checkpoint (None: seeded random weights) -> `Model`.

    Keys must match one for one, apart from those in `IGNORED`. The vocabulary and the answer
    dictionary come from the block (see `beside`).
    """
    dtype = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    set_precision(bool(cfg.get("tf32")))
    module = fresh.from_block(build, cfg, weights)
    if weights is None:
        module.to(device, dtype)
    else:
        checkpoint.load_into(module, released(weights), weights, dtype, device)
    tokenizer = Tokenizer(aux_file(cfg, "vocab"))
    if tokenizer.size > module.arch["vocab_size"]:
        raise VireoError(
            f"the vocabulary has {tokenizer.size} words, arch.vocab_size is "
            f"{module.arch['vocab_size']}"
        )
    listed = aux_file(cfg, "answers")
    names = answers.read(listed)
    if len(names) > module.arch["labels"]:
        raise VireoError(
            f"{listed} has {len(names)} answers, the head {module.arch['labels']} "
            "rows: it belongs to another head"
        )
    transform = Transform(cfg["mean"], cfg["std"], cfg.get("size", 448))
    return Model(module, transform, tokenizer, names)


def aux_file(cfg: dict[str, Any], role: str) -> Path:
    """The vocabulary (`vocab`) or answer dictionary (`answers`) of a model or recipe block.

    A path under the role's name, or `files: {role: {artifact, file}}`.
    """
    path = Path(cfg[role]) if role in cfg else receipt.named(cfg, role)
    if path is None:
        raise VireoError(f"a clipbert block needs `files: {{{role}: {{artifact: NAME}}}}`")
    return path


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
