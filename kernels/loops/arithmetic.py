"""What the loops calculate with: exp and log that the compiler can vectorise, sums, maxima.

Promise: float32 in one fixed order, without fused multiply-adds: what passes through here twice is
the same twice. Only `sum_of` lets the compiler reorder, and it only adds.
"""
# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from antcache.kernels.loops.compiled import inner

F = np.float32
I = np.int32  # noqa: E741
INF = F(np.inf)
NAN = F(np.nan)
_LOWEST = I(-(2**31))


def _bitcast(source: Any, target: Any, kind: Any) -> Any:
    def build(_context: Any, _number: Any) -> Any:
        def code(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            return builder.bitcast(arguments[0], kind)

        return target(source), code

    return build


# Bits of an int32 as a float32, and the other way round.
_as_float = intrinsic(_bitcast(types.int32, types.float32, ir.FloatType()))
_as_int = intrinsic(_bitcast(types.float32, types.int32, ir.IntType(32)))


@inner(inline="always")
def exp(x):
    """exp(x) for x <= 88 within 2 units in the last place; 0 below -87, NaN for NaN.

    A polynomial on [-ln 2 / 2, ln 2 / 2] (Cephes, `expf`) times a power of two, which the compiler
    can vectorise; it can't do that with a call of the C library.
    """
    low = x if x > F(-87.0) else F(-87.0)  # also for NaN, which has no integer part
    n = np.floor(low * F(1.44269504) + F(0.5))
    r = low - n * F(0.693359375) + n * F(2.12194440e-4)
    p = F(1.9875691500e-4)
    p = p * r + F(1.3981999507e-3)
    p = p * r + F(8.3334519073e-3)
    p = p * r + F(4.1665795894e-2)
    p = p * r + F(1.6666665459e-1)
    p = p * r + F(5.0000001201e-1)
    p = p * r * r + r + F(1)
    value = p * _as_float((I(n) + I(127)) << I(23))
    return value if x >= F(-87.0) else (F(0) if x < F(-87.0) else x)


@inner(inline="always")
def log(x):
    """log(x) for normal x > 0 (Cephes, `logf`); some finite number for 0 and subnormal x."""
    bits = _as_int(x)
    n = F((bits >> I(23)) - I(126))
    m = _as_float((bits & I(0x7FFFFF)) | I(0x3F000000))  # in [1/2, 1)
    small = m < F(0.707106781)
    n = n - F(1) if small else n
    m = m + m - F(1) if small else m - F(1)
    p = F(7.0376836292e-2)
    p = p * m - F(1.1514610310e-1)
    p = p * m + F(1.1676998740e-1)
    p = p * m - F(1.2420140846e-1)
    p = p * m + F(1.4249322787e-1)
    p = p * m - F(1.6668057665e-1)
    p = p * m + F(2.0000714765e-1)
    p = p * m - F(2.4999993993e-1)
    p = p * m + F(3.3333331174e-1)
    square = m * m
    return m + (p * m * square - n * F(2.12194440e-4) - F(0.5) * square) + n * F(0.693359375)


@inner(inline="always")
def series(d):
    """(d - 1 + exp(-d)) / d^2 for |d| < 1."""
    value = F(2.489152211637702e-05) * d - F(0.0002032434131251648)
    value = value * d + F(0.0013892363058403134)
    value = value * d - F(0.008330944925546646)
    value = value * d + F(0.04166647791862488)
    value = value * d - F(0.16666695475578308)
    return value * d + F(0.5)


@inner
def largest(x):
    """Largest of x, compared as integers of the same order; a NaN may be taken for the largest."""
    bits = x.view(np.int32)
    top = _LOWEST
    for c in range(len(bits)):
        each = bits[c]
        top = max(top, I(each ^ ((each >> I(31)) & I(0x7FFFFFFF))))
    return _as_float(I(top ^ ((top >> I(31)) & I(0x7FFFFFFF))))


@inner
def exps(x, top, scale, out):
    """exp((x - top) * scale)."""
    for c in range(len(out)):
        out[c] = exp((x[c] - top) * scale)


# Reordering vectorises sums. A difference in here would be reordered as well: a - (x - top) into
# (a + top) - x, which at an offset of 1e4 loses three digits. Never "contract".
@inner(fastmath={"reassoc", "nsz"})
def sum_of(x):
    """Sum in float64 of sums of a few hundred."""
    total = 0.0
    for start in range(0, len(x), 512):
        block = x[start : start + 512]
        part = F(0)
        for c in range(len(block)):
            part += block[c]
        total += part
    return total


@inner
def add(x, factor, y):
    """Add factor * y to x."""
    for c in range(len(x)):
        x[c] = x[c] + factor * y[c]


@inner
def scaled(out, factor, y):
    """factor * y."""
    for c in range(len(out)):
        out[c] = factor * y[c]
