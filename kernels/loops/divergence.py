"""How far a student row is from its teachers: the terms of the divergence, and its gradient's part.

Promise: no term is negative, and what rounding does to sums and logarithms counts in proportion to
log(q / p), so that equal logits give exactly 0. Letters: C classes, E those of the top-k.
"""
# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201

from __future__ import annotations

import math

import numpy as np
from numba import njit

from antcache.kernels.loops.arithmetic import INF, F, exps, largest, sum_of
from antcache.kernels.loops.teachers import LARGE


@njit
def terms(q, log_q, p, r_p, x, top, scale, shift):
    """q log(q / p) - q + p in place of log_q, and p - q in place of q, with p times r_p.

    log(q / p) is d = log_q - (x - top) * scale + shift. As `kl_terms` of `kernel_parts.py` has it:
    no term is negative, and what rounding does to sums and logarithms counts in proportion to d.
    Not in one loop with the sums, whose reordering would leave a rest where p and q are equal.
    """
    for c in range(len(q)):
        d = log_q[c] - (x[c] - top) * scale + shift
        series = F(2.489152211637702e-05) * d - F(0.0002032434131251648)
        series = series * d + F(0.0013892363058403134)
        series = series * d - F(0.008330944925546646)
        series = series * d + F(0.04166647791862488)
        series = series * d - F(0.16666695475578308)
        series = series * d + F(0.5)
        near = abs(d) < F(1)
        far = p[c] * r_p - q[c]
        log_q[c] = q[c] * d * (d * series) if near else q[c] * d + far
        q[c] = q[c] * d * (d * series - F(1)) if near else far


@njit(error_model="numpy")
def outside(x, cls, inv_t, x_top, log_z, q_out, hidden, q):
    """KL and p - q of the classes outside `cls` as one outcome; q gets the latter by class."""
    if len(cls) == len(x):
        q[:] = F(0)
        return 0.0, 0.0
    hidden[:] = x
    for e in range(len(cls)):
        hidden[cls[e]] = -INF
    top = largest(hidden)
    exps(hidden, top, F(inv_t), q)
    z = sum_of(q)
    log_p = (np.float64(top) - np.float64(x_top)) * inv_t + math.log(z) - log_z
    log_ratio = math.log(q_out) - log_p if q_out > 0 else LARGE
    near = abs(log_ratio) < 1
    diff = q_out * math.expm1(-log_ratio) if near else math.exp(log_p) - q_out
    q *= F(diff / z)
    return q_out * log_ratio + diff, diff
