"""The way past files that cannot be read: another sample, drawn from (seed, epoch, index, try)."""

from collections.abc import Callable
from typing import Any, TypeVar

from vireo.errors import VireoError
from vireo.training import seeds

T = TypeVar("T")
TRIES = 20


class ResamplingDataset:
    """What samples that are read from files share; a subclass says how many they are."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.quarantined: dict[str, str] = {}  # file -> why it is not read any more

    def __len__(self) -> int:
        raise NotImplementedError

    def exclude(self, file: str, error: str) -> None:
        """Count a file as unreadable."""
        self.quarantined[file] = error

    def read_or_replace(
        self, read: Callable[[int], tuple[T | None, str, str]], epoch: int, index: int
    ) -> tuple[T, list[dict[str, Any]]]:
        """What sample `index`, or one in its place, gives, and the `failures` on the way.

        `read` gives (sample or None, its video, what is wrong with it). Raises VireoError when
        `TRIES` samples in a row cannot be read.
        """
        failed: list[dict[str, Any]] = []
        now = index
        for attempt in range(1, TRIES + 1):
            found, video, error = read(now)
            if found is not None:
                return found, failed
            failed.append({"video": video, "error": error})
            rng = seeds.numpy_generator(self.seed, "again", epoch, index, attempt)
            now = int(rng.integers(len(self)))
        raise VireoError(
            f"{TRIES} training videos in a row cannot be read; the last is {failed[-1]['video']}: "
            f"{failed[-1]['error']}"
        )
