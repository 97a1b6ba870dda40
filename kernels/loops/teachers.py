"""The teachers of one row, mixed as probabilities: dense logits, top-k logits, and with a tail.

Promise: q and log q come out of the operations that the student's softmax takes, so that equal
logits have equal probabilities; with several teachers log q is taken of q times the student's sum.
Letters: C classes, K top-k, M teachers, E classes of a row that its top-k teachers name.
"""
# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201

from __future__ import annotations

import math

import numpy as np
from numba import njit

from antcache.kernels.loops.arithmetic import INF, F, add, exps, largest, log, sum_of

LARGE = F(1e30)
"""Logarithm of a teacher's probability of 0: finite, since it is multiplied by 0."""


@njit
def shifted(t, top, scale, out):
    """(t - top) * scale, `LARGE` for -inf."""
    for c in range(len(out)):
        value = (t[c] - top) * scale
        out[c] = LARGE if value == -INF else value


@njit
def logs(q, z, out):
    """Logarithms of probabilities times z, `LARGE` for that of 0."""
    for c in range(len(out)):
        value = log(q[c] * z)
        out[c] = value if q[c] > F(0) else LARGE


@njit(error_model="numpy")
def mix_dense(t_flat, place, stride_m, num_teachers, share, scale, z_p, log_z_p, q, log_q, part):
    """Mixed teachers of one row: q (C,) and log q (C,), up to what is returned.

    Returns (z, log_z): q is q / z, log q is log q - log_z. With several, z_p is multiplied in
    before the logarithm is taken, so that log z is not rounded by itself.
    """
    classes = len(q)
    if num_teachers == 1:
        t = t_flat[place : place + classes]
        top = largest(t)
        exps(t, top, scale, q)
        z = sum_of(q)
        shifted(t, top, scale, log_q)
        return z, math.log(z)
    q[:] = F(0)
    for m in range(num_teachers):
        t = t_flat[place + m * stride_m : place + m * stride_m + classes]
        exps(t, largest(t), scale, part)
        add(q, F(share[m] / sum_of(part)), part)
    logs(q, F(z_p), log_q)
    return 1.0, log_z_p


@njit(error_model="numpy")
def top_k(t, tail, others, inv_t, part, log_part):
    """One top-k teacher: exp of each class (K,), their logarithms' zero, the sum, the rest.

    Returns (sum, rest): q is part / sum, and each of the `others` classes outside has rest; log q
    is log_part - log(sum). `others` is 0 for the form without a tail.
    """
    scale = F(inv_t)
    top = largest(t)
    if others == 0:
        exps(t, top, scale, part)
        for k in range(len(t)):
            log_part[k] = (t[k] - top) * scale
        return sum_of(part), 0.0
    exps(t, top, F(1), part)
    log_inside = math.log(-math.expm1(tail)) - math.log(sum_of(part))
    for k in range(len(t)):
        log_part[k] = F((np.float64(t[k] - top) + log_inside) * inv_t)
    log_other = (tail - math.log(others)) * inv_t
    highest = max(np.float64(largest(log_part)), log_other)
    for k in range(len(t)):
        log_part[k] = F(log_part[k] - highest)
    exps(log_part, F(0), F(1), part)
    each = math.exp(log_other - highest)
    total = sum_of(part) + others * each
    return total, each / total


@njit(error_model="numpy")
def union(index, classes, slot, cls):
    """Number E of distinct classes in `index`, and whether all are classes.

    `cls` (E,) gets the classes and `slot` (C,) the place of each in it.
    """
    count = 0
    known = True
    for c in index.flat:
        if c < 0 or c >= classes:
            known = False
        elif slot[c] < 0:
            slot[c] = count
            cls[count] = c
            count += 1
    return count, known


@njit(error_model="numpy")
def mix_top_k(
    index, t, tail, share, others, inv_t, slot, mixed, z_p, log_z_p, q, log_q, part, log_part
):
    """Mixed top-k teachers of one row: q and log q (E,); z_p as in `mix_dense`.

    Returns what each other class has, and what is still to be taken off log q.
    """
    num_teachers, k = t.shape
    if num_teachers == 1 and len(q) == k:
        total, rest = top_k(t[0], np.float64(tail[0]), others, inv_t, part, log_part)
        r_q = F(1.0 / total)
        for e in range(k):
            q[e] = part[e] * r_q
            log_q[e] = LARGE if log_part[e] == -INF else log_part[e]
        return rest, math.log(total)
    mixed[:] = 0.0  # float64: what a teacher has for classes that it does not name is taken off
    other = 0.0
    for m in range(num_teachers):
        total, rest = top_k(t[m], np.float64(tail[m]), others, inv_t, part, log_part)
        for e in range(k):
            mixed[slot[index[m, e]]] += share[m] * (np.float64(part[e]) / total - rest)
        other += share[m] * rest
    for e in range(len(q)):
        q[e] = F(mixed[e] + other)
    logs(q, F(z_p), log_q)
    return other, log_z_p
