"""CONTRIBUTING's example model and benchmark: one file and one block each, nothing else edited.

Also: the whole chain where every path holds a space and a quote.
"""

import json
import re

import yaml

from tests.e2e import world
from vireo import config as cfg

CONTRIBUTING = (world.HOME / "CONTRIBUTING.md").read_text(encoding="utf-8")


def told(kind: str, name: str) -> str:
    """The block of CONTRIBUTING.md that stands under "`name`:"."""
    found = re.search(rf"`{re.escape(name)}`:\n\n```{kind}\n(.*?)```", CONTRIBUTING, re.S)
    assert found, f"CONTRIBUTING.md has no {kind} block for {name}"
    return found[1]


def test_a_model_and_a_benchmark_are_one_file_and_one_block_each(checkout, tmp_path) -> None:
    import av
    import numpy as np
    import torch
    from safetensors.torch import save_file

    home = checkout("my vireo's copy")
    before = {p: p.read_bytes() for p in home.rglob("*") if p.is_file()}
    (home / "vireo/models/colours.py").write_text(told("python", "vireo/models/colours.py"))
    (home / "vireo/benchmarks/which.py").write_text(told("python", "vireo/benchmarks/which.py"))

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

    blocks = cfg.merge(
        yaml.safe_load(told("yaml", "config/models.yaml")),
        yaml.safe_load(told("yaml", "config/benchmarks.yaml")),
    )
    assert [list(blocks[key]) for key in ("models", "benchmarks")] == [["colours"], ["which"]]
    config = {
        "paths": {
            "colour_clips": str(data),
            "colour_weights": str(tmp_path / "colours.safetensors"),
        },
        **blocks,
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
