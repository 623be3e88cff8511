"""Clips of listed videos as samples: frame rule, reading, cache, and the way past broken files.

A video that cannot be read is replaced, with its caption, by another pair drawn from
(seed, epoch, index, try); it is reported under `failures`.
"""

import logging
import time
from pathlib import Path
from typing import Any

import numpy as np

from vireo.errors import VireoError
from vireo.media import sampling
from vireo.media.pool import decode
from vireo.media.sample import Request, take
from vireo.run import files
from vireo.training import seeds
from vireo.training.feed import working_on
from vireo.training.lists import Pair, Pairs

log = logging.getLogger("vireo")
TRIES = 20


class Clips:
    """Pairs of one or several corpora, each with the folder its videos lie in."""

    def __init__(
        self,
        corpora: list[tuple[Pairs, Path]],
        rule: dict[str, Any],
        seed: int,
        limits: dict[str, Any],
        cache: bool = False,
        joint_ids: bool = False,
    ) -> None:
        self.corpora, self.rule, self.seed, self.limits = corpora, rule, seed, limits
        self.joint_ids = joint_ids
        self.deadly: dict[str, str] = {}
        self.starts = np.cumsum([0, *(len(pairs) for pairs, _ in corpora)]).tolist()
        self.cached: dict[str, tuple[np.ndarray | None, str]] = self._decode_all() if cache else {}

    def __len__(self) -> int:
        return self.starts[-1]

    def avoid(self, file: str, error: str) -> None:
        """Count a file as unreadable."""
        self.deadly[file] = error

    def pair(self, index: int) -> tuple[Pair, Path, int]:
        """Pair `index` over all corpora, the path of its video, and its id in the loss."""
        which = int(np.searchsorted(self.starts, index, "right")) - 1
        pairs, root = self.corpora[which]
        pair = pairs[index - self.starts[which]]
        # parity: ids are numbers within a corpus, so two corpora share them; `joint` ids differ
        number = index if self.joint_ids else pair.number
        return pair, files.inside(root, pair.video), number

    def read(self, epoch: int, index: int) -> tuple[np.ndarray, Pair, int, list[dict[str, Any]]]:
        """uint8 RGB frames [T,H,W,3], their pair and its id, and the videos that failed on the way.

        Raises VireoError when `TRIES` pairs in a row cannot be read.
        """
        failed: list[dict[str, Any]] = []
        now = index
        for attempt in range(1, TRIES + 1):
            pair, path, number = self.pair(now)
            frames, error = self._frames(path, epoch, now)
            if frames is not None:
                return frames, pair, number, failed
            failed.append({"video": pair.video, "error": error})
            rng = seeds.numpy_generator(self.seed, "again", epoch, index, attempt)
            now = int(rng.integers(len(self)))
        raise VireoError(
            f"{TRIES} training videos in a row cannot be read; the last: {failed[-1]['error']}"
        )

    def _rule(self, epoch: int, index: int) -> dict[str, Any]:
        if self.rule.get("rule") not in sampling.RANDOM:
            return self.rule
        return {**self.rule, "seed": self.seed, "epoch": epoch, "index": index}

    def _frames(self, path: Path, epoch: int, index: int) -> tuple[np.ndarray | None, str]:
        rule = self._rule(epoch, index)
        if str(path) in self.deadly:
            return None, self.deadly[str(path)]
        if not self.cached:
            with working_on(str(path)):
                sample = take(Request(path.name, str(path), rule=rule), self.limits["max_pixels"])
            return sample.frames, sample.error or ""
        whole, error = self.cached[str(path)]
        if whole is None:
            return None, error
        return whole[sampling.pick(rule, len(whole), 1.0).indices], ""

    def _decode_all(self) -> dict[str, tuple[np.ndarray | None, str]]:
        """Decode every video whole; for small sets."""
        began = time.monotonic()
        paths = sorted({str(self.pair(i)[1]) for i in range(len(self))})
        kept: dict[str, tuple[np.ndarray | None, str]] = {}
        requests = (Request(path, path, rule={"rule": "every"}) for path in paths)
        for sample in decode(requests, self.limits):
            kept[sample.video] = sample.frames, sample.error or ""
        size = sum(frames.nbytes for frames, _ in kept.values() if frames is not None)
        log.info(
            "%d training videos decoded in %.1f s, %.0f MB in memory",
            len(kept),
            time.monotonic() - began,
            size / 1e6,
        )
        return kept
