"""The compiled loop over the rows: loss, parts and gradient, one row at a time.

Promise: a row's result depends on that row alone and is computed in one fixed order: any number of
threads gives the same bits. No index is used unchecked: a label, teacher row or class out of range
gives NaN.
Letters: B batch rows, C classes, N teacher rows, K top-k, M teachers, E classes of a row that its
top-k teachers name, T temperature.
"""
# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201, ANN202

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numba import prange

from antcache.kernels import record
from antcache.kernels.loops import arithmetic, divergence, labels, teachers
from antcache.kernels.loops.arithmetic import NAN, F, I, exps, largest, scaled, sum_of
from antcache.kernels.loops.compiled import digest, inner, keep
from antcache.kernels.loops.divergence import (
    mixture_terms,
    outcome,
    outside,
    ratios,
    terms,
    weighted,
)
from antcache.kernels.loops.labels import cross_entropy
from antcache.kernels.loops.teachers import (
    LARGE,
    mix_dense,
    mix_top_k,
    small_dense,
    small_top_k,
    union,
)
from antcache.kernels.record import DENSE, TAIL, TOP_K

SOURCES = (arithmetic, divergence, labels, record, teachers)
"""Modules whose text the loops are compiled from, besides this one."""
SERIAL = 1 << 15
"""Logits of a call up to which starting threads takes longer than it saves."""


@inner
def gradient(grad, pull, e_1, push, diff, r_d, e_t, off):
    """Gradient: what the cross-entropy has of a softmax's form, and p - q, whose sum is off z."""
    for c in range(len(grad)):
        grad[c] = pull * e_1[c] + push * (diff[c] * r_d - e_t[c] * off)


class LoopInputs(NamedTuple):
    """What the loops read and write for B rows; whole numbers are int64, others float64."""

    x: Any  # float32 logits, row b from b * stride_x on
    grad: Any  # float32 gradient, likewise; may be the logits
    t: Any  # float32 teacher logits: n from m * stride_m + n * stride_n on; of top-k (N, M, K)
    index: Any  # (N, M, K) int64 classes of the top-k forms
    tail: Any  # (N, M) float32 log mass outside them
    teacher: Any  # (B,) int64 teacher row, negative for none
    share: Any  # float64 weights of the teachers, from b * stride_share on, of sum 1
    labels: Any  # (B,) int64, or empty
    class_weight: Any  # (C,) float32, or empty; with smoothing it is always given
    log_weight: Any  # (C,) float32, its logarithm, with smoothing
    ce: Any  # (B,) float64, written
    kl: Any  # (B,) float64, written
    classes: int  # C
    stride_x: int
    stride_g: int
    stride_m: int
    stride_n: int
    stride_share: int
    num_rows: int  # N
    num_teachers: int  # M
    form: int  # as in record.py
    ignore_index: int
    gradient: bool  # whether it is wanted
    threads: int  # how many may be used
    inv_t: Any  # float64 1 / T, from b * stride_own on
    push: Any  # float64 factor of the divergence's gradient for x / T, likewise
    stride_own: int  # 0 where T and the divergence's weight are those of all rows
    pull: float  # factor of the cross-entropy's gradient
    beta: float  # which divergence
    smoothing: float  # share of the label that is spread over all classes
    weight_sum: float  # of the class weights


@inner(error_model="numpy")
def _rows(start, stop, r):
    """Rows start to stop of `LoopInputs` r."""
    classes, num_teachers, form = r.classes, r.num_teachers, r.form
    beta, rest = F(r.beta), F(1.0 - r.beta)
    slope = 1.0 if r.beta == 1 else 1.0 - r.beta  # of the divergence's gradient
    few = form in (TOP_K, TAIL)
    k = r.index.shape[2]
    others = np.int64(classes - k) if form == TAIL else np.int64(0)
    e_t, e_1, q = np.empty(classes, F), np.empty(classes, F), np.empty(classes, F)
    log_q, part = np.empty(classes, F), np.empty(classes, F)
    slot = np.full(classes if few else 0, -1, I)
    room = min(num_teachers * k, classes) + 1 if few else 0  # all others are one more outcome
    cls = np.empty(room, np.int64)
    mixed, named = np.empty(room, np.float64), np.empty(room, I)
    x_few, p_few = np.empty(room, F), np.empty(room, F)
    q_few, log_q_few = np.empty(room, F), np.empty(room, F)
    part_few, log_part_few = np.empty(k, F), np.empty(k, F)
    r_d = off = pull = F(0)

    for i in range(start, stop):
        inv_t, push = r.inv_t[i * r.stride_own], F(r.push[i * r.stride_own])
        scale = F(inv_t)
        x = r.x[i * r.stride_x : i * r.stride_x + classes]
        counted = len(r.labels) > 0 and r.labels[i] != r.ignore_index
        row = r.teacher[i] if form else -1
        full = 0 <= row < r.num_rows and form != TOP_K  # the KL needs the softmax of the whole row
        top, z = F(0), 1.0
        if counted or full:
            top = largest(x)
        if full:
            exps(x, top, scale, e_t)
            z = sum_of(e_t)
        log_z = math.log(z)

        r.ce[i] = 0.0
        if counted:
            if full and inv_t == 1.0:
                e_1[:] = e_t
            else:
                exps(x, top, F(1), e_1)
            r.ce[i], pull = cross_entropy(
                x, top, e_1, r.labels[i], r.class_weight, r.log_weight, r.weight_sum, r.smoothing,
                r.pull, part,
            )  # fmt: skip

        kl = 0.0
        count, known = 0, row < r.num_rows
        share = r.share[i * r.stride_share : i * r.stride_share + num_teachers]
        if form == DENSE and full:
            place = row * r.stride_n
            z_q, log_z_q = mix_dense(
                r.t, place, r.stride_m, num_teachers, share, scale, z, log_z, q, log_q, part
            )
            if beta == F(0):
                terms(q, log_q, e_t, F(z_q / z), x, top, scale, F(log_z - log_z_q))
                kl = sum_of(log_q) / z_q
                r_d, off = F(1.0 / z_q), F(sum_of(q) / z_q / z)
            else:
                if beta == F(1) and num_teachers > 1:
                    small_dense(
                        r.t, place, r.stride_m, num_teachers, share, inv_t, log_z, e_t, q, log_q,
                        part,
                    )  # fmt: skip
                ratios(log_q, x, top, scale, F(log_z - log_z_q))
                mixture_terms(q, log_q, F(1.0 / z_q), e_t, F(1.0 / z), beta, rest)
                kl = sum_of(log_q)
                weighted(e_t, q)
                r_d, off = F(slope / z), F(slope * sum_of(q) / z / z)
        elif few and row >= 0 and known:
            index = r.index[row]
            count, known = union(index, classes, slot, cls)
            if known:
                t = r.t[row * r.stride_n : (row + 1) * r.stride_n].reshape(num_teachers, k)
                x_, p_ = x_few[:count], p_few[:count]
                q_, log_q_ = q_few[:count], log_q_few[:count]
                for e in range(count):
                    x_[e] = x[cls[e]]
                if form == TOP_K:
                    top = largest(x_)
                exps(x_, top, scale, p_)
                if form == TOP_K:
                    z = sum_of(p_)
                    log_z = math.log(z)
                p_ *= F(1.0 / z)
                other, log_z_q = mix_top_k(
                    index, t, r.tail[row], share, others, inv_t, slot, mixed[:count],
                    named[:count], z, log_z, q_, log_q_, part_few, log_part_few,
                )  # fmt: skip
                q_out, log_p_out, z_out, diff = other * (classes - count), 0.0, 1.0, 0.0
                if form == TAIL:
                    log_p_out, z_out = outside(x, cls[:count], inv_t, top, log_z, part, q)
                if beta == F(0):
                    if form == TAIL:
                        kl, diff = outcome(q_out, log_p_out)
                    terms(q_, log_q_, p_, F(1), x_, top, scale, F(log_z - log_z_q))
                    kl += sum_of(log_q_)
                    r_d, off = F(1), F((diff + sum_of(q_)) / z)
                else:
                    if beta == F(1) and (num_teachers > 1 or count < k):
                        small_top_k(
                            index, t, r.tail[row], share, others, inv_t, slot, log_z, p_, q_,
                            log_q_, part_few, log_part_few,
                        )  # fmt: skip
                    ratios(log_q_, x_, top, scale, F(log_z - log_z_q))
                    if form == TAIL:
                        q_few[count], p_few[count] = F(q_out), F(math.exp(log_p_out))
                        log_q_few[count] = -LARGE
                        if q_out > 0:
                            log_q_few[count] = F(min(math.log(q_out) - log_p_out, LARGE))
                        q_, log_q_ = q_few[: count + 1], log_q_few[: count + 1]
                        p_ = p_few[: count + 1]
                    mixture_terms(q_, log_q_, F(1), p_, F(1), beta, rest)
                    kl = sum_of(log_q_)
                    weighted(p_, q_)
                    q_ *= F(slope)
                    r_d, off = F(1), F(sum_of(q_) / z)
                    diff = np.float64(q_few[count]) if form == TAIL else 0.0
                if form == TAIL:
                    q *= F(diff / z_out)
                    for e in range(count):
                        q[cls[e]] = q_few[e]
            for e in range(count):
                slot[cls[e]] = I(-1)
        r.kl[i] = kl if known else math.nan

        if r.gradient:
            grad = r.grad[i * r.stride_g : i * r.stride_g + classes]
            if not counted:
                e_1[:] = pull = F(0)
            if full:
                gradient(grad, pull, e_1, push, q, r_d, e_t, off)
            else:
                scaled(grad, pull, e_1)
            if not known:
                grad[:] = NAN
            elif form == TOP_K:
                for e in range(count):
                    grad[cls[e]] += push * (q_few[e] - p_few[e] * (off * F(z)))


def _made(source: str) -> Any:
    """`compute_rows` of the loops whose text is `source`."""

    def compute_rows(given):
        """Loss, parts and gradient of all rows; `given` are `LoopInputs` as a plain tuple.

        Numba's cache names the arguments' types: were a class of ours renamed, it could not be
        read.
        """
        source  # noqa: B018  # closed over: numba's cache is of this text alone
        rows = LoopInputs(*given)
        batch = np.int64(len(rows.ce))
        if batch * rows.classes <= SERIAL or rows.threads == 1:
            _rows(np.int64(0), batch, rows)
            return
        parts = min(batch, 4 * rows.threads)
        for unsigned in prange(parts):
            part = np.int64(unsigned)
            _rows(part * batch // parts, (part + 1) * batch // parts, rows)

    return compute_rows


compute_rows = keep(_made(digest(*SOURCES)), parallel=True, nogil=True, error_model="numpy")
