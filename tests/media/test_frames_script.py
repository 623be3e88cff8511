"""scripts/frames.py: fills the store, survives broken videos, imports no torch."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from tests.media import clips
from vireo import config as cfg
from vireo.errors import VireoError
from vireo.media import inventory
from vireo.media.decode import DecodeRequest
from vireo.media.pool import decode
from vireo.media.resize import before_store

ROOT = Path(__file__).parents[2]
MODEL, BENCHMARK = "toy_viclip", "toy_videomme"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("script")
    names = [f"v{i}" for i in range(5)]
    for name in names[:3]:
        clips.clip(folder / f"videos/{name}.mp4", 120, rate=10)
    (folder / "videos/v3.mp4").write_text("<html>")
    inventory.find([*names], folder / "videos").to_parquet(folder / "videos.parquet")
    rows = [
        {"id": f"{n}-{q}", "split": split, "video": n, "group": n, "start": None, "end": None}
        | {"question": "", "options": [], "answer": "", "meta": "{}"}
        for split, chosen in (("short", names), ("long", names[:1]))
        for n in chosen
        for q in range(3)
    ]
    items = pd.DataFrame(rows).astype({"start": "float64", "end": "float64"})
    items.to_parquet(folder / "items.parquet")
    return folder


@pytest.fixture
def run(folder, monkeypatch):
    """Run the script's main in this process; returns the manifest."""
    spec = importlib.util.spec_from_file_location("frames_script", ROOT / "scripts/frames.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.chdir(folder)
    monkeypatch.delenv("VIREO_CONFIG", raising=False)

    def call(*more, config=None):
        (folder / "over.yaml").write_text(json.dumps(config or {}))
        files = "--items items.parquet --videos videos.parquet --out out.json --config over.yaml"
        monkeypatch.setattr("sys.argv", ["frames.py", MODEL, BENCHMARK, *files.split(), *more])
        assert script.main() == 0
        return json.loads((folder / "out.json").read_text())

    return call


def test_fills_the_store_and_lists_what_is_broken(folder, run):
    manifest = run("--split", "short", "--workers", "1", "--log", "frames.log")
    assert manifest["status"] == {"ok": 3, "undecodable": 1, "missing": 1}
    assert [f["video"] for f in manifest["failed"]] == ["v3", "v4"]
    assert "v3.mp4" in manifest["failed"][0]["error"]
    assert manifest["from_store"] == 0
    assert "3 ok" in (folder / "frames.log").read_text()
    manifest = run("--split", "short", "--workers", "1")
    assert (manifest["from_store"], manifest["videos"]) == (4, 5)
    # what inference will ask for is what was stored
    protocol = cfg.protocol(cfg.load(), MODEL, BENCHMARK)
    size = before_store(protocol["resize"])
    path = str((folder / "videos/v1.mp4").absolute())
    request = DecodeRequest("v1", path, rule=protocol["frames"], resize=size)
    (sample,) = decode([request], {"workers": 0}, folder / "cache/frames")
    assert sample.from_store and len(sample.frames) == protocol["frames"]["n"]


def test_shards_share_the_videos(run):
    common = ("--split", "short", "--workers", "0", "--store")
    shards = [run(*common, f"s{i}", "--shard", f"{i}-of-3") for i in (1, 2, 3)]
    assert [m["videos"] for m in shards] == [2, 2, 1]


@pytest.mark.parametrize(
    "protocol", [{"frames": {"store": False}}, {"resize": {"library": "torch"}}], ids=str
)
def test_frames_that_are_not_stored(folder, run, protocol):
    over = {"benchmarks": {BENCHMARK: {"protocol": protocol}}}
    manifest = run("--split", "short", "--store", "unused", config=over)
    assert manifest["note"] == "decoded directly"
    assert not (folder / "unused").exists()


def test_typos(run):
    with pytest.raises(VireoError, match="did you mean 'short'"):
        run("--split", "shrot")
    over = {"benchmarks": {BENCHMARK: {"protocol": {"frames": {"rule": "slicer_then_strid"}}}}}
    with pytest.raises(VireoError, match="did you mean 'slicer_then_stride'"):
        run("--split", "short", config=over)


def test_no_torch_is_imported(folder):
    program = f"""
import runpy, sys
sys.argv = ["frames.py", "{MODEL}", "{BENCHMARK}", "--split", "short", "--workers", "0"]
sys.argv += "--items items.parquet --videos videos.parquet --out out.json --store new".split()
try:
    runpy.run_path({str(ROOT / "scripts/frames.py")!r}, run_name="__main__")
except SystemExit as end:
    assert not end.code, end.code
import vireo.media.worker, vireo.media.inventory
heavy = {{"torch", "transformers", "torchvision", "timm"}} & sys.modules.keys()
assert not heavy, heavy
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
