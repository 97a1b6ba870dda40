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
def as_float(x):
    """A logit in float32. Of bfloat16 by its bits: a conversion would first take a pair apart."""
    if x.dtype == tl.bfloat16:
        value = (x.to(tl.int16, bitcast=True).to(tl.int32) << 16).to(tl.float32, bitcast=True)
    else:
        value = x.to(tl.float32)
    return value


@triton.jit
def minus(x):
    """-x, which costs nothing: written so it is 0 - x, an instruction."""
    return x * -1.0


@triton.jit
def series(d):
    """(2^-d - 1 + d ln 2) / d^2 for |d| < 1, within 2.4e-7 of it."""
    value = tl.fma(d, -1.5303375839843455e-05, 0.00015602181465507477)
    value = tl.fma(d, value, -0.0013334262765036795)
    value = tl.fma(d, value, 0.009617387726078874)
    value = tl.fma(d, value, -0.055504080047323344)
    return tl.fma(d, value, 0.2402265476276707)


@triton.jit
def excess(q, d, diff):
    """q log(q / p) - q + p for d = log2(q / p) and diff = p - q, and a better p - q.

    Near 0 the term is q ((d ln 2)^2 / 2 - ...), since p = q 2^-d; and p - q that less q d ln 2.
    """
    qd = q * d
    near = tl.abs(d) < 1
    small = qd * (d * series(d))
    return tl.where(near, small, tl.fma(qd, LN2, diff)), tl.where(near, tl.fma(qd, -LN2, small), diff)


@triton.jit
def excess_alone(q, d, diff):
    """The first of these within 4e-7 near 0, which ends earlier and takes one instruction less."""
    value = tl.fma(d, 0.00015423313016071916, -0.0013402252225205302)
    value = tl.fma(d, value, 0.00961821898818016)
    value = tl.fma(d, value, -0.055503491312265396)
    value = tl.fma(d, value, 0.24022650718688965)
    qd = q * d
    return tl.where(tl.abs(d) < 0.6, qd * (d * value), tl.fma(qd, LN2, diff))


@triton.jit
def divergence_terms(e, q, ratio, d, betas, BETA: tl.constexpr, EXACT: tl.constexpr):
    """A term of the divergence, and what the gradient has beside p times the sum of all of these.

    The latter is p - q; of KL(p || q) it is p log(p / q), and of the mixture m of both
    (1 - beta) p log(p / m). p is e times `ratio`, but for KL(p || q), where q is that times it: the
    first is never rounded again.
    """
    if BETA == parts.FORWARD:
        diff = tl.fma(e, ratio, minus(q))
        if EXACT:
            return excess(q, bounded(d), diff)
        return excess_alone(q, bounded(d), diff), diff
    if BETA == parts.REVERSE:
        d = bounded(-d)
        term, _ = excess(e, d, tl.fma(q, ratio, minus(e)))
        return term, e * d * LN2
    return mixed_terms(e * ratio, q, -bounded(-bounded(d)), betas)


@triton.jit
def with_share(q, top, v, share):
    """Both q and 2^v times a share as one factor of 2^top, where top is the larger exponent of those
    that have a share: neither vanishes before its logarithm is taken.
    """
    v += tl.where(share == 0, float("-inf"), 0.0)
    new = tl.maximum(top, v)
    return tl.fma(tl.exp2(v - new), share, q * tl.exp2(top - new)), new


@triton.jit
def bounded(d):
    """LOWEST for -inf, and for the NaN that infinity less infinity is, where neither has a share."""
    return tl.where(d > LOWEST, d, LOWEST)


@triton.jit
def mixed_terms(p, q, d, betas):
    """Both results for the mixture m = beta q + (1 - beta) p.

    What is taken by itself is m over the one that has the larger part of it, which is 1 + w (2^s - 1)
    with the share w of the other and s = log2 of it over the first: so nothing cancels.
    """
    beta, beta_p = betas  # the latter is 1 - beta, rounded once
    of_p = d <= tl.minimum(tl.log2(beta_p / beta), 126.0)
    s = tl.where(of_p, d, -d)
    w = tl.where(of_p, beta, beta_p)
    e = tl.exp2(s)
    near = tl.abs(s) < 1
    z = w * tl.where(near, s * tl.fma(s, series(-s), LN2), e - 1)
    one = tl.where(near | (w <= 0.5), 1 + z, tl.where(of_p, beta_p, beta) + w * e)
    log1p = tl.where(one == 1, z * LOG2E, tl.log2(one) * (z / (one - 1)))
    log_p = tl.where(of_p, -log1p, s - log1p)
    log_q = tl.where(of_p, s - log1p, -log1p)
    m = beta * q + beta_p * p
    from_q, _ = excess(q, log_q, m - q)
    from_p, _ = excess(p, log_p, m - p)
    return beta * from_q + beta_p * from_p, beta_p * p * log_p * LN2
