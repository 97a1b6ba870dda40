"""What the loop kernel does before the gradient: sums of a segment, and terms of the divergence.

Promise: each stage reads its segment once and writes down what the whole row needs of it. Letters as
in `dense.py`; K and L of each stage's blocks.
"""
# ruff: noqa: ANN001, ANN201, N803, N806, E501
# mypy: ignore-errors
# fmt: off

from __future__ import annotations

import triton
import triton.language as tl

from antcache.kernels.gpu import parts, terms
from antcache.kernels.gpu import row as chunks
from antcache.kernels.gpu.long import row as blocks
from antcache.kernels.gpu.long import state


@triton.jit
def temperature(heat, row, has):
    """T of a row, and what logits are multiplied by."""
    at, scale, row_temperature_ptr, stride_yb = heat
    if row_temperature_ptr is not None:
        at = tl.where(has, tl.load(row_temperature_ptr + row * stride_yb), 1.0)
        scale = terms.LOG2E / at
    return at, scale


@triton.jit
def row_of(of_batch, row, FORM: tl.constexpr):
    """As `state.row_of`."""
    rows_ptr, valid_ptr, labels_ptr, class_weight_ptr, C, N, ignore_index = of_batch
    return state.row_of(
        rows_ptr, valid_ptr, labels_ptr, class_weight_ptr, row, C, N, ignore_index, FORM
    )


@triton.jit
def sum_up(
    to_x, to_t, of_batch, heat, of_row, segments: tl.constexpr, segment, row, seg,
    FORM: tl.constexpr, M: tl.constexpr, SMOOTH: tl.constexpr, POWER: tl.constexpr,
    SOME: tl.constexpr, K: tl.constexpr, L: tl.constexpr, V: tl.constexpr, MANY: tl.constexpr, WIDE: tl.constexpr,
):
    """Write down the sums of a segment, and the label's logits if it has them."""
    x_ptr, stride_xb, stride_xc = to_x
    t_ptr, stride_tm, stride_tn, stride_tc = to_t
    labels_ptr = of_batch[2]
    class_weight_ptr = of_batch[3]
    C = of_batch[4]
    teacher, has, _inside, label, _counted, _weight = row_of(of_batch, row, FORM)
    at, scale = temperature(heat, row, has)
    first = seg * segment
    end = tl.minimum(first + segment, C)
    lane = parts.columns(0, L, WIDE)[None, :]
    to = of_row + seg
    mine = (label >= first) & (label < end)
    from_x = x_ptr + row * stride_xb
    rest: tl.constexpr = labels_ptr is not None
    if FORM == parts.DENSE:  # the first teacher's sums go with the student's
        from_t = t_ptr + teacher * stride_tn
        tops, totals, rests = blocks.lane_sums(
            from_x, stride_xc, lane, has, first, end, scale, at, POWER, rest, K, L, V, False, WIDE
        )
        t_tops, t_totals, _t_rests = blocks.lane_sums(
            from_t, stride_tc, lane, has, first, end, scale, at, POWER, False, K, L, V, SOME, WIDE
        )
        top, t_top = blocks.max_of_two(tops, t_tops, L, V)
        totals *= tl.exp2(tops - top)
        t_totals *= tl.exp2(t_tops - t_top)
        if rest:
            rests = blocks.without_label(
                rests * tl.exp2((tops - top) * at), from_x, stride_xc, label, first, end, top, scale,
                at, L, V, MANY, WIDE,
            )
            total, t_total, total_1 = blocks.sum_of_three(totals, t_totals, rests, L, V)
        else:
            total, t_total = blocks.sum_of_two(totals, t_totals, L, V)
            total_1 = total
        tl.store(to + state.TEACHERS * segments, t_top)
        tl.store(to + (state.TEACHERS + 1) * segments, t_total)
        for m in range(1, M):
            from_t += stride_tm
            m_top, m_total, _m_rest = blocks.segment_sums(
                from_t, stride_tc, lane, has, first, end, label, scale, at,
                POWER, False, K, L, V, MANY, SOME, WIDE,
            )
            tl.store(to + (state.TEACHERS + 2 * m) * segments, m_top)
            tl.store(to + (state.TEACHERS + 2 * m + 1) * segments, m_total)
    else:
        top, total, total_1 = blocks.segment_sums(
            from_x, stride_xc, lane, has, first, end, label, scale, at,
            POWER, rest, K, L, V, MANY, False, WIDE,
        )
    tl.store(to, top)
    tl.store(to + segments, total)
    tl.store(to + 2 * segments, total_1)
    x = tl.load(from_x + label.to(tl.int64) * stride_xc, mask=mine, other=0.0).to(tl.float32)
    tl.store(of_row + state.LABEL * segments, x, mask=mine)
    if SMOOTH and class_weight_ptr is not None:
        ws = tl.zeros((L,), tl.float32)
        for start in range(first, end, L):
            col = start + tl.arange(0, L)
            ws += tl.load(class_weight_ptr + col, mask=col < end, other=0.0).to(tl.float32)
        tl.store(to + state.CLASS_WEIGHT * segments, tl.sum(ws, 0))


@triton.jit
def teachers_of(
    of_row, segments: tl.constexpr, to_share, row, has, M: tl.constexpr, BLOCK_S: tl.constexpr,
):
    """Top and share of each teacher, and the sum of exponentials that a single one's have."""
    share_ptr, stride_sb, stride_sm = to_share
    teachers = ()
    z_t = tl.full((), 1.0, tl.float32)
    for m in tl.static_range(M):
        top, total, _fades = state.take_sums(of_row, state.TEACHERS + 2 * m, segments, BLOCK_S)
        top = tl.where(has, top, 0.0)
        total = tl.where(has, total, 1.0)
        share = z_t
        if M == 1:
            z_t = total
        else:
            share = parts.teacher_share(share_ptr, stride_sb, stride_sm, row, m, has, M) / total
        teachers += ((top, share),)
    return teachers, z_t


@triton.jit
def add_terms(
    to_x, to_t, to_share, of_batch, heat, of_row, segments: tl.constexpr, segment, row, seg, betas,
    FORM: tl.constexpr, M: tl.constexpr, BETA: tl.constexpr, SOME: tl.constexpr,
    K: tl.constexpr, L: tl.constexpr, BLOCK_S: tl.constexpr, WIDE: tl.constexpr,
):
    """Write down what a segment adds to the divergence, and what is taken off each class's part."""
    x_ptr, stride_xb, stride_xc = to_x
    t_ptr, stride_tm, stride_tn, stride_tc = to_t
    C = of_batch[4]
    teacher, has, _inside, _label, _counted, _weight = row_of(of_batch, row, FORM)
    _at, scale = temperature(heat, row, has)
    after: tl.constexpr = state.TEACHERS + 2 * M
    top, z_x, _fades = state.take_sums(of_row, state.STUDENT, segments, BLOCK_S)
    teachers, z_t = teachers_of(of_row, segments, to_share, row, has, M, BLOCK_S)
    _z, ratio, _p_ratio, shift = blocks.ratios(z_x, z_t, M, BETA)
    lane = parts.columns(0, L, WIDE)[None, :]
    first = seg * segment
    end = tl.minimum(first + segment, C)
    from_x = x_ptr + row * stride_xb
    from_t = t_ptr + teacher * stride_tn
    zero = tl.zeros((1, L), tl.float32)
    added = (zero, zero, zero, zero)
    whole = blocks.whole_blocks(first, end, K, L)
    for begin in range(first, whole, K * L):
        added = block_of_terms(
            added, from_x, stride_xc, from_t, stride_tm, stride_tc, begin, lane, end, has,
            (top, z_x), teachers, scale, ratio, shift, betas, M, BETA, K, L, False, SOME, WIDE,
        )
    for begin in range(whole, end, L):
        added = block_of_terms(
            added, from_x, stride_xc, from_t, stride_tm, stride_tc, begin, lane, end, has,
            (top, z_x), teachers, scale, ratio, shift, betas, M, BETA, 1, L, True, SOME, WIDE,
        )
    to = of_row + after * segments + seg
    for field in tl.static_range(4):
        tl.store(to + field * segments, tl.sum(tl.sum(added[field], 1), 0))


@triton.jit
def block_of_terms(
    added, from_x, stride_xc, from_t, stride_tm, stride_tc, begin, lane, end, has, student, teachers,
    scale, ratio, shift, betas, M: tl.constexpr, BETA: tl.constexpr,
    K: tl.constexpr, L: tl.constexpr, CARE: tl.constexpr, SOME: tl.constexpr, WIDE: tl.constexpr,
):
    """Per lane the sums COST, OWN, FEW and LARGE with a block more."""
    cost, own, few, large = added
    start = blocks.wide(begin, WIDE)
    xs = blocks.load(from_x + start * stride_xc, stride_xc, lane, end - begin, has, K, L, CARE, False, True)
    _us, es, qs, ds = blocks.probabilities(
        xs, from_t + start * stride_tc, stride_tm, stride_tc, lane, end - begin, has, student,
        teachers, scale, M, BETA, K, L, CARE, SOME, True,
    )
    more, gs = blocks.divergence(es, qs, ds, ratio, shift, betas, BETA, False, K)
    own_more, few_more, large_more = chunks.split_sums(gs, es, 0.5 * student[1], K)
    return cost + more, own + own_more, few + few_more, large + large_more
