"""Truncated files are put aside, whole ones and foreign ones are left alone."""

import json
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from vireo.config import HOME
from vireo.tables import predictions
from vireo.utils import seal
from vireo.utils.files import atomic, write_json
from vireo.workflow import cleanup


def made(root):
    names = {
        "config": "cache/config/abc.json",
        "receipt": "data/receipts/a.json",
        "frames": "cache/shards/m/b/s/1-of-2.frames.json",
        "result": "results/m/b.json",
        "items": "cache/items/b.parquet",
        "shard": "cache/shards/m/b/s/1-of-2.parquet",
        "rows": "results/m/b/predictions.parquet",
        "weights": "results/training/r/weights.safetensors",
    }
    paths = {key: root / name for key, name in names.items()}
    for path in paths.values():
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".json":
            write_json(path, {"files": {"x": {"size": 1}}, "n": [1, {"a": 2}]})
        elif path.suffix == ".parquet":
            pd.DataFrame({"id": range(100)}).to_parquet(path)
        else:
            save_file({"a": np.ones((3, 4), np.float32), "b": np.ones(2)}, path, {"k": "v"})
    return paths


def test_whole_files_stay(tmp_path):
    made(tmp_path)
    (tmp_path / "results/m/mine.json").write_text('[{"of": "my own"}]')
    assert cleanup.quarantine_damaged(tmp_path) == []


@pytest.mark.parametrize("kind", ["cut", "empty", "nul"])
@pytest.mark.parametrize("seed", range(10))
def test_torn_files_are_put_aside(tmp_path, kind, seed):
    rng = np.random.default_rng(seed)
    paths = made(tmp_path)
    for path in paths.values():
        data = path.read_bytes()
        # The newline at the very end carries nothing.
        at = int(rng.integers(0, len(data) - 2)) if kind != "empty" else 0
        path.write_bytes(data[:at] + (b"\0" * (len(data) - at) if kind == "nul" else b""))
    found = set(cleanup.quarantine_damaged(tmp_path))
    expected = set(paths.values())
    if kind == "nul":
        expected.discard(paths["weights"])  # of the right length: its header tells nothing of it
        found.discard(paths["weights"])
    assert found == expected
    for path in found:
        assert not path.exists() and path.with_name(f"{path.name}.damaged").exists()


def test_a_json_file_cut_behind_an_inner_bracket(tmp_path):
    path = made(tmp_path)["result"]
    is_complete = cleanup.COMPLETE_CHECKS["results/*/*.json"]
    text = path.read_text()
    for at in range(len(text) - 1):
        path.write_text(text[:at])
        whole = is_complete(path)
        assert not whole, text[:at]
    path.write_text(text.rstrip())
    assert is_complete(path) and json.loads(path.read_text())


def test_only_what_dead_processes_of_this_machine_were_writing_is_swept(tmp_path):
    made(tmp_path)
    target = tmp_path / "cache/frames/k/a.json"
    script = (
        "import os, signal, sys; from vireo.utils.files import atomic\n"
        "with atomic(sys.argv[1]) as tmp:\n"
        "    tmp.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(target)], cwd=HOME)
    assert done.returncode == -signal.SIGKILL
    (left,) = target.parent.iterdir()
    elsewhere = left.with_name(".a.json.00000000-1.abcdefgh.tmp")
    foreign = target.with_name(".mine.tmp")
    for path in (elsewhere, foreign):
        path.write_text("not ours")
    with atomic(target) as tmp:
        tmp.write_text("{}")
        assert cleanup.remove_stale_temp(tmp_path) == [left]
    assert set(target.parent.iterdir()) == {target, elsewhere, foreign}


def test_shards_at_another_place_are_put_aside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def shard(path, **place):
        told = {"model": "m", "benchmark": "b", "shard": "1-of-1", "control": None, **place}
        predictions.write(path, [], {"key": {"family": "f"}, "place": told})

    def copied(source, target):  # with its digest; without, the copy counts as damaged
        for path in (lambda p: p, seal.sidecar):
            path(target).write_bytes(path(source).read_bytes())

    folder = tmp_path / "cache/shards/m/b"
    real, long = folder / "short/1-of-1.parquet", folder / "long/1-of-1.parquet"
    control = folder / "controls/untrained.short.parquet"
    shard(real, split="short")
    shard(long, split="long")
    shard(control, split="short", control="untrained")
    predictions.write(folder / "old/1-of-1.parquet", [], {"key": {"family": "f"}})
    write_json(folder / "controls.json", {})
    assert cleanup.quarantine_misplaced() == []
    copied(control, real)
    assert [str(p) for p in cleanup.quarantine_misplaced()] == [str(real.relative_to(tmp_path))]
    assert not real.exists() and long.exists() and (folder / "controls.json").exists()
    copied(long, control)
    cleanup.quarantine_misplaced()
    assert not control.exists() and not (folder / "controls.json").exists()  # both made again
