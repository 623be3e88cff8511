"""Provenance is complete and holds no secret."""

import json
import subprocess
import sys
import time

import pandas as pd
import pytest

from vireo.config import HOME
from vireo.results import provenance
from vireo.utils.files import sha256

TOKEN = "hf_PlantedTokenAbCdEfGh123"
ITEMS = pd.DataFrame({"id": ["1"], "video": ["v"], "options": [["A."]], "answer": ["A"]})
VIDEOS = pd.DataFrame(
    {"video": ["v"], "path": ["/x/v.mp4"], "kind": ["file"], "size": [3], "mtime_ns": [1]}
).assign(status="found")


def collect(**more):
    facts = {"config": {"paths": {}}, "weights": None, "items": ITEMS, "videos": VIDEOS}
    facts |= {"shards": [], "started": time.time(), **more}
    return provenance.collect(facts.pop("config"), **facts)


def test_planted_secrets_are_redacted(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("MIRROR_PASSWORD", "correct-horse-battery")
    url = "https://user:correct-horse-battery@example.org/x?token=abcdefgh12345&v=1"
    monkeypatch.setattr(sys, "argv", ["score.py", "--mirror", url, f"--t={TOKEN}"])
    shard = {"journal": "j", "source": url, TOKEN: "key", "nested": [{"t": f"Bearer {TOKEN}"}]}
    text = json.dumps(collect(shards=[shard]))
    for secret in (TOKEN, "correct-horse-battery", "abcdefgh12345"):
        assert secret not in text
    assert "example.org" in text and "v=1" in text


def test_weights_hash(tmp_path):
    file = tmp_path / "weights.safetensors"
    file.write_bytes(b"w")
    assert provenance.weights_hash(file) == {"weights.safetensors": sha256(file)}
    receipt = tmp_path / "receipt.json"
    receipt.write_text(json.dumps({"root": "/x", "files": {"a.pth": {"size": 1, "sha256": "ab"}}}))
    assert provenance.weights_hash(receipt) == {"a.pth": "ab"}
    shards = [{"key": {"weights": "cd", "dtype": "float32"}, "seconds": 1, "device": "cpu"}] * 2
    facts = collect(weights=receipt, shards=shards)
    assert facts["hashes"]["weights"] == "cd" and facts["dtype"] == "float32"
    assert facts["inference"] == [{"seconds": 1, "device": "cpu"}] * 2


def test_gpu_hours():
    shards = [{"seconds": 1800, "device": "cuda:0"}, {"seconds": 900, "device": "cpu"}]
    facts = collect(shards=shards)
    assert (facts["gpu_hours"], facts["inference_s"]) == (0.5, 2700)
    assert facts["device"] == ["cpu", "cuda:0"]


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"path": "/y"}, True),
        ({"mtime_ns": 2}, True),
        ({"size": 4}, False),
        ({"video": "w"}, False),
    ],
)
def test_the_video_manifest_is_the_same_on_another_machine(change, same):
    before = collect()["hashes"]["videos"]
    assert (collect(videos=VIDEOS.assign(**change))["hashes"]["videos"] == before) is same


def test_annotations_hash_follows_content_not_order():
    two = pd.concat([ITEMS, ITEMS.assign(id="2")])
    other = two.iloc[::-1].assign(unrelated=1)
    assert collect(items=two)["hashes"] != collect()["hashes"]
    assert collect(items=two)["hashes"] == collect(items=other)["hashes"]
    changed = ITEMS.assign(answer="B")
    assert collect(items=changed)["hashes"] != collect()["hashes"]


def test_no_torch_is_imported_by_scoring():
    code = "import sys, vireo.results.assemble, vireo.results.provenance;"
    code += "import vireo.benchmarks.videomme;"
    code += "assert 'torch' not in sys.modules and 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=HOME)


def test_files_beside_the_weights_are_named():
    """Of ClipBERT: the hash of the answer dictionary, which decides what a class means."""
    shards = [{"key": {"files": {"answers": "abc", "vocab": "def"}}, "seconds": 1}] * 2
    assert collect(shards=shards)["hashes"]["files"] == {"answers": "abc", "vocab": "def"}
    shards = [*shards, {"key": {"files": {"answers": "other", "vocab": "def"}}}]
    assert collect(shards=shards)["hashes"]["files"]["answers"] == ["abc", "other"]
    assert "files" not in collect()["hashes"]
