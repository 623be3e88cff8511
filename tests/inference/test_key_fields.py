"""Every field of a model, benchmark and recipe block in turn: what changes an output changes the
rule's key and the journal's key, everything else changes neither.

The blocks below set every field that the schema knows (asserted), so a new field fails here until
somebody says what it changes.
"""

import copy
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from vireo import config as cfg
from vireo.config import families, problems
from vireo.config.benchmark import Benchmark
from vireo.config.model import Model
from vireo.config.recipe import Recipe
from vireo.fetch import receipt
from vireo.inference import cache_key
from vireo.inference.journal import key_name
from vireo.tables import items as item_table
from vireo.training import export
from vireo.workflow.plan import Plan

PUBLISHED = [{"metric": "accuracy", "value": 50.0, "source": "a paper"}]
MODEL = {
    "family": "viclip",
    "fulfils": ["DualEncoder"],
    "title": "a model",
    "arch": {
        **{"image_size": 32, "patch_size": 16, "width": 32, "layers": 2, "heads": 2},
        **{"num_frames": 8, "embed_dim": 16, "text_width": 32, "text_layers": 2, "text_heads": 2},
    },
    "weights": {"artifact": "one", "file": "a.safetensors"},
    "wiseft": {"alpha": 0.5, "with": "two", "file": "a.safetensors"},
    "mean": [0.1, 0.2, 0.3],
    "std": [0.4, 0.5, 0.6],
    "size": 32,
    "dtype": "float32",
    "seed": 1,
    "files": {
        "vocab": {"artifact": "one", "file": "vocab.txt"},
        "base": {"artifact": "two", "file": "config.json"},
    },
    "options": {"merge": True},
    "protocols": {"bench": {"frames": {"n": 4}}, "other": {"frames": {"n": 2}}},
    "artifacts": {"inline": {"title": "an artifact"}},
    "version": 1,
    "hardware": {"gpu": 1, "batch": 4},
    "note": "a note",
    "published": [{"benchmark": "bench", **PUBLISHED[0]}],
}
BENCHMARK = {
    "module": "videomme",
    "title": "a benchmark",
    "needs": "DualEncoder",
    "sources": {"data": "one"},
    "splits": ["val", "test"],
    "headline": ["val"],
    "rows": {"val": 2},
    "partial": False,
    "primary": "accuracy",
    "chance": 25.0,
    "options": {"copy": "official"},
    "protocol": {
        "frames": {"rule": "middle", "store": True},
        "resize": {"library": "cv2", "interpolation": "bilinear"},
        "views": {"segments": 1, "crops": 1},
        "prompt": {"letter_prefix": True},
    },
    "controls": ["untrained"],
    "artifacts": {},
    "version": 1,
    "note": "a note",
    "published": [{"model": "model", **PUBLISHED[0]}],
}
RECIPE = {
    "task": "viclip_pretrain",
    "title": "a recipe",
    "family": "viclip",
    "arch": {"image_size": 32},
    "init": {"artifact": "one", "file": "a.safetensors"},
    "sources": {"clips": "one"},
    "files": {"vocab": {"artifact": "one", "file": "vocab.txt"}},
    "data": {"list": "train.json"},
    "model": {"mask": 0.5},
    "optim": {"lr": 0.001},
    "schedule": {"kind": "cosine_floor"},
    "epochs": 2,
    "steps": 10,
    "batch_size": 8,
    "micro_batch": 4,
    "validate_epochs": 1,
    "precision": "float32",
    "fsdp": False,
    "seed": 0,
    "workers": 1,
    "save_every": 60,
    "save_steps": 10,
    "hardware": {"gpu": 1},
    "artifacts": {},
    "version": 1,
    "note": "a note",
}
# Another valid value where one cannot be made from the first.
OTHER: dict[Any, Any] = {
    "viclip": "viclip_classifier",
    "middle": "slicer",
    "cv2": "torch",
    "bilinear": "bicubic",
    "videomme": "kinetics",
    "viclip_pretrain": "viclip_finetune",
    "float32": "bfloat16",
    "DualEncoder": "Classifier",
    "untrained": "reversed_time",
    "bench": "other",
    "model": "second",
    "one": "two",
    "two": "one",
    "a.safetensors": "b.safetensors",
    "config.json": "sub/config.json",
    "vocab.txt": "words.txt",
    "val": "test",
    "test": "val",
}
# What a field changes, by its longest prefix that stands here. "nothing" is nothing at all,
# "items", "score": what rule prepare or score makes, and predictions through the items alone.
CHANGES = {
    "model": {
        **dict.fromkeys(("fulfils", "artifacts", "hardware", "note"), "nothing"),
        **dict.fromkeys(("title", "published"), "score"),
        "protocols.other": "nothing",
        # Only random weights depend on it.
        "seed": "untrained",
        **dict.fromkeys(
            ("family", "arch", "weights", "wiseft", "mean", "std", "size", "dtype", "files"),
            "predictions",
        ),
        **dict.fromkeys(("options", "protocols", "version"), "predictions"),
    },
    "benchmark": {
        # An engine refuses a benchmark module that needs something else.
        "needs": "nothing",
        "artifacts": "nothing",
        "protocol.frames.store": "nothing",
        **dict.fromkeys(("sources", "splits", "rows", "partial", "options"), "items"),
        **dict.fromkeys(
            ("title", "headline", "primary", "chance", "note", "published", "controls"), "score"
        ),
        **dict.fromkeys(("module", "protocol", "version"), "predictions"),
    },
}
MMDUET = {"family": "mmduet", "options": {}}
SILENT = ("title", "workers", "save_every", "save_steps", "hardware", "artifacts", "note")
ITEMS = pd.DataFrame(
    {
        "id": ["a-1", "b-1"],
        "split": ["val", "test"],
        "video": ["a", "b"],
        "start": [float("nan")] * 2,
        "end": [float("nan")] * 2,
        "question": ["What?", "Where?"],
        "options": [["A. x", "B. y"], ["A. left", "B. right"]],
        "answer": ["A", "B"],
        "group": ["a", "b"],
        "meta": ["{}", "{}"],
    }
)


def leaves(value: Any, path: tuple = ()) -> Iterator[tuple]:
    """Paths of all values that are no mapping; a list of mappings is walked too."""
    if isinstance(value, dict):
        for key, sub in value.items():
            yield from leaves(sub, (*path, key))
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for number, sub in enumerate(value):
            yield from leaves(sub, (*path, number))
    else:
        yield path


def another(value: Any) -> Any:
    """A different valid value."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value / 2
    if value == MODEL["fulfils"]:
        return ["Classifier", "DualEncoder"]
    if isinstance(value, list):
        return value[::-1] if len(set(value)) > 1 else [another(v) for v in value]
    return OTHER.get(value, f"{value} indeed")


def changed(block: dict, path: tuple) -> dict:
    """A copy of a block with another value at a place."""
    block = copy.deepcopy(block)
    place: Any = block
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = another(place[path[-1]])
    return block


def kind_of(section: str, path: tuple) -> str:
    known = CHANGES[section]
    names = [".".join(map(str, path[:n])) for n in range(len(path), 0, -1)]
    found = [known[name] for name in names if name in known]
    assert found, f"say in CHANGES what {section}.{names[0]} changes"
    return found[0]


def config_of(model: dict = MODEL, benchmark: dict = BENCHMARK, **more: Any) -> dict[str, Any]:
    """Not checked: what a field changes does not depend on whether a family takes its value."""
    return {
        **{"paths": {}, "dtype": "float32", "tf32": False, "shards": 1, "artifacts": {}},
        "recipes": {},
        "models": {"model": copy.deepcopy(model), "second": copy.deepcopy(MODEL)},
        "benchmarks": {"bench": copy.deepcopy(benchmark), "other": copy.deepcopy(BENCHMARK)},
        **more,
    }


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Iterator[Path]:
    """A working directory with all files of both artifacts, each of its own content."""
    root = tmp_path_factory.mktemp("keys")
    names = [
        *("a.safetensors", "b.safetensors", "vocab.txt", "words.txt"),
        *("config.json", "sub/config.json", "sub/model.safetensors"),
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        # What a family or a frame rule takes is not the question here.
        patch.setattr(families, "ARCHS", {})
        patch.setattr(problems, "checked", lambda *_: None)
        for artifact in ("one", "two"):
            listed = {}
            for name in names:
                path = Path("data", artifact, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(f"{artifact}/{name}")
                listed[name] = {"size": path.stat().st_size, "sha256": receipt.hash_of(path)}
            folder = Path("data", artifact)
            receipt.write(f"data/receipts/{artifact}.json", artifact, folder, listed, "test")
        item_table.write(ITEMS, "items.parquet")
        yield root


WILDCARDS = SimpleNamespace(model="model", benchmark="bench", run="bench")


def keys(config: dict[str, Any]) -> dict[str, Any]:
    """All keys of one run."""
    plan, block = Plan(config, cfg.HOME), cfg.model(config, "model")
    weights = cache_key.find_weights(plan.weights("model"), block)

    def journal(control: str | None = None) -> str:
        used = None if control == "untrained" else weights
        items = Path("items.parquet")
        return key_name(cache_key.prediction_key(config, "model", "bench", items, used, control))

    return {
        "rule": plan.predictions_key(WILDCARDS),
        "journal": journal(),
        "control rule": plan.controls_key(WILDCARDS),
        "control journal": journal("untrained"),
        "items": [plan.items_key(WILDCARDS), plan.source_arguments(WILDCARDS)],
        "score": [plan.score_key(WILDCARDS), plan.run(WILDCARDS), plan.controls(WILDCARDS)],
    }


@pytest.fixture(scope="module")
def base(place) -> dict[str, Any]:
    return keys(config_of())


CASES = [
    (section, path)
    for section, block in (("model", MODEL), ("benchmark", BENCHMARK))
    for path in leaves(block)
]


@pytest.mark.parametrize(
    ("section", "path"), CASES, ids=lambda v: v if isinstance(v, str) else ".".join(map(str, v))
)
def test_a_field_changes_both_keys_or_neither(place, base, section, path) -> None:
    block = changed(MODEL if section == "model" else BENCHMARK, path)
    now = keys(config_of(**{section: block}) if path[0] != "needs" else plain_needs(block))
    differs = {name for name in base if now[name] != base[name]}
    kind = kind_of(section, path)
    if kind == "predictions":
        assert {"rule", "journal"} <= differs
    elif kind == "untrained":
        assert differs == {"control rule", "control journal"}
    elif kind == "nothing":
        assert not differs
    else:
        assert kind in differs and not {"rule", "journal"} & differs
        assert "control journal" not in differs
        assert "control rule" not in differs or path[0] == "controls"


def plain_needs(benchmark: dict) -> dict[str, Any]:
    """A model may fulfil several protocols."""
    model = {**MODEL, "fulfils": ["DualEncoder", "Classifier"]}
    return config_of(model=model, benchmark=benchmark)


@pytest.mark.parametrize("section", ["model", "benchmark", "recipe"])
def test_the_blocks_above_have_every_field(section) -> None:
    sections = {"model": Model, "benchmark": Benchmark, "recipe": Recipe}
    known = set(sections[section].model_fields) - {"inherits"}
    block = {"model": MODEL, "benchmark": BENCHMARK, "recipe": RECIPE}[section]
    assert set(block) == known


def test_settings_of_a_run(place, base) -> None:
    model = {key: value for key, value in MODEL.items() if key != "dtype"}
    plain = keys(config_of(model))
    assert plain == base
    for change in ({"dtype": "float16"}, {"tf32": True}):
        now = keys(config_of(model, **change))
        assert now["rule"] != base["rule"] and now["journal"] != base["journal"]
    silent = {
        "device": "cuda",
        "batch_size": 3,
        "shards": 4,
        "max_failed": 0.5,
        "decode": {"workers": 3, "timeout_s": 9},
        "keep_embeddings": False,
        "keep_archives": False,
        "offline": True,
        "train": True,
        "partial_papers": True,
        "runs": ["model/bench"],
    }
    for key, value in silent.items():
        assert keys(config_of(model, **{key: value})) == base, key


@pytest.mark.parametrize("path", list(leaves(RECIPE)), ids=lambda p: ".".join(map(str, p)))
def test_a_field_of_a_recipe_changes_both_keys_or_neither(path) -> None:
    def both(block: dict, **more: Any) -> tuple[str, str]:
        config = config_of(recipes={"recipe": copy.deepcopy(block)}, **more)
        rule = Plan(config, cfg.HOME).recipe_key(SimpleNamespace(recipe="recipe"))
        return rule, export.digest(config["recipes"]["recipe"], {"list": 1}, config)

    before, after = both(RECIPE), both(changed(RECIPE, path))
    same = [a == b for a, b in zip(before, after, strict=True)]
    assert same == [path[0] in SILENT] * 2
    assert all(a != b for a, b in zip(before, both(RECIPE, tf32=True), strict=True))


def test_a_replaced_shard_of_a_base_is_another_key(place, base) -> None:
    """Only config.json used to be hashed of the folder that holds 16 GB of weights."""
    shard = Path("data/two/a.safetensors")
    before = shard.read_bytes()
    try:
        shard.write_bytes(b"other weights")
        assert keys(config_of())["journal"] != base["journal"]
    finally:
        shard.write_bytes(before)
    assert keys(config_of())["journal"] == base["journal"]


def test_what_lies_beside_an_adapter_is_in_its_key(tmp_path) -> None:
    """Rank and scale of an adapter stand in a file of their own, as may its tokenizer."""
    weights = tmp_path / "adapter_model.safetensors"
    weights.write_bytes(b"adapter")
    (tmp_path / "adapter_config.json").write_text('{"r": 4, "lora_alpha": 8}')
    config = config_of({k: v for k, v in MODEL.items() if k not in ("files", "wiseft")} | MMDUET)
    before = cache_key.texts_key(config, "model", weights)
    (tmp_path / "adapter_config.json").write_text('{"r": 8, "lora_alpha": 8}')
    assert cache_key.texts_key(config, "model", weights) != before
    (tmp_path / "unrelated.json").write_text("{}")
    again = cache_key.texts_key(config, "model", weights)
    (tmp_path / "tokenizer.json").write_text("{}")
    assert cache_key.texts_key(config, "model", weights) != again


def test_classes_that_come_from_answers_are_in_the_key(place) -> None:
    """Scores are written in the order of the classes: a corrected list may move the columns."""
    model = {**MODEL, "fulfils": ["Classifier"]}
    config = config_of(model, {**BENCHMARK, "module": "actions", "needs": "Classifier"})
    weights = Path("data/one/a.safetensors")

    def key(answers: list[str], options: list[list[str]]) -> str:
        item_table.write(ITEMS.assign(answer=answers, options=options), "actions.parquet")
        path = Path("actions.parquet")
        return key_name(cache_key.prediction_key(config, "model", "bench", path, weights))

    none: list[list[str]] = [[], []]
    assert key(["run", "jump"], none) == key(["jump", "run"], none)  # a corrected label
    assert key(["run", "jump"], none) != key(["run", "walk"], none)
    listed = [["jump", "run"], ["jump", "run"]]
    assert key(["run", "jump"], listed) == key(["run", "walk"], listed)
