"""A small Video-MME with a tiny ViCLIP; the workflow as people call it, in a folder of its own."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import av
import numpy as np
import pandas as pd

HOME = Path(__file__).resolve().parents[2]
ARCH = {
    "image_size": 32, "patch_size": 16, "width": 32, "layers": 2, "heads": 2, "embed_dim": 16,
    "num_frames": 8, "text_width": 32, "text_layers": 2, "text_heads": 2,
}  # fmt: skip
LABELS = {
    "domain": "Knowledge", "sub_category": "Geography", "task_type": "Counting Problem",
    "url": "https://www.example.org",
}  # fmt: skip
WORDS = [
    "red",
    "green",
    "blue",
    "ball",
    "box",
    "runs",
    "falls",
    "left",
    "right",
    "of",
    "the",
    "house",
    "door",
    "cat",
    "dog",
]
SHORT = "results/tiny/videomme_short.json"


def film(path: Path, seed: int, seconds: int) -> None:
    """Coarse coloured noise that changes twice a second, H.264 at 4 frames per second."""
    rng = np.random.default_rng(seed)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=4)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.thread_count = 1
        for n in range(4 * seconds):
            if n % 2 == 0:
                picture = rng.integers(0, 256, (6, 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode(None))


def question(video: str, number: int, q: int, split: str, rng: np.random.Generator) -> dict:
    """One row of the official parquet with random words as options."""
    options = [f"{mark}. {' '.join(rng.choice(WORDS, 6))}." for mark in "ABCD"]
    return {
        "video_id": f"{number:03d}", "duration": split, **LABELS, "videoID": video,
        "question_id": f"{number:03d}-{q}", "question": "What happens?", "options": options,
        "answer": "ABCD"[(number + q) % 4],
    }  # fmt: skip


def make(root: Path, short: int = 8, others: int = 1) -> None:
    """Videos (every second one in videos/part2), parquet and subtitles, as released."""
    (root / "videos/part2").mkdir(parents=True)
    (root / "subtitle").mkdir()
    (root / "videomme").mkdir()
    rng = np.random.default_rng(0)
    rows = []
    for n, split in enumerate(["short"] * short + ["medium"] * others + ["long"] * others):
        name = f"film{n:02d}"
        film(root / ("videos/part2" if n % 2 else "videos") / f"{name}.mp4", n, 9 + 4 * n)
        if n % 3 == 0:
            (root / f"subtitle/{name}.srt").write_text("1\n00:00:01,000 --> 00:00:02,000\nHm.\n")
        rows += [question(name, n, q, split, rng) for q in range(1, 4)]
    pd.DataFrame(rows).to_parquet(root / "videomme/test-00000-of-00001.parquet")


def weights(path: Path, seed: int = 5) -> None:
    """Random weights of the tiny ViCLIP."""
    import torch
    from safetensors.torch import save_file

    from vireo.models import viclip

    module = viclip.build(ARCH, torch.Generator().manual_seed(seed))
    draw = torch.Generator().manual_seed(seed + 1)
    state = module.state_dict().items()
    save_file({k: v + 0.05 * torch.randn(v.shape, generator=draw) for k, v in state}, path)


def block(**changed: Any) -> dict[str, Any]:
    """The model block of the tiny ViCLIP."""
    return {
        "family": "viclip", "fulfils": ["DualEncoder"], "arch": ARCH, "size": 32, "version": 1,
        "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225],
        "weights": {"artifact": "tiny_weights"},
        "artifacts": {"tiny_weights": {"by_hand": "Made by the test."}},
        "hardware": {"gpu": 0, "mem_gb": 1, "batch": 2},
        **changed,
    }  # fmt: skip


def settings(data: Path, weights_file: Path) -> dict[str, Any]:
    """What a user of the small world writes into a file for --configfile."""
    return {
        "paths": {"videomme": str(data), "tiny_weights": str(weights_file)},
        "benchmarks": {"videomme": {"partial": True}},
        "models": {"tiny": block()},
        "device": "cpu",
        "shards": 1,
    }


class Done:
    """What a call of the workflow said."""

    def __init__(self, code: int, text: str) -> None:
        self.code, self.text = code, text

    def ran(self) -> Counter[str]:
        """Rule -> number of its jobs, from the table of jobs at the beginning."""
        counts: Counter[str] = Counter()
        table = self.text.partition("job ")[2].partition("total")[0]
        for line in table.splitlines()[2:]:
            if len(words := line.split()) == 2:
                counts[words[0]] = int(words[1])
        return counts


class Place:
    """A working directory with a configuration of its own."""

    def __init__(self, folder: Path, config: dict[str, Any], home: Path = HOME) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.config, self.home = folder, config, home

    def command(self, *arguments: str, cores: int = 2) -> list[str]:
        """The launcher of the workflow with this place's configuration file written."""
        mine = self.folder / "mine.yaml"
        mine.write_text(json.dumps(self.config))
        launcher = [sys.executable, "-m", "snakemake", "-s", str(self.home / "Snakefile")]
        return [*launcher, *arguments, "--cores", str(cores), "--configfile", str(mine)]

    def environment(self, **more: str) -> dict[str, str]:
        """Of a user whose venv is not activated; device locks do not wait for other tests."""
        drop = ("VIREO_CONFIG", "PYTHONPATH", "HF_TOKEN", "HF_HUB_OFFLINE")
        clean = {k: v for k, v in os.environ.items() if k not in drop}
        path = "/usr/local/bin:/usr/bin:/bin"
        return {**clean, "PATH": path, "VIREO_TRUST_DEVICES": "1", "OMP_NUM_THREADS": "1", **more}

    def run(self, *arguments: str, cores: int = 2, **env: str) -> Done:
        """Call the workflow and wait."""
        done = subprocess.run(
            self.command(*arguments, cores=cores), cwd=self.folder, env=self.environment(**env),
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        return Done(done.returncode, done.stdout)

    def make(self, *arguments: str, **keywords: Any) -> Done:
        """`run` that must succeed."""
        done = self.run(*arguments, **keywords)
        assert done.code == 0, done.text
        return done

    def plan(self, *arguments: str) -> Done:
        """Dry run that must succeed."""
        return self.make(*arguments, "-n")

    def result(self, name: str = SHORT) -> dict[str, Any]:
        """A result file."""
        return json.loads((self.folder / name).read_text())

    def predictions(self, name: str = SHORT) -> pd.DataFrame:
        """predictions.parquet beside a result, by id."""
        from vireo.tables import predictions

        folder = (self.folder / name).with_suffix("")
        return predictions.read(folder / "predictions.parquet").set_index("id").sort_index()

    def journalled(self) -> Counter[tuple[str, str]]:
        """(id, status) -> readable lines in all journals."""
        from vireo.inference import journal

        files = self.folder.glob("cache/predictions/*/*.jsonl")
        return Counter((row["id"], row["status"]) for f in files for row in journal.rows_of(f))

    def leftovers(self) -> list[str]:
        """Temporary files of interrupted writes outside of the folders for them."""
        found = [p for p in self.folder.rglob("*") if p.name.endswith((".tmp", ".part"))]
        return [str(p.relative_to(self.folder)) for p in found if ".snakemake" not in p.parts]


def same(a: pd.DataFrame, b: pd.DataFrame) -> None:
    """DESIGN's "identical": ids, statuses, answers, and scores within 1e-5."""
    assert a.index.tolist() == b.index.tolist()
    for column in ("group", "status", "prediction"):
        assert a[column].tolist() == b[column].tolist()
    for left, right in zip(a["scores"], b["scores"], strict=True):
        np.testing.assert_allclose(left, right, rtol=0, atol=1e-5)
