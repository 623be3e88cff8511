"""What one block cannot say about itself: names that must exist, keys that another file reads.

Everything here is known without importing torch or numpy, so that a mistake is met when the
workflow is planned.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vireo.config import families, readers, tasks
from vireo.config.base import Block
from vireo.config.benchmark import Benchmark
from vireo.config.model import Model
from vireo.config.problems import Layer, checked, problem
from vireo.config.protocol import Frames, Protocol
from vireo.config.recipe import Recipe
from vireo.config.settings import Settings
from vireo.errors import unknown

CODE = Path(__file__).resolve().parents[1]
GENERATED = "toy_"  # artifacts of the toy world need no block
Where = tuple[str, ...]


def check(settings: Settings, layers: Sequence[Layer]) -> None:
    """Raise VireoError for the first block that names or sets something that does not exist."""
    _Checks(settings, layers).run()


def modules(folder: str) -> list[str]:
    """Names of the files and packages of a folder of vireo that a key may name."""
    found = [p for p in (CODE / folder).iterdir() if not p.name.startswith("_")]
    files = [p.stem for p in found if p.suffix == ".py"]
    return sorted(files + [p.name for p in found if (p / "__init__.py").is_file()])


class _Checks:
    def __init__(self, settings: Settings, layers: Sequence[Layer]) -> None:
        self.settings, self.layers = settings, layers
        self.families = modules("models")
        self.tasks = modules("training/tasks")
        self.benchmarks = modules("benchmarks")

    def run(self) -> None:
        settings = self.settings
        for section in ("models", "benchmarks", "artifacts", "recipes"):
            for name in getattr(settings, section):
                self._name(section, name)
        for name, model in settings.models.items():
            self._model(model, ("models", name))
        for name, bench in settings.benchmarks.items():
            self._benchmark(bench, ("benchmarks", name))
        for name, recipe in settings.recipes.items():
            self._recipe(recipe, ("recipes", name))
        for name in settings.paths:
            self._artifact(name, ("paths", name))

    def _name(self, section: str, name: str) -> None:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
            text = "names hold letters, digits, '_', '-', '.' only (they become file names)"
            raise self._problem(text, (section, name))
        if (section, name) == ("models", "training"):
            raise self._problem(
                "this name is taken (results/training holds recipes)", (section, name)
            )

    def _model(self, model: Model, where: Where) -> None:
        self._exists("family", model.family, self.families, (*where, "family"))
        self._given(families.ARCHS.get(model.family), model.arch, (*where, "arch"))
        self._given(families.OPTIONS.get(model.family), model.options, (*where, "options"))
        if weights := model.weights:
            self._source(weights.artifact, weights.recipe, (*where, "weights"))
        if model.wiseft:
            self._artifact(model.wiseft.other, (*where, "wiseft", "with"))
        for role, entry in (model.files or {}).items():
            self._artifact(entry.artifact, (*where, "files", role, "artifact"))
        for name, protocol in (model.protocols or {}).items():
            here = (*where, "protocols", name)
            self._exists("benchmark", name, self.settings.benchmarks, here)
            bench = self.settings.benchmarks[name]
            self._protocol(protocol, bench.module or name, here)

    def _benchmark(self, bench: Benchmark, where: Where) -> None:
        module = bench.module or where[1]
        at = (*where, "module") if bench.module else where
        self._exists("benchmark module", module, self.benchmarks, at)
        for role, artifact in bench.sources.items():
            self._artifact(artifact, (*where, "sources", role))
        for split in bench.headline or ():
            self._exists("split", split, bench.splits, (*where, "headline"))
        self._given(readers.OPTIONS.get(module), bench.options, (*where, "options"))
        if bench.protocol is None or bench.protocol.frames is None:
            raise self._problem(
                "no `protocol` with `frames: {rule: …}` says which frames a model sees", where
            )
        self._protocol(bench.protocol, module, (*where, "protocol"))
        if bench.protocol.frames.rule is None:
            raise self._problem("`rule` is missing", (*where, "protocol", "frames"))

    def _recipe(self, recipe: Recipe, where: Where) -> None:
        self._exists("training task", recipe.task, self.tasks, (*where, "task"))
        self._exists("family", recipe.family, self.families, (*where, "family"))
        arch = families.TRAINED.get(recipe.task) or families.ARCHS.get(recipe.family)
        self._given(arch, recipe.arch, (*where, "arch"))
        self._given(tasks.DATA.get(recipe.task), recipe.data, (*where, "data"))
        self._given(tasks.MODEL.get(recipe.task), recipe.model, (*where, "model"))
        for key in ("frames", "val_frames"):
            if isinstance(frames := (recipe.data or {}).get(key), dict):
                here = (*where, "data", key)
                self._frames(checked(Frames, frames, self.layers, here), here)
        if init := recipe.init:
            self._source(init.artifact, init.recipe, (*where, "init"))
        for role, artifact in (recipe.sources or {}).items():
            self._artifact(artifact, (*where, "sources", role))
        for role, entry in (recipe.files or {}).items():
            self._artifact(entry.artifact, (*where, "files", role, "artifact"))

    def _protocol(self, protocol: Protocol, module: str, where: Where) -> None:
        if protocol.frames:
            self._frames(protocol.frames, (*where, "frames"))
        for part in ("resize", "views"):
            if block := getattr(protocol, part):
                self._only(block.dump(), type(block).keys_known(), (*where, part))
        if protocol.prompt and module in readers.PROMPTS:
            given = protocol.prompt.dump()
            known = readers.PROMPTS[module]
            self._only(given, known, (*where, "prompt"))
            if watch := protocol.prompt.watch:
                self._only(watch.dump(), type(watch).keys_known(), (*where, "prompt", "watch"))

    def _frames(self, frames: Frames, where: Where) -> None:
        given = frames.dump()
        rule = frame_rule(frames.rule)
        if rule is None and frames.rule is not None:
            known = [*readers.FRAME_RULES, "fpsX (X a number)"]
            raise self._problem(str(unknown("frame rule", frames.rule, known)), (*where, "rule"))
        # Without a rule it is an override, whose keys may belong to any.
        settings = readers.FRAME_RULES[rule] if rule else Frames.model_fields
        self._only(given, ["rule", "reader", "store", *settings], where)

    def _only(self, given: Mapping[str, Any], known: Iterable[str], where: Where) -> None:
        for key in given:
            if key not in known:
                raise self._problem(str(unknown("key", key, known)), where, key)

    def _given(self, kind: type[Block] | None, value: Any, where: Where) -> None:
        if kind is not None and value is not None:
            checked(kind, value, self.layers, where)

    def _source(self, artifact: str | None, recipe: str | None, where: Where) -> None:
        if artifact is not None:
            self._artifact(artifact, (*where, "artifact"))
        if recipe is not None:
            self._exists("recipe", recipe, self.settings.recipes, (*where, "recipe"))

    def _artifact(self, name: str, where: Where) -> None:
        if not name.startswith(GENERATED):
            self._exists("artifact", name, self.settings.artifacts, where)

    def _exists(self, kind: str, name: str, known: Iterable[str], where: Where) -> None:
        if name not in known:
            raise self._problem(str(unknown(kind, name, known)), where)

    def _problem(self, text: str, where: Where, key: str | None = None) -> Exception:
        return problem(text, where, self.layers, key)


def frame_rule(name: str | None) -> str | None:
    """The rule that a name stands for (`fps0.5` is `fps`); None when there is none."""
    if name in readers.FRAME_RULES:
        return name
    if name is not None and re.fullmatch(r"fps\d*\.?\d+(e-?\d+)?", name):
        return "fps"
    return None
