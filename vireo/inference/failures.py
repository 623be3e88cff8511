"""What fails on single videos, and when it is not the videos."""

from collections import Counter
from collections.abc import Iterable

from vireo.errors import VireoError
from vireo.inference.engines.base import Clip
from vireo.utils.cli import log

HANDFUL = 5  # videos with the same error and none without, after which a run ends
MEMORY = ("MemoryError", "OutOfMemoryError")


class Failures:
    """Errors of one run, by text. A traceback is logged once for each, none for a VireoError."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.texts: Counter[str] = Counter()
        self.succeeded = False

    def mark(self, clip: Clip, error: Exception) -> None:
        """An exception in transform or model costs the clip, not the run."""
        clip.status = "error"
        clip.error = f"{type(error).__name__}: {error}"[:500]
        plain = isinstance(error, VireoError) or clip.error in self.texts
        self.texts[clip.error] += 1
        log.warning(
            "video %r: %s", clip.items[0].video, clip.error, exc_info=None if plain else error
        )

    def judge(self, clips: Iterable[Clip]) -> None:
        """VireoError when the first videos of a run all end with one and the same error."""
        self.succeeded |= any(clip.status == "ok" for clip in clips)
        if self.succeeded or len(self.texts) != 1:
            return
        text, count = next(iter(self.texts.items()))
        if count >= HANDFUL and not text.startswith(MEMORY):
            raise VireoError(
                f"{self.name}: the first {count} videos all ended with the same error, so it is "
                f"not the videos: {text.removeprefix('VireoError: ')}. Correct the blocks of model "
                "and benchmark (or their protocol) and run the same command again"
            )
