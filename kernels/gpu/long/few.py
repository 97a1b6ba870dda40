"""Triton kernel of the distillation loss for top-k teachers on rows of any length, in blocks.

Promise: as `../dense.py`, but a program reads its row twice: once for its sums (online softmax), once
for the loss and the gradient.
Letters: B batch rows, C classes, N teacher rows, K top-k, M teachers, T temperature, E = M * K, R
rows of a program. `x_ptr` is a pointer, `stride_xb` the distance in elements between neighbours of x
along b.
"""
# ruff: noqa: ANN001, ANN201, ANN202, N803, E501
# mypy: ignore-errors
# fmt: off

from __future__ import annotations

import triton
import triton.language as tl

from antcache.kernels.gpu import parts, sums
from antcache.kernels.gpu.long import entries


@triton.jit
def _online(top, total, x, scale):
    """Largest value and sum of exp((x - largest) * scale) so far (R,), with a block (R, BLOCK)."""
    new, total, _ = _online_rest(top, total, total, x, scale, x == x)
    return new, total


@triton.jit
def _online_rest(top, total, rest, x, scale, here):
    """The same with the sum of all but what is `here`."""
    new = tl.maximum(top, tl.max(x, 1))
    shift = tl.where(new == float("-inf"), 0.0, new)  # nothing but -inf so far
    fade = tl.exp((top - shift) * scale)
    e = tl.exp((x - shift[:, None]) * scale)
    return new, total * fade + tl.sum(e, 1), rest * fade + tl.sum(tl.where(here, 0.0, e), 1)


@triton.jit
def _student_sums(
    to_x, row, label, C, inv_t, T_ONE: tl.constexpr, LABELS: tl.constexpr, BLOCK_C: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Largest logit of the row, sum of the exponentials at T, and at 1 of all but the label's."""
    x_max = tl.full((1,), float("-inf"), tl.float32)
    z_t = tl.zeros((1,), tl.float32)
    x_max_1 = x_max
    rest = z_t
    z_1 = z_t
    for start in range(0, C, BLOCK_C):
        col = parts.columns(start, BLOCK_C, WIDE)
        x = entries.student_logits(to_x, row, col, (col < C)[None, :])
        here = col[None, :] == label[:, None]
        if T_ONE:
            x_max, z_t, rest = _online_rest(x_max, z_t, rest, x, inv_t, here)
        else:
            x_max, z_t = _online(x_max, z_t, x, inv_t)
            if LABELS:
                x_max_1, z_1, rest = _online_rest(x_max_1, z_1, rest, x, 1.0, here)
    return x_max, z_t, rest


@triton.jit
def _outside_sums(
    to_x, outside_ptr, stride_ob, row, cls, first, x_max, C, inv_t, BLOCK_C: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Largest logit of the classes that no teacher names, and the sum of their exponentials."""
    for start in range(0, C, BLOCK_C):
        col = parts.columns(start, BLOCK_C, WIDE)
        entries.mark_outside(outside_ptr, row, stride_ob, col[None, :], (col < C)[None, :], 1.0)
    tl.debug_barrier()
    entries.mark_outside(outside_ptr, row, stride_ob, cls, first, 0.0)
    tl.debug_barrier()
    top = tl.full((1,), float("-inf"), tl.float32)
    total = tl.zeros((1,), tl.float32)
    for start in range(0, C, BLOCK_C):
        col = parts.columns(start, BLOCK_C, WIDE)
        mask = (col < C)[None, :]
        x = entries.student_logits(to_x, row, col, mask) - x_max[:, None]
        x = tl.where(entries.is_outside(outside_ptr, row, stride_ob, col, mask), x, float("-inf"))
        top, total = _online(top, total, x, inv_t)
    return top, total


@triton.jit
def few_loop_kernel(
    x_ptr, stride_xb, stride_xc, t_ptr, stride_tm, stride_tn, stride_tc,
    index_ptr, stride_im, stride_in, stride_ic, tail_ptr, stride_lm, stride_ln,
    share_ptr, stride_sb, stride_sm, rows_ptr, valid_ptr, labels_ptr, class_weight_ptr,
    grad_ptr, stride_gb, stride_gc, outside_ptr, stride_ob, ce_ptr, kl_ptr, has_ptr, loss_ptr,
    counts_ptr, ticket_ptr, sums_ptr, factor_ptr, stride_f,
    row_temperature_ptr, stride_yb, row_weight_ptr, stride_wb, normaliser_ptr, stride_n,
    B, W, C, N, temperature, kl_weight, label_weight, smoothing, beta, beta_p, ignore_index,
    FORM: tl.constexpr, M: tl.constexpr, K: tl.constexpr, SMOOTH: tl.constexpr, BETA: tl.constexpr,
    T_ONE: tl.constexpr,
    COUNT: tl.constexpr, PER_ROW: tl.constexpr, GRAD: tl.constexpr, AGAIN: tl.constexpr,
    SUMMED: tl.constexpr, ROWS: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_K: tl.constexpr,
    BLOCK_E: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_B: tl.constexpr,
    WIDE: tl.constexpr,
):
    """One row per program in blocks: a first pass for the sums, a second for loss and gradient."""
    row = tl.program_id(0).to(tl.int64) + tl.zeros((1,), tl.int64)
    row_mask = row < B
    factor = tl.full((1,), 1.0, tl.float32)
    if AGAIN:
        factor = parts.upstream(factor_ptr, row, row_mask, stride_f)
        if tl.sum(tl.where(factor == 1, 0, 1), 0) == 0:
            return
    to_x = (x_ptr, stride_xb, stride_xc)
    to_t = (t_ptr, stride_tm, stride_tn, stride_tc)
    inv_t = 1.0 / temperature
    n_ce, n_kl = sums.divisors(
        labels_ptr, class_weight_ptr, rows_ptr, valid_ptr, counts_ptr, normaliser_ptr, stride_n,
        B, C, N, ignore_index, FORM, COUNT, BLOCK_B,
    )
    a = factor * (label_weight / n_ce)
    b = factor * (kl_weight / temperature / n_kl)
    teacher, has, inside = parts.teacher_row(rows_ptr, valid_ptr, row, row_mask, N)
    b = tl.where(inside, b, float("nan"))
    label = row
    if labels_ptr is not None:
        label, counted, own = parts.row_labels(
            labels_ptr, class_weight_ptr, row, row_mask, C, ignore_index
        )

    x_max, z_t, rest = _student_sums(
        to_x, row, label, C, inv_t, T_ONE, labels_ptr is not None, BLOCK_C, WIDE
    )
    ce = tl.zeros((1,), tl.float32)
    kl = tl.zeros((1,), tl.float32)
    w_sum = 0.0
    if labels_ptr is not None:
        known = counted & (label >= 0) & (label < C)
        x_label = tl.load(x_ptr + row * stride_xb + label * stride_xc, mask=known, other=0.0)
        x_label = tl.where(known, x_label.to(tl.float32) - x_max, 0.0)
        ce, z_1 = entries.cross_entropy(x_label, rest, own, smoothing)
        if SMOOTH:
            for start in range(0, C, BLOCK_C):
                col = parts.columns(start, BLOCK_C, WIDE)
                w_sum += tl.sum(entries.class_weights(class_weight_ptr, col, C, SMOOTH))
    cls, x_e, q_e, first, other, in_range, t_e, t_sum = entries.few_classes(
        to_x, to_t, (index_ptr, stride_im, stride_in, stride_ic), tail_ptr, stride_lm, stride_ln,
        share_ptr, stride_sb, stride_sm, row, teacher, has, C, inv_t, x_max,
        M, K, FORM == parts.TAIL, ROWS, BLOCK_K, BLOCK_E, BLOCK_N,
    )
    b = tl.where(in_range, b, float("nan"))
    x_1 = x_e - x_max[:, None]
    p_e, x_e, z_e = entries.top_k_entries(x_e, x_max, z_t, first, has, inv_t, FORM == parts.TAIL)
    diff_out = tl.zeros((1,), tl.float32)
    if FORM == parts.TAIL:
        top_out, z_out = _outside_sums(
            to_x, outside_ptr, stride_ob, row, cls, first, x_max, C, inv_t, BLOCK_C, WIDE
        )
        kl, diff_out = entries.outside_terms(top_out * inv_t, z_out, z_t, other, first, C)
    kl_e, off, few = entries.entry_terms(p_e, q_e, x_e, z_e, t_e, t_sum, first, diff_out, b, inv_t, M)
    kl += kl_e
    if labels_ptr is not None:
        few = entries.entry_gradient(
            few, cls, x_1, z_1, rest, label, counted, own, first, class_weight_ptr, smoothing, C,
            w_sum, a, SMOOTH,
        )
    if GRAD:
        tl.debug_barrier()  # label and entries are read before the gradient may go over the logits

    to = grad_ptr + row[:, None] * stride_gb
    kind = grad_ptr.dtype.element_ty
    for start in range(0, C, BLOCK_C):
        col = parts.columns(start, BLOCK_C, WIDE)
        mask = (col < C)[None, :]
        x = entries.student_logits(to_x, row, col, mask) - x_max[:, None]
        e_t = tl.exp(x * inv_t)
        grad = tl.zeros((1, BLOCK_C), tl.float32)
        if labels_ptr is not None:
            e_1 = e_t
            if not T_ONE:
                e_1 = tl.exp(x)
            w = entries.class_weights(class_weight_ptr, col, C, SMOOTH)
            here = col[None, :] == label[:, None]
            grad, cost = entries.label_gradient(
                x, e_1, mask, here, w, counted, own, rest, z_1, a, smoothing, C, w_sum, SMOOTH
            )
            ce += cost
        if FORM == parts.TAIL:
            outside = entries.is_outside(outside_ptr, row, stride_ob, col, mask)
            e_out = tl.exp((x - top_out[:, None]) * inv_t)
            grad += entries.outside_gradient(e_out, z_out, diff_out, e_t, z_t, off, outside, has, b)
        if GRAD:
            tl.store(to + col[None, :] * stride_gc, grad.to(kind), mask=mask)
    if GRAD:
        tl.debug_barrier()
        tl.store(to + cls * stride_gc, few.to(kind), mask=first)
    if labels_ptr is not None:
        ce = tl.where(counted, ce, 0.0)
    if not AGAIN:
        sums.write_rows(
            ce_ptr, kl_ptr, has_ptr, loss_ptr, counts_ptr, ticket_ptr, sums_ptr,
            row_weight_ptr, stride_wb, row_temperature_ptr, stride_yb, row, row_mask, ce, kl, has,
            b == b, B, label_weight, kl_weight, n_ce, n_kl, PER_ROW, ROWS, SUMMED,
        )
