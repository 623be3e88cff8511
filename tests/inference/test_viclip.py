"""Inference with real clips, the real decoder and a tiny ViCLIP: equal to the seed guide's plain
procedure, whatever the batch and the shards, also after `kill -9`."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file

from bench.reference import viclip as reference
from vireo import benchmarks
from vireo import config as cfg
from vireo.inference import journal, shard
from vireo.models import viclip
from vireo.tables import items as item_table
from vireo.tables import predictions

PROJECT = Path(__file__).parents[2]
VIDEOS = 11
ARCH = {
    "image_size": 32, "patch_size": 16, "width": 32, "layers": 2, "heads": 2, "embed_dim": 16,
    "num_frames": 8, "text_width": 32, "text_layers": 2, "text_heads": 2,
}  # fmt: skip
LABELS = {"domain": "Knowledge", "sub_category": "Geography", "task_type": "Counting Problem"}


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


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Folder with videos in a subfolder, official parquet, weights, configuration, items."""
    root = tmp_path_factory.mktemp("data")
    (root / "videos").mkdir()
    (root / "videomme").mkdir()
    rng = np.random.default_rng(0)
    words = [
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
    rows = []
    for n in range(VIDEOS):
        name = f"film{n:02d}"
        film(root / "videos" / f"{name}.mp4", n, 9 + 3 * n)
        for q in range(3):
            options = [f"{mark}. {' '.join(rng.choice(words, 6))}." for mark in "ABCD"]
            rows.append({"video_id": f"{n:03d}", "duration": "short", **LABELS, "videoID": name,
                         "question_id": f"{n:03d}-{q}", "question": "What happens?",
                         "options": options, "answer": "A"})  # fmt: skip
    rows[0]["options"][3] = "D. " + "far too long for the model " * 10
    pd.DataFrame(rows).to_parquet(root / "videomme/test-00000-of-00001.parquet")
    module = viclip.build(ARCH, torch.Generator().manual_seed(5))
    draw = torch.Generator().manual_seed(6)
    state = {k: v + 0.05 * torch.randn(v.shape, generator=draw) for k, v in
             module.state_dict().items()}  # fmt: skip
    save_file(state, root / "weights.safetensors")
    protocol = {
        "frames": {"rule": "slicer_then_stride", "n": 8, "store": True},
        "resize": {"library": "cv2", "interpolation": "bilinear"},
    }
    numbers = {"mean": reference.MEAN.tolist(), "std": reference.STD.tolist(), "size": 32}
    model = {"family": "viclip", "fulfils": ["DualEncoder"], "arch": ARCH, "weights": None}
    benchmark = {"module": "videomme", "needs": "DualEncoder", "sources": {"data": "toy_x"}}
    config = {
        "models": {"tiny": {**model, **numbers, "version": 1}},
        "benchmarks": {
            "mini": {**benchmark, "splits": ["short"], "version": 1, "protocol": protocol}
        },
        "device": "cpu",
    }
    (root / "mine.yaml").write_text(json.dumps(config))
    return root


class Place:
    """A working directory of its own over the shared data."""

    def __init__(self, data, folder, monkeypatch):
        self.data, self.folder, self.monkeypatch = data, folder, monkeypatch
        monkeypatch.chdir(folder)
        monkeypatch.setenv("VIREO_TRUST_DEVICES", "1")
        monkeypatch.delenv("VIREO_CONFIG", raising=False)
        self.config = cfg.load([data / "mine.yaml"])
        self.config["decode"]["workers"] = 0
        self.prepare()

    def prepare(self):
        """What scripts/prepare.py does."""
        block = self.config["benchmarks"]["mini"]
        module = benchmarks.module("videomme")
        sources = {"data": self.data}
        self.items = module.items(sources, block)
        item_table.write(self.items, self.folder / "items.parquet")
        item_table.write(module.videos(sources, self.items, block), self.folder / "videos.parquet")

    def infer(self, shards=1, **more):
        parts = []
        for i in range(1, shards + 1):
            out = self.folder / f"{i}-of-{shards}.parquet"
            job = shard.Job(self.config, "tiny", "mini", "short", f"{i}-of-{shards}",
                            self.folder / "items.parquet", self.folder / "videos.parquet",
                            self.data / "weights.safetensors", out, **more)  # fmt: skip
            self.info = shard.run(job)
            parts.append(predictions.read(out))
        return pd.concat(parts).set_index("id").sort_index()

    def start(self, delay):
        """scripts/infer.py as a process of its own, made slow enough to be killed in mid-run."""
        code = (
            "import runpy, sys, time; from vireo.models import viclip as v\n"
            "real = v.Model.embed_video\n"
            f"v.Model.embed_video = lambda *a: (time.sleep({delay}), real(*a))[1]\n"
            "runpy.run_path(sys.argv[0], run_name='__main__')"
        )
        script = str(PROJECT / "scripts/infer.py")
        arguments = [script, "tiny", "mini", "--split", "short", "--shard", "1-of-1"]
        arguments += ["--items", "items.parquet", "--videos", "videos.parquet", "--weights"]
        arguments += [str(self.data / "weights.safetensors"), "--out", "killed.parquet"]
        arguments += ["--config", str(self.data / "mine.yaml"), "--batch-size", "2"]
        launch = f"import sys; sys.argv = {arguments!r}; {code}"
        return subprocess.Popen(
            [sys.executable, "-c", launch], cwd=self.folder, stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(PROJECT)},
        )  # fmt: skip

    def journalled(self):
        """(id, status) of every readable line in all journals."""
        files = self.folder.glob("cache/predictions/*/*.jsonl")
        return Counter((row["id"], row["status"]) for f in files for row in journal.rows_of(f))


@pytest.fixture
def place(data, tmp_path, monkeypatch):
    return Place(data, tmp_path, monkeypatch)


def same(a, b):
    assert a.index.tolist() == b.index.tolist()
    for column in ("group", "status", "prediction"):
        assert a[column].tolist() == b[column].tolist()
    assert np.abs(np.stack(a["scores"]) - np.stack(b["scores"])).max() <= 1e-5


def test_equal_to_the_seed_guides_procedure(place):
    ours = place.infer()
    assert set(ours["status"]) == {"ok"} and place.info["truncated_texts"] == 1
    from safetensors.torch import load_file

    model = reference.ViCLIP(ARCH, load_file(place.data / "weights.safetensors"))
    chosen = Counter()
    for video, items in place.items.groupby("video"):
        asked = [list(options) for options in items["options"]]
        answers = reference.questions(model, place.data / f"videos/{video}.mp4", asked)
        for id, (text, scores) in zip(items["id"], answers, strict=True):
            assert json.loads(ours.loc[id, "prediction"]) == text
            np.testing.assert_allclose(ours.loc[id, "scores"], scores, rtol=1e-5, atol=1e-5)
            chosen[text[0]] += 1
    assert len(chosen) > 1


def test_batches_and_shards_agree(place, data, tmp_path_factory, monkeypatch):
    one = place.infer()
    for shards, batch in ((3, 1), (1, 8)):
        other = Place(data, tmp_path_factory.mktemp("w"), monkeypatch)
        same(one, other.infer(shards, batch_size=batch))


def test_kill_9_in_mid_run_then_other_shards(place, data, tmp_path_factory, monkeypatch):
    process = place.start(delay=0.15)
    deadline = time.monotonic() + 120
    while len(place.journalled()) < 9:
        assert process.poll() is None and time.monotonic() < deadline, process.stderr.read()
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    flushed = place.journalled()
    assert 9 <= len(flushed) < 3 * VIDEOS and not (place.folder / "killed.parquet").exists()
    three, seven = place.infer(3), place.infer(7)
    assert place.info["computed_videos"] == 0
    # Every answer stands in exactly one journal: nothing that was flushed was computed twice.
    assert set(place.journalled().values()) == {1} and len(place.journalled()) == 3 * VIDEOS
    straight = Place(data, tmp_path_factory.mktemp("w"), monkeypatch).infer()
    same(straight, three)
    same(straight, seven)


def test_deleted_damaged_and_restored(place, data, tmp_path, monkeypatch):
    straight = place.infer()
    copy = tmp_path / "copy"
    shutil.copytree(data, copy)
    films = [copy / f"videos/film{n:02d}.mp4" for n in range(3)]
    whole = [film.read_bytes() for film in films]
    films[0].unlink()
    films[1].write_bytes(whole[1][:200])
    middle = len(whole[2]) // 2
    films[2].write_bytes(whole[2][:middle] + bytes(3000) + whole[2][middle + 3000 :])
    (tmp_path / "w").mkdir()
    other = Place(copy, tmp_path / "w", monkeypatch)
    other.config["max_failed"] = 0.5
    rows = other.infer()
    assert rows["status"].value_counts().to_dict() == {"ok": 27, "missing": 3, "undecodable": 3}
    assert set(rows.loc["002-0", "flags"]) & journal.DAMAGE_FLAGS
    before = other.journalled()

    for film, content in zip(films, whole, strict=True):
        film.write_bytes(content)
    other.prepare()
    same(straight, other.infer())
    new = other.journalled() - before
    assert sorted(id for id, _ in new) == sorted(f"{n:03d}-{q}" for n in range(3) for q in range(3))
    assert other.info["computed_videos"] == 3


def test_bfloat16_agrees_mostly(place):
    exact = place.infer()
    place.config["dtype"] = "bfloat16"
    rough = place.infer()
    difference = np.abs(np.stack(exact["scores"]) - np.stack(rough["scores"]))
    assert 1e-4 < difference.max() < 5
    assert (exact["prediction"] == rough["prediction"]).mean() >= 0.8
