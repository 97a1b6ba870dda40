"""Triton kernel of the distillation loss: value, parts and gradient in one pass over each row.

Promise: one program owns R rows of the logits. It reads each student row and its teacher rows once,
writes the gradient once, and keeps every sum in float32 and in one fixed order, so the result is
deterministic. Rows that do not fit its registers: `kernel_loop.py`. Formulas: `docs/kernel.md`;
truth: `reference.py`; launches: `launch.py`.
Letters: B batch rows, C classes, N teacher rows, K top-k, M teachers, T temperature, E = M * K, R
rows of a program. `x_ptr` is a pointer, `stride_xb` the distance in elements between neighbours of x
along b.
"""
# ruff: noqa: ANN001, ANN201, N803, E501
# mypy: ignore-errors
# fmt: off

from __future__ import annotations

import triton
import triton.language as tl

from antcache.kernels import kernel_parts as parts
from antcache.kernels import kernel_sum as sums


@triton.jit
def tile_kernel(
    x_ptr, stride_xb, stride_xc, t_ptr, stride_tm, stride_tn, stride_tc,
    index_ptr, stride_im, stride_in, stride_ic, tail_ptr, stride_lm, stride_ln,
    share_ptr, stride_sb, stride_sm, rows_ptr, valid_ptr, labels_ptr, class_weight_ptr,
    grad_ptr, stride_gb, stride_gc, outside_ptr, stride_ob, ce_ptr, kl_ptr, has_ptr, loss_ptr,
    counts_ptr, ticket_ptr, sums_ptr, factor_ptr, stride_f,
    row_temperature_ptr, stride_yb, row_weight_ptr, stride_wb, normaliser_ptr, stride_n,
    B, W, C, N, temperature, kl_weight, label_weight, smoothing, beta, ignore_index,
    FORM: tl.constexpr, M: tl.constexpr, K: tl.constexpr, SMOOTH: tl.constexpr, BETA: tl.constexpr,
    T_ONE: tl.constexpr,
    COUNT: tl.constexpr, PER_ROW: tl.constexpr, GRAD: tl.constexpr, AGAIN: tl.constexpr,
    SUMMED: tl.constexpr, ROWS: tl.constexpr, BLOCK_C: tl.constexpr, BLOCK_K: tl.constexpr,
    BLOCK_E: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_B: tl.constexpr,
    WIDE: tl.constexpr,
):
    """R whole rows per program: (R, BLOCK_C) stays in registers from the first read to the end.

    With AGAIN only the gradient is written, times upstream factors (B,), where one of them is not 1.
    """
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    row_mask = row < B
    factor = tl.full((ROWS,), 1.0, tl.float32)
    if AGAIN:
        factor = parts.upstream(factor_ptr, row, row_mask, stride_f)
        if tl.sum(tl.where(factor == 1, 0, 1), 0) == 0:
            return
    to_x = (x_ptr, stride_xb, stride_xc)
    col = parts.columns(0, BLOCK_C, WIDE)
    mask = row_mask[:, None] & (col < C)[None, :]
    inv_t = 1.0 / temperature
    n_ce, n_kl = sums.divisors(
        labels_ptr, class_weight_ptr, rows_ptr, valid_ptr, counts_ptr, normaliser_ptr, stride_n,
        B, C, N, ignore_index, FORM, COUNT, BLOCK_B,
    )

    x = parts.student_logits(to_x, row, col, mask)
    x = tl.where(row_mask[:, None], x, 0.0)  # rows past the end stay finite
    x_max = tl.max(x, 1)
    x = x - x_max[:, None]
    e_t = tl.exp(x * inv_t)
    z_t = tl.sum(e_t, 1)
    grad = tl.zeros((ROWS, BLOCK_C), tl.float32)

    ce = tl.zeros((ROWS,), tl.float32)
    a = factor * (label_weight / n_ce)
    if labels_ptr is not None:
        label, counted, own = parts.row_labels(
            labels_ptr, class_weight_ptr, row, row_mask, C, ignore_index
        )
        e_1 = e_t
        if not T_ONE:
            e_1 = tl.exp(x)
        here = col[None, :] == label[:, None]
        rest = tl.sum(tl.where(here, 0.0, e_1), 1)
        x_label = tl.sum(tl.where(here, x, 0.0), 1)
        ce, z_1 = parts.cross_entropy(x_label, rest, own, smoothing)
        w = parts.class_weights(class_weight_ptr, col, C, SMOOTH)
        w_sum = 0.0
        if SMOOTH:
            w_sum = tl.sum(w)
        grad, cost = parts.label_gradient(
            x, e_1, mask, here, w, counted, own, rest, z_1, a, smoothing, C, w_sum, SMOOTH
        )
        ce = tl.where(counted, ce + cost, 0.0)

    kl = tl.zeros((ROWS,), tl.float32)
    b = factor * (kl_weight / temperature / n_kl)
    has = row_mask
    if FORM != parts.NONE:
        teacher, has, inside = parts.teacher_row(rows_ptr, valid_ptr, row, row_mask, N)
        b = tl.where(inside, b, float("nan"))
    if FORM == parts.DENSE:
        p = e_t / z_t[:, None]
        q = tl.zeros((ROWS, BLOCK_C), tl.float32)
        log_ratio = q
        from_t = teacher * stride_tn  # 64-bit sums: m * stride_tm would be 32-bit
        for m in range(M):
            t = parts.teacher_logits(t_ptr, from_t, stride_tc, col, mask, has)
            t = t - tl.max(t, 1)[:, None]
            e = tl.exp(t * inv_t)
            z = tl.sum(e, 1)
            if M == 1:
                q = e / z[:, None]
                log_ratio = parts.dense_log_ratio(x, t, inv_t, tl.log(z_t / z)[:, None])
            else:
                share = parts.teacher_share(share_ptr, stride_sb, stride_sm, row, m, has, M)
                q += share[:, None] * (e / z[:, None])
            from_t += stride_tm
        if M > 1:
            log_ratio = parts.mixed_log_ratio(x, q, inv_t, z_t)
        terms, diff = parts.kl_terms(p, q, log_ratio)
        kl = tl.sum(tl.where(mask, terms, 0.0), 1)
        off = tl.sum(tl.where(mask, diff, 0.0), 1)  # exactly they add up to 0
        grad += tl.where(has[:, None], b[:, None] * (diff - p * off[:, None]), 0.0)
    if FORM == parts.TOP_K or FORM == parts.TAIL:
        cls, x_e, q_e, first, other, known, t_e, t_sum = parts.few_classes(
            to_x, (t_ptr, stride_tm, stride_tn, stride_tc),
            (index_ptr, stride_im, stride_in, stride_ic), tail_ptr, stride_lm, stride_ln,
            share_ptr, stride_sb, stride_sm, row, teacher, has, C, inv_t, x_max,
            M, K, FORM == parts.TAIL, ROWS, BLOCK_K, BLOCK_E, BLOCK_N,
        )
        b = tl.where(known, b, float("nan"))
        x_1 = x_e - x_max[:, None]
        p_e, x_e, z_e = parts.top_k_entries(x_e, x_max, z_t, first, has, inv_t, FORM == parts.TAIL)
        diff_out = tl.zeros((ROWS,), tl.float32)
        if FORM == parts.TAIL:
            parts.mark_outside(outside_ptr, row, stride_ob, col[None, :], mask, 1.0)
            tl.debug_barrier()
            parts.mark_outside(outside_ptr, row, stride_ob, cls, first, 0.0)
            tl.debug_barrier()
            outside = parts.is_outside(outside_ptr, row, stride_ob, col, mask)
            tl.debug_barrier()
            x_out = tl.where(outside, x, float("-inf"))
            top = tl.max(x_out, 1)
            e_out = tl.exp((x_out - top[:, None]) * inv_t)
            z_out = tl.sum(tl.where(outside, e_out, 0.0), 1)
            kl, diff_out = parts.outside_terms(top * inv_t, z_out, z_t, other, first, C)
        kl_e, off, few = parts.entry_terms(p_e, q_e, x_e, z_e, t_e, t_sum, first, diff_out, b, inv_t, M)
        kl += kl_e
        if FORM == parts.TAIL:
            grad += parts.outside_gradient(e_out, z_out, diff_out, e_t, z_t, off, outside, has, b)
        if labels_ptr is not None:
            few = parts.entry_gradient(
                few, cls, x_1, z_1, rest, label, counted, own, first, class_weight_ptr, smoothing, C,
                w_sum, a, SMOOTH,
            )

    if GRAD:
        to = grad_ptr + row[:, None] * stride_gb
        to_col = to + col[None, :] * stride_gc
        kind = grad_ptr.dtype.element_ty
        if FORM == parts.TOP_K or FORM == parts.TAIL:
            tl.debug_barrier()  # all entries are read before the gradient may go over the logits
            tl.store(to_col, grad.to(kind), mask=mask)
            tl.debug_barrier()
            tl.store(to + cls * stride_gc, few.to(kind), mask=first)
        else:
            tl.store(to_col, grad.to(kind), mask=mask)
    if not AGAIN:
        sums.write_rows(
            ce_ptr, kl_ptr, has_ptr, loss_ptr, counts_ptr, ticket_ptr, sums_ptr,
            row_weight_ptr, stride_wb, row_temperature_ptr, stride_yb, row, row_mask, ce, kl, has,
            b == b, B, label_weight, kl_weight, n_ce, n_kl, PER_ROW, ROWS, SUMMED,
        )


@triton.jit
def scale_kernel(
    grad_ptr, stride_gb, stride_gc, factor_ptr, stride_f, C, BLOCK_C: tl.constexpr,
    WIDE: tl.constexpr,
):
    """Multiply a row of the gradient by its upstream factor; a factor of 1 touches nothing."""
    row = tl.program_id(0).to(tl.int64)
    factor = tl.load(factor_ptr + row * stride_f).to(tl.float32)
    if factor != 1.0:
        for start in range(0, C, BLOCK_C):
            col = parts.columns(start, BLOCK_C, WIDE)
            at = grad_ptr + row * stride_gb + col * stride_gc
            value = tl.load(at, mask=col < C, other=0.0).to(tl.float32) * factor
            tl.store(at, value.to(grad_ptr.dtype.element_ty), mask=col < C)
