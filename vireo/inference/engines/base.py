"""What every engine takes and gives: decoded clips in, prediction rows out.

`vireo.inference.runner` owns everything around it: which clips are due, decoding, batches, journal,
statuses. An engine gets whole batches of clips and gives the rows of each.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
from torch import Tensor

Row = dict[str, Any]


LoadItems = Callable[[], pd.DataFrame]  # reads all items, for engines that need them


TEXT_BATCH = 64


@dataclass
class Clip:
    """One decoded stretch of a video with all items that ask about it."""

    items: list[Any]  # rows of the items table (`itertuples`)
    status: str = "ok"
    error: str | None = None
    seconds: float = 0.0  # of decoding
    flags: list[str] = field(default_factory=list)
    frames: list[int] = field(default_factory=list)  # numbers of the frames used, in order
    source: tuple[int, int] | None = None  # size, mtime_ns of the file
    path: str | None = None  # of the file
    pixels: str | None = None  # checksum of the decoded frames
    tensor: Tensor | None = None  # [T,3,H,W]; None unless status is ok
    keep: Path | None = None  # where a streaming model keeps what it makes of the frames


class Engine(Protocol):
    """What the driver needs of an engine."""

    @property
    def truncated(self) -> int:
        """Texts that were cut to the model's context."""
        ...

    def prepare(self, items: pd.DataFrame, load_items: LoadItems, cache: Path) -> None:
        """Do once per process what does not depend on the videos (encode texts).

        items: the pending ones; load_items: reads all of the benchmark; cache: folder of the texts.
        """
        ...

    def transform(self, frames: np.ndarray) -> Tensor:
        """uint8 RGB [T,H,W,3] -> [T,3,H',W']; runs beside the forward passes."""
        ...

    def predict(self, clips: Sequence[Clip]) -> list[list[Row]]:
        """Per clip its rows: `id, view, prediction, scores` (float32 array)."""
        ...
