"""Functions of compiled vectors against float64, over dense grids and at the edges."""

import math

import numpy as np
import pytest
import torch

from vireo.nn import compiled

if compiled.missing():
    pytest.skip(compiled.missing(), allow_module_level=True)

from numba import njit

from vireo.nn import simd
from vireo.nn.simd import LANES, load, store


def mapped(function, x: np.ndarray, second: bool = False) -> np.ndarray:
    """`function` over a flat array; `second` of its pair of results."""

    @njit
    def run(x, y, second):
        for i in range(0, x.size, LANES):
            store(y, i, function(load(x, i)))

    @njit
    def run_pair(x, y, second):
        for i in range(0, x.size, LANES):
            one, two = function(load(x, i))
            store(y, i, two if second else one)

    y = np.empty_like(x)
    (run_pair if function is simd.softplus else run)(x, y, second)
    return y


def grid(low: float, high: float, dtype=np.float32) -> np.ndarray:
    return np.linspace(low, high, 1 << 20).astype(dtype)


def units(got: np.ndarray, want: np.ndarray) -> float:
    """Largest error in units of the last place of float32 (of the right value)."""
    place = np.spacing(np.abs(want).astype(got.dtype)).astype(np.float64)
    return float(np.max(np.abs(got.astype(np.float64) - want) / place))


def softplus(x: np.ndarray) -> np.ndarray:
    return np.where(x > 20, x, np.logaddexp(0, x))


@pytest.mark.parametrize(
    ("name", "low", "high", "want", "limit"),
    [
        ("exp2", -126, 127.9, np.exp2, 3),
        ("exp2", -1e-3, 0, np.exp2, 1),
        ("exp", -87, 87, np.exp, 3),
        ("sigmoid", -80, 80, lambda x: 1 / (1 + np.exp(-x)), 4),
        ("softplus", -80, 100, softplus, 4),
    ],
)
def test_errors_in_float32(name: str, low: float, high: float, want, limit: float) -> None:
    x = grid(low, high)
    error = units(mapped(getattr(simd, name), x), want(x.astype(np.float64)))
    assert error <= limit, f"{name} on [{low}, {high}]: {error:.2f} units"


def test_float64_is_float64() -> None:
    x = grid(-30, 30, np.float64)
    np.testing.assert_allclose(mapped(simd.exp2, x), np.exp2(x), rtol=2e-15)
    np.testing.assert_allclose(mapped(simd.exp, x), np.exp(x), rtol=2e-15)
    np.testing.assert_allclose(mapped(simd.sigmoid, x), 1 / (1 + np.exp(-x)), rtol=1e-14)
    np.testing.assert_allclose(mapped(simd.softplus, x), softplus(x), rtol=1e-14)
    slope = np.where(x > 20, 1, 1 / (1 + np.exp(-x)))
    np.testing.assert_allclose(mapped(simd.softplus, x, second=True), slope, rtol=1e-14)


def test_the_slope_of_softplus_is_its_derivative() -> None:
    x = grid(-60, 60)
    wide = torch.from_numpy(x).double().requires_grad_()
    torch.nn.functional.softplus(wide, threshold=20).sum().backward()
    np.testing.assert_allclose(mapped(simd.softplus, x, second=True), wide.grad, rtol=2e-6)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_edges(dtype) -> None:
    """Not a number stays one, whole powers are exact, both ends saturate."""
    x = np.zeros(LANES, dtype)
    x[:8] = [math.nan, -math.inf, math.inf, 3, -1, 0, -5000, 5000]
    tiny, limit = np.finfo(dtype).tiny, np.finfo(dtype).maxexp
    assert np.isnan(mapped(simd.exp2, x)[0]) and np.isnan(mapped(simd.exp, x)[0])
    np.testing.assert_array_equal(mapped(simd.exp2, x)[[1, 3, 4, 5, 6]], [tiny, 8, 0.5, 1, tiny])
    assert mapped(simd.exp2, np.full(LANES, limit, dtype))[0] == math.inf
    powers = mapped(simd.exp, x)[[1, 2, 5, 6, 7]]
    np.testing.assert_allclose(powers, [tiny, 1 / tiny, 1, tiny, 1 / tiny], rtol=1e-4)
    assert np.isnan(mapped(simd.sigmoid, x)[0]) and np.isnan(mapped(simd.softplus, x)[0])
    np.testing.assert_allclose(
        mapped(simd.sigmoid, x)[[1, 2, 5, 6, 7]], [0, 1, 0.5, 0, 1], atol=2 * tiny
    )
    soft = mapped(simd.softplus, x)
    assert soft[2] == math.inf and soft[7] == 5000 and 0 <= soft[1] <= 2 * tiny
    assert soft[5] == pytest.approx(math.log(2), rel=1e-7)


def test_slow_decays_carry_no_bias() -> None:
    """2^x of a very small x is followed for 1e5 steps: a bias of its last place would add up."""
    x = np.full(LANES, -1e-5, np.float32)
    factor = mapped(simd.exp2, x)[0].astype(np.float64)
    assert math.log2(factor) == pytest.approx(-1e-5, rel=3e-3)  # the spacing next to 1 is 6e-8
