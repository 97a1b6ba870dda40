"""What each class adds to a divergence and to its gradient, elementwise, as exact as float32 can be.

Promise: no term is negative, and equal p and q give exactly 0. What p, q and d = log2(q / p) are off
counts in proportion to d, so sums and logarithms may be rounded without harm where p and q are close.
p and q may have a common factor: so have the results. Classes that both exclude add 0.
Letters as in `dense.py`.
"""
# ruff: noqa: ANN001, ANN201, N803, E501
# mypy: ignore-errors
# fmt: off

from __future__ import annotations

import triton
import triton.language as tl

from antcache.kernels.gpu import parts

LOG2E = tl.constexpr(1.4426950408889634)
LN2 = tl.constexpr(0.6931471805599453)
LOWEST = tl.constexpr(-1e30)
"""In place of an infinite logarithm, which times a probability of 0 would be NaN."""


@triton.jit
def series(d):
    """(2^-d - 1 + d ln 2) / d^2 for |d| < 1, within 2.4e-7 of it."""
    value = tl.fma(d, -1.5303375839843455e-05, 0.00015602181465507477)
    value = tl.fma(d, value, -0.0013334262765036795)
    value = tl.fma(d, value, 0.009617387726078874)
    value = tl.fma(d, value, -0.055504080047323344)
    return tl.fma(d, value, 0.2402265476276707)


@triton.jit
def excess(q, d, diff, EXACT: tl.constexpr):
    """q log(q / p) - q + p for d = log2(q / p) and diff = p - q, and with EXACT a better p - q.

    Near 0 the term is q ((d ln 2)^2 / 2 - ...), since p = q 2^-d; and p - q that less q d ln 2.
    """
    qd = q * d
    near = tl.abs(d) < 1
    small = qd * (d * series(d))
    term = tl.where(near, small, tl.fma(qd, LN2, diff))
    if EXACT:
        diff = tl.where(near, tl.fma(qd, -LN2, small), diff)
    return term, diff


@triton.jit
def divergence_terms(e, q, ratio, d, beta, BETA: tl.constexpr, EXACT: tl.constexpr):
    """A term of the divergence, and what the gradient has beside p times the sum of all of these.

    The latter is p - q; of KL(p || q) it is p log(p / q), and of the mixture m of both
    (1 - beta) p log(p / m). p is e times `ratio`, but for KL(p || q), where q is that times it: the
    first is never rounded again.
    """
    if BETA == parts.FORWARD:
        return excess(q, bounded(d), tl.fma(e, ratio, -q), EXACT)
    if BETA == parts.REVERSE:
        d = bounded(-d)
        term, _ = excess(e, d, tl.fma(q, ratio, -e), False)
        return term, e * d * LN2
    return mixed_terms(e * ratio, q, -bounded(-bounded(d)), beta)


@triton.jit
def bounded(d):
    """LOWEST for -inf, and for the NaN that infinity less infinity is, where neither has a share."""
    return tl.where(d > LOWEST, d, LOWEST)


@triton.jit
def mixed_terms(p, q, d, beta):
    """Both results for the mixture m = beta q + (1 - beta) p.

    With a = |d|, the larger of p and q is m / (1 + y), where y is 2^-a - 1 times the other's share.
    """
    a = tl.abs(d)
    less = tl.where(a < 1, a * (a * series(a) - LN2), tl.exp2(-a) - 1)
    y = less * tl.where(d < 0, beta, 1 - beta)
    one = 1 + y
    log1p = tl.where(one == 1, y, tl.log2(one) * (y / (one - 1)) * LN2)
    smaller = -log1p - a * LN2
    log_q = tl.where(d < 0, smaller, -log1p)
    log_p = tl.where(d < 0, -log1p, smaller)
    m = beta * q + (1 - beta) * p
    of_q, _ = excess(q, log_q * LOG2E, m - q, False)
    of_p, _ = excess(p, log_p * LOG2E, m - p, False)
    return beta * of_q + (1 - beta) * of_p, (1 - beta) * p * log_p
