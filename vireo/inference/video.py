"""A model on videos of one's own: no benchmark, no items.

A `DualEncoder` ranks given texts, a `Classifier` names its best classes, an `Answerer` answers
questions. Frames and views are those of a benchmark's protocol that suits the model; a benchmark
named by the user takes its place. A broken video of a folder costs its own row.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vireo import benchmarks
from vireo import config as cfg
from vireo.errors import VireoError
from vireo.inference import cache_key
from vireo.inference.engines.classifier import Classifier
from vireo.inference.runner import load_model
from vireo.inference.weights import weights_source
from vireo.media import inventory, pool, resize
from vireo.media.decode import DecodedClip, DecodeRequest
from vireo.utils import gpu_lock
from vireo.utils.home import snakemake

TOP = 5
TOKENS = 100


@dataclass
class Prediction:
    """One text, class or answer with its probability and the score behind it."""

    text: str
    share: float
    score: float


@dataclass
class LoadedModel:
    """A model with the protocol that its frames are taken by."""

    name: str
    kind: str  # DualEncoder, Classifier or Answerer
    model: Any
    protocol: dict[str, Any]
    module: str  # of the benchmark that the protocol is from


def default_benchmark(
    config: cfg.Config, model: str, benchmark: str | None = None
) -> tuple[str, str]:
    """(benchmark whose protocol suits a model, what the model is there).

    First one that the model's block has a protocol for, one that stands in the model's name, or
    one of as many classes as it has.
    VireoError for a model that can only watch, and for a benchmark that needs something else.
    """
    block = cfg.model(config, model)
    kinds = block["fulfils"]
    if benchmark is not None:
        needs = cfg.benchmark(config, benchmark)["needs"]
        if needs not in kinds:
            here = " and ".join(map(article, kinds))
            raise VireoError(f"{benchmark} needs {article(needs)}, {model} is {here}")
        return benchmark, needs
    if not {"DualEncoder", "Classifier", "Answerer"} & set(kinds):
        raise VireoError(f"{model} watches videos as they play: it takes no benchmark's protocol")
    classes = block["arch"].get("num_classes")
    ranked = []
    for place, (name, bench) in enumerate(config["benchmarks"].items()):
        if bench["needs"] not in kinds or bench["needs"] == "StreamingModel":
            continue
        fits = classes is not None and (bench.get("options") or {}).get("classes") == classes
        toy = name.startswith("toy_") == model.startswith("toy_")
        named = name.removeprefix("toy_") in model  # videomamba_t16_lvu_scene
        zero_shot = bench.get("module") == "kinetics"
        own = name in block.get("protocols", {})
        order = (not toy, not own, not named, not fits, not zero_shot, place)
        ranked.append((order, name, bench["needs"]))
    if not ranked:
        raise VireoError(
            f"no benchmark fits {model}; name one: vireo predict {model} BENCHMARK --video …"
        )
    _, name, needs = min(ranked)
    return name, needs


@contextmanager
def open_model(
    config: cfg.Config,
    model: str,
    benchmark: str | None = None,
    weights: str | None = None,
    where: str | None = None,
) -> Iterator[LoadedModel]:
    """The model on a device, held during the block; weights as the block says unless given."""
    benchmark, kind = default_benchmark(config, model, benchmark)
    path = find_weights(config, model, weights)
    protocol = cfg.protocol(config, model, benchmark)
    with gpu_lock.acquire(where or config["device"]) as held:
        module = config["benchmarks"][benchmark].get("module") or benchmark
        whole = load_model(config, model, path, held, protocol)
        yield LoadedModel(model, kind, whole, protocol, module)


def find_weights(config: cfg.Config, model: str, given: str | None) -> Path | None:
    """The file of a model's weights: as given, else where its block points; None for random ones.

    VireoError with the command that brings them when they are not here.
    """
    path = given or weights_source(config, model)
    if not given and path and not Path(path).exists():
        raise VireoError(
            f"the weights of {model} are not here: `{snakemake('--cores', '2', path)}` brings or "
            "trains them, or name a file: --weights FILE"
        )
    return cache_key.find_weights(path or None, cfg.model(config, model))


def videos(place: Path) -> list[Path]:
    """A video file, or all videos below a folder in order of name. VireoError without any."""
    if place.is_file():
        return [place]
    if not place.is_dir():
        raise VireoError(f"no video at {place}")
    found = sorted(Path(path) for path, _ in inventory.videos(place))
    if not found:
        raise VireoError(f"no video below {place} (known endings: {', '.join(inventory.VIDEOS)})")
    return found


def frames_of(
    config: cfg.Config, held: LoadedModel, paths: list[Path]
) -> Iterator[tuple[Path, DecodedClip]]:
    """Each video with its decoded frames, in order of completion."""
    rule = {k: v for k, v in held.protocol["frames"].items() if k != "store"}
    size = resize.before_store(held.protocol.get("resize"))
    by_id = {str(number): path for number, path in enumerate(paths)}
    requests = [DecodeRequest(id, str(path), "file", rule, size) for id, path in by_id.items()]
    settings = {**config["decode"]}
    if len(paths) == 1:
        settings["workers"] = 1
    for sample in pool.decode(requests, settings):
        yield by_id[sample.video], sample


class ZeroShot:
    """Frames -> the given texts, best first; the shares are the softmax of the scores."""

    def __init__(self, held: LoadedModel, texts: list[str]) -> None:
        self.held, self.texts = held, texts
        self.table = held.model.embed_text(texts).float().cpu()

    def __call__(self, frames: np.ndarray) -> list[Prediction]:
        """uint8 [T,H,W,3] -> guesses."""
        model = self.held.model
        clip = model.transform(np.ascontiguousarray(frames), self.held.protocol)[None]
        scores = model.logit_scale * (self.table @ model.embed_video(clip).float().cpu()[0])
        return _best(self.texts, scores, len(self.texts))


class TopClasses:
    """Frames -> the best class names; views are merged by the mean of their softmax."""

    def __init__(self, held: LoadedModel) -> None:
        self.held = held
        module = benchmarks.module(held.module)
        self.engine = Classifier(held.model, module, held.protocol)

    def __call__(self, frames: np.ndarray) -> list[Prediction]:
        """uint8 [segments*T,H,W,3] -> guesses."""
        views = self.engine.transform(np.ascontiguousarray(frames))
        logits = torch.stack(
            [self.held.model.classify(view[None]).float().cpu()[0] for view in views]
        )
        if logits.shape[1] == 1:
            return [Prediction("value", 1.0, float(logits.mean()))]
        names = self.held.model.labels or [f"class {n}" for n in range(logits.shape[1])]
        return _best(names, logits.softmax(1).mean(0).log(), TOP)


class QA:
    """Frames -> the best answers to one question each."""

    def __init__(self, held: LoadedModel, questions: list[str]) -> None:
        self.held, self.questions = held, questions

    def __call__(self, frames: np.ndarray) -> list[list[Prediction]]:
        """uint8 [clips*n,H,W,3] -> guesses per question."""
        model, protocol = self.held.model, self.held.protocol
        prompt = protocol.get("prompt") or {}
        clip = model.transform(np.ascontiguousarray(frames), protocol)
        features = model.encode(clip.unflatten(0, (-1, int(protocol["frames"].get("n", 2))))[None])
        rows = [0] * len(self.questions)
        logits = model.answer(features, rows, self.questions, int(prompt.get("tokens", TOKENS)))
        whole = model.aggregate(logits, str(prompt.get("aggregate", "lse"))).float().cpu()
        names = [*model.answers, *(f"(row {n})" for n in range(len(model.answers), whole.shape[1]))]
        return [_best(names, row, TOP) for row in whole]


def _best(names: list[str], scores: torch.Tensor, count: int) -> list[Prediction]:
    shares = scores.double().softmax(0)
    order = shares.argsort(descending=True, stable=True)[:count].tolist()
    return [Prediction(names[n], float(shares[n]), float(scores[n])) for n in order]


def article(kind: str) -> str:
    """a DualEncoder, an Answerer."""
    return f"{'an' if kind[0] in 'AEIO' else 'a'} {kind}"


# Options of `vireo predict` -> the protocols of models that they are for.
OPTIONS = {
    "texts": ("DualEncoder",),
    "ask": ("Answerer", "StreamingModel"),
    **dict.fromkeys(
        ("fps", "max_frames", "prob", "sum", "heads", "keep", "system", "scores"),
        ("StreamingModel",),
    ),
}


def kind_of(config: cfg.Config, model: str, benchmark: str | None) -> str:
    """What a model is on videos of one's own: a protocol of vireo/models by name."""
    kinds = cfg.model(config, model)["fulfils"]
    if benchmark is None and "StreamingModel" in kinds:
        return "StreamingModel"
    return default_benchmark(config, model, benchmark)[1]


def check(config: cfg.Config, model: str, benchmark: str | None, given: dict[str, Any]) -> str:
    """The kind of a model (`kind_of`); VireoError for options (`given`) that do not fit it.

    Asked before weights are loaded, which may take minutes.
    """
    kind = kind_of(config, model, benchmark)
    for option, wants in OPTIONS.items():
        if given.get(option) not in (None, False, []) and kind not in wants:
            listed = " or ".join(map(article, wants))
            raise VireoError(
                f"--{option.replace('_', '-')} is for {listed}; {model} is {article(kind)}"
            )
    if kind == "DualEncoder" and len(given.get("texts") or ()) < 2:
        raise VireoError("give at least two texts after --texts: probabilities are among them")
    if kind == "Answerer" and not given.get("ask"):
        raise VireoError('ask something: --ask "What is on my left?"')
    return kind


@dataclass
class Answer:
    """What a model says of a video (and of one question); without predictions the reason why."""

    video: Path
    question: str = ""
    predictions: list[Prediction] = field(default_factory=list)
    error: str = ""


def answers(
    config: cfg.Config, held: LoadedModel, paths: list[Path], texts: list[str], questions: list[str]
) -> Iterator[Answer]:
    """Answers for each video in order of completion, best prediction first.

    A video that cannot be read gives one answer with its error.
    """
    ask: Callable[[np.ndarray], list[tuple[str, list[Prediction]]]]
    if held.kind == "DualEncoder":
        ranker = ZeroShot(held, texts)
        ask = lambda frames: [("", ranker(frames))]  # noqa: E731
    elif held.kind == "Classifier":
        names = TopClasses(held)
        ask = lambda frames: [("", names(frames))]  # noqa: E731
    else:
        qa = QA(held, questions)
        ask = lambda frames: list(zip(questions, qa(frames), strict=True))  # noqa: E731
    for path, sample in frames_of(config, held, paths):
        if sample.frames is None:
            yield Answer(path, error=sample.error or sample.status)
            continue
        for question, guesses in ask(sample.frames):
            yield Answer(path, question, guesses)
