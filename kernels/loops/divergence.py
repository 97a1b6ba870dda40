"""How far a student row is from its teachers, by outcome: the terms of the divergence.

Promise: no term is negative, and what rounding does to sums and logarithms counts in proportion to
log(q / p), so that equal logits give exactly 0. A class that both exclude takes no part.
Letters: C classes, E those of the top-k; q the teacher, p the student, m their mixture.
"""
# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201

from __future__ import annotations

import math

import numpy as np

from antcache.kernels.loops.arithmetic import INF, F, exp, exps, largest, log, series, sum_of
from antcache.kernels.loops.compiled import inner
from antcache.kernels.loops.teachers import LARGE


@inner
def terms(q, log_q, p, r_p, x, top, scale, shift):
    """q log(q / p) - q + p in place of log_q, and p - q in place of q, with p times r_p.

    log(q / p) is d = log_q - (x - top) * scale + shift. As `kl_terms` of `gpu/parts.py` has it:
    no term is negative, and what rounding does to sums and logarithms counts in proportion to d.
    Not in one loop with the sums, whose reordering would leave a rest where p and q are equal.
    """
    for c in range(len(q)):
        d = log_q[c] - (x[c] - top) * scale + shift
        d = LARGE if log_q[c] == LARGE else d
        rest = series(d)
        near = abs(d) < F(1)
        far = p[c] * r_p - q[c]
        log_q[c] = q[c] * d * (d * rest) if near else q[c] * d + far
        q[c] = q[c] * d * (d * rest - F(1)) if near else far


@inner
def ratios(log_q, x, top, scale, shift):
    """log(q / p) as in `terms`, in place of log_q; -`LARGE` where q is 0, `LARGE` where only p."""
    for c in range(len(log_q)):
        d = log_q[c] - (x[c] - top) * scale + shift
        log_q[c] = -LARGE if log_q[c] == LARGE else min(d, LARGE)


@inner(error_model="numpy")
def mixture_terms(q, ratio, r_q, p, r_p, beta, rest):
    """What each class adds to beta KL(q || m) + (1 - beta) KL(p || m), in place of ratio.

    log(p / m), from which the gradient comes, goes in place of q. m is beta q + rest p, with rest
    = 1 - beta and q and p times r_q and r_p; `ratio` is d = log(q / p). With a = log(m / p) and
    b = log(q / m) a class adds beta (q b - q + m) + rest (-p a - p + m), each of which is computed
    as in `terms`. What is taken by itself is m over the one that has the larger part of it, log1p(w
    expm1(s)), w and s being share and log ratio of the other one, so that nothing cancels.

    For beta = 1 it is KL(p || q): m is q, and the second term counts whole.
    """
    whole, turn = rest, F(min(math.log(rest / beta), 87.0))
    if beta == F(1):
        whole, turn = F(1), -INF
    for c in range(len(q)):
        d = ratio[c]
        of_p = d <= turn
        w, other = (beta, rest) if of_p else (rest, beta)
        s = min(d if of_p else -d, F(87))
        e = exp(s)
        near = abs(s) < F(1)
        less = s * (s * series(-s) + F(1)) if near else e - F(1)
        z = w * less
        small = near or w <= F(0.5)
        r = F(1) + z if small else other + w * e
        mixed = log(r)
        mixed = mixed + (z - (r - F(1))) / r if small else mixed
        a = mixed if of_p else d + mixed
        b = d - mixed if of_p else -mixed
        q_, p_ = q[c] * r_q, p[c] * r_p
        m = beta * q_ + rest * p_
        from_q = q_ * b * (b * series(b)) if abs(b) < F(1) else q_ * b - q_ + m
        from_p = p_ * a * (a * series(-a)) if abs(a) < F(1) else m - p_ * a - p_
        never = beta == F(1) and d == -LARGE and p_ > F(0)
        ratio[c] = INF if never else beta * from_q + whole * from_p
        q[c] = INF if never else -a


@inner(error_model="numpy")
def outside(x, cls, inv_t, x_top, log_z, hidden, e):
    """All classes outside `cls` as one outcome of the student.

    Returns (log p, z): `e` gets what the classes have of it, times z, and 0 for those in `cls`.
    """
    hidden[:] = x
    for each in cls:
        hidden[each] = -INF
    top = largest(hidden)
    if top == -INF:  # there are none, or none that is possible
        e[:] = F(0)
        return -math.inf, 1.0
    exps(hidden, top, F(inv_t), e)
    z = sum_of(e)
    return (np.float64(top) - np.float64(x_top)) * inv_t + math.log(z) - log_z, z


@inner(error_model="numpy")
def outcome(q, log_p):
    """q log(q / p) - q + p and p - q of one outcome, as in `terms`."""
    log_ratio = math.log(q) - log_p if q > 0 else np.float64(LARGE)
    near = abs(log_ratio) < 1
    diff = q * math.expm1(-log_ratio) if near else math.exp(log_p) - q
    return q * log_ratio + diff, diff


@inner
def weighted(p, log_ratio):
    """p times log(p / m) in place of the latter, which is taken relative to the likeliest outcome.

    What all have in common drops out of p (log(p / m) - sum p log(p / m)); without it, the outcome
    that has nearly all of p loses nothing to rounding.
    """
    likeliest = 0
    for c in range(len(p)):
        likeliest = c if p[c] > p[likeliest] else likeliest
    common = log_ratio[likeliest]
    for c in range(len(p)):
        log_ratio[c] = p[c] * (log_ratio[c] - common)
