"""`inherits: NAME` in models, benchmarks and recipes."""

import pytest

from vireo import config as cfg
from vireo.errors import VireoError


def test_a_users_block_takes_over_a_shipped_one(tmp_path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "models:\n"
        "  mine:\n"
        "    inherits: viclip\n"
        "    arch: {num_frames: 4}\n"
        "    weights: {recipe: my_recipe}\n"
        "benchmarks:\n"
        "  short_videos:\n"
        "    inherits: videomme\n"
        "    headline: [short]\n"
        "recipes:\n"
        "  my_recipe:\n"
        "    inherits: viclip_l14_stage2\n"
        "    init: {artifact: clip_vit_l14}\n"
        "    epochs: 2\n"
    )
    config = cfg.load([file])
    mine, viclip = (config["models"][name] for name in ("mine", "viclip"))
    assert mine["arch"] == {**viclip["arch"], "num_frames": 4}
    assert mine["weights"] == {"recipe": "my_recipe"}
    assert mine["mean"] == viclip["mean"]
    # Names and claims are a block's own.
    assert "title" not in mine and "inherits" not in mine
    assert config["benchmarks"]["short_videos"]["rows"] == {
        "short": 900,
        "medium": 900,
        "long": 900,
    }
    recipe = config["recipes"]["my_recipe"]
    assert recipe["init"] == {"artifact": "clip_vit_l14"}
    assert (recipe["epochs"], recipe["optim"]["lr"]) == (2, 4.0e-6)


def test_what_is_inherited_is_the_merged_block() -> None:
    over = {
        "models": {
            "a": {"inherits": "b", "title": "A"},
            "b": {"inherits": "viclip", "published": [], "note": "of b"},
            "viclip": {"dtype": "bfloat16"},
        }
    }
    models = cfg.load(over=over)["models"]
    assert models["a"]["dtype"] == "bfloat16"
    assert models["a"]["note"] == "of b" and "published" not in models["a"]


@pytest.mark.parametrize(
    ("models", "told"),
    [
        ({"a": {"inherits": "a"}}, "models.a.inherits: a -> a is a circle"),
        (
            {"a": {"inherits": "b"}, "b": {"inherits": "c"}, "c": {"inherits": "a"}},
            "models.c.inherits: a -> b -> c -> a is a circle",
        ),
        ({"a": {"inherits": "b"}, "b": {"inherits": "b"}}, "models.b.inherits: b -> b is a circle"),
        ({"a": {"inherits": "viclp"}}, "models.a.inherits: unknown model 'viclp'; did you mean"),
        ({"a": {"inherits": ["viclip"]}}, "models.a.inherits: ['viclip'] should be the name of"),
        ({"a": {"inherits": "b"}, "b": [1]}, "models.a.inherits: models.b is no block of keys"),
    ],
)
def test_circles_and_unknown_names_are_refused(models, told) -> None:
    with pytest.raises(VireoError) as caught:
        cfg.load(over={"models": models})
    assert told in str(caught.value)


def test_the_resolved_file_holds_no_inherits(tmp_path) -> None:
    config = cfg.load(over={"models": {"mine": {"inherits": "viclip"}}})
    assert '"inherits"' not in cfg.write_resolved(config, tmp_path).read_text()


def test_another_source_of_weights_replaces_the_first(tmp_path) -> None:
    over = {"models": {"viclip": {"weights": {"recipe": "viclip_l14_stage2"}}}}
    assert cfg.load(over=over)["models"]["viclip"]["weights"] == {"recipe": "viclip_l14_stage2"}
    over = {"models": {"mmduet": {"weights": {"file": "other.safetensors"}}}}
    weights = cfg.load(over=over)["models"]["mmduet"]["weights"]
    assert weights == {"artifact": "mmduet", "file": "other.safetensors"}


def test_the_older_word_watcher_is_understood() -> None:
    over = {
        "models": {"mine": {"inherits": "toy_mmduet", "fulfils": ["Watcher"]}},
        "benchmarks": {"b": {"inherits": "toy_magqa", "needs": "Watcher"}},
    }
    config = cfg.load(over=over)
    assert config["models"]["mine"]["fulfils"] == ["StreamingModel"]
    assert config["benchmarks"]["b"]["needs"] == "StreamingModel"
