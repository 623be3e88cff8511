"""Which patches a masked student sees: masks of VideoMamba's pre-training.

All random numbers of a step are drawn for its whole batch on the CPU, so a mask does not depend on
processes and micro-batches. Facts: VideoMamba's masking_generator and pre-training engine.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from vireo.errors import VireoError, unknown


def attention(importance: Tensor, ratio: float, noise: Tensor) -> Tensor:
    """Weights [B,T,g] and exponential noise of that shape -> mask [B,T,g], True = masked.

    Each frame keeps `g - int(ratio*g)` patches, drawn one after another without putting back with
    chances in proportion to their weights; weight / noise in falling order is such a draw.
    """
    patches = importance.shape[-1]
    order = (importance.float().clamp_min(1e-30) / noise).argsort(-1, descending=True)
    mask = torch.ones_like(importance, dtype=torch.bool)
    return mask.scatter_(-1, order[..., : patches - int(ratio * patches)], False)


def _lowest(noise: Tensor, count: int) -> Tensor:
    """True for the `count` lowest numbers of each row."""
    mask = torch.zeros_like(noise, dtype=torch.bool)
    return mask.scatter_(-1, noise.argsort(-1)[..., :count], True)


def tube(frames: int, side: int, ratio: float, noise: Tensor) -> Tensor:
    """The same patches in all frames."""
    return _lowest(noise[:, 0], int(ratio * side * side)).unsqueeze(1).expand(-1, frames, -1)


def random(frames: int, side: int, ratio: float, noise: Tensor) -> Tensor:
    """Patches of the whole clip."""
    patches = frames * side * side
    return _lowest(noise.flatten(1), int(ratio * patches)).unflatten(1, (frames, -1))


def tube_row(frames: int, side: int, ratio: float, noise: Tensor) -> Tensor:
    """`int(ratio * side)` whole rows of each frame."""
    # parity: in spite of its name every frame has rows of its own | masked rows differ from frame
    # to frame | none
    rows = _lowest(noise[..., :side], int(ratio * side))
    return rows.unsqueeze(-1).expand(-1, -1, -1, side).flatten(2)


def random_row(frames: int, side: int, ratio: float, noise: Tensor) -> Tensor:
    """As many rows as `tube_row`, spread over all frames by chance."""
    rows = _lowest(noise[..., :side].flatten(1), frames * int(ratio * side))
    return rows.unflatten(1, (frames, side)).unsqueeze(-1).expand(-1, -1, -1, side).flatten(2)


KINDS: dict[str, Callable[[int, int, float, Tensor], Tensor]] = {
    "tube": tube,
    "random": random,
    "tube_row": tube_row,
    "random_row": random_row,
}


def draw(
    kind: str,
    importance: Tensor,
    ratio: float,
    generator: torch.Generator,
    first: int = 0,
) -> Tensor:
    """Mask [B,1+T*g] of a micro-batch, True = masked, the class token never.

    kind: `attention` or one of `KINDS`. importance [B,T,g]: the teacher's attention (others use its
    shape only). first: number of clips of the step's batch before this micro-batch.
    """
    if kind != "attention" and kind not in KINDS:
        raise unknown("mask", kind, ["attention", *KINDS])
    batch, frames, patches = importance.shape
    side = round(patches**0.5)
    if side * side != patches or not 0 <= ratio < 1:
        raise VireoError(f"mask of {ratio:g} of {patches} patches: needs a square and 0 <= r < 1")
    noise = torch.empty(first + batch, frames, patches).exponential_(generator=generator)
    noise = noise[first:].to(importance.device)
    if kind == "attention":
        mask = attention(importance, ratio, noise)
    else:
        mask = KINDS[kind](frames, side, ratio, noise)
    seen = torch.zeros(batch, 1, dtype=torch.bool, device=mask.device)
    return torch.cat([seen, mask.flatten(1)], 1)
