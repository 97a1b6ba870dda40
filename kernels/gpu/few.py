"""Triton kernel of the distillation loss for top-k teachers, with or without what is outside the k.

Promise: as `dense.py`. Without a tail the row itself is read for the cross-entropy alone, and
not at all without labels: the k have what the KL needs. Nothing of the size of the logits is needed
but their gradient, whose row is also where entries find their like, and the tail its classes. Rows
too long for registers differ in how they are read and written alone (`few_row.py`).
Letters: B batch rows, C classes of W columns, N teacher rows, M teachers, T temperature, E = M * K
entries, R rows of a program in chunks of L columns. `x_ptr` is a pointer, `stride_xb` the distance
in elements between neighbours of x along b.
"""
# ruff: noqa: ANN001, ANN201, N803, N806, E501
# mypy: ignore-errors
# fmt: off

from __future__ import annotations

import triton
import triton.language as tl

from antcache.kernels.gpu import entries, few_row, outcomes, parts, sums, terms


@triton.jit
def few_kernel(
    x_ptr, stride_xb, stride_xc, t_ptr, stride_tm, stride_tn, stride_tc,
    index_ptr, stride_im, stride_in, stride_ic, tail_ptr, stride_lm, stride_ln,
    share_ptr, stride_sb, stride_sm, rows_ptr, valid_ptr, labels_ptr, class_weight_ptr,
    grad_ptr, stride_gb, stride_gc, ce_ptr, kl_ptr, has_ptr, loss_ptr,
    counts_ptr, ticket_ptr, sums_ptr, factor_ptr, stride_f,
    row_temperature_ptr, stride_yb, row_weight_ptr, stride_wb, normaliser_ptr, stride_n,
    B, W, C, N, temperature, kl_weight, label_weight, smoothing, beta, beta_p, ignore_index,
    FORM: tl.constexpr, M: tl.constexpr, K: tl.constexpr, SMOOTH: tl.constexpr, BETA: tl.constexpr,
    POWER: tl.constexpr, COUNT: tl.constexpr, PER_ROW: tl.constexpr, GRAD: tl.constexpr,
    AGAIN: tl.constexpr, SOME: tl.constexpr, PADDED: tl.constexpr, LONG: tl.constexpr,
    ROWS: tl.constexpr, CHUNKS: tl.constexpr, LANES: tl.constexpr, NEIGHBOURS: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_K: tl.constexpr, SUMMED: tl.constexpr, BLOCK_B: tl.constexpr, WIDE: tl.constexpr,
):
    """R rows per program. `grad_ptr` is there even where no gradient is wanted: rows are marked there.

    POWER is T where that is 1 or 2, else 0. SOME: a row may have no target. LONG: the chunks are those
    of a block. With AGAIN only the gradient is written, times upstream factors (B,), where one of them
    is not 1.
    """
    TAIL_FORM: tl.constexpr = FORM == parts.TAIL
    LABELS: tl.constexpr = labels_ptr is not None
    row = tl.program_id(0).to(tl.int64)
    if ROWS > 1:
        row = row * ROWS + tl.arange(0, ROWS)[:, None]
    row_mask = row < B
    factor = 1.0
    if AGAIN:
        factor = parts.upstream(factor_ptr, row, row_mask, stride_f)
        if entries.all_one(factor, ROWS):
            return
    lane = parts.columns(0, LANES, WIDE)[None, :]
    own = tl.minimum(row, B - 1)  # rows past the end repeat the last one, and write nothing
    from_x = x_ptr + own * stride_xb
    to_grad = grad_ptr + row * stride_gb
    to_t = (t_ptr, stride_tm, stride_tn, stride_tc)
    teacher, has, inside = parts.teacher_row(rows_ptr, valid_ptr, row, row_mask, N)
    cls, x_e, t_e, there = entries.load_entries(
        (x_ptr, stride_xb, stride_xc), to_t, (index_ptr, stride_im, stride_in, stride_ic),
        row, teacher, has, C, M, K, BLOCK_M, BLOCK_K,
    )
    at_e = to_grad + cls * stride_gc
    label, known, counted, weight, x_label, place, live = few_row.read_label(
        labels_ptr, class_weight_ptr, from_x, stride_xc, lane, row, row_mask, has, C, ignore_index
    )
    held = few_row.read(
        from_x, stride_xc, to_grad, stride_gc, class_weight_ptr, lane, C, live, place,
        TAIL_FORM, LABELS, SMOOTH, LONG, CHUNKS, LANES, NEIGHBOURS, SOME, WIDE,
    )
    n_ce, n_kl = sums.divisors(
        labels_ptr, class_weight_ptr, rows_ptr, valid_ptr, counts_ptr, normaliser_ptr, stride_n,
        B, C, N, ignore_index, FORM, COUNT, BLOCK_B,
    )
    at = temperature
    if row_temperature_ptr is not None:
        at = tl.where(has, tl.load(row_temperature_ptr + own * stride_yb), 1.0)
    scale = terms.LOG2E / at
    t_e, q_e, first, other_top, other_q = entries.teachers(
        t_e, to_t, tail_ptr, stride_lm, stride_ln, share_ptr, stride_sb, stride_sm, own, teacher, has,
        there, at_e, C, scale, M, K, BETA, TAIL_FORM, BLOCK_M, BLOCK_K,
    )
    top_e = outcomes.top_entry(x_e, there, has)
    outside, made_of = few_row.sum_up(
        held, to_grad, stride_gc, lane, at_e, there, row_mask, live, C, place, scale, at,
        TAIL_FORM, LABELS, POWER, LONG, CHUNKS, LANES, NEIGHBOURS, SOME, WIDE,
    )
    top_o, z_o, rest, undo, undo_1 = outside
    z_o *= undo
    top, top_1, fade, undo_1 = outcomes.relative_to_all(top_e, top_o, undo_1, has, scale, TAIL_FORM)
    u_e, e_e, z = outcomes.exponentials(x_e, top, first, has, z_o, fade, scale, TAIL_FORM)

    # What is outside the k is one outcome, whose gradient goes to its classes by their exponentials.
    q_e, d_e = outcomes.log_ratios(t_e, q_e, u_e, z, M)
    outcome = (0.0, 0.0, 0.0)
    if TAIL_FORM:
        outcome = outcomes.outside_outcome(z_o, fade, z, other_top, other_q, first, C, K, M)
    kl, g_e, g_o = outcomes.divergence(
        e_e / z, q_e, d_e, first, outcome, (beta, beta_p), BETA, TAIL_FORM
    )
    b = factor * kl_weight * sums.kl_factor(
        row_weight_ptr, stride_wb, row_temperature_ptr, stride_yb, row, has
    ) / (at * n_kl)
    b = tl.where(has, tl.where(inside, b, float("nan")), 0.0)
    g_e *= b
    push, of_t, of_1, of_w = 0.0, 0.0, 0.0, 0.0  # what the row's exponentials, its class weights are times
    if TAIL_FORM:
        push = tl.where(has & (z_o > 0), b * g_o / z_o, 0.0)
        of_t = push * undo

    ce, g_l = 0.0, 0.0
    if LABELS:
        ce, of_1, of_w, g_l, more = few_row.cross_entropy(
            held, rest * undo_1, top_1, (label, known, counted, weight, x_label), x_e, cls, first, lane, C,
            factor * (label_weight / n_ce), smoothing, class_weight_ptr, TAIL_FORM, SMOOTH, LONG, CHUNKS,
            LANES,
        )
        of_1 *= undo_1
        g_e += more
        if TAIL_FORM:  # if it is outside; else it is an entry, which is written after it
            g_l += push * tl.exp2((x_label - top_o) * scale)
    if GRAD:
        few_row.write(
            from_x, stride_xc, to_grad, stride_gc, class_weight_ptr, lane, C, W, row_mask, live, held,
            made_of, (of_t, of_1, of_w), scale, at, TAIL_FORM, LABELS, SMOOTH, POWER, LONG, ROWS, CHUNKS,
            LANES, SOME, PADDED, WIDE,
        )
        kind = grad_ptr.dtype.element_ty
        tl.debug_barrier()
        if LABELS:
            tl.store(to_grad + label * stride_gc, g_l.to(kind), mask=known)
            tl.debug_barrier()
        tl.store(at_e, g_e.to(kind), mask=first)
    if not AGAIN:
        sums.write_rows(
            ce_ptr, kl_ptr, has_ptr, loss_ptr, counts_ptr, ticket_ptr, sums_ptr,
            row_weight_ptr, stride_wb, row_temperature_ptr, stride_yb, tl.program_id(0) * ROWS, row,
            row_mask, ce, kl, has, inside, B, label_weight, kl_weight, n_ce, n_kl, PER_ROW, ROWS, SUMMED,
        )
