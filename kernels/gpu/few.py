"""Triton kernel of the distillation loss for top-k teachers, with or without what is outside the k.

Promise: as `dense.py`. Without a tail the row itself is read for the cross-entropy alone, and
not at all without labels: the k have what the KL needs. Nothing of the size of the logits is needed
but their gradient, whose row is also where entries find their like, and the tail its classes. Rows
too long for registers differ in how they are read and written alone (`long/few.py`).
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

from antcache.kernels.gpu import entries, outcomes, parts, sums, terms
from antcache.kernels.gpu import row as chunks
from antcache.kernels.gpu.long import few as long


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
    ROWS: tl.constexpr, CHUNKS: tl.constexpr, LANES: tl.constexpr, BLOCK_M: tl.constexpr,
    BLOCK_K: tl.constexpr, SUMMED: tl.constexpr, BLOCK_B: tl.constexpr, WIDE: tl.constexpr,
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
    teacher, has, inside = parts.teacher_row(rows_ptr, valid_ptr, row, row_mask, N)
    cls, x_e, t_e, there = entries.load_entries(
        (x_ptr, stride_xb, stride_xc), (t_ptr, stride_tm, stride_tn, stride_tc),
        (index_ptr, stride_im, stride_in, stride_ic), row, teacher, has, C, M, K, BLOCK_M, BLOCK_K,
    )
    at_e = to_grad + cls * stride_gc
    live = has
    w_sum = 0.0
    if LABELS:
        label, counted, weight = parts.row_labels(
            labels_ptr, class_weight_ptr, row, row_mask, C, ignore_index
        )
        known = counted & (label >= 0) & (label < C)
        x_label = tl.load(from_x + label * stride_xc, mask=known, other=0.0).to(tl.float32)
        place = tl.where(known, label, -1).to(lane.dtype)
        live = has | counted
    else:
        place = -1
    if LONG:
        if SMOOTH:
            w_sum, smoothed = long.smoothing_sums(
                from_x, stride_xc, class_weight_ptr, lane, C, live, LANES, WIDE
            )
        if TAIL_FORM:
            long.copy_row(from_x, stride_xc, to_grad, stride_gc, lane, C, LANES, WIDE)
        elif LABELS:
            base, top_o, _z, rest, _undo, undo_1 = long.row_sums(
                from_x, stride_xc, lane, live, C, place, terms.LOG2E, 1.0, 1, True, CHUNKS, LANES,
                SOME, WIDE,
            )
    else:
        if SMOOTH:
            ws, _ = chunks.class_weights(class_weight_ptr, lane, C, CHUNKS, LANES)
            w_sum = tl.sum(chunks.lane_sums(ws, CHUNKS))
        if TAIL_FORM or LABELS:
            xs = chunks.load_chunks(from_x, stride_xc, lane, C, live, CHUNKS, LANES, SOME)
    n_ce, n_kl = sums.divisors(
        labels_ptr, class_weight_ptr, rows_ptr, valid_ptr, counts_ptr, normaliser_ptr, stride_n,
        B, C, N, ignore_index, FORM, COUNT, BLOCK_B,
    )
    at = temperature
    if row_temperature_ptr is not None:
        at = tl.where(has, tl.load(row_temperature_ptr + own * stride_yb), 1.0)
    scale = terms.LOG2E / at
    t_e, q_e, first, other_top, other_q = entries.teachers(
        t_e, (t_ptr, stride_tm, stride_tn, stride_tc), tail_ptr, stride_lm, stride_ln,
        share_ptr, stride_sb, stride_sm, own, teacher, has, there, at_e, C, scale,
        M, K, BETA, TAIL_FORM, BLOCK_M, BLOCK_K,
    )

    # Sums of exponentials: at T of the entries and, with a tail, of what is outside them; at 1 of all
    # classes but the label. `es` and `ones` are the row's at T and at 1, with a tail of what is
    # outside alone, up to the factors `undo` and `undo_1`; `top_o` is the largest logit there.
    top = outcomes.top_entry(x_e, there, has)
    if LONG:
        if TAIL_FORM:
            outcomes.put_out(at_e, there)
            base, top_o, z_o, rest, undo, undo_1 = long.row_sums(
                to_grad, stride_gc, lane, live, C, place, scale, at, POWER, LABELS, CHUNKS, LANES, SOME,
                WIDE,
            )
    else:
        if TAIL_FORM:
            outs = outcomes.outside_chunks(
                xs, to_grad, stride_gc, lane, at_e, there, row_mask, live, C, CHUNKS, LANES, SOME
            )
            us, es, top_o, undo, undo_1 = outcomes.outside_exponents(outs, scale, at, CHUNKS)
            ones = chunks.at_one(us, es, at, POWER, CHUNKS)
            z_o = entries.row_sum(chunks.lane_sums(es, CHUNKS))
        elif LABELS:
            top_o = entries.row_max(chunks.largest(xs, CHUNKS))
            _, ones = chunks.exponents(xs, top_o, terms.LOG2E, CHUNKS)
            undo_1 = tl.exp2(-outcomes.rounding(top_o, terms.LOG2E))
    if TAIL_FORM:
        z_o *= undo
        top = tl.where(has, tl.maximum(top, top_o), top_o)
        top_1 = top
        fade = (top_o - top) * scale
        undo_1 *= tl.exp2((top_o - top) * terms.LOG2E)
    elif LABELS:
        top_1 = top_o
    u_e = (x_e - top) * scale
    e_e = tl.where(first, tl.exp2(u_e), 0.0)
    z = entries.row_sum(e_e)
    if TAIL_FORM:
        z += z_o * tl.exp2(fade)
    z = tl.where(has, z, 1.0)

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
    of_t, of_1, of_w = 0.0, 0.0, 0.0  # what the row's exponentials and its class weights are times
    if TAIL_FORM:
        push = tl.where(has & (z_o > 0), b * g_o / z_o, 0.0)
        of_t = push * undo

    ce = 0.0
    if LABELS:
        if not LONG:
            others = chunks.replaced(ones, place - lane, 0.0, CHUNKS, LANES)
            rest = entries.row_sum(chunks.lane_sums(others, CHUNKS))
        ce, z_1, rest, one_l, one_e = outcomes.label_loss(
            rest * undo_1, top_1, x_label, known, x_e, cls, label, first, TAIL_FORM
        )
        ce *= (1 - smoothing) * weight
        if SMOOTH:
            if LONG:
                cost = long.smoothing_cost(smoothed, w_sum, top_1, z_1)
            else:
                cost = outcomes.smoothing_cost(xs, ws, top_1, z_1, lane, C, CHUNKS, LANES)
            ce += smoothing / C * cost
        ce = tl.where(counted, ce, 0.0)
        a = tl.where(counted, factor * (label_weight / n_ce), 0.0)
        sharp = tl.where(counted, a * (1 - smoothing) * weight / z_1, 0.0)  # times exponentials
        flat = a * (smoothing / C)  # times class weights, and these exponentials
        of_1 = (sharp + flat * w_sum / z_1) * undo_1
        of_w = -flat
    if not LONG:
        gs = outcomes.zeros(ROWS, CHUNKS, LANES)
        if TAIL_FORM:
            gs = chunks.added(gs, es, of_t, CHUNKS)
        if LABELS:
            gs = chunks.added(gs, ones, of_1, CHUNKS)
        if SMOOTH:
            gs = chunks.added(gs, ws, of_w, CHUNKS)
    if LABELS:
        g_l, more = outcomes.label_gradient(
            sharp, flat, w_sum, z_1, rest, one_l, weight, one_e, cls, label, first,
            class_weight_ptr, SMOOTH,
        )
        g_e += more
        if TAIL_FORM:  # if it is outside; else it is an entry, which is written after it
            g_l += push * tl.exp2((x_label - top_o) * scale)
    if GRAD:
        kind = grad_ptr.dtype.element_ty
        if LONG:
            if TAIL_FORM:
                long.write_row(
                    to_grad, stride_gc, to_grad, stride_gc, class_weight_ptr, lane, C, W, live,
                    (base, scale, at), (of_t, of_1, of_w), True, LABELS, SMOOTH, POWER, CHUNKS, LANES,
                    SOME, PADDED, WIDE,
                )
            else:
                if not LABELS:
                    base = 0.0
                long.write_row(
                    from_x, stride_xc, to_grad, stride_gc, class_weight_ptr, lane, C, W, live,
                    (base, terms.LOG2E, 1.0), (of_t, of_1, of_w), False, LABELS, SMOOTH, 1, CHUNKS,
                    LANES, SOME, PADDED, WIDE,
                )
        else:
            chunks.store_chunks(to_grad, stride_gc, lane, row_mask, gs, C, W, CHUNKS, LANES, PADDED)
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
