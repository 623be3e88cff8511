"""A model and a benchmark of one's own: one file and one block each, and nothing else is edited.

Also: the whole chain where every path holds a space and a quote.
"""

import json

from tests.e2e import world

MODEL = '''
"""Colours: a video is its mean colour, a text the colour it names."""

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn

COLOURS = {"red": (1.0, 0.0, 0.0), "green": (0.0, 1.0, 0.0), "blue": (0.0, 0.0, 1.0)}


def build(arch):
    return nn.Linear(3, arch["embed_dim"], bias=False)


class Model:
    logit_scale = 10.0

    def __init__(self, module, device):
        self.module, self.device = module.to(device).eval(), device

    def transform(self, frames, view):
        return torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float() / 255

    @torch.inference_mode()
    def embed_video(self, clips):
        return self._unit(clips.to(self.device).mean((1, 3, 4)))

    @torch.inference_mode()
    def embed_text(self, texts):
        return self._unit(torch.tensor([COLOURS[t] for t in texts], device=self.device))

    def _unit(self, x):
        return nn.functional.normalize(self.module(x).float(), dim=-1)


def load(cfg, weights, device="cpu", dtype=torch.float32):
    module = build(cfg["arch"])
    module.load_state_dict(load_file(weights))
    return Model(module, device)
'''
BENCHMARK = '''
"""Which colour: a table of videos and their colour -> accuracy."""

import json

import pandas as pd

from vireo.media import inventory
from vireo.metrics.scores import Metric, Scores
from vireo.run.files import write_json

NEEDS = "DualEncoder"


def items(sources, block):
    table = pd.read_csv(sources["data"] / "colours.csv", dtype=str)
    return pd.DataFrame({
        "id": table["video"], "split": "test", "video": table["video"], "start": float("nan"),
        "end": float("nan"), "question": "Which colour?",
        "options": [["red", "green", "blue"]] * len(table), "answer": table["colour"],
        "group": table["video"], "meta": "{}",
    })


def videos(sources, items, block):
    return inventory.find(items["video"], sources["data"])


def prompts(items, protocol):
    return {row.id: list(row.options) for row in items.itertuples()}


def score(items, predictions, block):
    done = predictions[predictions["status"] == "ok"].set_index("id")["prediction"].map(json.loads)
    answers = items.set_index("id")["answer"].loc[done.index]
    return Scores({"accuracy": Metric.mean(100.0 * (done == answers), "%", 0, 100)}, "accuracy")


def export(items, predictions, outdir, block):
    write_json(outdir / "answers.json", dict(zip(predictions["id"], predictions["prediction"])))
    return [outdir / "answers.json"]
'''


def test_a_model_and_a_benchmark_are_one_file_and_one_block_each(checkout, tmp_path) -> None:
    import av
    import numpy as np
    import torch
    from safetensors.torch import save_file

    home = checkout("my vireo's copy")
    before = {p: p.read_bytes() for p in home.rglob("*") if p.is_file()}
    (home / "vireo/models/colours.py").write_text(MODEL.lstrip())
    (home / "vireo/benchmarks/which.py").write_text(BENCHMARK.lstrip())

    data = tmp_path / "Jo's clips"
    data.mkdir()
    save_file({"weight": torch.eye(3)}, tmp_path / "colours.safetensors")
    lines = ["video,colour"]
    for n, name in enumerate(("red", "green", "blue", "red")):
        with av.open(str(data / f"clip{n}.mp4"), "w") as out:
            stream = out.add_stream("libx264", rate=5)
            stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
            picture = np.zeros((32, 32, 3), np.uint8)
            picture[..., ("red", "green", "blue").index(name)] = 220
            for _ in range(10):
                out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            out.mux(stream.encode(None))
        lines.append(f"clip{n},{name if n < 3 else 'blue'}")
    (data / "colours.csv").write_text("\n".join(lines) + "\n")

    model = {
        "family": "colours", "fulfils": ["DualEncoder"], "arch": {"embed_dim": 3},
        "weights": {"artifact": "colour_weights"}, "version": 1,
        "artifacts": {"colour_weights": {"by_hand": "Draw them yourself."}},
    }  # fmt: skip
    benchmark = {
        "needs": "DualEncoder", "sources": {"data": "colour_clips"}, "splits": ["test"],
        "rows": {"all": 4}, "version": 1, "chance": 33.3, "primary": "accuracy",
        "protocol": {"frames": {"rule": "middle", "n": 2}},
        "artifacts": {"colour_clips": {"by_hand": "Film them yourself."}},
        "published": [{"model": "colours", "metric": "accuracy", "value": 75.0, "source": "we"}],
    }  # fmt: skip
    config = {
        "paths": {
            "colour_clips": str(data),
            "colour_weights": str(tmp_path / "colours.safetensors"),
        },
        "models": {"colours": model},
        "benchmarks": {"which": benchmark},
        "device": "cpu",
        "runs": ["colours/which"],
    }
    place = world.Place(tmp_path / "else where", config, home)
    place.make("results/colours/which.json", "results/report.html")

    whole = place.result("results/colours/which.json")
    assert whole["metrics"]["accuracy"]["value"] == 75.0
    assert whole["metrics"]["accuracy"]["published"] == 75.0
    answers = json.loads((place.folder / "results/colours/which/answers.json").read_text())
    assert [json.loads(a) for a in answers.values()] == ["red", "green", "blue", "red"]
    assert "colours" in (place.folder / "results/report.html").read_text()
    changed = [str(p) for p, content in before.items() if p.read_bytes() != content]
    assert not changed
