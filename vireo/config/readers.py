"""Keys of `options`, `prompt` and `frames`, by the file of ours that reads them.

What a user's own benchmark or task takes is not listed here and is left to that file.
"""

from typing import Any, Literal

from vireo.config.base import (
    Block,
    Count,
    Flag,
    Index,
    NotNegative,
    Number,
    Positive,
    Share,
    TextOrWhole,
    key,
)

Texts = list[str]


class Options(Block):
    """Switches of a benchmark file."""

    defaults_dumped = "none"

    copy_of: str | None = key(
        "Name of the copy of the data set, compared with that of published numbers.",
        None,
        alias="copy",
    )


class KnownList(Block):
    """A published list of a data set, known by its number of rows."""

    defaults_dumped = "none"

    rows: Count = key("Rows of the split that is scored.")
    release: str = key("Release that it belongs to.")
    source: str = key("Where it comes from, for the result.")


class Windows(Block):
    """Sliding windows of a long video."""

    defaults_dumped = "none"

    length: Positive = key("Length of a window.", unit="s")
    stride: Positive = key("Distance of their starts.", unit="s")


class Lists(Block):
    """How lists of labelled videos are read."""

    defaults_dumped = "none"

    format: Literal["kinetics", "ssv2", "list", "breakfast", "coin", "lvu"] | None = key(
        "Format of the lists (default kinetics).", None
    )
    listing: str | None = key("Name of the list.", None, alias="list")
    labels: str | None = key("Name of the file with class names.", None)
    separator: str | None = key("Between the columns of a list.", None)
    columns: Texts | None = key("Names of a list's columns.", None)
    classes: Count | None = key("Number of classes, checked.", None)
    names: Texts | None = key("Names of the classes, in the head's order.", None)
    task: str | None = key("lvu: which of its tasks.", None)
    windows: Windows | None = key("Cut long videos into windows.", None)


class Actions(Lists, Options):
    """vireo/benchmarks/actions.py and regression.py."""

    release: TextOrWhole | None = key("Year of the release, for the report.", None)
    split: str | None = key("The only split that is read.", None)
    ties: Literal["lowest", "highest"] | None = key("Which of equally scored classes wins.", None)
    lists: list[KnownList] | None = key("Published lists of the split.", None)
    merge: Literal["faithful", "all_windows"] | None = key("Which windows of a video count.", None)


class Kinetics(Options):
    """vireo/benchmarks/kinetics.py."""

    classes: Count | None = key("Number of classes, checked.", None)
    release: TextOrWhole | None = key("Year of the release, for the report.", None)
    listing: str | None = key("Name of the list.", None, alias="list")
    split: str | None = key("Split that is read (default val).", None)
    ties: Literal["lowest", "highest"] | None = key("Which of equally scored classes wins.", None)
    lists: list[KnownList] | None = key("Published lists of the split.", None)
    trim: Flag | None = key("Videos are complete: cut the annotated span out.", None)


class Retrieval(Options):
    """vireo/benchmarks/retrieval.py."""

    listing: str | None = key("Name of the list.", None, alias="list")
    names: Texts | None = key("Documented names of the list, taken before other files.", None)
    sizes: list[Count] | None = key("Numbers of videos that the test set may have.", None)
    texts: Count | None = key("Number of texts that it must have.", None)
    trim_s: Positive | None = key("Only the beginning of each video.", None, unit="s")


class Download(Block):
    """ScanNet's own download script."""

    defaults_dumped = "none"

    script: str = key("The file that ScanNet sent to you.")
    accept_terms: Flag = key("You have signed ScanNet's terms of use.", False)
    keep: str | None = key("Folder that keeps the scans (default: removed).", None)


class Sqa3d(Options):
    """vireo/benchmarks/sqa3d.py and rule scans."""

    scans: str | None = key("Artifact with the scans that videos are made of.", None)
    every: Count | None = key("Every so many frames of a scan.", None)
    download: Download | None = key("Fetch the scans one by one instead.", None)


class Judge(Block):
    """A language model that marks answers."""

    defaults_dumped = "none"

    kind: Literal["http", "plain_http", "transformers", "batch", "words"] = key("How it is asked.")
    url: str | None = key("Address of the endpoint.", None)
    model: str | None = key("Name of the model.", None)
    token_env: str | None = key("Environment variable that holds the endpoint's key.", None)
    path: str | None = key("batch: the file.", None)
    workers: Count | None = key("Requests at once.", None)
    timeout_s: Positive | None = key("Longest wait for a reply.", None, unit="s")


class Streamed(Options):
    """What the four streaming benchmarks share."""

    file: str | None = key("The annotation file, below any of the data folders.", None)
    threshold: NotNegative | None = key("Which of the swept thresholds is scored.", None)


class YouCook2(Streamed):
    """vireo/benchmarks/youcook2.py."""

    keep_first: Flag | None = key("Corrected evaluator: keep the first segment.", None)
    numeric_order: Flag | None = key("Corrected evaluator: numeric order of segments.", None)
    count_missing: Flag | None = key("Corrected evaluator: count videos without answer.", None)
    answer_at: list[Number] | None = key("Shares of a span where a perfect model answers.", None)


class Magqa(Streamed):
    """vireo/benchmarks/magqa.py."""

    judge: Judge | None = key("Who marks the answers (default: overlap of words).", None)


class Charades(Streamed):
    """vireo/benchmarks/charades.py."""

    window: Index | None = key("Frames that scores are averaged over.", None)
    level: Share | None = key("Threshold of a span, as a share of the largest score.", None)
    shuffles: Index | None = key("Random orders of scores for comparison.", None)


class QvHighlights(Streamed):
    """vireo/benchmarks/qvhighlights.py."""

    release: str | None = key("The official annotation file.", None)
    window: Index | None = key("Frames that scores are averaged over.", None)
    shuffles: Index | None = key("Random orders of scores for comparison.", None)


OPTIONS: dict[str, type[Block]] = {
    "videomme": Options,
    "kinetics": Kinetics,
    "actions": Actions,
    "regression": Actions,
    "retrieval": Retrieval,
    "sqa3d": Sqa3d,
    "youcook2": YouCook2,
    "magqa": Magqa,
    "charades": Charades,
    "qvhighlights": QvHighlights,
}
PROMPTS: dict[str, tuple[str, ...]] = {
    "videomme": ("letter_prefix", "question_in_text", "context_length"),
    "kinetics": ("templates", "context_length"),
    "actions": (),
    "regression": (),
    "retrieval": ("paragraph", "context_length"),
    "sqa3d": ("tokens", "aggregate"),
    **dict.fromkeys(("youcook2", "magqa", "charades", "qvhighlights"), ("watch",)),
}
# Rule -> its settings with their defaults, as in vireo/media/sampling.py (a test compares them).
_DRAWN: dict[str, Any] = {"n": 8, "seed": 0, "epoch": 0, "index": 0}
FRAME_RULES: dict[str, dict[str, Any]] = {
    "uniform_stride": {"n": 8},
    "middle": {"n": 8},
    "rand": _DRAWN,
    "sparse_random": _DRAWN,
    "halves_random": _DRAWN,
    "fps": {"target": 1.0, "most": 0},
    "slicer": {"n": 32},
    "slicer_then_stride": {"n": 8, "candidates": 32, "dedupe": True},
    "sparse_clips": {"n": 2, "clips": 1, "target": 2.0, "strategy": "clips"},
    "sparse_views": {"n": 8, "segments": 1},
    "halves_views": {"n": 8, "segments": 2},
    "accumulated": {"target": 2.0, "most": 400, "rounding": "ceil"},
    "every": {},
}
