"""Triton kernel of the distillation loss for labels and dense teachers: one pass over each row.

Promise: as `scale.py`, for rows that fit the registers of a program. Everything is read before the
first reduction, and reductions that need no other result go together.
Letters: B batch rows, C classes of W columns, N teacher rows, M teachers, T temperature, R rows of a
program, K chunks of L columns. `x_ptr` is a pointer, `stride_xb` the distance in elements between
neighbours of x along b.
"""
# ruff: noqa: ANN001, ANN201, N803, E501
# mypy: ignore-errors
# fmt: off

from __future__ import annotations

import triton
import triton.language as tl

from antcache.kernels.gpu import parts, sums, terms
from antcache.kernels.gpu import row as chunks


@triton.jit
def dense_kernel(
    x_ptr, stride_xb, stride_xc, t_ptr, stride_tm, stride_tn, stride_tc,
    index_ptr, stride_im, stride_in, stride_ic, tail_ptr, stride_lm, stride_ln,
    share_ptr, stride_sb, stride_sm, rows_ptr, valid_ptr, labels_ptr, class_weight_ptr,
    grad_ptr, stride_gb, stride_gc, ce_ptr, kl_ptr, has_ptr, loss_ptr,
    counts_ptr, ticket_ptr, sums_ptr, factor_ptr, stride_f,
    row_temperature_ptr, stride_yb, row_weight_ptr, stride_wb, normaliser_ptr, stride_n,
    B, W, C, N, temperature, kl_weight, label_weight, smoothing, beta, beta_p, ignore_index,
    FORM: tl.constexpr, M: tl.constexpr, SMOOTH: tl.constexpr, BETA: tl.constexpr,
    POWER: tl.constexpr, COUNT: tl.constexpr, PER_ROW: tl.constexpr, GRAD: tl.constexpr,
    EXACT: tl.constexpr, AGAIN: tl.constexpr, SOME: tl.constexpr, PADDED: tl.constexpr,
    ROWS: tl.constexpr, CHUNKS: tl.constexpr, LANES: tl.constexpr, SUMMED: tl.constexpr,
    BLOCK_B: tl.constexpr, WIDE: tl.constexpr,
):
    """R rows per program: K chunks (R, L) stay in registers from the first read to the end.

    POWER is T where that is 1 or 2, else 0. SOME: a row may have no target. EXACT: the gradient is
    not rounded to half precision. With AGAIN only the gradient is written, times upstream factors
    (B,), where one of them is not 1.
    """
    # What is read per row is a vector (R,), widened to (R, 1): a thread has it once that way.
    row = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    row_mask = row < B
    factor = tl.full((ROWS,), 1.0, tl.float32)
    if AGAIN:
        factor = parts.upstream(factor_ptr, row, row_mask, stride_f)
        if tl.sum(tl.where(factor == 1, 0, 1), 0) == 0:
            return
    lane = parts.columns(0, LANES, WIDE)[None, :]
    own = tl.minimum(row, B - 1)  # rows past the end repeat the last one, and write nothing
    from_x = x_ptr + own * stride_xb
    xs = chunks.load_chunks(from_x[:, None], stride_xc, lane, C, row_mask[:, None], CHUNKS, LANES, False)
    has = row < 0
    inside = row_mask
    if FORM == parts.DENSE:
        teacher, has, inside = parts.teacher_row(rows_ptr, valid_ptr, row, row_mask, N)
        from_t = teacher * stride_tn
        if M == 1:
            ts = chunks.load_chunks(t_ptr + from_t[:, None], stride_tc, lane, C, has[:, None], CHUNKS, LANES, SOME)
    if labels_ptr is not None:
        label, counted, weight = parts.row_labels(
            labels_ptr, class_weight_ptr, row, row_mask, C, ignore_index
        )
        known = counted & (label >= 0) & (label < C)
        x_label = tl.load(from_x + label * stride_xc, mask=known, other=0.0).to(tl.float32)
        from_label = tl.where(known, label, -1).to(lane.dtype)[:, None] - lane
    n_ce, n_kl = sums.divisors(
        labels_ptr, class_weight_ptr, rows_ptr, valid_ptr, counts_ptr, normaliser_ptr, stride_n,
        B, C, N, ignore_index, FORM, COUNT, BLOCK_B,
    )
    at = temperature
    if row_temperature_ptr is not None:
        at = tl.where(has, tl.load(row_temperature_ptr + own * stride_yb), 1.0)[:, None]
    scale = terms.LOG2E / at

    # Exponentials, and their sums.
    x_top = chunks.largest(xs, CHUNKS)
    if FORM == parts.DENSE and M == 1:
        x_top, t_top = chunks.max_of_two(x_top, chunks.largest(ts, CHUNKS))
        vs, qs = chunks.exponents(ts, t_top, scale, CHUNKS)
        z_t = chunks.lane_sums(qs, CHUNKS)
    else:
        x_top = tl.max(x_top, 1, keep_dims=True)
    us, es = chunks.exponents(xs, x_top, scale, CHUNKS)
    z_x = chunks.lane_sums(es, CHUNKS)
    rest = z_x
    ones = es
    if labels_ptr is not None:
        ones = chunks.at_one(us, es, at, POWER, CHUNKS)
        rest = chunks.lane_sums(chunks.replaced(ones, from_label, 0.0, CHUNKS, LANES), CHUNKS)
    if FORM == parts.DENSE and M == 1:
        ds = chunks.differences(vs, us, CHUNKS)
        z_x, z_t, rest = chunks.sum_of_three(z_x, z_t, rest)
    else:
        z_x, rest = chunks.sum_of_two(z_x, rest)
        z_t = tl.full((ROWS, 1), 1.0, tl.float32)
    if FORM == parts.DENSE and M > 1:
        qs, tops = chunks.mixture(
            (t_ptr, stride_tm, stride_tc), from_t, share_ptr, stride_sb, stride_sm, row, has, lane,
            C, scale, M, BETA, CHUNKS, LANES, SOME,
        )
        qs, ds = chunks.log_ratios(qs, tops, us, z_x, BETA, CHUNKS)

    gs = ()
    kl = tl.zeros((ROWS, 1), tl.float32)
    if FORM == parts.DENSE:
        b = factor * kl_weight * sums.kl_factor(
            row_weight_ptr, stride_wb, row_temperature_ptr, stride_yb, row, has
        )
        b = tl.where(has, tl.where(inside, b, float("nan")), 0.0)[:, None] / (at * n_kl)
        kl, gs = chunks.divergence(es, qs, ds, z_x, z_t, b, (beta, beta_p), M, BETA, EXACT, CHUNKS)
    ce = tl.zeros((ROWS, 1), tl.float32)
    if labels_ptr is not None:
        u_label = tl.fma(x_label[:, None], scale, -(x_top * scale))
        ce, z_1 = chunks.cross_entropy(u_label, rest, known[:, None], at, POWER)
        ce *= ((1 - smoothing) * weight)[:, None]
        a = tl.where(counted, factor * label_weight, 0.0)[:, None] / (n_ce * z_1)
        push = a * tl.where(counted, (1 - smoothing) * weight, 0.0)[:, None]
        sharp = chunks.replaced(ones, from_label, -rest, CHUNKS, LANES)
        if FORM == parts.DENSE:
            gs = chunks.added(gs, sharp, push, CHUNKS)
        else:
            gs = chunks.scaled(sharp, push, CHUNKS)
        if SMOOTH:
            ws, w_sum = chunks.class_weights(class_weight_ptr, lane, C, CHUNKS, LANES)
            cost = chunks.smoothing_cost(us, ws, tl.log2(z_1), at, lane, C, CHUNKS, LANES)
            ce += smoothing / C * terms.LN2 * cost
            gs = chunks.added(gs, ones, a * (smoothing / C) * w_sum, CHUNKS)
            gs = chunks.added(gs, ws, -a * z_1 * (smoothing / C), CHUNKS)
        ce = tl.where(counted[:, None], ce, 0.0)
    if GRAD:
        if SOME or FORM == parts.NONE:
            live = has
            if labels_ptr is not None:
                live = has | counted
            gs = chunks.of_live(gs, live[:, None], CHUNKS)
        chunks.store_chunks(
            (grad_ptr + row * stride_gb)[:, None], stride_gc, lane, row_mask[:, None], gs, C, W,
            CHUNKS, LANES, PADDED,
        )
    if not AGAIN:
        sums.write_rows(
            ce_ptr, kl_ptr, has_ptr, loss_ptr, counts_ptr, ticket_ptr, sums_ptr,
            row_weight_ptr, stride_wb, row_temperature_ptr, stride_yb, tl.program_id(0) * ROWS, row, row_mask,
            tl.sum(ce, 1), tl.sum(kl, 1), has, inside, B, label_weight, kl_weight, n_ce, n_kl, PER_ROW, ROWS, SUMMED,
        )
