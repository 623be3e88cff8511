"""Run a model on your own video, or on a folder of videos.

A dual encoder (ViCLIP, CLIP) ranks the texts that you give, a classifier (VideoMamba, fine-tuned
ViCLIP) names its best classes, ClipBERT answers questions, MMDuet watches and speaks up. Frames
and views are those of the benchmark whose protocol suits the model; BENCHMARK names another one.
"""

import argparse
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vireo.commands import options
from vireo.errors import VireoError
from vireo.utils import cli

EXAMPLES = """\
  vireo predict viclip --video my.mp4 --texts "a dog runs" "a man cooks"
  vireo predict viclip --video my_folder --texts "a dog runs" "a man cooks"   # a table
  vireo predict viclip_ft_k400 --video my.mp4             # the five best classes
  vireo predict clipbert --video room.mp4 --ask "What is on my left?"
  vireo predict mmduet --video my.mp4 --ask "What happens?" --ask "12.5:And now?"
  vireo predict viclip_ft_k400 --video my_folder --json   # a line of JSON per video
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Model, input, output."""
    parser.add_argument("model", metavar="MODEL", help="name in config/models.yaml")
    parser.add_argument(
        "benchmark", metavar="BENCHMARK", nargs="?", help="whose frames and views to use"
    )
    group = parser.add_argument_group("input")
    options.add_inputs(group)
    options.add_streaming(parser)
    group = parser.add_argument_group("output")
    group.add_argument(
        "--scores", action="store_true", help="MMDuet: also print the scores of every frame"
    )
    group.add_argument("--json", action="store_true", help="one JSON object a line, per video")
    options.add_weights(parser.add_argument_group("model"))
    cli.add_common(parser)


def run(args: argparse.Namespace) -> int:
    """Check what was given before the weights are loaded, then predict."""
    if args.video is None:
        args.parser.error("the following arguments are required: --video")
    cli.setup(args.log)
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    from vireo import config as cfg
    from vireo.inference import video

    config = cfg.load(args.config)
    kind = video.check(config, args.model, args.benchmark, vars(args))
    paths = video.videos(args.video)
    if kind == "StreamingModel":
        return watch(config, args, paths)
    with video.open_model(config, args.model, args.benchmark, args.weights, args.device) as held:
        answers = video.answers(config, held, paths, args.texts, args.ask)
        show = print_json if args.json else print_text
        return show(answers, single=len(paths) == 1, asked=bool(args.ask))


def print_text(answers: Iterator[Any], single: bool, asked: bool = False) -> int:
    """Lines for a single video, a table with tabs for several; 1 when none could be read.

    VireoError for a single video that cannot be read.
    """
    if not single:
        columns = ["video", *(["question"] if asked else [])]
        print("\t".join([*columns, "best", "probability", "second", "error"]))
    read = 0
    for answer in answers:
        if answer.error and single:
            raise VireoError(answer.error)
        read += not answer.error
        if single:
            lines = [answer.question] if answer.question else []
            lines += [
                f"{100 * p.share:6.1f} %  {p.text}  ({p.score:.2f})" for p in answer.predictions
            ]
            print("\n".join(lines), flush=True)
            continue
        best, second = [*answer.predictions[:2], None, None][:2]
        row = [str(answer.video), *([answer.question] if asked else [])]
        row += [best.text, f"{best.share:.4f}"] if best else ["", ""]
        print("\t".join([*row, second.text if second else "", answer.error]), flush=True)
    return int(not read)


def print_json(answers: Iterator[Any], single: bool, asked: bool = False) -> int:
    """One object a line; 1 when no video could be read."""
    read = 0
    for answer in answers:
        read += not answer.error
        facts: dict[str, Any] = {"video": str(answer.video)}
        if asked:
            facts["question"] = answer.question or None
        facts["predictions"] = [
            {"text": p.text, "probability": p.share, "score": p.score} for p in answer.predictions
        ]
        print(json.dumps({**facts, "error": answer.error or None}, ensure_ascii=False), flush=True)
    return int(not read)


def watch(config: Any, args: argparse.Namespace, paths: list[Path]) -> int:
    """A model that watches: what it says as the video plays; 1 when no video could be read."""
    from vireo import config as cfg
    from vireo.inference import watch as streaming

    size = cfg.model(config, args.model)["size"]
    settings = options.streaming_settings(args)
    turns = [streaming.turn(text) for text in args.ask]
    read = 0
    with streaming.open_model(config, args.model, args.weights, args.device) as model:
        most = args.max_frames or streaming.MAX_FRAMES
        reading = streaming.Watching(model, size, settings, most)
        for path in paths:
            if not args.json and len(paths) > 1:
                print(path)
            try:
                events = reading.events(path, turns)
                if args.json:
                    print(json.dumps(_facts(path, events, args.scores), ensure_ascii=False))
                else:
                    print_events(events, args.scores)
                read += 1
            except VireoError as error:
                if len(paths) == 1 and not args.json:
                    raise
                print(json.dumps({"video": str(path), "error": str(error)}) if args.json else error)
    return int(not read)


def print_events(events: Iterator[dict[str, Any]], scores: bool) -> None:
    """What is said, at its second; with `scores` also every frame's informative and relevance."""
    for event in events:
        if event["role"] != "frame":
            print(f"[{event['time']:7.1f} s] {event['role']}: {event['content']}", flush=True)
        elif scores:
            both = f"{event['informative_score']:.3f} {event['relevance_score']:.3f}"
            print(f"[{event['time']:7.1f} s] {both}", flush=True)


def _facts(path: Path, events: Iterator[dict[str, Any]], scores: bool) -> dict[str, Any]:
    every = list(events)
    facts: dict[str, Any] = {"video": str(path)}
    facts["events"] = [event for event in every if event["role"] != "frame"]
    if scores:
        frames = (event for event in every if event["role"] == "frame")
        facts["frames"] = [{k: v for k, v in frame.items() if k != "role"} for frame in frames]
    return {**facts, "error": None}
