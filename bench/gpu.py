"""One GPU, no network: the scan's kernels, and the models at full size with random weights.

Prints a table and writes it with all numbers to `bench/results/gpu-<card>.md` and `.json` (--out
names another folder). Claims: Triton's scan agrees with the scan in PyTorch (1e-5 in float32, 2e-2
in bfloat16), and every model stays within `gpu_gb` of its block in config/models.yaml. Rates are
medians of five runs by the wall clock; the share is of the card's peak in a plain matrix product in
bfloat16, measured in the same run, and counts matrix products alone. One card, nine minutes
(--minutes): what does not fit into memory is listed as that, what is left when time runs out as not
run. Without a GPU it says so and measures nothing.
"""

import argparse
import json
import re
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from vireo import config as cfg
from vireo.models import viclip, videomamba
from vireo.models.mmduet import module as mmduet
from vireo.nn import mamba, scan

RUNS = 5
EQUAL = {torch.float32: 1e-5, torch.bfloat16: 2e-2}
Step = Callable[[nn.Module], Any]


@dataclass
class Case:
    """A model of `block`'s size and one call of it, which takes `count` of `unit`."""

    name: str
    block: str  # of config/models.yaml
    unit: str
    count: int
    build: Callable[[], nn.Module]
    step: Step
    train: bool = False
    dtype: torch.dtype = torch.float32  # of the weights; float32 runs under bfloat16 autocast


@dataclass
class Row:
    """One line of the table; numbers are None where there are none."""

    name: str
    rate: float | None = None  # per second
    unit: str = ""
    share: float | None = None  # of the peak
    peak_gb: float | None = None
    gpu_gb: float | None = None
    error: float | None = None
    note: str = ""


def sync(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(work: Callable[[], object], device: torch.device, runs: int = RUNS) -> float:
    """Median wall seconds after one run to warm up."""
    taken = []
    for _ in range(runs + 1):
        sync(device)
        began = time.perf_counter()
        work()
        sync(device)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken[1:])


def matmul_peak(device: torch.device, size: int = 8192) -> float:
    """Operations a second of a square matrix product in bfloat16."""
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * size**3 / seconds(lambda: a @ b, device)


def call(case: Case, model: nn.Module) -> Any:
    """One step as inference or training runs it."""
    device = next(model.parameters()).device.type
    with torch.autocast(device, torch.bfloat16, enabled=case.dtype == torch.float32):
        if not case.train:
            with torch.no_grad():
                return case.step(model)
        loss = case.step(model)
    loss.backward()
    model.zero_grad()
    return loss


def make(case: Case, device: torch.device | str) -> nn.Module:
    """The model with random weights, made on the device in its dtype."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(case.dtype)
    try:
        with torch.device(device):
            model = case.build()
    finally:
        torch.set_default_dtype(before)
    return model.train() if case.train else model.eval().requires_grad_(False)


def operations(case: Case) -> int:
    """Operations in matrix products of one call, counted on the meta device; none of the scan's."""

    def shapes(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, *_: Any, **__: Any):
        return u + delta + (B + C).sum(-1, keepdim=True), None

    model = make(case, "meta")
    with (
        mock.patch.object(torch, "autocast", lambda *_, **__: nullcontext()),  # not for meta
        mock.patch.object(mamba, "selective_scan", shapes),
        FlopCounterMode(display=False) as counter,
    ):
        call(case, model)
    return counter.get_total_flops()


def measure(case: Case, device: torch.device, peak: float | None, gpu_gb: float | None) -> Row:
    """Rate, share of `peak` and memory of one case."""
    row = Row(case.name, unit=f"{case.unit}/s", gpu_gb=gpu_gb)
    cuda = device.type == "cuda"
    try:
        if cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
        model = make(case, device)
        took = seconds(lambda: call(case, model), device)
    except torch.cuda.OutOfMemoryError:
        row.note = "out of memory"
        return row
    row.rate = case.count / took
    if cuda:
        row.peak_gb = torch.cuda.max_memory_allocated(device) / 1e9
        if gpu_gb is not None and not case.train and row.peak_gb > gpu_gb:
            row.note = "more than gpu_gb"
    if peak:
        row.share = operations(case) / took / peak
    return row


def scans(device: torch.device, fast: str = "triton", length: int = 1569, width: int = 1152):
    """Rows of the scan, forward and backward of both directions of a layer of VideoMamba-M."""
    g = torch.Generator().manual_seed(0)
    shapes = [(2, 4, length, width)] * 2, (2, width, 16), [(2, 4, length, 16)] * 2
    wide, A, narrow = shapes
    inputs = [torch.randn(s, generator=g) for s in (*wide, A, *narrow, (2, width), (2, width))]
    inputs[2] = -inputs[2].exp()
    backends = [fast, *(["mamba_ssm"] if scan.available("mamba_ssm") is None else [])]
    for dtype, limit in EQUAL.items():
        leaves = [x.to(device) for x in inputs]
        for i in (0, 1, 3, 4):
            leaves[i] = leaves[i].to(dtype)
        leaves = [x.requires_grad_() for x in leaves]

        def both(backend: str, leaves: list[Tensor] = leaves) -> list[Tensor]:
            y, _ = scan.selective_scan(*leaves, backend=backend)
            return [y, *torch.autograd.grad(y.float().square().mean(), leaves)]

        wanted = [x.double() for x in both("chunked")]
        slow = seconds(lambda both=both: both("chunked"), device)
        name = str(dtype).removeprefix("torch.")
        yield Row(f"scan, {name}, chunked", 4 / slow, "clips/s")
        for backend in backends:
            found = both(backend)
            error = max(
                ((a.double() - b).abs().max() / b.abs().max().clamp_min(1e-12)).item()
                for a, b in zip(found, wanted, strict=True)
            )
            took = seconds(lambda both=both, backend=backend: both(backend), device)
            row = Row(f"scan, {name}, {backend}", 4 / took, "clips/s", error=error)
            row.note = f"{slow / took:.1f}x of chunked"
            if error > limit:
                row.note = f"differs from chunked by more than {limit:g}"
            yield row


def cases(tiny: bool = False) -> list[Case]:
    """The models; `tiny`: the same calls on sizes for a test on the CPU."""
    clip = viclip.SIZES["L/14"]
    sequence = {**videomamba.SIZES["M"], "num_frames": 8, "num_classes": 400}
    duet: dict[str, Any] = {}
    frames, tokens = 8, 2048
    if tiny:
        clip = {**clip, "image_size": 28, "width": 64, "layers": 1, "heads": 1, "embed_dim": 16,
                "text_width": 64, "text_layers": 1, "text_heads": 1}  # fmt: skip
        sequence = {"width": 32, "depth": 2, "num_frames": 2, "num_classes": 5, "image_size": 32}
        vision = {"hidden_size": 32, "intermediate_size": 64, "layers": 1, "heads": 2,
                  "image_size": 56, "patch_size": 14}  # fmt: skip
        duet = {"vision": vision, "hidden_size": 32, "intermediate_size": 64, "layers": 1,
                "heads": 2, "kv_heads": 1, "vocab_size": 100}  # fmt: skip
        frames, tokens = 2, 16
    side, many = (clip["image_size"], 16) if not tiny else (28, 2)

    def video(model: nn.Module, batch: int, count: int, side: int) -> Tensor:
        place = next(model.parameters())
        return torch.randn(batch, count, 3, side, side, device=place.device, dtype=place.dtype)

    def contrastive(model: Any) -> Tensor:
        ids = torch.ones(many, 32, dtype=torch.long, device=model.temp.device)
        ids = F.pad(ids, (0, model.arch["context_length"] - 32))
        seen = model.encode_vision(video(model, many, clip["num_frames"], side))
        scores = F.normalize(seen, dim=-1) @ F.normalize(model.encode_text(ids), dim=-1).T
        return F.cross_entropy(scores / 0.01, torch.arange(many, device=scores.device))

    def classify(model: Any) -> Tensor:
        size = model.arch["image_size"]
        return model(video(model, many, sequence["num_frames"], size))

    def fine_tune(model: Any) -> Tensor:
        logits = classify(model)
        return F.cross_entropy(logits.float(), torch.zeros_like(logits[:, 0]).long())

    def watch(model: Any) -> Tensor:
        size = model.arch["vision"]["image_size"]
        return model.frames(video(model, 1, frames, size)[0])

    def read(model: Any) -> Tensor:
        ids = torch.ones(1, tokens, dtype=torch.long, device=model.lm_head.weight.device)
        hidden = model.model.language_model(inputs_embeds=model.embed(ids), use_cache=False)
        return model.lm_head(hidden.last_hidden_state[:, -1])

    def big() -> nn.Module:
        return mmduet.build(duet)

    return [
        Case("ViCLIP-L/14, 8 frames", "viclip", "clips", many, lambda: viclip.build(clip),
             lambda m: m.encode_vision(video(m, many, clip["num_frames"], side))),
        Case("ViCLIP-L/14, training step", "viclip", "clips", many, lambda: viclip.build(clip),
             contrastive, train=True),
        Case("VideoMamba-M, 8 frames", "videomamba_m16_k400_f8", "clips", many,
             lambda: videomamba.build(sequence), classify),
        Case("VideoMamba-M, training step", "videomamba_m16_k400_f8", "clips", many,
             lambda: videomamba.build(sequence), fine_tune, train=True),
        Case("MMDuet, frames to tokens", "mmduet", "frames", frames, big, watch,
             dtype=torch.bfloat16),
        Case(f"MMDuet, {tokens:,} tokens read", "mmduet", "tokens", tokens, big, read,
             dtype=torch.bfloat16),
    ]  # fmt: skip


def table(rows: list[Row], title: str, peak: float) -> str:
    """Markdown."""

    def cell(value: float | None, form: str) -> str:
        return "" if value is None else format(value, form)

    lines = [f"# {title}", "",
             f"A plain matrix product in bfloat16: {peak / 1e12:.0f} TFLOP/s.", "",
             "| what | rate | share of it | peak memory, GB | gpu_gb | largest difference | |",
             "|---|---|---|---|---|---|---|"]  # fmt: skip
    for row in rows:
        rate = "" if row.rate is None else f"{row.rate:,.1f} {row.unit}"
        cells = (row.name, rate, cell(row.share, ".0%"), cell(row.peak_gb, ".1f"),
                 cell(row.gpu_gb, "g"), cell(row.error, ".0e"), row.note)  # fmt: skip
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def write(folder: Path, title: str, peak: float, rows: list[Row], facts: dict[str, Any]) -> Path:
    """Both files; the path of the Markdown."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / ("gpu-" + re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-"))
    full = {"card": title, "matmul_flops": peak, **facts, "rows": [asdict(row) for row in rows]}
    stem.with_suffix(".json").write_text(json.dumps(full, indent=1) + "\n", encoding="utf-8")
    stem.with_suffix(".md").write_text(table(rows, title, peak), encoding="utf-8")
    return stem.with_suffix(".md")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--minutes", type=float, default=9.0, help="start nothing after so many")
    args = parser.parse_args(argv)
    if not torch.cuda.is_available():
        print("gpu: no GPU here (torch.cuda.is_available() is false), nothing was measured")
        return 0
    began, device = time.monotonic(), torch.device("cuda")
    card = torch.cuda.get_device_name(device)
    peak = matmul_peak(device)
    rows = list(scans(device))
    config = cfg.load()
    for case in cases():
        if time.monotonic() - began > 60 * args.minutes:
            rows.append(Row(case.name, note="not run: out of time"))
            continue
        gpu_gb = cfg.model(config, case.block)["hardware"]["gpu_gb"]
        rows.append(measure(case, device, peak, gpu_gb))
        print(rows[-1].name, rows[-1].rate, rows[-1].note, flush=True)
    facts = {"torch": torch.__version__, "cuda": torch.version.cuda, "date": time.strftime("%F")}
    print(table(rows, card, peak))
    print("written:", write(args.out, card, peak, rows, facts))
    return 1 if any(row.note.startswith(("differs", "more than", "out of")) for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
