"""Lists of training pairs: JSON `[{"video": "a/b.mp4", "caption": "a dog runs"}, ...]`, or SQLite.

SQLite files hold the table `annos(id integer primary key from 0, video text, caption text)`; rows
are read one by one, so lists of any length fit in memory.
"""

import sqlite3
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from vireo.errors import VireoError
from vireo.nn.templates import expand
from vireo.nn.text_clean import clean_caption
from vireo.training import seeds
from vireo.utils import files
from vireo.utils.cli import log

SUBSAMPLE_SEED = 42


@dataclass(frozen=True)
class Pair:
    """A video, its cleaned caption, and its number in its own list.

    `start`, `end`: seconds of a part, None = the whole; `kind`: "file", or "jpegs" for a folder.
    `label`: the caption is the name of a class.
    """

    video: str
    caption: str
    number: int
    start: float | None = None
    end: float | None = None
    kind: str = "file"
    label: bool = False

    def said(self, rng: np.random.Generator) -> str:
        """The caption; a class name stands in one of CLIP's 28 sentences."""
        if not self.label:
            return self.caption
        sentences = expand(self.caption, "clip28")
        return sentences[int(rng.integers(len(sentences)))]


class Pairs(Protocol):
    """A list of pairs."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Pair: ...


class JsonPairs:
    """A JSON list in memory. `dropped` captions had fewer than `min_words` words."""

    def __init__(self, path: Path, share: float = 1.0, min_words: int = 2) -> None:
        entries = files.read_json(path, "training list")
        if not isinstance(entries, list):
            raise VireoError(f'{path} is not a list of {{"video": ..., "caption": ...}}')
        if share < 1:
            # The authors' subset is drawn with the same seed by another generator: same share,
            # other members.
            rng = seeds.numpy_generator(SUBSAMPLE_SEED)
            kept = sorted(rng.permutation(len(entries))[: int(len(entries) * share)].tolist())
            entries = [entries[i] for i in kept]
        self.pairs: list[Pair] = []
        label = holds_labels(path)
        for place, entry in enumerate(entries):
            try:
                video, caption = entry["video"], entry["caption"]
            except (KeyError, TypeError) as error:
                raise VireoError(f"{path}, entry {place}: needs `video` and `caption`") from error
            if not isinstance(video, str) or not isinstance(caption, str):
                raise VireoError(f"{path}, entry {place}: `video` and `caption` must be text")
            text = clean_caption(caption)
            if len(text.split()) >= min_words:
                self.pairs.append(Pair(video, text, len(self.pairs), label=label))
        self.dropped = len(entries) - len(self.pairs)
        if self.dropped:
            log.info("%s: %d captions under %d words dropped", path, self.dropped, min_words)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Pair:
        return self.pairs[index]


class SqlitePairs:
    """A SQLite list, opened read-only in each process and thread that reads it."""

    def __init__(self, path: Path) -> None:
        self.path, self.local = path, threading.local()
        try:
            found = self._connection().execute("select count(*), min(id), max(id) from annos")
            self.count, first, last = found.fetchone()
        except sqlite3.Error as error:
            raise VireoError(f"{path} has no table annos(id, video, caption): {error}") from error
        if self.count and (first, last) != (0, self.count - 1):
            raise VireoError(f"{path}: ids must run from 0 to {self.count - 1}, not {first}-{last}")

    def _connection(self) -> sqlite3.Connection:
        if not hasattr(self.local, "connection"):
            uri = self.path.absolute().as_uri() + "?mode=ro&immutable=1"
            self.local.connection = sqlite3.connect(uri, uri=True)
        return self.local.connection

    def __getstate__(self) -> dict[str, object]:
        return {"path": self.path, "count": self.count}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state, local=threading.local())

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Pair:
        asked = self._connection().execute("select video, caption from annos where id=?", (index,))
        video, caption = asked.fetchone()
        return Pair(video, clean_caption(caption), index, label=holds_labels(self.path))


def holds_labels(path: Path) -> bool:
    """Whether a list's captions are class names, by the name of the file."""
    # parity: a list holds class names if its file name has "kinetics" without "raw" | captions of
    # such a list are put into sentences | rename the list
    return "kinetics" in path.name and "raw" not in path.name


def read(path: Path, share: float = 1.0, min_words: int = 2) -> Pairs:
    """Open a list by its name: `.json`, or anything else as SQLite (never subsampled).

    Empty lists and short captions of SQLite lists are not the reader's business.
    """
    if not path.is_file():
        raise VireoError(f"training list not found: {path}")
    # parity: only JSON lists are subsampled and rid of captions under two words | SQLite lists are
    # used in full | none
    return JsonPairs(path, share, min_words) if ".json" in path.name else SqlitePairs(path)
