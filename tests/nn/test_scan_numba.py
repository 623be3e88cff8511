"""Compiled operators of a Mamba block against PyTorch's: values, gradients, layouts, threads."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from vireo.nn import compiled

if compiled.missing():
    pytest.skip(compiled.missing(), allow_module_level=True)

from tests.nn.test_scan import gradients, problem, worst
from vireo.nn import scan, scan_chunked, scan_numba
from vireo.nn.mamba import Block, Mixer, RMSNorm, causal_conv


def randn(*shape: int, seed: int = 0, dtype=torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def flipped(x: Tensor, reverse, axis: int) -> Tensor:
    return torch.stack([d.flip(axis) if r else d for d, r in zip(x, reverse, strict=True)])


def torch_gated(u, delta, A, B, C, D, bias, z, reverse) -> Tensor:
    """Flip, scan in PyTorch, flip back, add, gate."""
    turned = [flipped(x, reverse, 1) for x in (u, delta, B, C)]
    y, _ = scan_chunked.ChunkedScan.apply(*turned[:2], A, *turned[2:], D, bias, True, 32)
    return flipped(y, reverse, 1).sum(0) * F.silu(z)


@settings(max_examples=25, deadline=None)
@given(
    G=st.integers(1, 3), b=st.integers(1, 3), L=st.integers(1, 90), E=st.integers(1, 70),
    N=st.integers(1, 17), softplus=st.booleans(), extras=st.booleans(), chunk=st.integers(1, 100),
)  # fmt: skip
def test_any_shape_is_the_plain_loop(
    G: int, b: int, L: int, E: int, N: int, softplus: bool, extras: bool, chunk: int
) -> None:
    inputs: list = problem(G, b, L, E, N, delta=0.5)
    if not softplus:
        inputs[1] = inputs[1].abs()
    if not extras:
        inputs[5:] = [None, None]
    exact = [x if x is None else x.double() for x in inputs]
    want, last = scan.loop_scan(*exact, softplus=softplus)
    dy = randn(G, b, L, E, seed=1)
    *_, starts = scan_chunked.chunked_forward(*exact, softplus, keep_starts=True)
    grads = scan_chunked.chunked_backward(dy.double(), *exact, softplus, starts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan_numba, "chunk_steps", lambda states: chunk)
        leaves = [x if x is None else x.requires_grad_() for x in inputs]
        y, state = scan.selective_scan(*leaves, softplus=softplus, backend="numba")
        used = [x for x in leaves if x is not None]
        got = torch.autograd.grad((y * dy).sum(), used)
    assert worst(y, want) < 2e-6 and worst(state, last) < 2e-6
    assert not state.requires_grad
    for one, two in zip(got, grads, strict=False):
        assert one.shape == two.shape and worst(one, two) < 1e-5


@pytest.mark.parametrize("softplus", [True, False])
def test_gradcheck_of_the_scan(softplus: bool, monkeypatch) -> None:
    monkeypatch.setattr(scan_numba, "chunk_steps", lambda states: 3)
    inputs = [x.requires_grad_() for x in problem(L=7, E=2, N=3, dtype=torch.float64)]
    assert torch.autograd.gradcheck(
        lambda *x: scan.selective_scan(*x, softplus=softplus, backend="numba")[0], inputs
    )


def test_gradcheck_of_the_fused_operators(monkeypatch) -> None:
    """Both directions with gate, convolution, sum and norm, in float64."""
    monkeypatch.setattr(scan_numba, "chunk_steps", lambda states: 2)
    double = torch.float64
    inputs = problem(b=2, L=5, E=32, N=2, dtype=double)
    leaves = [x.requires_grad_() for x in (*inputs, randn(2, 5, 32, dtype=double, seed=5))]
    order = (False, True)
    assert torch.autograd.gradcheck(
        lambda *x: scan_numba.gated_scan(*x, order), leaves, fast_mode=True
    )
    x, w, bias = (
        randn(2, 6, 32, dtype=double),
        randn(2, 32, 4, dtype=double),
        randn(2, 32, dtype=double),
    )
    leaves = [v.requires_grad_() for v in (x, w, bias)]
    assert torch.autograd.gradcheck(lambda *v: scan_numba.conv_silu(*v, order), leaves)
    hidden, residual, weight = (randn(*s, dtype=double) for s in ((2, 3, 32), (2, 3, 32), (32,)))
    leaves = [v.requires_grad_() for v in (hidden, residual + 1, weight)]
    assert torch.autograd.gradcheck(lambda *v: scan_numba.add_norm(*v, 1e-5), leaves)
    assert torch.autograd.gradcheck(
        lambda h, w: scan_numba.add_norm(h, None, w, 1e-5)[0], (leaves[0], leaves[2])
    )


@pytest.mark.parametrize("reverse", [(False,), (True,), (False, True), (True, True, False)])
@pytest.mark.parametrize("threads", [1, 3])
def test_gated_scan_of_slices(reverse, threads: int, monkeypatch) -> None:
    """B, C and z are slices of wider tensors, as projections give them; threads share channels."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    G, b, L, E, N = len(reverse), 2, 70, 96, 5
    u, delta, A, _, _, D, bias = problem(G, b, L, E, N, delta=0.0)
    parts, xz = randn(G, b * L, 3 + 2 * N, seed=2), randn(b, L, 2 * E, seed=3)
    leaves = [x.requires_grad_() for x in (u, delta, A, parts, D, bias, xz)]

    def run(scan, leaves) -> tuple[Tensor, list[Tensor]]:
        u, delta, A, parts, D, bias, xz = leaves
        _, B, C = (x.view(G, b, L, -1) for x in parts.split([3, N, N], dim=-1))
        out = scan(u, delta, A, B, C, D, bias, xz.chunk(2, dim=-1)[1], reverse)
        grads = torch.autograd.grad((out * randn(b, L, E, seed=4)).sum(), leaves)
        return out, list(grads)

    got, grads = run(scan_numba.gated_scan, leaves)
    want, right = run(torch_gated, [x.detach().double().requires_grad_() for x in leaves])
    assert worst(got, want) < 2e-6
    for one, two in zip(grads, right, strict=True):
        assert worst(one, two) < 1e-5
    with torch.inference_mode():
        again, _ = scan_numba.CompiledScan.apply(
            *(x.detach() for x in leaves[:3]),
            *(x.view(G, b, L, N) for x in parts.detach()[..., 3:].split(N, dim=-1)),
            D.detach(), bias.detach(), xz.detach()[..., E:], reverse, True,
        )  # fmt: skip
        assert torch.equal(again, got)


def test_scattered_layouts_are_copied() -> None:
    """Inputs with any strides give what contiguous ones give."""
    inputs = problem(2, 3, 20, 64, 4)
    moved = [x.transpose(0, -1).contiguous().transpose(0, -1) for x in inputs]
    assert not moved[0].is_contiguous() and not moved[3].is_contiguous()
    dy = randn(*inputs[0].shape)
    y, grads = gradients(inputs, "numba", dy)
    again, same = gradients(moved, "numba", dy.transpose(0, 1).contiguous().transpose(0, 1))
    assert torch.equal(y, again) and all(map(torch.equal, grads, same))


@pytest.mark.parametrize("L", [1, 2, 3, 4, 37])
@pytest.mark.parametrize("threads", [1, 2])
def test_convolution_with_silu(L: int, threads: int, monkeypatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    order = (False, True)
    wide, w, bias = randn(2, L, 192), randn(2, 96, 4, seed=1), randn(2, 96, seed=2)
    leaves = [x.requires_grad_() for x in (wide, w, bias)]

    def oracle(x: Tensor, w: Tensor, bias: Tensor) -> Tensor:
        u = causal_conv(torch.stack([x, x.flip(1)]), w, bias)
        return flipped(u, order, 1)

    results = []
    for conv in (lambda *v: scan_numba.conv_silu(*v, order), oracle):
        u = conv(leaves[0].chunk(2, dim=-1)[1], *leaves[1:])
        grads = torch.autograd.grad((u * randn(*u.shape, seed=4)).sum(), leaves)
        results.append([u.detach(), *grads])
    for got, want in zip(*results, strict=True):
        torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("threads", [1, 2])
def test_sum_and_norm(threads: int, monkeypatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    norm = RMSNorm(64)
    with torch.no_grad():
        norm.weight.copy_(randn(64))
    hidden, residual = randn(2, 9, 64, seed=1), 3 * randn(2, 9, 64, seed=2)
    leaves = [hidden.requires_grad_(), residual.requires_grad_(), norm.weight]
    results = []
    for compiled_one in (True, False):
        for stream in (leaves[1], None):
            if compiled_one:
                normed, total = scan_numba.add_norm(leaves[0], stream, norm.weight, norm.eps)
            else:
                total = leaves[0] if stream is None else leaves[0] + stream
                normed = norm(total)
            loss = (normed * randn(2, 9, 64, seed=3)).sum() + (total * randn(2, 9, 64)).sum()
            used = leaves if stream is not None else [leaves[0], norm.weight]
            results.append([normed.detach(), total.detach(), *torch.autograd.grad(loss, used)])
    for got, want in zip(results[0] + results[1], results[2] + results[3], strict=True):
        torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("width", [32, 24])  # 24: the block's own norm, PyTorch's convolution
def test_blocks_are_those_of_pytorch(width: int, monkeypatch) -> None:
    """Two blocks with all parameters' gradients; the second gives token 0 alone."""
    torch.manual_seed(0)
    blocks = [Block(width, 0.0), Block(width, 0.0)]
    for block in blocks:
        block.mixer.init_weights(2, torch.Generator().manual_seed(1))
    parameters = [p for block in blocks for p in block.parameters()]
    results = {}
    for way in ("torch", "numba"):
        monkeypatch.setenv(scan.VARIABLE, way)
        x = randn(2, 21, width).requires_grad_()
        hidden, residual = blocks[0](x, None)
        hidden, residual = blocks[1](hidden, residual, first_only=True)
        loss = (hidden * randn(2, 1, width, seed=3)).sum() + residual[:, 0].square().sum()
        results[way] = [hidden, residual, *torch.autograd.grad(loss, [x, *parameters])]
    for got, want in zip(results["numba"], results["torch"], strict=True):
        assert worst(got, want) < 1e-5


def test_half_precision_and_autocast_leave_the_fused_path(monkeypatch) -> None:
    monkeypatch.setenv(scan.VARIABLE, "numba")
    mixer = Mixer(32)
    mixer.init_weights(1)
    x = randn(1, 9, 32)
    want = mixer(x)
    with torch.autocast("cpu", torch.bfloat16):
        half = mixer(x)
    assert half.dtype == torch.bfloat16
    assert worst(half.float(), want) < 3e-2
    both = mixer.double()(x.double())
    assert both.dtype == torch.float64 and worst(both, want) < 1e-5
