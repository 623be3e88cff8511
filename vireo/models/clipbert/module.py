"""ClipBERT (Lei et al., CVPR 2021) as SQA3D trains it: grid features of sparse frames, then BERT.

`build(arch)` has the parameter names of the released checkpoint `clipbert.pt`; facts and vectors
come from running the authors' code (docs/reference/clipbert.md section 3). The whole model runs
in the dtype it is loaded in; logits are combined in float32.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vireo.errors import unknown
from vireo.nn import build as fresh
from vireo.nn.resnet_grid import ResNet

BASE: dict[str, Any] = {
    "hidden_size": 768, "layers": 12, "heads": 12, "intermediate_size": 3072,
    "vocab_size": 30522, "positions": 512, "token_types": 2, "rows": 100, "columns": 100,
    "stem": 64, "res2": 256, "width": 64, "blocks": [3, 4, 6, 3], "labels": 1500,
    "dropout": 0.1, "init_range": 0.02, "blind": False,
}  # fmt: skip
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
        # parity: the backbone came from Caffe, which reads BGR | channels are flipped before the
        # backbone | none
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
        # parity: a table of positions is in the files and never used | none; the key must be there
        # to load strictly | none
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
        # parity: padding gets -10000 added to its attention, not minus infinity | logits in the
        # last digits | none
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
        # parity: no position in time; a clip is the mean of its frames | the order of a clip's
        # frames does not matter | none
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
