"""Watch a video with MMDuet: python scripts/duet.py --video clip.mp4 --ask "What happens?"

Prints what the model says at the second it says it. A question may name its second: --ask "3.5:And
now?". With --serve it opens a page on 127.0.0.1 instead: upload, watch, ask at any time. The model
is a block of config/models.yaml; its weights are what its receipt or recipe left.
"""

import argparse
import os
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from vireo import config as cfg
from vireo.errors import VireoError
from vireo.utils import cli


def question(text: str) -> dict[str, Any]:
    """`3.5:And now?` -> a turn at 3.5 seconds; without a number at 0."""
    before, mark, after = text.partition(":")
    try:
        return {"time": float(before), "content": after.strip()} if mark else _at_zero(text)
    except ValueError:
        return _at_zero(text)


def _at_zero(text: str) -> dict[str, Any]:
    return {"time": 0.0, "content": text}


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--video", type=Path, help="with --serve: the page's example")
    parser.add_argument("--serve", action="store_true", help="the live page, on 127.0.0.1")
    parser.add_argument("--port", type=int, help="of the live page (default: a free one)")
    parser.add_argument("--ask", action="append", default=[], help="a question, or SECOND:question")
    parser.add_argument("--model", default="toy_mmduet", help="block of config/models.yaml")
    parser.add_argument("--weights", help="a file; default: where the model's block points")
    parser.add_argument("--fps", type=float, default=1.0, help="frames a second")
    parser.add_argument("--max-frames", type=int, default=400)
    rule = parser.add_mutually_exclusive_group()
    rule.add_argument("--prob", type=float, help="answer above this score of a frame (0.3)")
    rule.add_argument("--sum", type=float, help="answer above this running sum of scores")
    parser.add_argument("--heads", default="informative", help="informative, relevance or both")
    parser.add_argument("--keep", action="store_true", help="keep earlier answers in the memory")
    parser.add_argument("--system", help="another system prompt (the toy model: Watch.)")
    parser.add_argument("--scores", action="store_true", help="also print every frame's scores")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    parser.add_argument("--log")
    return parser.parse_args()


def main() -> int:
    """Load the model; watch one video, or serve the page."""
    args = arguments()
    cli.setup(args.log)
    if args.serve and find_spec("gradio") is None:
        raise VireoError("the live page needs gradio: pip install 'vireo[live]'")
    if not args.serve and args.video is None:
        raise VireoError("give --video FILE, or --serve for the live page")
    from vireo import models
    from vireo.inference import cache_key
    from vireo.models.mmduet.chat import SYSTEM_PROMPT, Settings
    from vireo.utils import device, gpu_lock
    from vireo.workflow.plan import Plan

    config = cfg.load()
    block = cfg.model(config, args.model)
    if "StreamingModel" not in block["fulfils"]:
        raise VireoError(f"{args.model} cannot watch: it is a {' and '.join(block['fulfils'])}")
    weights = cache_key.find_weights(
        args.weights or Plan(config, cfg.HOME).weights(args.model), block
    )
    heads = ("informative", "relevance") if args.heads == "both" else (args.heads,)
    toy = args.model.startswith("toy_")
    settings = Settings(
        fps=args.fps,
        prob=0.3 if args.prob is None and args.sum is None else args.prob,
        sum=args.sum,
        heads=tuple(f"{head}_score" for head in heads),
        remove_assistant_turns=not args.keep,
        system_prompt="always",
        system_text=args.system or ("Watch." if toy else SYSTEM_PROMPT),
    )
    with gpu_lock.acquire(args.device) as where:
        dtype = device.dtype(cfg.dtype(config, args.model))
        model = models.family(block["family"]).load(block, weights, where, dtype)
        (serve if args.serve else watch)(args, model, block, settings, config)
    return 0


def watch(args: argparse.Namespace, model: Any, block: Any, settings: Any, config: Any) -> None:
    """Decode a video, read it frame by frame, print."""
    from vireo.media.decode import DecodeRequest, decode_one

    rule = {"rule": "accumulated", "target": args.fps, "most": args.max_frames, "rounding": "floor"}
    size = {"library": "cv2", "fit": "letterbox", "size": block["size"]}
    sample = decode_one(DecodeRequest(args.video.stem, str(args.video), "file", rule, size))
    if sample.frames is None:
        raise VireoError(sample.error or f"cannot read {args.video}")
    embeds = model.embed_frames(model.transform(sample.frames, {}))
    session = model.open(settings)
    for turn in map(question, args.ask):
        session.ask(turn["content"], turn["time"])
    for frame in embeds:
        for event in session.feed(frame[None]):
            print(f"[{event['time']:7.1f} s] {event['role']}: {event['content']}", flush=True)
        if args.scores:
            seen = session.outcome.frames[-1]
            both = f"{seen['informative_score']:.3f} {seen['relevance_score']:.3f}"
            print(f"[{seen['time']:7.1f} s] {both}", flush=True)


def serve(args: argparse.Namespace, model: Any, block: Any, settings: Any, config: Any) -> None:
    """The live page; without --video its example is a made-up video of events."""
    from vireo.demo.live import Limits
    from vireo.demo.page import Page
    from vireo.toy import mmduet as world

    with tempfile.TemporaryDirectory(prefix="vireo-duet-") as folder:
        example = args.video
        if example is None:
            example = Path(folder, "events.mp4")
            world.example(example)
        limits = Limits(frames=args.max_frames)
        page = Page(model, block["size"], settings, example, limits, config["decode"])
        page.serve(args.port)


if __name__ == "__main__":
    cli.run(main)
