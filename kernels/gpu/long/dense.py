"""Triton kernel of the distillation loss for labels and dense teachers on rows of any length.

Promise: as `../dense.py`. A row is split over programs, each of which has a segment. It is read twice,
for KL(p || q) and the mixture three times, but from memory once: a program sums up a segment, and
then writes the gradient of that of a row a little before, which is still in the L2 cache. It may
have to wait for the programs of that row: these have lower numbers, and devices begin programs in
the order of their numbers, as NVIDIA's own scan (CUB) relies on.
Letters: B batch rows, C classes of W columns, N teacher rows, M teachers, T temperature, S segments
of a row, K chunks of L columns. `x_ptr` is a pointer, `stride_xb` the distance in elements between
neighbours of x along b.
"""
# ruff: noqa: ANN001, ANN201, ANN202, N803, SIM102, E501
# mypy: ignore-errors
# fmt: off

from __future__ import annotations

import triton
import triton.language as tl

from antcache.kernels.gpu import parts, sums, terms
from antcache.kernels.gpu.long import gradient, stages, state


@triton.jit
def loop_kernel(
    x_ptr, stride_xb, stride_xc, t_ptr, stride_tm, stride_tn, stride_tc,
    index_ptr, stride_im, stride_in, stride_ic, tail_ptr, stride_lm, stride_ln,
    share_ptr, stride_sb, stride_sm, rows_ptr, valid_ptr, labels_ptr, class_weight_ptr,
    grad_ptr, stride_gb, stride_gc, ce_ptr, kl_ptr, has_ptr, loss_ptr,
    counts_ptr, ticket_ptr, sums_ptr, factor_ptr, stride_f,
    row_temperature_ptr, stride_yb, row_weight_ptr, stride_wb, normaliser_ptr, stride_n,
    B, W, C, N, temperature, kl_weight, label_weight, smoothing, beta, beta_p, ignore_index,
    of_rows_ptr, done_ptr, segment, ahead,
    FORM: tl.constexpr, M: tl.constexpr, SMOOTH: tl.constexpr, BETA: tl.constexpr,
    POWER: tl.constexpr, COUNT: tl.constexpr, PER_ROW: tl.constexpr, GRAD: tl.constexpr,
    EXACT: tl.constexpr, AGAIN: tl.constexpr, SOME: tl.constexpr, PADDED: tl.constexpr,
    FIELDS: tl.constexpr, CHUNKS: tl.constexpr, SUM_CHUNKS: tl.constexpr, LANES: tl.constexpr, NEIGHBOURS: tl.constexpr, MANY: tl.constexpr,
    S: tl.constexpr, BLOCK_S: tl.constexpr, SUMMED: tl.constexpr, BLOCK_B: tl.constexpr, WIDE: tl.constexpr,
):
    """Sums of a segment, for two of the divergences its terms `ahead` rows before, and the gradient
    as many rows before that. `done_ptr` counts for each row who has done which of the three.
    """
    step = (tl.program_id(0) // S).to(tl.int64)
    seg = tl.program_id(0) % S
    to_x = (x_ptr, stride_xb, stride_xc)
    to_t = (t_ptr, stride_tm, stride_tn, stride_tc)
    to_share = (share_ptr, stride_sb, stride_sm)
    of_batch = (rows_ptr, valid_ptr, labels_ptr, class_weight_ptr, C, N, ignore_index)
    heat = (temperature, terms.LOG2E / temperature, row_temperature_ptr, stride_yb)
    if _wanted(step, B, factor_ptr, stride_f, AGAIN):
        of_row = of_rows_ptr + step * (FIELDS * S)
        stages.sum_up(
            to_x, to_t, of_batch, heat, of_row, S, segment, step, seg,
            FORM, M, SMOOTH, POWER, SOME, SUM_CHUNKS, LANES, NEIGHBOURS, MANY, WIDE,
        )
        state.tell(done_ptr + 3 * step)
    row = step - ahead
    if FORM == parts.DENSE and BETA != parts.FORWARD:
        if _wanted(row, B, factor_ptr, stride_f, AGAIN):
            of_row = of_rows_ptr + row * (FIELDS * S)
            state.wait(done_ptr + 3 * row, S)
            stages.add_terms(
                to_x, to_t, to_share, of_batch, heat, of_row, S, segment, row, seg, (beta, beta_p),
                FORM, M, BETA, SOME, CHUNKS, LANES, BLOCK_S, WIDE,
            )
            state.tell(done_ptr + 3 * row + 1)
        row -= ahead
    if _wanted(row, B, factor_ptr, stride_f, AGAIN):
        of_row = of_rows_ptr + row * (FIELDS * S)
        state.wait(done_ptr + 3 * row, S)
        if FORM == parts.DENSE and BETA != parts.FORWARD:
            state.wait(done_ptr + 3 * row + 1, S)
        n_ce, n_kl = sums.divisors(
            labels_ptr, class_weight_ptr, rows_ptr, valid_ptr, counts_ptr, normaliser_ptr, stride_n,
            B, C, N, ignore_index, FORM, COUNT, BLOCK_B,
        )
        a = label_weight * 1.0
        b = kl_weight * sums.kl_factor(
            row_weight_ptr, stride_wb, row_temperature_ptr, stride_yb, row, row < B
        )
        if AGAIN:
            factor = parts.upstream(factor_ptr, row, row < B, stride_f)
            a *= factor
            b *= factor
        last, ce, kl, has, inside = gradient.write_gradient(
            to_x, to_t, to_share, of_batch, heat, (grad_ptr, stride_gb, stride_gc), of_row,
            done_ptr + 3 * row + 2, S, segment, row, seg, a, b, n_ce, n_kl, W, smoothing, (beta, beta_p),
            FORM, M, SMOOTH, BETA, POWER, GRAD, EXACT, SOME, PADDED, CHUNKS, LANES, BLOCK_S, WIDE,
        )
        if not AGAIN:
            if last:
                sums.write_rows(
                    ce_ptr, kl_ptr, has_ptr, loss_ptr, counts_ptr, ticket_ptr, sums_ptr,
                    row_weight_ptr, stride_wb, row_temperature_ptr, stride_yb, row, row, row < B, ce,
                    kl, has, inside, B, label_weight, kl_weight, n_ce, n_kl, PER_ROW, 1, SUMMED,
                )


@triton.jit
def _wanted(row, B, factor_ptr, stride_f, AGAIN: tl.constexpr):
    """Whether there is such a row, and again something to do for it."""
    there = (row >= 0) & (row < B)
    if AGAIN:
        there = there & (tl.load(factor_ptr + row * stride_f, mask=there, other=1.0) != 1)
    return there
