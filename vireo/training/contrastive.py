"""Video-text contrastive loss with soft targets, over the features of all processes."""

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from vireo.errors import unknown

GATHERS = ("reference", "corrected")


class _Gather(torch.autograd.Function):
    """All processes' rows; backward gives a process its own rows of the gradient, times `scale`."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, scale: float) -> Tensor:
        world, rank = torch.distributed.get_world_size(), torch.distributed.get_rank()
        ctx.place, ctx.scale = (rank * len(rows), len(rows)), scale
        every = [torch.empty_like(rows) for _ in range(world)]
        torch.distributed.all_gather(every, rows.contiguous())
        return torch.cat(every)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0].narrow(0, *ctx.place) * ctx.scale, None


def gather(rows: Tensor, way: str = "reference") -> Tensor:
    """Rows of all processes [sum of B,...]; the same tensor when there is one process.

    Averaging gradients over W processes then divides what flows back through the rows by W:
    "reference" leaves it so, "corrected" multiplies by W, which gives one process's gradients.
    """
    if way not in GATHERS:
        raise unknown("way to gather", way, GATHERS)
    if not torch.distributed.is_initialized() or torch.distributed.get_world_size() == 1:
        return rows
    # parity: encoder gradients are 1/W of a single process's, those of the temperature are not |
    # with W processes the encoders learn W times slower than the temperature; Adam hides most of it
    # | `model.gather: corrected`
    scale = 1.0 if way == "reference" else float(torch.distributed.get_world_size())
    return _Gather.apply(rows, scale)


def targets(ids: Tensor | None, count: int, device: torch.device) -> Tensor:
    """[N,N] rows that share their mass between equal ids; the identity without ids."""
    if ids is None:
        return torch.eye(count, device=device)
    same = (ids[:, None] == ids[None, :]).float()
    return same / same.sum(1, keepdim=True)


def loss(
    video: Tensor, text: Tensor, temp: Tensor, ids: Tensor | None = None, way: str = "reference"
) -> tuple[Tensor, Tensor]:
    """Raw features [B,D] of both towers -> scalar loss, and similarities [N,N] of all processes.

    `temp` divides the cosines; `ids` [B] says which pairs show the same video.
    """
    video = gather(F.normalize(video, dim=-1), way)
    text = gather(F.normalize(text, dim=-1), way)
    sims = video @ text.T / temp
    wanted = targets(None if ids is None else gather(ids), len(sims), sims.device)
    both = F.cross_entropy(sims, wanted) + F.cross_entropy(sims.T, wanted)
    return both / 2, sims
