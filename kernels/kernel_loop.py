"""Triton kernel of the distillation loss for rows of any length, in blocks.

Promise: as `kernel.py`, but each row is read twice: once for its sums (online softmax), once for the
loss and the gradient.
Letters: B batch rows, C classes, N teacher rows, K top-k, M teachers, T temperature, E = M * K, R
rows of a program. `x_ptr` is a pointer, `stride_xb` the distance in elements between neighbours of x
along b.
"""
# ruff: noqa: ANN001, ANN201, ANN202, N803, SIM109, E501
# mypy: ignore-errors
# fmt: off

from __future__ import annotations

import triton
import triton.language as tl

from antcache.kernels.kernel_parts import (
    DENSE,
    NONE,
    TAIL,
    TOP_K,
    ce_gradient,
    class_weights,
    columns,
    dense_kl,
    divisors,
    entry_gradient,
    few_classes,
    row_labels,
    teacher_row,
    teacher_share,
    top_k_entries,
    write_rows,
)


@triton.jit
def _online(top, total, x, scale):
    """Largest value and sum of exp((x - largest) * scale) so far (R,), with a block (R, BLOCK)."""
    new = tl.maximum(top, tl.max(x, 1))
    shift = tl.where(new == float("-inf"), 0.0, new)  # nothing but -inf so far
    total = total * tl.exp((top - shift) * scale)
    return new, total + tl.sum(tl.exp((x - shift[:, None]) * scale), 1)


@triton.jit
def loop_kernel(
    x_ptr, stride_xb, stride_xc, t_ptr, stride_tm, stride_tn, stride_tc,
    index_ptr, stride_im, stride_in, stride_ic, tail_ptr, stride_lm, stride_ln,
    share_ptr, stride_sb, stride_sm, rows_ptr, valid_ptr, labels_ptr, class_weight_ptr,
    grad_ptr, stride_gb, stride_gc, outside_ptr, stride_ob, ce_ptr, kl_ptr, has_ptr, loss_ptr,
    counts_ptr, ticket_ptr,
    B, C, N, temperature, kl_weight, label_weight, smoothing, ignore_index,
    FORM: tl.constexpr, M: tl.constexpr, K: tl.constexpr, HAS_LABELS: tl.constexpr,
    HAS_WEIGHT: tl.constexpr, HAS_ROWS: tl.constexpr, HAS_VALID: tl.constexpr,
    HAS_SHARE: tl.constexpr, SMOOTH: tl.constexpr, T_ONE: tl.constexpr, MEAN: tl.constexpr,
    PER_ROW: tl.constexpr, GRAD: tl.constexpr, COUNT_HERE: tl.constexpr, ROWS: tl.constexpr,
    BLOCK_C: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_E: tl.constexpr, BLOCK_B: tl.constexpr,
    BLOCK_M: tl.constexpr, WIDE: tl.constexpr,
):
    """One row per program in blocks: a first pass for the sums, a second for loss and gradient."""
    row = tl.program_id(0).to(tl.int64) + tl.zeros((1,), tl.int64)
    row_mask = row < B
    inv_t = 1.0 / temperature
    n_ce, n_kl = divisors(
        labels_ptr, class_weight_ptr, rows_ptr, valid_ptr, counts_ptr, B, C, N, ignore_index,
        HAS_LABELS, HAS_WEIGHT, FORM, HAS_ROWS, HAS_VALID, MEAN, COUNT_HERE, BLOCK_B,
    )
    a = label_weight / n_ce
    b = kl_weight / temperature / n_kl + tl.zeros((1,), tl.float32)
    has = row_mask
    teacher = row
    if FORM != NONE:
        teacher, has, inside = teacher_row(
            rows_ptr, valid_ptr, row, row_mask, N, HAS_ROWS, HAS_VALID
        )
        b = tl.where(inside, b, float("nan"))
    to_x = x_ptr + row[:, None] * stride_xb

    low = tl.full((1,), float("-inf"), tl.float32)
    x_max = low
    z_t = tl.zeros((1,), tl.float32)
    x_max_1 = low
    z_1 = z_t
    for start in range(0, C, BLOCK_C):
        col = columns(start, BLOCK_C, WIDE)
        x = tl.load(
            to_x + col[None, :] * stride_xc, mask=(col < C)[None, :], other=float("-inf")
        ).to(tl.float32)
        x_max, z_t = _online(x_max, z_t, x, inv_t)
        if HAS_LABELS and not T_ONE:
            x_max_1, z_1 = _online(x_max_1, z_1, x, 1.0)
    if T_ONE:
        z_1 = z_t

    lane = tl.arange(0, BLOCK_M)
    t_max = tl.zeros((BLOCK_M,), tl.float32)
    t_sum = tl.full((BLOCK_M,), 1.0, tl.float32)
    log_sums = tl.log(z_t)
    if FORM == DENSE:
        from_t = teacher * stride_tn  # 64-bit sums: m * stride_tm would be 32-bit
        for m in range(M):
            own_max = low
            own_sum = tl.zeros((1,), tl.float32)
            for start in range(0, C, BLOCK_C):
                col = columns(start, BLOCK_C, WIDE)
                t = tl.load(
                    t_ptr + from_t[:, None] + col[None, :] * stride_tc,
                    mask=(col < C)[None, :] & has[:, None],
                    other=float("-inf"),
                ).to(tl.float32)
                t = tl.where(has[:, None], t, 0.0)
                own_max, own_sum = _online(own_max, own_sum, t, inv_t)
            t_max = tl.where(lane == m, own_max, t_max)
            t_sum = tl.where(lane == m, own_sum, t_sum)
            from_t += stride_tm
            if M == 1:
                log_sums = tl.log(z_t / own_sum)

    ce = tl.zeros((1,), tl.float32)
    kl = tl.zeros((1,), tl.float32)
    w_sum = 0.0
    label = row
    counted = row_mask
    own = tl.zeros((1,), tl.float32)
    if HAS_LABELS:
        label, counted, own = row_labels(
            labels_ptr, class_weight_ptr, row, row_mask, C, ignore_index, HAS_WEIGHT
        )
        known = counted & (label >= 0) & (label < C)
        x_label = tl.load(x_ptr + row * stride_xb + label * stride_xc, mask=known, other=0.0)
        ce = (1 - smoothing) * own * (tl.log(z_1) - (x_label.to(tl.float32) - x_max))
        if SMOOTH:
            for start in range(0, C, BLOCK_C):
                col = columns(start, BLOCK_C, WIDE)
                w_sum += tl.sum(class_weights(class_weight_ptr, col, C, HAS_WEIGHT))

    top_out = low
    z_out = tl.zeros((1,), tl.float32)
    q_out = tl.zeros((1,), tl.float32)
    if FORM == TOP_K or FORM == TAIL:
        cls, x_e, q_e, first, other, known = few_classes(
            x_ptr, stride_xb, stride_xc, t_ptr, stride_tm, stride_tn, stride_tc,
            index_ptr, stride_im, stride_in, stride_ic, tail_ptr, stride_lm, stride_ln,
            share_ptr, stride_sb, stride_sm, row, teacher, has, C, inv_t, x_max,
            M, K, HAS_SHARE, FORM == TAIL, ROWS, BLOCK_K, BLOCK_E,
        )
        b = tl.where(known, b, float("nan"))
        e1_e = tl.exp(x_e - x_max[:, None])
        if FORM == TOP_K:
            p_e, log_p_e = top_k_entries(x_e, first, has, inv_t)
        else:
            x_e = x_e - x_max[:, None]
            p_e = tl.exp(x_e * inv_t) / z_t[:, None]
            log_p_e = x_e * inv_t - tl.log(z_t)[:, None]
            flag = outside_ptr + row[:, None] * stride_ob
            kind = outside_ptr.dtype.element_ty
            for start in range(0, C, BLOCK_C):
                col = columns(start, BLOCK_C, WIDE)
                one = tl.full((1, BLOCK_C), 1.0, tl.float32).to(kind)
                tl.store(flag + col[None, :], one, mask=(col < C)[None, :])
            tl.debug_barrier()
            tl.store(flag + cls, tl.zeros((1, BLOCK_E), tl.float32).to(kind), mask=first)
            tl.debug_barrier()
            for start in range(0, C, BLOCK_C):
                col = columns(start, BLOCK_C, WIDE)
                within = (col < C)[None, :]
                x = tl.load(to_x + col[None, :] * stride_xc, mask=within, other=float("-inf"))
                out = tl.load(flag + col[None, :], mask=within, other=0.0).to(tl.float32) > 0
                x = tl.where(out, x.to(tl.float32) - x_max[:, None], float("-inf"))
                top_out, z_out = _online(top_out, z_out, x, inv_t)
            q_out = other * (C - tl.sum(first.to(tl.int32), 1)).to(tl.float32)
            log_q_out = tl.where(q_out > 0, tl.log(q_out), 0.0)
            log_p_out = top_out * inv_t + tl.log(z_out / z_t)
            some = tl.sum(first.to(tl.int32), 1) < C  # else several teachers name all classes
            kl = tl.where(some, q_out * (log_q_out - log_p_out), 0.0)
        log_q_e = tl.where(q_e > 0, tl.log(q_e), 0.0)
        kl += tl.sum(tl.where(first, q_e * (log_q_e - log_p_e), 0.0), 1)
        few = b[:, None] * (p_e - q_e)
        if HAS_LABELS:
            few = entry_gradient(
                few, cls, e1_e, z_1, label, counted, own, first, class_weight_ptr, smoothing, C,
                w_sum, a, HAS_WEIGHT, SMOOTH,
            )
    if GRAD:
        tl.debug_barrier()  # label and entries are read before the gradient may go over the logits

    for start in range(0, C, BLOCK_C):
        col = columns(start, BLOCK_C, WIDE)
        mask = (col < C)[None, :]
        x = tl.load(to_x + col[None, :] * stride_xc, mask=mask, other=float("-inf"))
        x = x.to(tl.float32) - x_max[:, None]
        e_t = tl.exp(x * inv_t)
        grad = tl.zeros((1, BLOCK_C), tl.float32)
        if HAS_LABELS:
            e_1 = e_t
            if not T_ONE:
                e_1 = tl.exp(x)
            w = tl.zeros((1, BLOCK_C), tl.float32)
            if SMOOTH:
                w = class_weights(class_weight_ptr, col, C, HAS_WEIGHT)
                cost = tl.where(mask, w * (tl.log(z_1)[:, None] - x), 0.0)
                ce += smoothing / C * tl.sum(cost, 1)
            here = col[None, :] == label[:, None]
            grad = ce_gradient(e_1 / z_1[:, None], here, own, smoothing, C, w_sum, w)
            grad = tl.where(counted[:, None], a * grad, 0.0)
        if FORM == DENSE:
            q = tl.zeros((1, BLOCK_C), tl.float32)
            from_t = teacher * stride_tn
            for m in range(M):
                t = tl.load(
                    t_ptr + from_t[:, None] + col[None, :] * stride_tc,
                    mask=mask & has[:, None],
                    other=float("-inf"),
                ).to(tl.float32)
                t = tl.where(has[:, None], t, 0.0) - tl.sum(tl.where(lane == m, t_max, 0.0), 0)
                e = tl.exp(t * inv_t)
                z = tl.sum(tl.where(lane == m, t_sum, 0.0), 0)
                if M == 1:
                    q = tl.where(mask, e / z, 0.0)
                    kl += dense_kl(x, t, q, mask)
                else:
                    share = teacher_share(share_ptr, row, m, has, stride_sb, stride_sm, M, HAS_SHARE)
                    q += share[:, None] * (e / z)
                from_t += stride_tm
            if M > 1:
                kl += dense_kl(x * inv_t - log_sums[:, None], tl.log(q), q, mask)
            grad += tl.where(has[:, None], b[:, None] * (e_t / z_t[:, None] - q), 0.0)
        if FORM == TAIL:
            flags = outside_ptr + row[:, None] * stride_ob + col[None, :]
            out = tl.load(flags, mask=mask, other=0.0).to(tl.float32) > 0
            e_out = tl.exp((x - top_out[:, None]) * inv_t)
            push = e_t / z_t[:, None] - q_out[:, None] * (e_out / z_out[:, None])
            grad += tl.where(out & has[:, None], b[:, None] * push, 0.0)
        if GRAD:
            to = grad_ptr + row[:, None] * stride_gb + col[None, :] * stride_gc
            tl.store(to, grad.to(grad_ptr.dtype.element_ty), mask=mask)
    if GRAD and (FORM == TOP_K or FORM == TAIL):
        tl.debug_barrier()
        to = grad_ptr + row[:, None] * stride_gb + cls * stride_gc
        tl.store(to, few.to(grad_ptr.dtype.element_ty), mask=first)
    if HAS_LABELS:
        ce = tl.where(counted, ce, 0.0)
    if FORM == DENSE and M == 1:
        kl = kl * inv_t + log_sums
    kl = tl.where(has, kl, 0.0)
    if FORM != NONE:
        kl = tl.where(has & (b != b), float("nan"), kl)  # a teacher row or class out of range
    write_rows(
        ce_ptr, kl_ptr, has_ptr, loss_ptr, ticket_ptr, row, row_mask, ce, kl, has, B,
        label_weight, kl_weight, n_ce, n_kl, PER_ROW, BLOCK_B,
    )
