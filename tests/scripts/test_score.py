"""scripts/prepare.py and scripts/score.py on a small Video-MME, as the workflow calls them."""

import json
import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

import pandas as pd
import pytest

from vireo import config as cfg
from vireo.config import HOME
from vireo.inference import cache_key
from vireo.results import assemble
from vireo.tables import predictions

OPTIONS = ["A. red", "B. blue", "C. green", "D. grey"]
LENGTHS = ("short", "medium", "long")
CONFIG = """
artifacts:
  w: {}
models:
  m:
    family: viclip
    arch:
      {image_size: 32, patch_size: 16, width: 32, layers: 2, heads: 2, embed_dim: 16,
       num_frames: 8, text_width: 32, text_layers: 2, text_heads: 2}
    mean: [0.5, 0.5, 0.5]
    std: [0.5, 0.5, 0.5]
    size: 32
    fulfils: [DualEncoder]
    weights: {artifact: w}
    version: 1
benchmarks:
  mini:
    module: videomme
    needs: DualEncoder
    sources: {data: w}
    splits: [short, medium, long]
    partial: true
    primary: accuracy
    chance: 25.0
    version: 1
    protocol:
      frames: {rule: middle, n: 8}
      resize: {library: cv2, interpolation: bilinear}
    controls: [shuffled_videos]
    note: Nobody published this.
"""


def script(name: str, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(HOME / f"scripts/{name}.py"), *map(str, arguments)]
    environment = {k: v for k, v in os.environ.items() if k != "VIREO_CONFIG"}
    return subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, env=environment, timeout=120
    )


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """A folder with data, receipt, items, shards of two splits in two parts, and a control."""
    root = tmp_path_factory.mktemp("mini world")
    (root / "mine.yaml").write_text(CONFIG)
    data = root / "data/copy"
    (data / "videos").mkdir(parents=True)
    rows = []
    for n in range(9):
        name = f"-id_{n}"
        if n != 8:
            (data / f"videos/{name}.mp4").write_bytes(b"x" * (n + 1))
        for q, letter in enumerate("ABD", 1):
            rows.append(
                {
                    "video_id": f"{n + 1:03d}",
                    "duration": LENGTHS[n % 3],
                    "domain": "Knowledge",
                    "sub_category": "Law",
                    "url": "u",
                    "videoID": name,
                    "question_id": f"{n + 1:03d}-{q}",
                    "task_type": "Action Reasoning",
                    "question": "What?",
                    "options": OPTIONS,
                    "answer": letter,
                    "probe": ["time", "colour", None][q - 1],
                }
            )
    (data / "videomme").mkdir()
    pd.DataFrame(rows).to_parquet(data / "videomme/test-00000-of-00001.parquet")
    (data / "x").write_bytes(b"weights")
    receipt = {"artifact": "w", "root": str(data), "files": {"x": {"size": 7, "sha256": "ab"}}}
    (root / "receipt.json").write_text(json.dumps({**receipt, "source": "test"}))
    done = script(
        *("prepare", "mini", "--sources", "data=receipt.json", "--config", "mine.yaml"),
        *("--items", "cache/items/mini.parquet", "--videos", "cache/items/mini.videos.parquet"),
        *("--log", "logs/prepare.log"),
        cwd=root,
    )
    assert done.returncode == 0, done.stderr
    assert "27 items on 9 videos" in (root / "logs/prepare.log").read_text()
    assert "long: 2 of 3 videos found" in done.stderr and "no file for -id_8" in done.stderr
    for split in LENGTHS:
        for part in (1, 2):
            mine = [
                r for r in rows if r["duration"] == split and int(r["video_id"]) % 2 == part % 2
            ]
            for control in ("", ".shuffled_videos"):
                path = root / f"shards/{split}/{part}-of-2{control}.parquet"
                shard(path, mine, key_of(root, control[1:] or None))
    return root


def key_of(root: Path, control: str | None = None, weights: Path | None = None) -> dict:
    """What predictions of the model depend on, as rule infer records it."""
    config = cfg.load([root / "mine.yaml"])
    items = root / "cache/items/mini.parquet"
    weights = weights or root / "data/copy/x"
    return cache_key.prediction_key(config, "m", "mini", items, weights, control)


def shard(path: Path, rows: list[dict], key: dict) -> None:
    perturbed = "control" in key
    path.parent.mkdir(parents=True, exist_ok=True)
    made = [
        {
            "id": r["question_id"],
            "view": 0,
            "group": r["videoID"],
            "status": "missing" if r["videoID"] == "-id_8" else "ok",
            "prediction": json.dumps(OPTIONS[2 if perturbed else "ABCD".index(r["answer"])]),
            "scores": [0.5, 0.25, 0.125, 0.0],
            "frames": [0, 4],
            "seconds": 0.1,
            "error": "no file" if r["videoID"] == "-id_8" else None,
            "flags": ["padded"],
        }
        for r in rows
    ]
    secret = "https://user:hunter2hunter2@example.org/?token=abcdefgh1234"
    predictions.write(path, made, {"key": key, "device": "cpu", "seconds": 2, "from": secret})


def score(world: Path, run: str, out: str, splits=LENGTHS, control: bool = True, drop=()):
    shards = [f"shards/{s}/{p}-of-2.parquet" for s in splits for p in (1, 2)]
    listed = {
        "shuffled_videos": [f.replace(".parquet", ".shuffled_videos.parquet") for f in shards]
    }
    (world / "controls.json").write_text(json.dumps(listed))
    return script(
        *("score", "m", run, "--config", "mine.yaml", "--log", f"{out}.log"),
        *("--items", "cache/items/mini.parquet", "--videos", "cache/items/mini.videos.parquet"),
        *("--predictions", *(s for s in shards if s not in drop)),
        *("--controls", "controls.json" if control else "none"),
        *("--weights", "receipt.json", "--out", out),
        cwd=world,
    )


@pytest.fixture(scope="module")
def scored(world) -> dict:
    done = score(world, "mini", "results/m/mini.json")
    assert done.returncode == 0, done.stderr
    assert "verdict: no published value" in done.stderr
    return json.loads((world / "results/m/mini.json").read_text())


def test_the_result(scored):
    assemble.check(scored)
    assert scored["metrics"]["accuracy"]["value"] == 100.0
    assert scored["metrics"]["accuracy_all"]["value"] == pytest.approx(100 * 24 / 27)
    assert scored["coverage"]["missing"] == 3 and scored["coverage"]["share"] < 1
    assert scored["verdict"]["reasons"] == ["Nobody published this."]
    assert any("skip_missing" in note for note in scored["notes"])
    control = scored["controls"]["shuffled_videos"]
    assert (control["value"], control["drop"]) == (0.0, 100.0)
    assert [p["label"] for p in control["probes"]] == ["colour", "time"]
    assert scored["provenance"]["hashes"]["weights"] == sha256(b"weights").hexdigest()
    assert scored["provenance"]["inference_s"] == 12.0
    assert len(scored["failed"]) == 3


def test_no_secret_reaches_the_result(scored, world):
    for path in (world / "results").rglob("*"):
        if path.is_file():
            assert b"hunter2hunter2" not in path.read_bytes(), path
            assert b"abcdefgh1234" not in path.read_bytes(), path
    assert "example.org" in json.dumps(scored["provenance"])


def test_files_beside_it(scored, world):
    folder = world / "results/m/mini"
    assert sorted(scored["files"]) == sorted(p.name for p in folder.glob("[!.]*"))
    rows = predictions.read(folder / "predictions.parquet")
    assert list(rows["id"]) == [f"{n + 1:03d}-{q}" for n in range(9) for q in (1, 2, 3)]
    assert list(rows["scores"][0]) == [0.5, 0.25, 0.125, 0.0]
    assert "Overall:  100.0%" in (folder / "official_scorer.txt").read_text()
    grouped = folder / "m_output_test.json"
    assert [v["missing"] for v in json.loads(grouped.read_text())] == [False] * 8 + [True]
    done = script(
        *("evaluate", "videomme", "--results_file", grouped, "--skip_missing"),
        *("--video_duration_type", "short,medium,long", "--return_categories_accuracy"),
        *("--return_sub_categories_accuracy", "--return_task_types_accuracy"),
        cwd=world,
    )
    assert done.stdout == (folder / "official_scorer.txt").read_text()


def test_one_split_alone_and_a_missing_shard(world):
    lost = "shards/long/1-of-2.parquet"
    done = score(world, "mini_long", "out/long.json", ["long"], control=False, drop=[lost])
    assert done.returncode == 0, done.stderr
    whole = json.loads((world / "out/long.json").read_text())
    assemble.check(whole)
    assert (whole["splits"], whole["headline"]) == (["long"], False)
    assert whole["coverage"]["items"] == 9
    assert whole["coverage"]["absent"] == whole["coverage"]["error"] == 6
    assert "6 of 9 items have no row in any shard" in done.stderr


def test_scoring_only_reads_predictions(world):
    """No torch, no decoder, no video: only tables are opened, and the shards stay as they are."""
    shards = sorted((world / "shards").rglob("*.parquet"))
    before = [(p.stat().st_mtime_ns, p.stat().st_size) for p in shards]
    code = "import runpy, sys, builtins\n"
    code += "sys.modules['torch'] = sys.modules['av'] = sys.modules['cv2'] = None\n"
    code += "sys.argv = sys.argv[1:]\nrunpy.run_path(sys.argv[0], run_name='__main__')\n"
    hidden = world / "data/copy"
    hidden.rename(world / "data/away")
    try:
        done = subprocess.run(
            [
                *(sys.executable, "-c", code, str(HOME / "scripts/score.py"), "m", "mini_short"),
                *("--config", "mine.yaml", "--items", "cache/items/mini.parquet"),
                *("--videos", "cache/items/mini.videos.parquet", "--out", "out/short.json"),
                *("--predictions", "shards/short/1-of-2.parquet", "shards/short/2-of-2.parquet"),
            ],
            capture_output=True,
            text=True,
            cwd=world,
        )
    finally:
        (world / "data/away").rename(hidden)
    assert done.returncode == 0, done.stderr
    assert [(p.stat().st_mtime_ns, p.stat().st_size) for p in shards] == before
    assert not (world / "cache/predictions").exists()


def test_clear_errors(world):
    done = score(world, "minni", "out/x.json")
    assert done.returncode == 1 and "did you mean 'mini'" in done.stderr
    items = pd.read_parquet(world / "cache/items/mini.parquet")
    items[items["id"] != "001-1"].to_parquet(world / "cache/fewer.parquet")
    done = script(
        *("score", "m", "mini_short", "--config", "mine.yaml", "--items", "cache/fewer.parquet"),
        *("--videos", "cache/items/mini.videos.parquet", "--out", "out/x.json"),
        *("--predictions", "shards/short/1-of-2.parquet"),
        cwd=world,
    )
    assert done.returncode == 1 and "another items" in done.stderr and "infer again" in done.stderr
    assert not (world / "out/x.json").exists()
    done = script(
        *("prepare", "mini", "--sources", "data=gone.json", "--config", "mine.yaml"),
        *("--items", "out/i.parquet", "--videos", "out/v.parquet"),
        cwd=world,
    )
    assert done.returncode == 1 and "gone is not here yet (gone.json)" in done.stderr


def at_its_place(world: Path, source: str, place: str) -> None:
    target = world / place
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes((world / source).read_bytes())


def refused(world: Path, place: str, run: str = "mini_short", weights: str = "receipt.json") -> str:
    """What scoring says of a wrong shard, which is put aside."""
    done = script(
        *("score", "m", run, "--config", "mine.yaml", "--items", "cache/items/mini.parquet"),
        *("--videos", "cache/items/mini.videos.parquet", "--out", "out/wrong.json"),
        *("--predictions", place, "--weights", weights),
        cwd=world,
    )
    assert done.returncode == 1 and place in done.stderr, done.stderr
    assert "run the same command again" in done.stderr
    assert not (world / place).exists() and (world / f"{place}.wrong").exists()
    assert not (world / "out/wrong.json").exists()
    return done.stderr


def test_a_shard_is_not_believed(world):
    """The control's shard in the place of the real one gave 22.2 for 86.1, exit 0."""
    place = "cache/shards/m/mini/short/1-of-2.parquet"
    at_its_place(world, "shards/short/1-of-2.shuffled_videos.parquet", place)
    assert "another control (it says shuffled_videos, expected none)" in refused(world, place)
    at_its_place(world, "shards/long/1-of-2.parquet", place)  # two splits swapped
    assert "its items are of split long" in refused(world, place)
    at_its_place(world, "shards/short/1-of-2.parquet", place)
    (world / "other.safetensors").write_bytes(b"other weights")
    assert "another weights" in refused(world, place, weights="other.safetensors")
    rows = predictions.read(world / "shards/short/1-of-2.parquet")
    predictions.write_frame(world / place, rows)
    assert "does not say what it was made with" in refused(world, place)
