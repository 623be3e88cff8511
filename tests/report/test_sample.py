"""One's own videos on the terminal, and one sample on a page: tiny models, real scripts."""

import json
import re
from pathlib import Path

import pytest

from tests import script
from tests.e2e import world
from vireo import config as cfg
from vireo.commands import predict
from vireo.errors import VireoError
from vireo.inference import video
from vireo.models import viclip_classifier
from vireo.report import sample
from vireo.tables import items as item_table


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A folder with a small Video-MME, prepared, and the tiny models' weights and configuration."""
    from types import SimpleNamespace

    from safetensors.torch import save_file

    from vireo.benchmarks import videomme

    folder = tmp_path_factory.mktemp("small")
    world.make(folder / "data", short=2)
    world.weights(folder / "tiny.safetensors")
    arch = {"image_size": 32, "patch_size": 16, "width": 32, "layers": 2, "heads": 2}
    arch |= {"num_frames": 4, "num_classes": 16}
    state = viclip_classifier.build(arch).state_dict()
    named = {"labels": "[" + ", ".join(f'"class {n}"' for n in range(16)) + "]"}
    save_file(state, folder / "ft.safetensors", metadata=named)
    config = world.settings(folder / "data", folder / "tiny.safetensors")
    config["models"]["tiny_ft"] = {
        **world.block(arch=arch), "family": "viclip_classifier", "fulfils": ["Classifier"],
        "weights": None,
    }  # fmt: skip
    del config["models"]["tiny_ft"]["artifacts"]
    config["decode"] = {"workers": 0}
    whole = cfg.load(over=config)
    block = cfg.benchmark(whole, "videomme")
    sources = {"data": folder / "data"}
    items = videomme.items(sources, block)
    item_table.write(items, folder / "cache/items/videomme.parquet")
    inventory = videomme.videos(sources, items, block)
    item_table.write(inventory, folder / "cache/items/videomme.videos.parquet")
    return SimpleNamespace(folder=folder, config=whole)


@pytest.fixture(autouse=True)
def _no_lock(monkeypatch, small) -> None:
    monkeypatch.setenv("VIREO_TRUST_DEVICES", "1")  # other tests may hold the machine's CPU lock
    monkeypatch.chdir(small.folder)


def told(small, capsys, model, place, texts=(), questions=(), weights=None) -> tuple[int, str]:
    paths = video.videos(Path(place))
    with video.open_model(small.config, model, None, weights) as held:
        answers = video.answers(small.config, held, paths, list(texts), list(questions))
        code = predict.print_text(answers, single=len(paths) == 1, asked=bool(questions))
    return code, capsys.readouterr().out


def test_texts_are_ranked_with_probabilities(small, capsys) -> None:
    weights = "tiny.safetensors"
    film = "data/videos/film00.mp4"
    code, text = told(small, capsys, "tiny", film, ["a red ball", "a dog", "a cat"], (), weights)
    shares = [float(line.split("%")[0]) for line in text.splitlines()]
    assert code == 0 and len(shares) == 3 and shares == sorted(shares, reverse=True)
    assert abs(sum(shares) - 100) < 0.2 and "a red ball" in text


def test_a_folder_gives_a_table_and_broken_videos_a_row(small, capsys, tmp_path) -> None:
    (tmp_path / "a.mp4").write_bytes((small.folder / "data/videos/film00.mp4").read_bytes())
    (tmp_path / "b.mp4").write_bytes(b"no video")
    code, text = told(small, capsys, "tiny", tmp_path, ["a dog", "a cat"], (), "tiny.safetensors")
    rows = [line.split("\t") for line in text.splitlines()]
    assert code == 0 and rows[0][0] == "video" and len({len(row) for row in rows}) == 1
    said = {Path(row[0]).name: row for row in rows[1:]}
    assert said["a.mp4"][1] in ("a dog", "a cat") and float(said["a.mp4"][2]) >= 0.5
    assert "b.mp4" in said["b.mp4"][-1]


def test_a_classifier_names_its_best_classes(small, capsys) -> None:
    film = "data/videos/film00.mp4"
    code, text = told(small, capsys, "tiny_ft", film, weights="ft.safetensors")
    assert code == 0 and len(text.splitlines()) == 5 and "class " in text


def test_a_videomamba_names_classes_too(small, capsys) -> None:
    over = {"models": {"toy_videomamba_short": {"weights": None}}, "decode": {"workers": 0}}
    config = cfg.load(over={**over, "device": "cpu"})
    with video.open_model(config, "toy_videomamba_short") as held:
        film = video.videos(Path("data/videos/film00.mp4"))
        assert predict.print_text(video.answers(config, held, film, [], []), single=True) == 0
    assert len(capsys.readouterr().out.splitlines()) == 5


def test_an_answerer_answers() -> None:
    import torch

    class Model:
        answers = ("left", "right", "yes")

        def transform(self, frames, view):
            return torch.zeros(len(frames), 3, 8, 8)

        def encode(self, clips):
            assert clips.shape[:3] == (1, 2, 2)
            return clips

        def answer(self, features, rows, questions, length):
            return torch.arange(5.0).repeat(len(questions), 2, 1)

        def aggregate(self, logits, how):
            return logits.logsumexp(1)

    import numpy as np

    protocol = {"frames": {"n": 2, "clips": 2}, "prompt": {"tokens": 9}}
    held = video.LoadedModel("toy", "Answerer", Model(), protocol, "sqa3d")
    frames = np.zeros((4, 8, 8, 3), np.uint8)
    guesses = video.QA(held, ["Where is the door?", "And the window?"])(frames)
    assert len(guesses) == 2 and [g.text for g in guesses[0]][:3] == ["(row 4)", "(row 3)", "yes"]


@pytest.mark.parametrize(
    ("model", "texts", "questions", "message"),
    [
        ("tiny", ["one"], [], "at least two texts"),
        (
            "tiny",
            [],
            ["what?"],
            "--ask is for an Answerer or a StreamingModel; tiny is a Dual",
        ),
        ("clipbert", [], [], "ask something"),
        ("tiny_ft", ["a", "b"], [], "--texts is for a DualEncoder; tiny_ft is a Classifier"),
    ],
)
def test_what_a_model_cannot_do(small, model, texts, questions, message) -> None:
    with pytest.raises(VireoError, match=message):
        video.check(small.config, model, None, {"texts": texts, "ask": questions})


def test_what_is_not_there(small) -> None:
    with pytest.raises(VireoError, match=r"no video at nowhere\.mp4"):
        video.videos(Path("nowhere.mp4"))
    with pytest.raises(VireoError, match=r"known endings: \.mp4"):
        video.videos(Path("cache"))
    with (
        pytest.raises(VireoError, match=r"snakemake --cores 2 data/receipts/tiny_weights.json"),
        video.open_model(small.config, "tiny"),
    ):
        pass
    with pytest.raises(VireoError, match=r"toy_mmduet watches videos as they play"):
        video.default_benchmark(small.config, "toy_mmduet")
    with pytest.raises(VireoError, match="sqa3d needs an Answerer, tiny is a DualEncoder"):
        video.default_benchmark(small.config, "tiny", "sqa3d")


def test_every_released_model_finds_a_protocol() -> None:
    config = cfg.load()
    found = {}
    for name, block in config["models"].items():
        if {"DualEncoder", "Classifier", "Answerer"} & set(block["fulfils"]):
            found[name] = video.default_benchmark(config, name)[0]
    assert found["viclip"] == found["clip_l14"] == "k400" and found["clipbert"] == "sqa3d"
    assert found["videomamba_t16_lvu_director"] == "lvu_director"
    assert found["viclip_ft_ssv2"] == "ssv2" and found["toy_viclip"] == "toy_kinetics"


def test_one_sample_on_a_page(small) -> None:
    config = small.config
    asked = sample.SampleRequest(
        "tiny", "videomme", "000-1", str(small.folder / "tiny.safetensors")
    )
    out = small.folder / "page.html"
    sample.write(config, asked, out)
    text = out.read_text()
    assert text.count("data:image/jpeg;base64,") >= 16 and "What happens?" in text
    assert "8 × 3 × 32 × 32" in text and "right answer" in text and "frames.rule" in text
    assert not re.search(r"https?://(?!www\.w3\.org/)", re.sub(r"data:[^\"]*", "", text))
    facts = sample.describe(config, asked)
    assert [p[:2] for p in facts["prompts"]] == ["A.", "B.", "C.", "D."]
    assert facts["scores"][0]["text"] == facts["prediction"]
    assert abs(sum(s["share"] for s in facts["scores"]) - 1) < 1e-6
    with pytest.raises(VireoError, match="unknown item '000-9'; did you mean '000-"):
        sample.describe(config, sample.SampleRequest("tiny", "videomme", "000-9"))


def mine(small) -> Path:
    """The configuration file of a user of the small world."""
    config = small.folder / "mine.yaml"
    config.write_text(json.dumps(world.settings(small.folder / "data", Path("tiny.safetensors"))))
    return config


def test_predict_ranks_texts_and_writes_json(small, vireo) -> None:
    texts = ["--texts", "a dog", "a cat", "--config", mine(small)]
    model = ["--weights", "tiny.safetensors", "--device", "cpu"]
    done = vireo("predict", "tiny", "--video", "data/videos/film00.mp4", *texts, *model)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2 and "%" in done.stdout
    done = vireo("predict", "tiny", "--video", "data/videos", *texts, *model, "--json")
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert {Path(row["video"]).name for row in rows} == {f"film{n:02d}.mp4" for n in range(4)}
    for row in rows:
        assert row["error"] is None and len(row["predictions"]) == 2
        assert abs(sum(p["probability"] for p in row["predictions"]) - 1) < 1e-6


def test_an_option_of_another_kind_of_model_is_refused(small, vireo) -> None:
    call = ["predict", "tiny", "--video", "data/videos/film00.mp4", "--config", mine(small)]
    done = vireo(*call, "--texts", "a", "b", "--fps", "2")
    assert done.returncode == 1 and "--fps is for a StreamingModel" in done.stderr
    assert vireo("predict", "tiny").returncode == 2


def test_show_writes_the_page(small, vireo) -> None:
    call = ["show", "tiny", "videomme", "--only", "000-1", "--out", small.folder / "shown.html"]
    done = vireo(*call, "--weights", "tiny.safetensors", "--config", mine(small))
    assert done.returncode == 0, done.stderr
    assert "What happens?" in (small.folder / "shown.html").read_text()


def test_the_older_name_of_both(small) -> None:
    call = ["tiny", "--video", "data/videos/film00.mp4", "--texts", "a dog", "a cat"]
    settings = ["--config", mine(small), "--weights", "tiny.safetensors", "--device", "cpu"]
    done = script.run("infer", *call, *settings)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2 and "%" in done.stdout
    done = script.run("infer", "tiny", "--texts", "a", "b")
    assert done.returncode == 2 and "--video" in done.stderr
    done = script.run("infer", "tiny", "--only", "1", "--show", "x")
    assert done.returncode == 2 and "--show FILE needs a benchmark and --only ID" in done.stderr
    done = script.run("infer", "tiny", "videomme")
    assert done.returncode == 2 and "--split, --items, --videos, --out" in done.stderr
    done = script.run("infer", "--help")
    assert done.returncode == 0 and "--video PATH" in done.stdout and "vireo show" in done.stdout
