"""bench/gpu.py where there is no GPU: it says so; counting, calls and tables work on the CPU."""

import json
import sys

import pytest
import torch

from vireo import config as cfg

sys.path.insert(0, str(cfg.HOME))

from bench import gpu


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_and_writes_nothing(tmp_path, capsys) -> None:
    assert gpu.main(["--out", str(tmp_path / "results")]) == 0
    assert "no GPU here" in capsys.readouterr().out and not (tmp_path / "results").exists()


def test_every_call_runs_on_the_cpu_at_a_tiny_size_and_is_counted() -> None:
    device = torch.device("cpu")
    rows = [gpu.measure(case, device, 1e12, 3.0) for case in gpu.cases(tiny=True)]
    assert len(rows) == 6
    assert all(row.rate and row.rate > 0 and row.share and row.share > 0 for row in rows)
    assert not any(row.note for row in rows)


def test_models_of_the_right_size_are_counted_without_being_made() -> None:
    """ViCLIP-L/14 and VideoMamba-M by the products that their papers and ours count."""
    clip, _, mamba, *_ = gpu.cases()
    d, E, R, N, L, depth = 576, 1152, 36, 16, 1569, 32
    direction = E * (R + 2 * N) + R * E
    layers = (depth - 1) * L * (3 * d * E + 2 * direction)
    last = L * (d * E + direction)  # the class token alone needs gate and output
    per_clip = gpu.operations(mamba) / mamba.count / 2
    assert per_clip == pytest.approx(layers + last + (L - 1) * 768 * d, rel=1e-3)
    # Every patch of every frame is a token; the last layer makes keys and values of all, the rest
    # for the class token alone.
    tokens, width = 8 * 256 + 1, 1024
    layers = 23 * (12 * width**2 * tokens + 2 * tokens**2 * width)
    last = 2 * width**2 * tokens
    per_clip = gpu.operations(clip) / clip.count / 2
    assert per_clip == pytest.approx(layers + last + 8 * 256 * 588 * width, rel=1e-3)
    for case in gpu.cases():
        assert cfg.model(cfg.load(), case.block)["hardware"]["gpu_gb"] > 0


def test_scans_are_compared(monkeypatch) -> None:
    rows = list(gpu.scans(torch.device("cpu"), fast="chunked", length=20, width=32))
    assert [row.name for row in rows if row.error is not None and row.error == 0] == [
        "scan, float32, chunked", "scan, bfloat16, chunked",
    ]  # fmt: skip
    right = gpu.scan.selective_scan

    def wrong(*args, backend):
        y, last = right(*args, backend="chunked")
        return (y * 1.1 if backend == "loop" else y), last

    monkeypatch.setattr(gpu.scan, "selective_scan", wrong)
    rows = list(gpu.scans(torch.device("cpu"), fast="loop", length=20, width=32))
    assert [r.note for r in rows if "loop" in r.name] == [
        "differs from chunked by more than 1e-05", "differs from chunked by more than 0.02",
    ]  # fmt: skip


def test_tables_are_written(tmp_path) -> None:
    rows = [gpu.Row("a model", 12.34, "clips/s", 0.5, 7.25, 6, None, "more than gpu_gb"),
            gpu.Row("another", note="out of memory")]  # fmt: skip
    path = gpu.write(tmp_path, "A Card X1 80GB", 1e15, rows, {"torch": "2"})
    assert path.name == "gpu-a-card-x1-80gb.md"
    text = path.read_text()
    assert "| a model | 12.3 clips/s | 50% | 7.2 | 6 |  | more than gpu_gb |" in text
    assert "1000 TFLOP/s" in text and "| another |  |  |  |  |  | out of memory |" in text
    full = json.loads(path.with_suffix(".json").read_text())
    assert full["rows"][0]["peak_gb"] == 7.25 and full["torch"] == "2"
