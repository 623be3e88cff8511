"""Sealed files: a flipped bit, a cut or a swapped file is noticed, put aside, and made again."""

import json
import subprocess

import numpy as np
import pandas as pd
import pytest
import torch

from vireo import config as configuration
from vireo.errors import VireoError
from vireo.fetch import receipt
from vireo.inference import frame_cache, text_cache
from vireo.tables import items as item_table
from vireo.tables import predictions
from vireo.utils import seal
from vireo.utils.files import read_sealed_json, write_json
from vireo.workflow import cleanup

ITEMS = pd.DataFrame(
    {
        **{name: [f"{name}{i}" for i in range(300)] for name in ("id", "video", "group")},
        **{"split": "val", "start": 0.5, "end": 9.25, "question": "What moves?"},
        **{"options": [["a dog", "a cat"]] * 300, "answer": "A", "meta": "{}"},
    }
)
ROWS = [
    {"id": f"q{i}", "view": 0, "group": f"v{i}", "status": "ok", "prediction": '"A"',
     "scores": [float(i), 0.25, -1.5], "frames": [1, 2, 3], "seconds": 0.5}
    for i in range(300)
]  # fmt: skip


def flip(path, rng) -> None:
    data = bytearray(path.read_bytes())
    data[rng.integers(len(data))] ^= 1 << rng.integers(8)
    path.write_bytes(data)


def test_sha256sum_reads_the_digest(tmp_path):
    write_json(tmp_path / "a.json", {"x": 1}, sealed=True)
    done = subprocess.run(["sha256sum", "-c", ".a.json.sha256"], cwd=tmp_path, capture_output=True)
    assert done.returncode == 0


@pytest.mark.parametrize("kind", ["items", "predictions", "info", "json"])
def test_no_flipped_bit_is_read(tmp_path, kind):
    path = tmp_path / ("a.json" if kind == "json" else "a.parquet")
    rng = np.random.default_rng(0)
    read = {
        "items": lambda: item_table.read_items(path),
        "predictions": lambda: predictions.read(path),
        "info": lambda: predictions.info(path),
        "json": lambda: read_sealed_json(path),
    }[kind]
    for _ in range(60):
        if kind == "items":
            item_table.write(ITEMS, path)
        elif kind == "json":
            write_json(path, {"value": 88.4, "n": list(range(50))}, sealed=True)
        else:
            predictions.write(path, ROWS, {"key": "k", "control": None})
        read()
        flip(path, rng)
        with pytest.raises(VireoError, match=r"a\.(json|parquet) is damaged.*same command again"):
            read()
        assert not path.exists() and (tmp_path / f"{path.name}.damaged").exists()
        assert seal.recorded(path) is None


def test_swapped_and_unsealed_files(tmp_path):
    one, two = tmp_path / "1.parquet", tmp_path / "2.parquet"
    predictions.write(one, ROWS[:5], {"key": "one"})
    predictions.write(two, ROWS[5:9], {"key": "two"})
    one.write_bytes(two.read_bytes())
    with pytest.raises(VireoError, match="damaged"):
        predictions.read(one)
    seal.sidecar(two).unlink()  # as earlier versions wrote it
    assert len(predictions.read(two)) == 4
    predictions.write(one, ROWS[:5], {"key": "one"})
    assert len(predictions.read(one)) == 5


def test_the_start_puts_aside_what_a_job_would_stumble_over(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = [tmp_path / "cache/items/b.parquet", tmp_path / "cache/shards/m/b/s/1-of-1.parquet"]
    paths += [tmp_path / "results/m/b.json", tmp_path / "cache/shards/m/b/controls.json"]
    item_table.write(ITEMS, paths[0])
    predictions.write(paths[1], ROWS)
    write_json(paths[2], {"value": 88.4}, sealed=True)
    write_json(paths[3], {"untrained": ["a"]}, sealed=True)
    assert cleanup.quarantine_damaged(tmp_path) == []
    rng = np.random.default_rng(1)
    for path in paths:
        flip(path, rng)
    assert set(cleanup.quarantine_damaged(tmp_path)) == set(paths)
    assert not any(path.exists() for path in paths)


def test_a_receipt(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "data/receipts/a.json"
    receipt.write(path, "a", tmp_path, {"x": {"size": 1, "sha256": "0"}}, "test")
    path.write_text(path.read_text().replace('"size": 1', '"size": 3'))
    with pytest.raises(VireoError, match="damaged"):
        receipt.read(path)


def test_a_wrong_hash_in_the_cache_of_hashes_is_not_believed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights").write_bytes(b"abc")
    true = receipt.hash_of(tmp_path / "weights")
    known = json.loads(receipt.HASHES.read_text())
    name = str((tmp_path / "weights").resolve())
    known[name][3] = "f" + known[name][3][1:]
    receipt.HASHES.write_text(json.dumps(known))
    assert receipt.hash_of(tmp_path / "weights") == true


def test_features_of_texts_and_frames(tmp_path):
    made = [torch.full((4,), float(i)) for i in range(3)]
    first = text_cache.cached_text_features(["a", "b", "c"], tmp_path, lambda texts: made)
    (path,) = tmp_path.glob("*.safetensors")
    data = bytearray(path.read_bytes())
    data[-2] ^= 64
    path.write_bytes(data)
    again = text_cache.cached_text_features(["a", "b", "c"], tmp_path, lambda texts: made)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))

    cache = frame_cache.FrameCache("k", tmp_path)
    target = tmp_path / "e.safetensors"
    cache.path = lambda _: target  # type: ignore[method-assign]
    frame_cache.save(target, torch.ones(2, 3, 4), {"frames": [0, 1], "flags": []})
    assert cache.get(None)[1]["frames"] == [0, 1]
    data = bytearray(target.read_bytes())
    data[-3] ^= 1
    target.write_bytes(data)
    assert cache.get(None) is None


def test_a_resolved_configuration_is_what_its_name_says(tmp_path, monkeypatch):
    config = configuration.load([], {})
    path = configuration.write_resolved(config, tmp_path)
    monkeypatch.setenv("VIREO_CONFIG", str(path))
    assert configuration.load() == config
    path.write_text(path.read_text().replace('"n": 8', '"n": 9', 1))
    with pytest.raises(VireoError, match="damaged"):
        configuration.load()
    monkeypatch.delenv("VIREO_CONFIG")
    assert configuration.write_resolved(config, tmp_path) == path
    monkeypatch.setenv("VIREO_CONFIG", str(path))
    assert configuration.load() == config
