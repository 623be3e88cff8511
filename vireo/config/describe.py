"""The types of this room for people and for editors: config/README.md and config/schema.json."""

from collections.abc import Iterator
from typing import Any

from vireo.config import families, readers, tasks
from vireo.config.artifact import Artifact, Extract, File, Source, Want
from vireo.config.base import Block
from vireo.config.benchmark import Benchmark
from vireo.config.hardware import Decode, Hardware
from vireo.config.merging import INHERITS, NOT_INHERITED
from vireo.config.model import AuxFile, Averaged, Model, Published, Weights
from vireo.config.protocol import Frames, Prompt, Protocol, Resize, Views, Watch
from vireo.config.recipe import Optim, Recipe, Schedule
from vireo.config.settings import Settings

HEAD = """\
# Configuration

Written by `scripts/generate.py` from the types in `vireo/config/`; edit those.

`config.yaml` is what you edit. `models.yaml`, `benchmarks.yaml`, `recipes.yaml` and
`artifacts.yaml` hold one block per model, benchmark, training run and download; `published.tsv`
holds published numbers and `videomamba.tsv` VideoMamba's models, recipes and artifacts, a row per
checkpoint (vireo/config/videomamba.py). Anything may also be in a file of your own
(`snakemake … --configfile mine.yaml`, after the targets): mappings are merged key by key,
everything else is replaced; a `weights` or `init` that names another artifact or recipe replaces
the old one. Unknown and duplicate keys are refused at every depth, with the nearest known key and
the file and line in the message.

```yaml
# mine.yaml: a model of your own next to ours, and where your data lies
paths:
  videomme: /datasets/Video-MME
models:
  my_viclip:
    family: viclip
    fulfils: [DualEncoder]
    arch: {image_size: 224, patch_size: 16, width: 768, layers: 12, heads: 12, embed_dim: 512, \
num_frames: 8, text_width: 512, text_layers: 12, text_heads: 8}
    weights: {artifact: my_checkpoint}
    mean: [0.485, 0.456, 0.406]
    std: [0.229, 0.224, 0.225]
    size: 224
    version: 1
    artifacts:
      my_checkpoint:
        by_hand: Set paths.my_checkpoint to your file.
```

Then `snakemake --cores 8 results/my_viclip/videomme.json --configfile mine.yaml` (Snakemake takes
whatever follows `--configfile` for one more configuration file).

`inherits: NAME` in a model, benchmark or recipe takes over the block of that name in the same
section, after all files are merged; keys given next to it are merged over it. Not taken over: @.

```yaml
models:
  my_finetuned_viclip:
    inherits: viclip
    title: ViCLIP, fine-tuned on our videos
    weights: {artifact: my_checkpoint}
```
"""
SECTIONS: tuple[tuple[str, type[Block]], ...] = (
    ("model", Model),
    ("weights, init", Weights),
    ("wiseft", Averaged),
    ("files", AuxFile),
    ("published", Published),
    ("hardware", Hardware),
    ("decode", Decode),
    ("benchmark", Benchmark),
    ("protocol", Protocol),
    ("frames", Frames),
    ("resize", Resize),
    ("views", Views),
    ("prompt", Prompt),
    ("watch", Watch),
    ("recipe", Recipe),
    ("optim", Optim),
    ("schedule", Schedule),
    ("artifact", Artifact),
    ("source", Source),
    ("file", File),
    ("extract", Extract),
    ("want", Want),
)
TABLE = ("| key | kind | unit | default | meaning |", "|---|---|---|---|---|")


def schema() -> dict[str, Any]:
    """JSON schema of a configuration file, for editors; a file need not hold everything."""
    made = Settings.model_json_schema()
    made.pop("required")
    for name in ("Model", "Benchmark", "Recipe"):
        block = made["$defs"][name]
        block.pop("required")
        text = f"Block of this section that this one takes over ({name.lower()} name)."
        block["properties"][INHERITS] = {"type": "string", "description": text}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **made}


def readme() -> str:
    """Text of config/README.md."""
    named = ", ".join(f"`{key}`" for key in NOT_INHERITED)
    parts = [HEAD.replace("@", named), "## Top level", "", *TABLE, *_rows(Settings)]
    for name, kind in SECTIONS:
        parts += ["", f"## {name}", "", _doc(kind), "", *TABLE, *_rows(kind)]
    for title, what, kinds in (
        ("Sizes (`arch`) by family", "family", _by_kind(families.ARCHS)),
        ("Switches of models (`options`) by family", "family", _by_kind(families.OPTIONS)),
        ("Switches of benchmarks (`options`) by file", "file", _by_kind(readers.OPTIONS)),
        ("Samples of a recipe (`data`) by task", "task", _by_kind(tasks.DATA)),
        ("Model in training (`model`) by task", "task", _by_kind(tasks.MODEL)),
    ):
        parts += ["", f"## {title}"]
        for kind, names in kinds.items():
            if kind.model_fields:
                listed = ", ".join(f"`{name}`" for name in names)
                parts += ["", f"{what.capitalize()} {listed}:", "", *TABLE, *_rows(kind)]
    rows = [
        f"| `{rule}` | " + ", ".join(f"`{k}: {_plain(v)}`" for k, v in settings.items()) + " |"
        for rule, settings in readers.FRAME_RULES.items()
    ]
    parts += [
        "",
        "## Frame rules and their settings",
        "",
        "| rule | settings |",
        "|---|---|",
        *rows,
    ]
    return "\n".join(parts) + "\n"


def _by_kind(table: dict[str, Any]) -> dict[type[Block], list[str]]:
    found: dict[type[Block], list[str]] = {}
    for name, kind in table.items():
        found.setdefault(kind, []).append(name)
    return found


def _doc(kind: type[Block]) -> str:
    return " ".join((kind.__doc__ or "").split())


def _rows(kind: type[Block]) -> Iterator[str]:
    made = kind.model_json_schema()
    properties = made["properties"] if "properties" in made else _referred(made)["properties"]
    for field in kind.model_fields.values():
        default = field.get_default(call_default_factory=True)
        if field.is_required():
            note = "**required**"
        elif default is None:
            note = ""
        elif isinstance(default, Block):
            note = f"`{_plain(default.dump())}`" if default.dump() else ""
        else:
            note = f"`{_plain(default)}`"
        yield _row(field, properties, note, kind)


def _row(field: Any, properties: dict[str, Any], note: str, kind: type[Block]) -> str:
    name = field.alias or next(n for n, f in kind.model_fields.items() if f is field)
    unit = (field.json_schema_extra or {}).get("unit", "")
    meaning = " ".join((field.description or "").split()).replace("|", "\\|")
    kind_of = _kind(properties[name])
    if not note and kind.defaults_dumped != "all":  # left out is as good as null
        kind_of = kind_of.removesuffix(" or null")
    return f"| `{name}` | {kind_of} | {unit} | {note} | {meaning} |"


def _referred(made: dict[str, Any]) -> dict[str, Any]:
    return made["$defs"][made["$ref"].rsplit("/", 1)[1]]  # type: ignore[no-any-return]


def _plain(value: Any) -> str:
    words = {None: "null", True: "true", False: "false"}
    if value is None or isinstance(value, bool):
        return words[value]
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {_plain(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_plain, value)) + "]"
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _kind(rule: dict[str, Any]) -> str:
    if "anyOf" in rule:
        return " or ".join(_kind(one) for one in rule["anyOf"])
    if "enum" in rule:
        return " / ".join(f"`{value}`" for value in rule["enum"])
    if "const" in rule:
        return f"`{rule['const']}`"
    if "$ref" in rule:
        return _named(rule["$ref"].rsplit("/", 1)[1])
    kind = str(rule.get("type", "anything"))
    extra = rule.get("additionalProperties")
    if kind == "object":
        return f"name → {_kind(extra)}" if isinstance(extra, dict) else "mapping"
    if kind == "array":
        return f"list of {_kind(rule.get('items', {}))}"
    bounds = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    limits = [f"{sign} {rule[key]:g}" for key, sign in bounds.items() if key in rule]
    return " ".join([kind, *limits])


def _named(name: str) -> str:
    known = {kind.__name__: title.split(",")[0] for title, kind in SECTIONS}
    return known.get(name, name)
