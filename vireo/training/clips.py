"""Clips of listed videos as samples: frame rule, reading, cache.

A video that cannot be read is replaced, with its caption, by another pair; it is reported under
`failures`.
"""

import time
from pathlib import Path
from typing import Any

import numpy as np

from vireo.media import sampling
from vireo.media.decode import DecodeRequest, decode_one
from vireo.media.pool import decode
from vireo.training.lists import Pair, Pairs
from vireo.training.loader import working_on
from vireo.training.resample import ResamplingDataset
from vireo.utils import files
from vireo.utils.cli import log

Part = tuple[str, float | None, float | None]  # path, start, end


class Clips(ResamplingDataset):
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
        super().__init__(seed)
        self.corpora, self.rule, self.limits = corpora, rule, limits
        self.joint_ids = joint_ids
        self.starts = np.cumsum([0, *(len(pairs) for pairs, _ in corpora)]).tolist()
        self.cached: dict[Part, tuple[np.ndarray | None, str]] = {}
        if cache:
            self.cached = self._decode_all()

    def __len__(self) -> int:
        return self.starts[-1]

    def pair(self, index: int) -> tuple[Pair, Path, int]:
        """Pair `index` over all corpora, the path of its video, and its id in the loss."""
        which = int(np.searchsorted(self.starts, index, "right")) - 1
        pairs, root = self.corpora[which]
        pair = pairs[index - self.starts[which]]
        # parity: ids are numbers within a corpus, so two corpora share them; `joint` ids differ |
        # pairs of two corpora count as the same video in the loss | `data.ids: joint`
        number = index if self.joint_ids else pair.number
        return pair, files.inside(root, pair.video), number

    def read(self, epoch: int, index: int) -> tuple[np.ndarray, Pair, int, list[dict[str, Any]]]:
        """uint8 RGB frames [T,H,W,3], their pair and its id, and the `failures` on the way."""

        def one(now: int) -> tuple[tuple[np.ndarray, Pair, int] | None, str, str]:
            pair, path, number = self.pair(now)
            frames, error = self._frames(pair, path, epoch, now)
            return None if frames is None else (frames, pair, number), pair.video, error

        found, failed = self.read_or_replace(one, epoch, index)
        return *found, failed

    def _rule(self, epoch: int, index: int) -> dict[str, Any]:
        if self.rule.get("rule") not in sampling.RANDOM:
            return self.rule
        return {**self.rule, "seed": self.seed, "epoch": epoch, "index": index}

    def _frames(
        self, pair: Pair, path: Path, epoch: int, index: int
    ) -> tuple[np.ndarray | None, str]:
        rule = self._rule(epoch, index)
        if str(path) in self.quarantined:
            return None, self.quarantined[str(path)]
        if not self.cached:
            request = DecodeRequest(
                path.name, str(path), pair.kind, rule, start=pair.start, end=pair.end
            )
            with working_on(str(path)):
                sample = decode_one(request, self.limits["max_pixels"])
            return sample.frames, sample.error or ""
        whole, error = self.cached[_part(pair, path)]
        if whole is None:
            return None, error
        return whole[sampling.pick(rule, len(whole), 1.0).indices], ""

    def _decode_all(self) -> dict[Part, tuple[np.ndarray | None, str]]:
        """Decode every video, or part of one, whole; for small sets."""
        began = time.monotonic()
        asked = {}
        for index in range(len(self)):
            pair, path, _ = self.pair(index)
            asked[_part(pair, path)] = pair.kind
        kept: dict[Part, tuple[np.ndarray | None, str]] = {}
        rule = {"rule": "every", "reader": self.rule.get("reader")}
        requests = (
            DecodeRequest(p, p, kind, rule, start=a, end=b) for (p, a, b), kind in asked.items()
        )
        for sample in decode(requests, self.limits):
            request = sample.request
            assert request is not None
            key = request.video, request.start, request.end
            kept[key] = sample.frames, sample.error or ""
        size = sum(frames.nbytes for frames, _ in kept.values() if frames is not None)
        log.info(
            "%d training videos decoded in %.1f s, %.0f MB in memory",
            len(kept),
            time.monotonic() - began,
            size / 1e6,
        )
        return kept


class OfClips:
    """Samples made of clips; a subclass has `sample`."""

    def __init__(self, clips: Clips) -> None:
        self.clips = clips

    def __len__(self) -> int:
        return len(self.clips)

    def exclude(self, file: str, error: str) -> None:
        """Count a video as unreadable."""
        self.clips.exclude(file, error)


def _part(pair: Pair, path: Path) -> Part:
    return str(path), pair.start, pair.end
