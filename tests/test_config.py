"""The configuration: what is shipped is valid, what is wrong is named with its fix."""

import json

import pytest
import yaml

from vireo import config as cfg
from vireo.errors import VireoError


def test_shipped_configuration_is_valid_and_defaults_are_filled() -> None:
    config = cfg.load()
    assert config["decode"]["timeout_s"] == 300
    assert config["models"]["viclip"]["arch"]["layers"] == 24
    assert cfg.resolve_run(config, "videomme") == ("videomme", ["short", "medium", "long"])
    assert cfg.resolve_run(config, "videomme_short") == ("videomme", ["short"])


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ({"offlin": True}, "unknown key 'offlin'; did you mean 'offline'?"),
        ({"dtype": "flaot16"}, "'float16'"),
        ({"decode": {"workers": -1}}, "decode.workers: -1 is less than the minimum of 0"),
        ({"offline": "yes"}, "offline: 'yes' should be of type boolean"),
        ({"models": {"viclip": {"familly": "x"}}}, "did you mean 'family'?"),
        ({"models": {"viclip": {"weights": {"artefact": "x"}}}}, "did you mean 'artifact'?"),
        ({"models": {"viclip": {"weights": {"artifact": "viclip_l14"}}}}, "unknown artifact"),
        ({"models": {"bad name": {}}}, "`weights`, `version` are missing"),
        ({"paths": {"videome": "/x"}}, "unknown artifact 'videome'; did you mean 'videomme'?"),
        ({"runs": ["videomme"]}, "does not match"),
        ({"benchmarks": {"videomme": {"headline": ["shrt"]}}}, "did you mean 'short'?"),
    ],
)
def test_mistakes_are_named_with_the_nearest_known_word(over: dict, message: str) -> None:
    with pytest.raises(VireoError) as caught:
        cfg.load(over=over)
    assert message in str(caught.value)


def test_unknown_names_list_near_ones() -> None:
    config = cfg.load()
    with pytest.raises(VireoError, match="unknown model 'vicilp'; did you mean 'viclip'"):
        cfg.model(config, "vicilp")
    with pytest.raises(VireoError, match="did you mean 'videomme_short'"):
        cfg.resolve_run(config, "videomme_shrt")


def test_duplicate_keys_are_refused_with_file_and_line(tmp_path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("models:\n  a: {version: 1}\nmodels:\n  b: {version: 1}\n")
    with pytest.raises(VireoError, match=r"duplicate key 'models', .*mine.yaml, line 3"):
        cfg.load([file])


@pytest.mark.parametrize("text", ["[1, 2]", "just text", "a: [1", "\x00", "? {a: 1}\n: 2\n"])
def test_files_that_are_not_mappings_or_not_yaml(tmp_path, text: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(VireoError, match=r"mine.yaml"):
        cfg.load([file])


def test_a_users_file_is_merged_over_ours(tmp_path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        yaml.safe_dump(
            {
                "paths": {"videomme": "/data/vm"},
                "models": {
                    "viclip": {"dtype": "bfloat16"},
                    "mine": {
                        "family": "clipbert",
                        "fulfils": ["Answerer"],
                        "arch": {"width": 8},
                        "weights": {"artifact": "my_file"},
                        "artifacts": {"my_file": {"by_hand": "Put it there."}},
                        "version": 1,
                    },
                },
            }
        )
    )
    config = cfg.load([file])
    assert cfg.dtype(config, "viclip") == "bfloat16"
    assert cfg.dtype(config, "mine") == "float32"
    assert config["models"]["viclip"]["arch"]["layers"] == 24
    assert config["artifacts"]["my_file"]["by_hand"] == "Put it there."


def test_protocol_is_the_benchmarks_with_the_models_changes() -> None:
    four = {"arch": {"num_frames": 4}, "protocols": {"videomme": {"frames": {"n": 4}}}}
    config = cfg.load(over={"models": {"viclip": four}})
    protocol = cfg.protocol(config, "viclip", "videomme")
    assert protocol["frames"]["n"] == 4
    assert protocol["frames"]["rule"] == "slicer_then_stride"
    assert protocol["resize"]["size"] == 224
    assert cfg.protocol(config, "toy_viclip", "videomme")["resize"]["size"] == 64


def test_resolved_file_is_what_scripts_read(tmp_path, monkeypatch) -> None:
    small = {"recipes": {"toy_viclip_pretrain": {"optim": {"lr": 5e-5}}}}  # JSON has no dot here
    config = cfg.load(over={"offline": True, **small})
    path = cfg.write_resolved(config, tmp_path)
    assert json.loads(path.read_text())["offline"] is True
    monkeypatch.setenv("VIREO_CONFIG", str(path))
    assert cfg.load() == config


def test_frames_of_a_view_follow_from_the_model_and_segments_from_the_views() -> None:
    config = cfg.load()
    made = cfg.protocol(config, "videomamba_t16_k400_f16", "k400_ft")
    assert (made["frames"]["n"], made["frames"]["segments"]) == (16, 4)
    made = cfg.protocol(config, "videomamba_m16_coin_mask_f64", "coin")
    assert (made["frames"]["n"], made["frames"]["segments"], made["views"]["crops"]) == (64, 4, 3)
    own = {"protocols": {"coin": {"frames": {"n": 5}, "views": {"segments": 2}}}}
    own["arch"] = {"num_frames": 5}
    config = cfg.load(over={"models": {"videomamba_m16_coin_mask_f64": own}})
    frames = cfg.protocol(config, "videomamba_m16_coin_mask_f64", "coin")["frames"]
    assert (frames["n"], frames["segments"]) == (5, 2)


def test_views_are_those_of_the_published_numbers() -> None:
    config = cfg.load()
    views = {
        name: tuple(config["benchmarks"][name]["protocol"]["views"].values())
        for name in ("k400_ft", "ssv2", "breakfast", "coin", "lvu_scene", "lvu_like")
    }
    assert views == {
        "k400_ft": (4, 3),
        "ssv2": (2, 3),
        "breakfast": (4, 3),
        "coin": (10, 3),
        "lvu_scene": (4, 3),
        "lvu_like": (4, 3),
    }


def test_true_and_false_of_the_command_line_are_booleans() -> None:
    """Snakemake hands `--config partial_papers=true` over as text."""
    config = cfg.load(over={"partial_papers": "true", "offline": "false"})
    assert config["partial_papers"] is True and config["offline"] is False
    with pytest.raises(VireoError, match="train: 'yes' should be of type boolean"):
        cfg.load(over={"train": "yes"})
