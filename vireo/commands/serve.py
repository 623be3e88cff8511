"""Open the live page: a video, a model that watches it, and a conversation.

The page is on 127.0.0.1 and asks no other machine for anything. The toy model is made by
`snakemake --cores 2 results/training/toy_mmduet/weights.safetensors`.
"""

import argparse
import os
import tempfile
from importlib.util import find_spec
from pathlib import Path

from vireo.commands import options
from vireo.errors import VireoError
from vireo.utils import cli

MODEL = "toy_mmduet"
EXAMPLES = """\
  vireo serve                       # the toy model
  vireo serve mmduet --port 7860 --video my.mp4
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Model, example, port."""
    parser.add_argument(
        "model",
        metavar="MODEL",
        nargs="?",
        default=MODEL,
        help="name in config/models.yaml (default: %(default)s)",
    )
    parser.add_argument(
        "--video", type=Path, metavar="FILE", help="the page's example (default: a generated one)"
    )
    add_port(parser)
    options.add_streaming(parser)
    options.add_weights(parser.add_argument_group("model"))
    cli.add_common(parser)


def add_port(parser: argparse.ArgumentParser) -> None:
    """--port."""
    parser.add_argument(
        "--port", type=options.port, metavar="N", help="port on 127.0.0.1 (default: a free one)"
    )


def run(args: argparse.Namespace) -> int:
    """Load the model and serve until interrupted."""
    cli.setup(args.log)
    if find_spec("gradio") is None:
        raise VireoError("the live page needs gradio: pip install gradio")
    if args.video is not None and not args.video.is_file():
        raise VireoError(f"no video at {args.video}")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from vireo import config as cfg
    from vireo.demo.live import Limits
    from vireo.demo.page import Page
    from vireo.inference import watch
    from vireo.toy import mmduet as world

    config = cfg.load(args.config)
    settings = options.streaming_settings(args)
    limits = Limits(frames=args.max_frames or watch.MAX_FRAMES)
    with (
        watch.open_model(config, args.model, args.weights, args.device) as model,
        tempfile.TemporaryDirectory(prefix="vireo-live-") as folder,
    ):
        example = args.video
        if example is None:
            example = Path(folder, "events.mp4")
            world.example(example)
        size = cfg.model(config, args.model)["size"]
        Page(model, size, settings, example, limits, config["decode"]).serve(args.port)
    return 0
