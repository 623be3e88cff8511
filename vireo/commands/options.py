"""What commands share: the form of help texts, types of values, options of several commands."""

import argparse
from pathlib import Path
from typing import Any

DEVICES = ("auto", "cpu", "cuda")
# What `add_streaming` leaves in the arguments when none of its options is given.
NOT_STREAMING = {
    **dict.fromkeys(("fps", "max_frames", "prob", "sum", "heads", "system")),
    "keep": False,
}


class Parser(argparse.ArgumentParser):
    """Help with line breaks as written; an option may be shortened as long as it stays unique."""

    def __init__(self, **keywords: Any) -> None:
        keywords.setdefault("formatter_class", argparse.RawDescriptionHelpFormatter)
        super().__init__(allow_abbrev=True, **keywords)


def count(text: str) -> int:
    """A whole number of at least 1."""
    if (value := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not at least 1")
    return value


def positive(text: str) -> float:
    """A finite number above 0."""
    if not 0 < (value := float(text)) < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return value


def number(text: str) -> float:
    """A finite number."""
    if not abs(value := float(text)) < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a finite number")
    return value


def port(text: str) -> int:
    """A TCP port."""
    if not 0 < (value := int(text)) < 65536:
        raise argparse.ArgumentTypeError(f"{text} is not a port (1 to 65535)")
    return value


def add_weights(parser: Any) -> None:
    """--weights and --device."""
    parser.add_argument(
        "--weights",
        metavar="FILE",
        help="checkpoint file, receipt, or none for random weights (default: where the model's "
        "block points)",
    )
    parser.add_argument("--device", choices=DEVICES, help="default: the configuration's `device`")


def add_inputs(group: Any) -> None:
    """What a model is given: --video, --texts, --ask."""
    group.add_argument("--video", type=Path, metavar="PATH", help="a video, or a folder of them")
    group.add_argument(
        "--texts",
        nargs="+",
        default=[],
        metavar="TEXT",
        help="texts to be ranked, two or more (dual encoders: ViCLIP, CLIP)",
    )
    group.add_argument(
        "--ask",
        action="append",
        default=[],
        metavar="QUESTION",
        help="a question, repeatable (ClipBERT, MMDuet); for MMDuet SECOND:QUESTION asks at that "
        "second of the video",
    )


def add_streaming(parser: argparse.ArgumentParser) -> None:
    """Options of a model that watches (MMDuet); `streaming_settings` reads them."""
    group = parser.add_argument_group("models that watch a video as it plays (MMDuet)")
    group.add_argument(
        "--fps", type=positive, metavar="N", help="frames a second that are seen (default: 1)"
    )
    group.add_argument(
        "--max-frames", type=count, metavar="N", help="frames that are seen at most (default: 400)"
    )
    rule = group.add_mutually_exclusive_group()
    rule.add_argument(
        "--prob", type=number, metavar="P", help="speak above this score of a frame (default: 0.3)"
    )
    rule.add_argument(
        "--sum", type=number, metavar="S", help="speak above this running sum of scores instead"
    )
    group.add_argument(
        "--heads",
        choices=("informative", "relevance", "both"),
        help="scores that count (default: informative)",
    )
    group.add_argument(
        "--keep", action="store_true", help="keep earlier answers in the model's memory"
    )
    group.add_argument("--system", metavar="TEXT", help="another system prompt")


def streaming_settings(args: argparse.Namespace) -> Any:
    """Settings of a session, from the options of `add_streaming`."""
    from vireo.inference import watch

    named = {key: getattr(args, key) for key in ("fps", "prob", "sum", "heads", "keep", "system")}
    given = {key: value for key, value in named.items() if value is not None}
    return watch.settings(args.model, **given)
