"""What a user can get wrong in a configuration: a sentence with key, file and line each."""

import math

import pytest

from vireo import config as cfg
from vireo.errors import VireoError


def message(over=None, files=()) -> str:
    with pytest.raises(VireoError) as caught:
        cfg.load(files, over)
    return str(caught.value)


def at(path: str, value) -> dict:
    """{"a": {"b": value}} for "a.b"."""
    for key in reversed(path.split(".")):
        value = {key: value}
    return value


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("decode.wrokers", 1, "unknown key 'wrokers'; did you mean 'workers'?"),
        ("benchmarks.videomme.protocol.promt", {}, "did you mean 'prompt'?"),
        ("benchmarks.videomme.protocol.prompt.leter_prefix", True, "mean 'letter_prefix'?"),
        ("benchmarks.videomme.protocol.frames.candidate", 4, "did you mean 'candidates'?"),
        ("benchmarks.videomme.protocol.frames.rule", "slicer_than_stride", "'slicer_then_stride'"),
        ("benchmarks.videomme.protocol.frames.rule", "fpsx", "unknown frame rule 'fpsx'"),
        ("benchmarks.videomme.protocol.resize.libary", "cv2", "did you mean 'library'?"),
        ("benchmarks.videomme.protocol.resize.library", "cv", "did you mean 'cv2'?"),
        ("benchmarks.videomme.protocol.views.crop", 3, "did you mean 'crops'?"),
        ("benchmarks.youcook2.protocol.prompt.watch.pro", 0.5, "did you mean 'prob'?"),
        ("benchmarks.magqa.options.judge.knd", "words", "did you mean 'kind'?"),
        ("benchmarks.k400.options.clases", 400, "did you mean 'classes'"),
        ("benchmarks.k400.module", "kinetic", "did you mean 'kinetics'?"),
        ("models.viclip.family", "viklip", "did you mean 'viclip'"),
        ("models.viclip.arch.layer", 4, "did you mean 'layers'"),
        ("models.viclip.arch.layers", -1, "models.viclip.arch.layers: -1 is less than"),
        ("models.viclip.arch.patch_size", 15, "image_size 224 is no multiple of patch_size 15"),
        ("models.toy_mmduet.arch.vision.layrs", 4, "did you mean 'layers'"),
        ("models.mmduet.options", {"tower_autcast": "float16"}, "did you mean 'tower_autocast'?"),
        ("models.viclip.std", [0, 0, 0], "models.viclip.std.0: 0 is not greater than 0"),
        ("models.viclip.protocols.videomme.frames.candidats", 4, "did you mean 'candidates'?"),
        ("models.viclip.version", True, "models.viclip.version: True should be of type integer"),
        ("models.viclip.hardware.gpus", 1, "did you mean 'gpu'"),
        ("recipes.mmduet_it.task", "mmdut", "did you mean 'mmduet'?"),
        ("recipes.mmduet_it.model.lora.rank", 4, "unknown key 'rank'"),
        ("recipes.mmduet_it.optim.lr", "5e-5x", "recipes.mmduet_it.optim.lr: '5e-5x' should be of"),
        ("recipes.viclip_ft_k400.data.mixp", 0, "did you mean 'mixup'"),
        ("recipes.viclip_ft_k400.schedule.kind", "cosine_from", "did you mean 'cosine_from_to'"),
        ("recipes.viclip_ft_k400.init.recipe", "viclip_ft_k71", "did you mean 'viclip_ft_k710'"),
        ("artifacts.videomme.wants", [{"wat": "x", "any": ["*"]}], "did you mean 'what'?"),
        ("artifacts.new", {"sources": [{"type": "hf"}]}, "artifacts.new.sources.0: `repo` is"),
        ("shards", 1_000_000, "shards: 1000000 is more than the maximum of 4096"),
        ("shards", 2.0, "shards: 2.0 should be of type integer"),
        ("shards", 0, "shards: 0 is less than the minimum of 1"),
        ("max_failed", math.nan, "max_failed: nan is not a finite number"),
        ("max_failed", 1.5, "max_failed: 1.5 is more than the maximum of 1"),
        ("models", [], "models: [] should be of type mapping"),
        ("models.viclip", None, "models.viclip: None should be of type mapping"),
    ],
)  # fmt: skip
def test_a_mistake_at_any_depth_is_one_sentence(path, value, told) -> None:
    text = message(at(path, value))
    assert told in text
    assert "\n" not in text and "pydantic" not in text


def test_a_users_family_and_benchmark_keep_their_own_keys(tmp_path, monkeypatch) -> None:
    """Only what our own files read is known here; another family's `build(arch)` checks its own."""
    from vireo.config import checks

    for folder, name in (("models", "colours"), ("benchmarks", "which")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{name}.py").write_text("")
    shipped = checks.modules
    monkeypatch.setattr(checks, "CODE", tmp_path)
    users = {folder: checks.modules(folder) for folder in ("models", "benchmarks")}
    monkeypatch.undo()
    monkeypatch.setattr(checks, "modules", lambda at: [*shipped(at), *users.get(at, [])])
    protocol = {"prompt": {"tone": "kind"}, "frames": {"rule": "middle"}}
    model = {"family": "colours", "fulfils": ["DualEncoder"], "weights": None, "version": 1}
    over = {
        "benchmarks": {"which": {"needs": "DualEncoder", "sources": {}, "splits": ["a"],
                                 "version": 1, "protocol": protocol, "options": {"any": [1]}}},
        "models": {"colours": {**model, "arch": {"shades": -3}, "options": {"bright": True}}},
    }  # fmt: skip
    config = cfg.load(over=over)
    assert cfg.protocol(config, "colours", "which")["prompt"] == {"tone": "kind"}
    assert config["models"]["colours"]["arch"] == {"shades": -3}


def test_a_missing_protocol_is_found_before_any_job() -> None:
    block = {"module": "videomme", "needs": "DualEncoder", "sources": {}, "splits": ["a"],
             "version": 1}  # fmt: skip
    assert "benchmarks.mine: no `protocol`" in message({"benchmarks": {"mine": block}})
    block["protocol"] = {"frames": {"n": 8}}
    assert "benchmarks.mine.protocol.frames: `rule` is missing" in message(
        {"benchmarks": {"mine": block}}
    )


def test_frames_that_the_architecture_cannot_take_are_found_when_the_run_is_planned() -> None:
    config = cfg.load(over=at("models.viclip.protocols.videomme.frames.n", 6))
    with pytest.raises(VireoError, match=r"viclip on videomme: the protocol takes 6 frames .* 8"):
        cfg.protocol(config, "viclip", "videomme")
    config = cfg.load(over=at("models.videomamba_t16_k400_f8.protocols.k400_ft.frames.n", 16))
    with pytest.raises(VireoError, match=r"16 frames .* architecture 8 "):
        cfg.protocol(config, "videomamba_t16_k400_f8", "k400_ft")
    assert cfg.protocol(config, "clip_l14", "k400")["frames"]["n"] == 1


def test_an_override_that_its_rule_does_not_have_is_found_when_the_run_is_planned() -> None:
    config = cfg.load(over=at("models.viclip.protocols.k400.frames.candidates", 6))
    with pytest.raises(VireoError, match="unknown setting of the frame rule middle 'candidates'"):
        cfg.protocol(config, "viclip", "k400")


def test_the_file_and_line_that_hold_the_key_are_named(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.yaml").write_text("models:\n  viclip:\n    dtype: float32\n")
    (tmp_path / "b.yaml").write_text(
        "# mine\nmodels:\n  mine:\n    inherits: viclip\n    hardware:\n      gpus: 2\n"
    )
    assert "(b.yaml, line 6)" in message(files=["a.yaml", "b.yaml"])
    # Snakemake hands over what its files hold together with `--config`.
    over = at("models.mine", {"inherits": "viclip", "hardware": {"gpus": 2}})
    assert "(b.yaml, line 6)" in message(over, ["a.yaml", "b.yaml"])
    over = at("models.viclip.dtype", "float23")
    told = message(over, ["a.yaml"])
    assert "models.viclip.dtype: unknown value 'float23'; did you mean 'float32'" in told
    assert told.endswith("(--config)")


def test_a_key_that_was_inherited_is_named_where_it_is_written(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(
        "models:\n  one:\n    inherits: viclip\n    arch:\n      heads: 0\n"
        "  two:\n    inherits: one\n"
    )
    text = message(files=["mine.yaml"])
    assert "models.one.arch.heads: 0 is less than the minimum of 1 (mine.yaml, line 5)" in text


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: [1\nb: 2\n", r"mine.yaml, line 2, column 2: not valid YAML"),
        ("models:\n\tviclip: 1\n", r"mine.yaml, line 2, column 1: not valid YAML"),
        ("models: &m\n  a: *m\n", r"mine.yaml, line 1, column 9: this entry contains itself"),
        ("runs: &r [*r]\n", r"mine.yaml, line 1, column 7: this entry contains itself"),
        ("paths: {a: x}\npaths: {b: y}\n", r"duplicate key 'paths', mine.yaml, line 2, column 1"),
        ("a: *nowhere\n", r"mine.yaml, line 1, column 4: not valid YAML: .*undefined alias"),
        ("a: !!python/object:os.system x\n", r"mine.yaml, line 1, column 4: not valid YAML"),
    ],
)
def test_yaml_that_cannot_be_read_names_file_line_and_column(
    text, told, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(VireoError, match=told):
        cfg.load(["mine.yaml"])


def test_aliases_that_multiply_are_refused(tmp_path) -> None:
    lines = ["a0: &a0 [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    file = tmp_path / "many.yaml"
    file.write_text("\n".join(lines) + "\n")
    with pytest.raises(VireoError, match="more than 1000000 entries"):
        cfg.load([file])


def test_deep_nesting_is_refused(tmp_path) -> None:
    file = tmp_path / "deep.yaml"
    for text in ("a: " + "[" * 200_000 + "]" * 200_000, "a: " + "{b: " * 50_000, "- " * 50_000):
        file.write_text(text + "\n")
        with pytest.raises(VireoError, match=r"deep.yaml, line 1: nested more than 100 levels"):
            cfg.load([file])
    # Brackets in a text are no levels.
    file.write_text("models: {viclip: {note: '" + "[" * 200 + "'}}\n")
    assert cfg.load([file])["models"]["viclip"]["note"] == "[" * 200
