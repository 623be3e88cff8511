"""A `StreamingModel` on videos of one's own: what it says as they play, and the scores of frames.

Questions stand at a second of the video (`Turn`); the model's settings are those of
vireo/models/mmduet/chat.py.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vireo import config as cfg
from vireo import models
from vireo.errors import VireoError
from vireo.inference import video
from vireo.models.mmduet.chat import SYSTEM_PROMPT, Settings
from vireo.utils import device, gpu_lock

FPS = 1.0
MAX_FRAMES = 400
PROB = 0.3
HEADS = ("informative", "relevance")


@dataclass
class Turn:
    """A question and the second of the video at which it is asked."""

    text: str
    time: float = 0.0


def turn(text: str) -> Turn:
    """`3.5:And now?` -> a question at 3.5 seconds; without a number at 0."""
    before, mark, after = text.partition(":")
    try:
        return Turn(after.strip(), float(before)) if mark else Turn(text)
    except ValueError:
        return Turn(text)


def settings(
    model: str,
    fps: float = FPS,
    prob: float | None = None,
    sum: float | None = None,
    heads: str = HEADS[0],
    keep: bool = False,
    system: str | None = None,
) -> Settings:
    """Settings of a session; without `prob` and `sum` the model speaks above a score of 0.3.

    heads: "informative", "relevance" or "both"; keep: earlier answers stay in the model's memory.
    The toy models were trained with a system prompt of one word.
    """
    named = HEADS if heads == "both" else (heads,)
    toy = model.startswith("toy_")
    return Settings(
        fps=fps,
        prob=PROB if prob is None and sum is None else prob,
        sum=sum,
        heads=tuple(f"{head}_score" for head in named),
        remove_assistant_turns=not keep,
        system_prompt="always",
        system_text=system or ("Watch." if toy else SYSTEM_PROMPT),
    )


@contextmanager
def open_model(
    config: cfg.Config, name: str, weights: str | None = None, where: str | None = None
) -> Iterator[Any]:
    """The model on a device, held during the block; weights as its block says unless given.

    VireoError for a model of another kind and for weights that are not here.
    """
    block = cfg.model(config, name)
    if "StreamingModel" not in block["fulfils"]:
        kinds = " and ".join(map(video.article, block["fulfils"]))
        raise VireoError(f"{name} cannot watch a video as it plays: it is {kinds}")
    found = video.find_weights(config, name, weights)
    with gpu_lock.acquire(where or config["device"]) as held:
        dtype = device.dtype(cfg.dtype(config, name))
        yield models.family(block["family"]).load(block, found, held, dtype)


@dataclass
class Watching:
    """One reading of a video: `events` yields what happens, `frames` grows with it."""

    model: Any
    size: int
    settings: Settings
    max_frames: int = MAX_FRAMES

    def events(self, path: Path, turns: list[Turn]) -> Iterator[dict[str, Any]]:
        """Questions and answers ({time, role, content}) and the scores of each frame.

        VireoError when the video cannot be read.
        """
        from vireo.media.decode import DecodeRequest, decode_one
        from vireo.media.reader import OPENCV

        rule = {"rule": "accumulated", "target": self.settings.fps, "most": self.max_frames,
                "rounding": "floor", "reader": OPENCV}  # fmt: skip
        size = {"library": "cv2", "fit": "letterbox", "size": self.size}
        sample = decode_one(DecodeRequest(path.stem, str(path), "file", rule, size))
        if sample.frames is None:
            raise VireoError(sample.error or f"cannot read {path}")
        embeds = self.model.embed_frames(self.model.transform(sample.frames, {}))
        session = self.model.open(self.settings)
        for asked in turns:
            session.ask(asked.text, asked.time)
        for frame in embeds:
            yield from session.feed(frame[None])
            yield {"role": "frame", **session.outcome.frames[-1]}
