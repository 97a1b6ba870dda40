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
    cross_entropy,
    dense_log_ratio,
    divisors,
    entry_gradient,
    entry_log_ratio,
    few_classes,
    kl_terms,
    mixed_log_ratio,
    near_one,
    rest_kl,
    row_labels,
    teacher_row,
    teacher_share,
    top_k_entries,
    upstream,
    write_rows,
)


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
def loop_kernel(
    x_ptr, stride_xb, stride_xc, t_ptr, stride_tm, stride_tn, stride_tc,
    index_ptr, stride_im, stride_in, stride_ic, tail_ptr, stride_lm, stride_ln,
    share_ptr, stride_sb, stride_sm, rows_ptr, valid_ptr, labels_ptr, class_weight_ptr,
    grad_ptr, stride_gb, stride_gc, outside_ptr, stride_ob, ce_ptr, kl_ptr, has_ptr, loss_ptr,
    counts_ptr, ticket_ptr, factor_ptr, stride_f,
    B, C, N, temperature, kl_weight, label_weight, smoothing, ignore_index,
    FORM: tl.constexpr, M: tl.constexpr, K: tl.constexpr, HAS_LABELS: tl.constexpr,
    HAS_WEIGHT: tl.constexpr, HAS_ROWS: tl.constexpr, HAS_VALID: tl.constexpr,
    HAS_SHARE: tl.constexpr, SMOOTH: tl.constexpr, T_ONE: tl.constexpr, MEAN: tl.constexpr,
    PER_ROW: tl.constexpr, GRAD: tl.constexpr, AGAIN: tl.constexpr, COUNT_HERE: tl.constexpr, ROWS: tl.constexpr,
    BLOCK_C: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_E: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_B: tl.constexpr,
    BLOCK_M: tl.constexpr, WIDE: tl.constexpr,
):
    """One row per program in blocks: a first pass for the sums, a second for loss and gradient."""
    row = tl.program_id(0).to(tl.int64) + tl.zeros((1,), tl.int64)
    row_mask = row < B
    factor = tl.full((1,), 1.0, tl.float32)
    if AGAIN:
        factor = upstream(factor_ptr, row, row_mask, stride_f)
        if tl.sum(tl.where(factor == 1, 0, 1), 0) == 0:
            return
    inv_t = 1.0 / temperature
    n_ce, n_kl = divisors(
        labels_ptr, class_weight_ptr, rows_ptr, valid_ptr, counts_ptr, B, C, N, ignore_index,
        HAS_LABELS, HAS_WEIGHT, FORM, HAS_ROWS, HAS_VALID, MEAN, COUNT_HERE, BLOCK_B,
    )
    a = factor * (label_weight / n_ce)
    b = factor * (kl_weight / temperature / n_kl)
    has = row_mask
    teacher = row
    if FORM != NONE:
        teacher, has, inside = teacher_row(
            rows_ptr, valid_ptr, row, row_mask, N, HAS_ROWS, HAS_VALID
        )
        b = tl.where(inside, b, float("nan"))
    to_x = x_ptr + row[:, None] * stride_xb
    label = row
    counted = row_mask
    own = tl.zeros((1,), tl.float32)
    if HAS_LABELS:
        label, counted, own = row_labels(
            labels_ptr, class_weight_ptr, row, row_mask, C, ignore_index, HAS_WEIGHT
        )

    low = tl.full((1,), float("-inf"), tl.float32)
    x_max = low
    z_t = tl.zeros((1,), tl.float32)
    x_max_1 = low
    rest = z_t
    z_1 = z_t
    for start in range(0, C, BLOCK_C):
        col = columns(start, BLOCK_C, WIDE)
        x = tl.load(
            to_x + col[None, :] * stride_xc, mask=(col < C)[None, :], other=float("-inf")
        ).to(tl.float32)
        here = col[None, :] == label[:, None]
        if T_ONE:
            x_max, z_t, rest = _online_rest(x_max, z_t, rest, x, inv_t, here)
        else:
            x_max, z_t = _online(x_max, z_t, x, inv_t)
            if HAS_LABELS:
                x_max_1, z_1, rest = _online_rest(x_max_1, z_1, rest, x, 1.0, here)

    lane = tl.arange(0, BLOCK_M)
    t_max = tl.zeros((BLOCK_M,), tl.float32)
    t_sum = tl.full((BLOCK_M,), 1.0, tl.float32)
    log_sums = tl.zeros((1,), tl.float32)
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
    if HAS_LABELS:
        known = counted & (label >= 0) & (label < C)
        x_label = tl.load(x_ptr + row * stride_xb + label * stride_xc, mask=known, other=0.0)
        x_label = tl.where(known, x_label.to(tl.float32) - x_max, 0.0)
        z_1 = rest + tl.exp(x_label)
        ce = (1 - smoothing) * own * cross_entropy(x_label, z_1, rest)
        if SMOOTH:
            for start in range(0, C, BLOCK_C):
                col = columns(start, BLOCK_C, WIDE)
                w_sum += tl.sum(class_weights(class_weight_ptr, col, C, HAS_WEIGHT))

    top_out = low
    z_out = tl.zeros((1,), tl.float32)
    diff_out = tl.zeros((1,), tl.float32)
    off = diff_out
    if FORM == TOP_K or FORM == TAIL:
        cls, x_e, q_e, first, other, known, t_e, t_sum_e = few_classes(
            x_ptr, stride_xb, stride_xc, t_ptr, stride_tm, stride_tn, stride_tc,
            index_ptr, stride_im, stride_in, stride_ic, tail_ptr, stride_lm, stride_ln,
            share_ptr, stride_sb, stride_sm, row, teacher, has, C, inv_t, x_max,
            M, K, HAS_SHARE, FORM == TAIL, ROWS, BLOCK_K, BLOCK_E, BLOCK_N,
        )
        b = tl.where(known, b, float("nan"))
        e1_e = tl.exp(x_e - x_max[:, None])
        if FORM == TOP_K:
            p_e, x_e, z_e = top_k_entries(x_e, first, has, inv_t)
        else:
            x_e = x_e - x_max[:, None]
            z_e = z_t
            p_e = tl.exp(x_e * inv_t) / z_e[:, None]
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
            some = tl.sum(first.to(tl.int32), 1) < C  # else several teachers name all classes
            kl, diff_out = rest_kl(top_out * inv_t, z_out, z_t, q_out)
            kl = tl.where(some, kl, 0.0)
            diff_out = tl.where(some, diff_out, 0.0)
        terms, diff = kl_terms(p_e, q_e, entry_log_ratio(x_e, q_e, t_e, t_sum_e, inv_t, z_e, M))
        kl += tl.sum(tl.where(first, terms, 0.0), 1)
        off = diff_out + tl.sum(tl.where(first, diff, 0.0), 1)  # exactly they add up to 0
        few = b[:, None] * (diff - p_e * off[:, None])
        if HAS_LABELS:
            few = entry_gradient(
                few, cls, e1_e, z_1, rest / z_1, label, counted, own, first, class_weight_ptr,
                smoothing, C, w_sum, a, HAS_WEIGHT, SMOOTH,
            )
    if GRAD:
        tl.debug_barrier()  # label and entries are read before the gradient may go over the logits

    # A class with p and q near 1 gets minus the sum of all other p - q: those add up to 0, and of
    # rounded p and q little of it is left. Here are that sum, the class's column plus 1 and the
    # rest of its gradient, per lane.
    others = tl.zeros((1, BLOCK_C), tl.float32)
    found = tl.zeros((1, BLOCK_C), tl.int32)
    kept = others
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
            grad = ce_gradient(e_1 / z_1[:, None], here, rest / z_1, own, smoothing, C, w_sum, w)
            grad = tl.where(counted[:, None], a[:, None] * grad, 0.0)
        if FORM == DENSE:
            p = e_t / z_t[:, None]
            q = tl.zeros((1, BLOCK_C), tl.float32)
            log_ratio = q
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
                    log_ratio = dense_log_ratio(x, t, inv_t, log_sums[:, None])
                else:
                    share = teacher_share(share_ptr, row, m, has, stride_sb, stride_sm, M, HAS_SHARE)
                    q += share[:, None] * (e / z)
                from_t += stride_tm
            if M > 1:
                log_ratio = mixed_log_ratio(x, q, inv_t, z_t)
            terms, diff = kl_terms(p, q, log_ratio)
            kl += tl.sum(tl.where(mask, terms, 0.0), 1)
            large = near_one(p, q)
            others += tl.where(mask & ~large, diff, 0.0)
            found += tl.where(large, col[None, :].to(tl.int32) + 1, 0)
            kept += tl.where(large, grad, 0.0)
            grad += tl.where(has[:, None], b[:, None] * diff, 0.0)
        if FORM == TAIL:
            flags = outside_ptr + row[:, None] * stride_ob + col[None, :]
            out = tl.load(flags, mask=mask, other=0.0).to(tl.float32) > 0
            e_out = tl.exp((x - top_out[:, None]) * inv_t)
            push = e_out * (diff_out / z_out)[:, None] - e_t * (off / z_t)[:, None]
            grad += tl.where(out & has[:, None], b[:, None] * push, 0.0)
        if GRAD:
            to = grad_ptr + row[:, None] * stride_gb + col[None, :] * stride_gc
            tl.store(to, grad.to(grad_ptr.dtype.element_ty), mask=mask)
    if GRAD and FORM != NONE:
        to = grad_ptr + row[:, None] * stride_gb
        kind = grad_ptr.dtype.element_ty
        tl.debug_barrier()
        if FORM == DENSE:
            at = tl.sum(found, 1).to(tl.int64) - 1
            one = tl.sum(kept, 1) - b * tl.sum(others, 1)
            tl.store(to + at[:, None] * stride_gc, one[:, None].to(kind), mask=((at >= 0) & has)[:, None])
        else:
            tl.store(to + cls * stride_gc, few.to(kind), mask=first)
    if HAS_LABELS:
        ce = tl.where(counted, ce, 0.0)
    kl = tl.where(has, kl, 0.0)
    if FORM != NONE:
        kl = tl.where(has & (b != b), float("nan"), kl)  # a teacher row or class out of range
    if not AGAIN:
        write_rows(
            ce_ptr, kl_ptr, has_ptr, loss_ptr, ticket_ptr, row, row_mask, ce, kl, has, B,
            label_weight, kl_weight, n_ce, n_kl, counts_ptr, PER_ROW, BLOCK_B,
        )
