"""From annotation files and videos to the reference's answers: prepare, infer, score, export."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from vireo import config as cfg
from vireo.benchmarks import sqa3d
from vireo.fetch import receipt
from vireo.inference import shard as infer
from vireo.media import lmdb
from vireo.tables import items as item_table
from vireo.tables import predictions

GOLDEN = Path(__file__).parents[1] / "golden/clipbert"
SETUP = json.loads((GOLDEN / "config.json").read_text())
WANTED = json.loads((GOLDEN / "sqa3d/reference_e2e.json").read_text())
_bert, _cnn = SETUP["bert_config"], SETUP["resnet"]
ARCH = {
    "hidden_size": _bert["hidden_size"],
    "layers": _bert["num_hidden_layers"],
    "heads": _bert["num_attention_heads"],
    "intermediate_size": _bert["intermediate_size"],
    "vocab_size": _bert["vocab_size"],
    "positions": _bert["max_position_embeddings"],
    "rows": _bert["max_grid_row_position_embeddings"],
    "columns": _bert["max_grid_col_position_embeddings"],
    "stem": _cnn["stem_out"],
    "res2": _cnn["res2_out"],
    "width": _cnn["width_per_group"],
    "labels": SETUP["num_labels"],
}


def world(clips: int) -> cfg.Config:
    """The small model on the small benchmark, in the current folder."""
    model = {
        "family": "clipbert",
        "fulfils": ["Answerer"],
        "arch": ARCH,
        "weights": {"artifact": "toy_weights"},
        "files": {
            "vocab": {"artifact": "toy_questions", "file": "vocab.txt"},
            "answers": {"artifact": "toy_questions", "file": "answer_dict.json"},
        },
        "mean": [0.485, 0.456, 0.406],
        "std": [1 / 255] * 3,
        "size": SETUP["max_img_size"],
        "version": 1,
        "protocols": {
            "tiny": {"frames": {"clips": clips}, "prompt": {"tokens": 28}},
        },
    }
    benchmark = {
        "module": "sqa3d",
        "needs": "Answerer",
        "sources": {"questions": "toy_questions", "videos": "toy_videos"},
        "splits": ["test"],
        "version": 1,
        "protocol": cfg.load()["benchmarks"]["sqa3d"]["protocol"],
    }
    over: dict[str, Any] = {"models": {"tiny": model}, "benchmarks": {"tiny": benchmark}}
    return cfg.load(over=over | {"device": "cpu", "decode": {"workers": 0}})


def prepare(config: cfg.Config, videos: Path) -> None:
    sources = {"questions": GOLDEN / "sqa3d", "videos": videos}
    for name, root in (("toy_questions", GOLDEN / "sqa3d"), ("toy_weights", GOLDEN)):
        only = {"weights.safetensors": {"size": 0, "sha256": None}}
        listed = only if name == "toy_weights" else {}
        receipt.write(f"data/receipts/{name}.json", name, root, listed, "test")
    block = config["benchmarks"]["tiny"]
    items = sqa3d.items(sources, block)
    item_table.write(items, "items.parquet")
    item_table.write(sqa3d.videos(sources, items, block), "videos.parquet")


def answers(config: cfg.Config) -> Any:
    job = infer.Job(
        config=config,
        model="tiny",
        benchmark="tiny",
        split="test",
        shard="1-of-1",
        items=Path("items.parquet"),
        videos=Path("videos.parquet"),
        weights="data/receipts/toy_weights.json",
        out=Path("out.parquet"),
    )
    infer.run(job)
    return predictions.read("out.parquet")


@pytest.mark.parametrize("clips", [1, 4])
@pytest.mark.parametrize("kind", ["mp4", "lmdb"])
def test_answers_are_the_references(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clips: int, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    videos = GOLDEN / "video"
    if kind == "lmdb":
        lmdb.write(tmp_path / "db", [(p.stem, p) for p in videos.glob("*.mp4")])
        videos = tmp_path / "db"
    config = world(clips)
    prepare(config, videos)
    found = answers(config)
    items = item_table.read_items("items.parquet")
    sqa3d.export(items, found, tmp_path, {})
    wanted = WANTED[str(clips)]
    assert json.loads((tmp_path / "results_all.json").read_text()) == wanted["results_all"]
    assert json.loads((tmp_path / "scores.json").read_text()) == wanted["scores"]
    logits = load_file(GOLDEN / "sqa3d/reference_e2e_logits.safetensors")[f"logits_nclips{clips}"]
    best = torch.logsumexp(logits, 0).log_softmax(1).topk(5).values
    order = [r["question_id"] for r in wanted["results_all"]]
    lines = [json.loads(m)["line"] for m in items["meta"]]
    scores = np.stack(found.set_index("id").loc[items["id"], "scores"].to_list())
    np.testing.assert_allclose(scores[[lines.index(n) for n in order]], best, atol=1e-2)


def test_a_missing_and_a_broken_video_cost_their_own_questions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "videos").mkdir()
    for name in ("scene9001_00", "scene9002_00"):
        shutil.copy(GOLDEN / f"video/{name}.mp4", tmp_path / "videos")
    (tmp_path / "videos/scene9003_00.mp4").write_bytes(b"no video")
    config = cfg.check({**world(1), "max_failed": 0.9})
    prepare(config, tmp_path / "videos")
    found = answers(config)
    items = item_table.read_items("items.parquet").set_index("id")
    status = found["status"].groupby(found["id"].map(items["video"])).agg(set).to_dict()
    assert status["scene9001_00"] == {"ok"} and status["scene9003_00"] == {"undecodable"}
    assert status["scene9004_00"] == {"missing"}
    right = {r["question_id"]: r["answer"] for r in WANTED["1"]["results_all"]}
    for row in found[found["status"] == "ok"].itertuples():
        line = json.loads(items.loc[row.id, "meta"])["line"]
        assert json.loads(str(row.prediction))["label"] == right[line]
    scores = sqa3d.score(items.reset_index(), found, {})
    assert scores.metrics["em1"].n == (found["status"] == "ok").sum()
