"""Vectors of 32 numbers for compiled kernels, and the functions that a selective scan needs.

A `Vec` is one LLVM value, so arithmetic on it is vector instructions whatever the optimiser thinks
of the loop around it, and what fits stays in registers. Everything here is for code inside
`numba.njit`; element types are float32 and float64.

Largest errors over dense grids of float32 (tests/nn/test_simd.py), in units of the last place: exp2
3 (its polynomial alone 1.5e-7 of the value, and nothing at whole powers, so that slow decays carry
no bias), softplus and sigmoid 4.
"""

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.datamodel import models, register_default
from numba.extending import intrinsic, overload

LANES = 32  # four AVX2 registers: the constants of exp2 are loaded once for all of them
FOLD = 8  # of which sums over channels keep so many apart
LN2 = math.log(2.0)
LOG2E = 1.0 / LN2


class Vec(types.Type):
    """Numba's type of a vector of `LANES` numbers."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype
        super().__init__(name=f"Vec{LANES}({dtype})")


@register_default(Vec)
class _VecModel(models.PrimitiveModel):
    def __init__(self, dmm: Any, fe_type: Vec) -> None:
        number = ir.FloatType() if fe_type.dtype == types.float32 else ir.DoubleType()
        super().__init__(dmm, fe_type, ir.VectorType(number, LANES))


def _pointer(context: Any, builder: Any, sig: Any, args: Any, lanes: int = LANES) -> Any:
    """Where element args[1] of the array args[0] starts, as a pointer to a vector."""
    array = context.make_array(sig.args[0])(context, builder, args[0])
    index = context.cast(builder, args[1], sig.args[1], types.intp)
    number = context.get_value_type(sig.args[0].dtype)
    return builder.bitcast(
        builder.gep(array.data, [index]), ir.VectorType(number, lanes).as_pointer()
    )


def _align(array: Any) -> int:
    return array.dtype.bitwidth // 8


@intrinsic
def load(typing: Any, array: Any, i: Any) -> Any:
    """Elements i to i + LANES of a flat array. No bounds are checked."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load(_pointer(context, builder, sig, args), align=_align(array))

    return Vec(array.dtype)(array, i), code


@intrinsic
def store(typing: Any, array: Any, i: Any, v: Any) -> Any:
    """Write a vector to elements i to i + LANES."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.store(args[2], _pointer(context, builder, sig, args), align=_align(array))
        return context.get_dummy_value()

    return types.void(array, i, v), code


@intrinsic
def add_dot(typing: Any, array: Any, i: Any, a: Any, b: Any) -> Any:
    """Add a * b, cut into pieces of `FOLD`, to the `FOLD` elements from i."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        place = _pointer(context, builder, sig, args, FOLD)
        total = builder.load(place, align=_align(array))
        fma = _fused(builder, total.type)
        whole = ir.VectorType(ir.IntType(32), FOLD)
        for first in range(0, LANES, FOLD):
            picked = ir.Constant(whole, list(range(first, first + FOLD)))
            pieces = [builder.shuffle_vector(x, x, picked) for x in args[2:]]
            total = builder.call(fma, [*pieces, total])
        builder.store(total, place, align=_align(array))
        return context.get_dummy_value()

    return types.void(array, i, a, b), code


@intrinsic
def splat(typing: Any, like: Any, x: Any) -> Any:
    """The number x in every lane, in the element type of `like` (an array or a Vec)."""
    vec = Vec(like.dtype)

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = context.get_value_type(vec)
        number = context.cast(builder, args[1], sig.args[1], like.dtype)
        undefined = ir.Constant(kind, ir.Undefined)
        one = builder.insert_element(undefined, number, ir.Constant(ir.IntType(32), 0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        return builder.shuffle_vector(one, undefined, zeros)

    return vec(like, x), code


@intrinsic
def broadcast(typing: Any, array: Any, i: Any) -> Any:
    """Element i of a flat array in every lane. i is not negative."""
    vec = Vec(array.dtype)

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        place = _pointer(context, builder, sig, args, 1)
        one = builder.load(place, align=_align(array))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        return builder.shuffle_vector(one, one, zeros)

    return vec(array, i), code


def _fused(builder: Any, kind: Any) -> Any:
    width = 32 if isinstance(kind.element, ir.FloatType) else 64
    name = f"llvm.fma.v{kind.count}f{width}"
    return cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind] * 3), name)


@intrinsic
def fma(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c, rounded once."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.call(_fused(builder, args[0].type), args)

    return a(a, b, c), code


def _binary(name: str) -> Any:
    @intrinsic
    def both(typing: Any, a: Any, b: Any) -> Any:
        def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return getattr(builder, name)(*args)

        return a(a, b), code

    return both


def _register(symbol: Callable[..., Any], name: str) -> None:
    both = _binary(name)

    @overload(symbol)
    def typed(a, b):  # type: ignore[no-untyped-def]  # Numba compares signatures as written
        if isinstance(a, Vec) and a == b:
            return lambda a, b: both(a, b)
        return None


for _symbol, _name in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _register(_symbol, _name)


def _select(relation: str) -> Any:
    @intrinsic
    def pick(typing: Any, a: Any, b: Any, yes: Any, no: Any) -> Any:
        def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return builder.select(builder.fcmp_ordered(relation, *args[:2]), *args[2:])

        return yes(a, b, yes, no), code

    return pick


# Lane by lane `yes` where a < b (a > b), else `no`; `no` where either is not a number.
if_less = _select("<")
if_greater = _select(">")


def polynomial(single: Sequence[float], double: Sequence[float]) -> Any:
    """x -> c0 + c1 x + c2 x^2 + ..., with the coefficients for x's element type."""

    @intrinsic
    def evaluate(typing: Any, x: Any) -> Any:
        coefficients = single if x.dtype == types.float32 else double

        def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            kind = args[0].type
            fused = _fused(builder, kind)
            value, *rest = (ir.Constant(kind, [c] * LANES) for c in reversed(coefficients))
            for c in rest:
                value = builder.call(fused, [value, args[0], c])
            return value

        return x(x), code

    return evaluate


def _constant(single: float, double: float) -> Any:
    return polynomial([single], [double])


# 2^x on [-1/2, 1/2]: the best of its degree in relative error with 2^0 = 1, and Taylor's.
_SINGLE = (1.0, 0.6931470928744413, 0.24022358205203914, 0.05550665520221994, 0.0096658782050325,
           0.00132669747551775)  # fmt: skip
_DOUBLE = tuple(LN2**k / math.factorial(k) for k in range(15))
_exp2_near_zero = polynomial(_SINGLE, _DOUBLE)
_exp_near_zero = polynomial(
    *([c * LOG2E**k for k, c in enumerate(cs)] for cs in (_SINGLE, _DOUBLE))
)
# ln 2 in two parts, of which whole numbers of the exponent's size times the first are exact.
_LN2_HIGH = (0.693145751953125, 0.6931471803691238)
_ln2_high = _constant(*_LN2_HIGH)
_ln2_low = _constant(LN2 - _LN2_HIGH[0], 1.9082149292705877e-10)
# atanh(sqrt(w)) / sqrt(w) on [0, 1/9]: the same two.
_atanh_ratio = polynomial(
    [1.0000000039605244, 0.3333315734093182, 0.20012455143692215, 0.13980301339347045,
     0.1408916762326258],
    [1 / (2 * k + 1) for k in range(18)],
)  # fmt: skip
# Adding 1.5 x 2^(bits of the fraction) rounds to a whole number and leaves it in the lowest bits.
_rounder = _constant(12582912.0, 6755399441055744.0)
_lowest = _constant(-126.0, -1022.0)
_highest = _constant(126.0, 1022.0)


@intrinsic
def _times_power(typing: Any, p: Any, t: Any) -> Any:
    """p * 2^n, where t is n plus the rounder: n is added to the exponent bits of p."""

    def code(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        bits, fraction = (32, 23) if p.dtype == types.float32 else (64, 52)
        whole = ir.VectorType(ir.IntType(bits), LANES)
        value, power = (builder.bitcast(x, whole) for x in args)
        power = builder.shl(power, ir.Constant(whole, [fraction] * LANES))
        return builder.bitcast(builder.add(value, power), args[0].type)

    return p(p, t), code


@njit
def exp2(x: Any) -> Any:
    """2^x for x up to 128; the smallest normal number where the result is below it."""
    low = _lowest(x)
    x = if_less(x, low, low, x)
    t = x + _rounder(x)
    f = x - (t - _rounder(x))
    return _times_power(_exp2_near_zero(f), t)


@njit
def exp(x: Any) -> Any:
    """e^x, at least the smallest normal number and at most its inverse."""
    low, high = _lowest(x) * splat(x, LN2), _highest(x) * splat(x, LN2)
    x = if_less(x, low, low, if_greater(x, high, high, x))
    t = fma(x, splat(x, LOG2E), _rounder(x))
    n = _rounder(x) - t
    return _times_power(_exp_near_zero(fma(n, _ln2_low(x), fma(n, _ln2_high(x), x))), t)


@njit
def sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x))."""
    one = splat(x, 1.0)
    return one / (one + exp(splat(x, 0.0) - x))


@njit
def softplus(x: Any) -> Any:
    """(log(1 + exp(x)), its derivative); x and 1 above 20, as in the authors' kernels.

    With t = exp(-|x|): max(x, 0) + log1p(t), and log1p(t) = 2 atanh(t / (2 + t)).
    """
    zero, one, two = splat(x, 0.0), splat(x, 1.0), splat(x, 2.0)
    away = if_less(x, zero, x, zero - x)
    t = exp(away)
    s = t / (two + t)
    value = fma(s + s, _atanh_ratio(s * s), if_greater(x, zero, x, zero))
    slope = if_less(x, zero, t, one) / (one + t)
    limit = splat(x, 20.0)
    return if_greater(x, limit, x, value), if_greater(x, limit, one, slope)
