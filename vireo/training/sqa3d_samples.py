"""ClipBERT's data: questions on scenes with random clips in training, inference's in validation.

Training reads a video where its sample is made (a loader worker); validation has all scenes read by
supervised processes (vireo/media/pool.py).
"""

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from vireo.errors import VireoError
from vireo.media import clips as sparse
from vireo.media.decode import DecodeRequest, opened
from vireo.media.pool import decode
from vireo.training import seeds
from vireo.training.loader import working_on
from vireo.training.resample import ResamplingDataset
from vireo.utils.cli import log


class Questions(Protocol):
    """What a task says of its data."""

    seed: int
    more: int  # further questions a sample
    data: dict[str, Any]
    limits: dict[str, Any]
    labels: dict[str, int]

    def tables(self, split: str) -> tuple[list[Any], dict[str, DecodeRequest]]:
        """Questions of a split, and how each scene's video is read."""
        ...


class Samples(ResamplingDataset):
    """Training questions with random clips of their scenes."""

    def __init__(self, task: Questions) -> None:
        super().__init__(task.seed)
        self.task = task
        self.table, self.videos = task.tables("train")
        self.by_scene: dict[str, list[int]] = {}
        for index, item in enumerate(self.table):
            self.by_scene.setdefault(item.video, []).append(index)
        self.decoded: dict[str, tuple[np.ndarray, float]] = {}

    def __len__(self) -> int:
        return len(self.table)

    def sample(self, epoch: int, index: int) -> dict[str, Any]:
        """uint8 `frames` [n*T,H,W,3], `texts`, `labels`, `scene`, and the `failures` met."""

        def one(now: int) -> tuple[tuple[Any, np.ndarray] | None, str, str]:
            item = self.table[now]
            try:
                return (item, self._frames(item.video, epoch, index)), item.video, ""
            except VireoError as error:
                return None, item.video, str(error)

        (item, frames), failed = self.read_or_replace(one, epoch, index)
        asked = [item, *self._others(item.video, epoch, index)]
        return {
            "frames": frames,
            "texts": [each.question for each in asked],
            "labels": [self.task.labels.get(each.answer, -1) for each in asked],
            "scene": item.video,
            "failures": failed,
        }

    def _others(self, scene: str, epoch: int, index: int) -> list[Any]:
        """Further questions on the same scene, which share its pictures."""
        rng = seeds.numpy_generator(self.seed, "questions", epoch, index)
        own = self.by_scene[scene]
        return [self.table[own[k]] for k in rng.integers(len(own), size=self.task.more)]

    def _frames(self, scene: str, epoch: int, index: int) -> np.ndarray:
        if scene in self.quarantined:
            raise VireoError(self.quarantined[scene])
        request = self.videos[scene]
        if request.path is None:
            raise VireoError(f"no video of {scene}")
        if scene in self.decoded:
            whole, fps = self.decoded[scene]
            return whole[self._numbers(len(whole), fps, epoch, index)]
        with working_on(scene), opened(request, self.task.limits["max_pixels"]) as video:
            count = video.index.F
            if self.task.data["cache_decoded"]:
                self.decoded[scene] = np.stack(video.read(range(count)).frames), video.index.fps
                return self._frames(scene, epoch, index)
            numbers = self._numbers(count, video.index.fps, epoch, index)
            return np.stack(video.read(numbers).frames)

    def _numbers(self, count: int, fps: float, epoch: int, index: int) -> list[int]:
        data = self.task.data
        rng = random.Random(seeds.number(self.seed, "clips", epoch, index))
        found = sparse.drawn(count, fps, rng, data["frames"], data["clips"], data["target"])
        return [i for clip in found for i in clip]


class Validation:
    """Scenes of the validation questions, each with the frames that inference shows of it.

    A video that cannot be read is not tried again; `failures` names it.
    """

    def __init__(self, task: Questions) -> None:
        data = task.data
        self.limits, self.keep = task.limits, bool(data["cache_decoded"])
        rule = {"rule": "sparse_clips", "n": data["frames"], "clips": data["val_clips"]}
        rule["reader"] = data["reader"]
        table, videos = task.tables("val")
        self.questions: dict[str, list[Any]] = {}
        for item in table:
            self.questions.setdefault(item.video, []).append(item)
        self.due = {
            scene: replace(videos[scene], rule={**rule, "target": data["target"]})
            for scene in self.questions
        }
        self.kept: dict[str, np.ndarray] = {}
        self.failures: list[dict[str, Any]] = []

    def __iter__(self) -> Iterator[tuple[list[Any], np.ndarray]]:
        """Questions on a scene and uint8 RGB frames [n*T,H,W,3], in any order."""
        for scene, frames in self.kept.items():
            yield self.questions[scene], frames
        for sample in decode(list(self.due.values()), self.limits):
            if sample.frames is None:
                log.warning("validation: %s: %s", sample.video, sample.error)
                self.failures.append({"video": sample.video, "error": sample.error})
                del self.due[sample.video]
                continue
            if self.keep:
                self.kept[sample.video] = sample.frames
                del self.due[sample.video]
            yield self.questions[sample.video], sample.frames
