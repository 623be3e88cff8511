"""Selective scan: the authors' numbers, float64, traps of stability, kernels by the interpreter."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from vireo.errors import VireoError
from vireo.models import videomamba
from vireo.nn import compiled, scan, scan_chunked

GOLDEN = Path(__file__).parents[1] / "golden" / "videomamba" / "selective_scan.safetensors"
NUMBA = pytest.param("numba", marks=pytest.mark.skipif(
    compiled.missing() is not None, reason=compiled.missing() or ""
))  # fmt: skip
NAMES = ("u", "delta", "A", "B", "C", "D", "delta_bias")


def problem(G=2, b=2, L=20, E=3, N=4, dtype=torch.float32, delta=1.0, seed=0) -> list[Tensor]:
    g = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=g, dtype=dtype)

    A = -torch.arange(1.0, N + 1, dtype=dtype).expand(G, E, N).contiguous()
    step = normal(G, b, L, E) * 0.3 + delta
    return [normal(G, b, L, E), step, A, normal(G, b, L, N), normal(G, b, L, N), normal(G, E),
            normal(G, E) * 0.1]  # fmt: skip


def worst(got: Tensor, want: Tensor) -> float:
    most = want.double().abs().max().clamp_min(1e-12)
    return ((got.double() - want.double()).abs().max() / most).item()


def gradients(inputs: list[Tensor], backend: str, dy: Tensor) -> tuple[Tensor, list[Tensor]]:
    inputs = [x.detach().clone().requires_grad_() for x in inputs]
    y, _ = scan.selective_scan(*inputs, backend=backend)
    return y.detach(), list(torch.autograd.grad((y * dy).sum(), inputs))


@pytest.mark.parametrize("case", ["mild", "stiff"])
@pytest.mark.parametrize("backend", ["chunked", "loop", "triton", NUMBA])
def test_reference_numbers(case: str, backend: str) -> None:
    """Output, last state and all gradients of the authors' scan; there [b,E,L], here [G,b,L,E]."""
    gold = {k[len(case) + 1 :]: v for k, v in load_file(GOLDEN).items() if k.startswith(case)}

    def ours(name: str) -> Tensor:
        x = gold[name]
        return (x.transpose(1, 2) if x.ndim == 3 else x)[None].contiguous()

    inputs = [ours(name).requires_grad_() for name in NAMES]
    z = ours("z").requires_grad_()
    y, last = scan.selective_scan(*inputs, backend=backend)
    out = y * torch.nn.functional.silu(z)
    torch.testing.assert_close(out, ours("out"), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(last[0], gold["last_state"], atol=1e-5, rtol=1e-5)
    grads = torch.autograd.grad((out * ours("dout")).sum(), [*inputs, z])
    for name, grad in zip([*NAMES, "z"], grads, strict=True):
        assert worst(grad, ours(f"grad.{name}")) < 1e-5, name
    bare, _ = scan.selective_scan(*inputs[:5], backend=backend)
    torch.testing.assert_close(bare, ours("out_noD_noz_nobias"), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("softplus", [True, False])
@pytest.mark.parametrize("chunk", [1, 3, 32])
def test_gradcheck(softplus: bool, chunk: int) -> None:
    inputs = [x.requires_grad_() for x in problem(L=7, E=2, N=3, dtype=torch.float64)]
    assert torch.autograd.gradcheck(
        lambda *x: scan_chunked.ChunkedScan.apply(*x, softplus, chunk)[0],
        inputs,
        fast_mode=chunk != 3,
    )


@settings(max_examples=20, deadline=None)
@given(
    G=st.integers(1, 3), b=st.integers(1, 3), L=st.integers(1, 70), E=st.integers(1, 9),
    N=st.integers(1, 17), chunk=st.integers(1, 80), rows=st.integers(1, 4), bias=st.booleans(),
)  # fmt: skip
def test_chunks_and_batch_rows_change_nothing(
    G: int, b: int, L: int, E: int, N: int, chunk: int, rows: int, bias: bool
) -> None:
    inputs: list = problem(G, b, L, E, N)
    if not bias:
        inputs[5:] = [None, None]
    y, state, starts = scan_chunked.chunked_forward(*inputs, True, chunk, keep_starts=True)
    want, last = scan.loop_scan(*(x if x is None else x.double() for x in inputs))
    assert worst(y, want) < 1e-5 and worst(state.transpose(2, 3), last) < 1e-5
    grads = scan_chunked.chunked_backward(torch.ones_like(y), *inputs, True, starts, chunk)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan_chunked, "CPU_STEP", rows * G * N * E)
        again, _, starts = scan_chunked.chunked_forward(*inputs, True, L, keep_starts=True)
        assert worst(again, y) < 1e-6
        for one, two in zip(
            grads,
            scan_chunked.chunked_backward(torch.ones_like(y), *inputs, True, starts, L),
            strict=True,
        ):
            torch.testing.assert_close(one, two, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("backend", ["chunked", NUMBA])
@pytest.mark.parametrize("delta", [0.01, 0.1, 0.7, 3.0, 25.0])
def test_no_step_size_or_length_breaks_it(delta: float, backend: str) -> None:
    """Cumulative forms overflow at delta 0.7 and A = -16 after 8 steps; the recurrence does not."""
    inputs = problem(1, 1, 700, 8, 16)
    inputs[6] = torch.zeros_like(inputs[6])
    inputs[1] = torch.full_like(inputs[1], delta).expm1().log()  # softplus gives delta back
    if delta > 20:
        inputs[1] = torch.full_like(inputs[1], delta)
    dy = torch.randn(inputs[0].shape, generator=torch.Generator().manual_seed(1))
    y, grads = gradients(inputs, backend, dy)
    want, exact = gradients([x.double() for x in inputs], "chunked", dy.double())
    reference, _ = scan.loop_scan(*(x.double() for x in inputs))
    assert worst(y, reference) < 1e-6 and worst(want, reference) < 1e-12
    for grad, right in zip(grads, exact, strict=True):
        assert torch.isfinite(grad).all() and worst(grad, right) < 1e-5


@pytest.mark.parametrize("backend", ["chunked", NUMBA])
def test_stiff_decay_and_huge_steps_underflow_to_zero(backend: str) -> None:
    inputs = problem(1, 1, 64, 4, 16)
    inputs[1] = torch.full_like(inputs[1], 1e4)
    inputs[2] = inputs[2] * 1e3
    y, grads = gradients(inputs, backend, torch.ones_like(inputs[0]))
    assert all(torch.isfinite(x).all() for x in (y, *grads))


@pytest.mark.parametrize("backend", ["chunked", "triton", NUMBA])
def test_float32_inside_whatever_autocast_says(backend: str) -> None:
    inputs = problem(L=300, E=8, N=16, delta=0.05)
    half = [x.bfloat16() if i in (0, 1, 3, 4) else x for i, x in enumerate(inputs)]
    want, state = scan.loop_scan(*(x.double() for x in half))
    with torch.autocast("cpu", torch.bfloat16):
        y, last = scan.selective_scan(*half, backend=backend)
    assert y.dtype == torch.bfloat16 and last.dtype == torch.float32
    assert worst(last, state) < 1e-5 and worst(y, want) < 4e-3  # one rounding of y


@pytest.mark.parametrize("backend", ["chunked", NUMBA])
def test_directions_are_independent(backend: str) -> None:
    inputs = problem(G=2)
    both, _ = scan.selective_scan(*inputs, backend=backend)
    for g in range(2):
        alone, _ = scan.selective_scan(*(x[g : g + 1] for x in inputs), backend=backend)
        torch.testing.assert_close(alone[0], both[g], atol=1e-6, rtol=1e-6)


def test_compiles_through_the_registered_operator() -> None:
    inputs = problem(L=9)

    def loss(*x: Tensor) -> Tensor:
        return scan.selective_scan(*x)[0].sin().sum()

    leaves = [x.clone().requires_grad_() for x in inputs]
    compiled = torch.compile(loss, backend="aot_eager", fullgraph=True)
    got = torch.autograd.grad(compiled(*leaves), leaves)
    for one, two in zip(got, torch.autograd.grad(loss(*leaves), leaves), strict=True):
        torch.testing.assert_close(one, two, atol=1e-5, rtol=1e-5)


def test_operator_is_registered_correctly() -> None:
    inputs = problem(L=5, E=2)
    op = torch.ops.vireo.chunked_scan.default
    torch.library.opcheck(op, (*inputs, True), test_utils=("test_schema", "test_faketensor"))
    for dtype in (torch.float32, torch.bfloat16):
        inputs = [x.to(dtype) for x in inputs]
        with torch._subclasses.FakeTensorMode() as mode:
            fake = [mode.from_tensor(x) for x in inputs]
            y, last = torch.ops.vireo.selective_scan(*fake, True)
        assert y.shape == inputs[0].shape and y.dtype == dtype
        assert last.shape == (2, 2, 2, 4) and last.dtype == torch.float32


def test_unusable_choices_say_so(monkeypatch) -> None:
    inputs = problem()
    monkeypatch.delenv(scan.VARIABLE, raising=False)
    with pytest.raises(VireoError, match="did you mean 'chunked'"):
        scan.selective_scan(*inputs, backend="chunkt")
    if scan.available("mamba_ssm"):
        with pytest.raises(VireoError, match="scan: auto"):
            scan.selective_scan(*inputs, backend="mamba_ssm")
    with pytest.raises(ValueError, match=r"B is \(2, 2, 20, 3\)"):
        scan.selective_scan(*inputs[:3], inputs[3][..., :3], *inputs[4:])


def test_the_environment_chooses_and_wrong_values_are_errors(monkeypatch) -> None:
    u = problem()[0]
    for value, want in (("torch", "chunked"), ("triton", "triton")):
        if value == "triton" and importlib.util.find_spec("triton") is None:
            continue
        monkeypatch.setenv(scan.VARIABLE, value)
        assert scan.choose("auto", u) == want
        assert scan.choose("loop", u) == "loop"  # what a model asks for by name stays
    monkeypatch.setenv(scan.VARIABLE, "numb")
    for backend in ("auto", "chunked"):
        with pytest.raises(VireoError, match=r"VIREO_SCAN 'numb'; did you mean 'numba'\?"):
            scan.choose(backend, u)
    with pytest.raises(VireoError, match="VIREO_SCAN"):
        videomamba.build({"width": 16, "depth": 1, "num_classes": 2, "image_size": 16})
    monkeypatch.setenv(scan.VARIABLE, "")
    assert scan.choose("auto", u) == ("chunked" if compiled.missing() else "numba")
    assert scan.choose("auto", u.double()) == "chunked"
    monkeypatch.setattr(compiled, "missing", lambda: "Numba is not installed")
    assert scan.choose("auto", u) == "chunked"
    monkeypatch.setenv(scan.VARIABLE, "numba")
    with pytest.raises(VireoError, match=r"VIREO_SCAN=numba\) cannot be used: Numba is not inst"):
        scan.choose("auto", u)
    with pytest.raises(VireoError, match=r"`scan: numba`\) cannot be used: Numba is not inst"):
        scan.choose("numba", u)
    monkeypatch.setattr(compiled, "missing", lambda: None)
    with pytest.raises(VireoError, match="it is for the CPU, the model is on meta"):
        scan.choose("numba", u.to("meta"))


INTERPRETED = """
import json, torch
from vireo.nn import scan_chunked, scan_triton
worst = {}
for name, (G, b, L, E, N, extras, softplus, steps) in json.loads(%r).items():
    g = torch.Generator().manual_seed(0)
    r = lambda *s: torch.randn(s, generator=g)
    x = [r(G, b, L, E), r(G, b, L, E) + 0.5, -16 * torch.rand(G, E, N, generator=g),
         r(G, b, L, N), r(G, b, L, N), r(G, E), r(G, E)]
    if not softplus:
        x[1] = x[1].abs()
    if not extras:
        x[5] = x[6] = None
    scan_triton._segment_steps = lambda u, programs: steps or u.shape[2]
    exact = [v if v is None else v.double() for v in x]
    dy = r(G, b, L, E)
    y, last, starts = scan_chunked.chunked_forward(*exact, softplus, keep_starts=True)
    grads = scan_chunked.chunked_backward(dy.double(), *exact, softplus, starts)
    want = [y, last.transpose(2, 3), *grads]
    got = [*scan_triton.forward_kernels(*x, softplus),
           *scan_triton.backward_kernels(dy, *x, softplus)]
    assert all(a.shape == b.shape for a, b in zip(got, want, strict=True))
    worst[name] = [((a - b).abs().max() / b.abs().max()).item() for a, b in zip(got, want)]
print(json.dumps(worst))
"""


def run_python(code: str, **env: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=250,
        env={**os.environ, **env}, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


def test_kernels_by_the_interpreter() -> None:
    """Forward and backward against float64: odd sizes, several blocks and segments, no extras."""
    pytest.importorskip("triton")
    cases = {  # G, b, L, E, N, with D and bias, softplus, steps per segment (0: one segment)
        "two channel blocks, ragged tile": (1, 1, 19, 34, 2, True, True, 0),
        "three segments, two directions": (2, 1, 37, 2, 3, True, True, 16),
        "no extras": (1, 2, 17, 3, 2, False, False, 0),
    }
    out = run_python(INTERPRETED % json.dumps(cases), TRITON_INTERPRET="1")
    for name, errors in json.loads(out.splitlines()[-1]).items():
        assert max(errors) < 3e-6, (name, errors)


COMPILED = """
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile
from vireo.nn import scan_triton as kernels
flags = dict(N=16, N_PAD=16, BE=32, TILE_=16, HAS_D=True, HAS_BIAS=True, SOFTPLUS=True,
             HAS_INIT=True, REVERSE=False, STORE_Y=True, STORE_FINAL=True, STORE_TOTAL=False,
             STORE_TILES=False, STORE_LAST=True)
floats = ("A_ptr", "D_ptr", "bias_ptr", "init_ptr", "final_ptr", "total_ptr", "tiles_ptr",
          "state_ptr", "last_ptr", "h_ptr", "r_ptr", "dB_ptr", "dC_ptr", "dD_ptr", "dbias_ptr")
for kernel in (kernels._walk, kernels._carry, kernels._gradients):
    names = kernel.arg_names
    signature = {n: "constexpr" if n in flags else "i32" if not n.endswith("_ptr")
                 else "*fp32" if n in floats else "*bf16" for n in names}
    constants = {(names.index(n),): flags[n] for n in names if n in flags}
    source = ASTSource(kernel, signature, constants)
    compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 1})
"""


def test_kernels_compile_for_a_card_that_is_not_here(tmp_path: Path) -> None:
    pytest.importorskip("triton")
    run_python(COMPILED, TRITON_INTERPRET="0", TRITON_CACHE_DIR=str(tmp_path))


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("shape", [(2, 2, 1569, 768, 16), (1, 3, 77, 40, 16)])
def test_kernels_on_a_gpu(dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    inputs = [x.cuda() for x in problem(*shape, delta=0.0)]
    for i in (0, 1, 3, 4):
        inputs[i] = inputs[i].to(dtype)
    dy = torch.randn_like(inputs[0])
    y, grads = gradients(inputs, "triton", dy)
    want, right = gradients([x.double() for x in inputs], "chunked", dy.double())
    limit = 1e-5 if dtype == torch.float32 else 2e-2
    assert worst(y, want) < limit
    for grad, exact in zip(grads, right, strict=True):
        assert worst(grad, exact) < 3 * limit
