"""The teachers of one row, mixed as probabilities: dense logits, top-k logits, and with a tail.

Promise: q and log q come out of the operations that the student's softmax takes, so that equal
logits have equal probabilities; with several teachers log q is taken of q times the student's sum.
Letters: C classes, K top-k, M teachers, E classes of a row that its top-k teachers name.
"""
# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201, ANN202

from __future__ import annotations

import math

import numpy as np

from antcache.kernels.loops.arithmetic import INF, F, add, exp, exps, largest, log, sum_of
from antcache.kernels.loops.compiled import inner

LARGE = F(1e30)
"""Logarithm of a teacher's probability of 0: finite, since it is multiplied by 0."""
TINY = F(1e-30)
"""Below, a sum of exponentials may have lost some that float32 can't hold."""


@inner
def exps_and_logs(t, top, scale, q, log_q):
    """exp((t - top) * scale), and of it the logarithm, `LARGE` for that of 0."""
    for c in range(len(q)):
        value = (t[c] - top) * scale
        q[c] = exp(value)
        log_q[c] = LARGE if value == -INF else value


@inner
def logs(q, z, out):
    """Logarithms of probabilities times z, `LARGE` for that of 0."""
    for c in range(len(out)):
        value = log(q[c] * z)
        out[c] = value if q[c] > F(0) else LARGE


@inner(error_model="numpy")
def mix_dense(t_flat, place, stride_m, num_teachers, share, scale, z_p, log_z_p, q, log_q, part):
    """Mixed teachers of one row: q (C,) and log q (C,), up to what is returned.

    Returns (z, log_z): q is q / z, log q is log q - log_z. With several, z_p is multiplied in
    before the logarithm is taken, so that log z is not rounded by itself.
    """
    classes = len(q)
    if num_teachers == 1:
        t = t_flat[place : place + classes]
        top = largest(t)
        exps_and_logs(t, top, scale, q, log_q)
        z = sum_of(q)
        return z, math.log(z)
    q[:] = F(0)
    for m in range(num_teachers):
        t = t_flat[place + m * stride_m : place + m * stride_m + classes]
        exps(t, largest(t), scale, part)
        add(q, F(share[m] / sum_of(part)), part)
    logs(q, F(z_p), log_q)
    return 1.0, log_z_p


@inner(error_model="numpy")
def top_k(t, tail, others, inv_t, part, log_part):
    """One top-k teacher: exp of each class (K,), their logarithms' zero, the sum, the rest.

    Returns (sum, log_rest): q is part / sum, and each of the `others` classes outside has rest;
    log q is log_part - log(sum). `others` is 0 for the form without a tail.
    """
    scale = F(inv_t)
    top = largest(t)
    if others == 0:
        exps(t, top, scale, part)
        for k in range(len(t)):
            log_part[k] = (t[k] - top) * scale
        return sum_of(part), -math.inf
    exps(t, top, F(1), part)
    log_inside = math.log(-math.expm1(tail)) - math.log(sum_of(part))
    log_other = (tail - math.log(others)) * inv_t
    highest = max(log_inside * inv_t, log_other)  # the first is that of the class of the top logit
    for k in range(len(t)):  # rounded once, when it is small
        log_part[k] = F((np.float64(t[k] - top) + log_inside) * inv_t - highest)
    exps(log_part, F(0), F(1), part)
    total = sum_of(part) + others * math.exp(log_other - highest)
    return total, log_other - highest - math.log(total)


@inner(error_model="numpy")
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


@inner(error_model="numpy")
def mix_top_k(
    index, t, tail, share, others, inv_t, slot, mixed, named, z_p, log_z_p, q, log_q, part, log_part
):
    """Mixed top-k teachers of one row: q and log q (E,); z_p as in `mix_dense`.

    Returns what each other class has, and what is still to be taken off log q.
    """
    num_teachers, k = t.shape
    if num_teachers == 1 and len(q) == k:
        total, log_rest = top_k(t[0], np.float64(tail[0]), others, inv_t, part, log_part)
        r_q = F(1.0 / total)
        for e in range(k):
            q[e] = part[e] * r_q
            log_q[e] = LARGE if log_part[e] == -INF else log_part[e]
        return math.exp(log_rest), math.log(total)
    mixed[:], named[:] = 0.0, -1  # which teacher named a class last
    other = 0.0
    for m in range(num_teachers):
        total, log_rest = top_k(t[m], np.float64(tail[m]), others, inv_t, part, log_part)
        rest = share[m] * math.exp(log_rest)
        for e in range(k):
            place = slot[index[m, e]]
            mixed[place] += share[m] * (np.float64(part[e]) / total)
            named[place] = m
        for e in range(len(q)):  # nothing is added to be taken off: a class may have far less
            mixed[e] += F(0) if named[e] == m else rest
        other += rest
    for e in range(len(q)):
        each = mixed[e]
        q[e] = F(each)
        log_q[e] = F(math.log(each * z_p)) if each > 0 else LARGE
    return other, log_z_p


# KL(p || q) needs log q also where q is too small for float32, if the student has some of p there.
# From one teacher it comes without q; from a mixture it is summed again, as logarithms.


@inner(inline="always")
def _lost(q, p):
    return q < TINY and p > F(0)


@inner
def _begin(p, q, log_q):
    """Whether log q is to be found for a class; there it is -inf from now on."""
    found = False
    for c in range(len(q)):
        if _lost(q[c], p[c]):
            log_q[c] = -INF
            found = True
    return found


@inner
def _end(p, q, log_q, log_z):
    """Bring log q, where it was to be found, into the form of the others."""
    for c in range(len(q)):
        if _lost(q[c], p[c]):
            log_q[c] = LARGE if log_q[c] == -INF else F(log_q[c] + log_z)


@inner
def _add(log_a, log_b):
    """log(a + b)."""
    a, b = np.float64(log_a), np.float64(log_b)
    high = max(a, b)
    return F(high if high == -math.inf else high + math.log1p(math.exp(min(a, b) - high)))


@inner(error_model="numpy")
def small_dense(t_flat, place, stride_m, num_teachers, share, inv_t, log_z_p, p, q, log_q, part):
    """Log q (C,) of `mix_dense`, where that has lost it."""
    if not _begin(p, q, log_q):
        return
    for m in range(num_teachers):
        t = t_flat[place + m * stride_m : place + m * stride_m + len(q)]
        top = largest(t)
        exps(t, top, F(inv_t), part)
        log_own = math.log(share[m]) - math.log(sum_of(part))
        for c in range(len(q)):
            if _lost(q[c], p[c]):
                log_q[c] = _add(log_q[c], log_own + np.float64(t[c] - top) * inv_t)
    _end(p, q, log_q, log_z_p)


@inner(error_model="numpy")
def small_top_k(index, t, tail, share, others, inv_t, slot, log_z_p, p, q, log_q, part, log_part):
    """Log q (E,) of `mix_top_k`, where that has lost it."""
    if not _begin(p, q, log_q):
        return
    named = np.empty(len(q), np.bool_)
    for m in range(len(t)):
        total, log_rest = top_k(t[m], np.float64(tail[m]), others, inv_t, part, log_part)
        log_share, named[:] = math.log(share[m]), False
        for k in range(len(part)):
            e = slot[index[m, k]]
            named[e] = True
            if _lost(q[e], p[e]):
                log_q[e] = _add(log_q[e], log_share + log_part[k] - math.log(total))
        for e in range(len(q)):
            if _lost(q[e], p[e]) and not named[e]:
                log_q[e] = _add(log_q[e], log_share + log_rest)
    _end(p, q, log_q, log_z_p)
