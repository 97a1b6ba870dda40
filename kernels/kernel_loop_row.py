"""Pieces of the loop kernel: a segment of one row, in blocks of K chunks of L columns.

Promise: what a block takes is as lean as in the dense kernel. Masks and the label are seen to apart,
in the chunks with care (`plan`): those of the label's block and of the row's end. A top is the
largest exponent x log2(e) / T so far; what it is rounded by is in all that is taken off it and in
all that it is taken off, and cancels.
Letters as in `kernel_loop.py`; `us`, `es`, ... are tuples of K chunks (1, L); a row has scalars.
"""
# ruff: noqa: ANN001, ANN201, N803, E501
# mypy: ignore-errors
# fmt: off

from __future__ import annotations

import triton
import triton.language as tl

from antcache.kernels import kernel_row as chunks
from antcache.kernels import kernel_terms as terms

LOWEST = tl.constexpr(-1e30)
"""In place of -inf, less which it would be NaN."""


@triton.jit
def plan(first, end, label, K: tl.constexpr, L: tl.constexpr):
    """How many blocks of a segment need no care; its whole blocks; which of them has the label, or
    their number; how many chunks need care. Label -1 is nowhere.
    """
    whole = (end - first) // (K * L)
    mine = (label >= first) & (label < first + whole * (K * L))
    skip = tl.where(mine, (label - first) // (K * L), whole)
    lean = whole - tl.where(mine, 1, 0)
    return lean, whole, skip, (whole - lean) * K + tl.cdiv(end - first - whole * (K * L), L)


@triton.jit
def block_start(first, i, skip, K: tl.constexpr, L: tl.constexpr, WIDE: tl.constexpr):
    """Column of the i-th block without care."""
    start = first + tl.where(i < skip, i, i + 1) * (K * L)
    return start.to(tl.int64) if WIDE else start


@triton.jit
def chunk_start(first, i, whole, skip, K: tl.constexpr, L: tl.constexpr, WIDE: tl.constexpr):
    """Column of the i-th chunk with care: of the label's block, then at the end."""
    labelled = tl.where(skip < whole, K, 0)
    start = first + tl.where(i < labelled, skip * K + i, whole * K + i - labelled) * L
    return start.to(tl.int64) if WIDE else start


@triton.jit
def load(
    at, stride, lane, end, has, K: tl.constexpr, L: tl.constexpr, CARE: tl.constexpr,
    SOME: tl.constexpr, AGAIN: tl.constexpr,
):
    """K chunks of a row from `at`; with CARE -inf from `end` on; with SOME 0 unless it `has` them.

    What is not read AGAIN need not stay in the cache.
    """
    out = ()
    for k in tl.static_range(K):
        col = k * L + lane
        to = at + col * stride
        mask = None
        other = None
        if CARE:
            mask = col < end
            other = float("-inf")
            if SOME:
                mask = mask & has
        elif SOME:
            mask = has & (lane >= 0)
            other = 0.0
        if AGAIN:
            chunk = tl.load(to, mask=mask, other=other)
        else:
            chunk = tl.load(to, mask=mask, other=other, eviction_policy="evict_first")
        if CARE and SOME:
            chunk = tl.where(has, chunk, 0.0)
        out = out + (chunk,)
    return out


@triton.jit
def exponents(xs, top, scale, K: tl.constexpr):
    """u = x scale - top, and its exponentials 2^u."""
    us = ()
    es = ()
    for k in tl.static_range(K):
        u = tl.fma(xs[k].to(tl.float32), scale, -top)
        us = us + (u,)
        es = es + (tl.exp2(u),)
    return us, es


@triton.jit
def add_block(
    sums, from_x, stride, lane, end, has, from_label, scale, at, POWER: tl.constexpr,
    ONES: tl.constexpr, K: tl.constexpr, L: tl.constexpr, CARE: tl.constexpr, SOME: tl.constexpr,
):
    """Per lane the top, the sum of exponentials and with ONES of those at temperature 1, with a
    block more; with CARE without the label, which is `from_label` columns to the right."""
    top, total, total_1 = sums
    xs = load(from_x, stride, lane, end, has, K, L, CARE, SOME, True)
    if CARE:
        xs = (tl.where(from_label == 0, float("-inf"), xs[0].to(tl.float32)),)
    new = tl.maximum(top, chunks.largest(xs, K) * scale)
    us, es = exponents(xs, new, scale, K)
    fade = top - new
    total = tl.fma(total, tl.exp2(fade), chunks.lane_sums(es, K))
    if ONES and POWER != 1:
        ones = chunks.at_one(us, es, at, POWER, K)
        total_1 = tl.fma(total_1, tl.exp2(fade * at), chunks.lane_sums(ones, K))
    return new, total, total_1


@triton.jit
def segment_sums(
    from_x, stride, lane, has, first, end, label, scale, at, POWER: tl.constexpr,
    ONES: tl.constexpr, K: tl.constexpr, L: tl.constexpr, SOME: tl.constexpr, WIDE: tl.constexpr,
):
    """Top of a segment without the label, sum of its exponentials, and with ONES of those at 1."""
    lean, whole, skip, care = plan(first, end, label, K, L)
    zero = tl.zeros((1, L), tl.float32)
    sums = (zero + LOWEST, zero, zero)
    for i in range(lean):
        start = block_start(first, i, skip, K, L, WIDE)
        sums = add_block(
            sums, from_x + start * stride, stride, lane, end, has, lane, scale, at,
            POWER, ONES, K, L, False, SOME,
        )
    for i in range(care):
        start = chunk_start(first, i, whole, skip, K, L, WIDE)
        sums = add_block(
            sums, from_x + start * stride, stride, lane, end - start, has, label - start - lane,
            scale, at, POWER, ONES, 1, L, True, SOME,
        )
    tops, totals, totals_1 = sums
    top = tl.max(tl.max(tops, 1), 0)
    total = tl.sum(tl.sum(totals * tl.exp2(tops - top), 1), 0)
    if ONES and POWER != 1:
        return top, total, tl.sum(tl.sum(totals_1 * tl.exp2((tops - top) * at), 1), 0)
    return top, total, total


@triton.jit
def ratios(z_x, z_t, M: tl.constexpr, BETA: tl.constexpr):
    """How p = e / z_x and q = q' / z_t are scaled alike: by the first; what p, or of KL(p || q) what
    q has on top; what p has; and the exponent of q / p that several teachers have already."""
    if BETA == chunks.parts.REVERSE:
        ratio = tl.div_rn(z_x, z_t)  # exactly 1 for equal rows
        z = z_x
        p_ratio = tl.div_rn(z_x, z_x)
        shift = tl.log2(ratio)
    else:
        ratio = tl.div_rn(z_t, z_x)
        z = z_t
        p_ratio = ratio
        shift = -tl.log2(ratio)
    if M > 1:
        shift = shift * 0.0
    return z, ratio, p_ratio, shift


@triton.jit
def probabilities(
    xs, from_t, stride_tm, stride_tc, lane, end, has, student, teachers, scale,
    M: tl.constexpr, K: tl.constexpr, L: tl.constexpr, CARE: tl.constexpr, SOME: tl.constexpr,
    AGAIN: tl.constexpr,
):
    """Exponents of the student, its exponentials, the teachers' and log2(q / p) but for the sums."""
    top, z_x = student
    us, es = exponents(xs, top, scale, K)
    qs = ()
    ds = us
    for m in tl.static_range(M):
        ts = load(from_t, stride_tc, lane, end, has, K, L, CARE, SOME, AGAIN)
        t_top, share = teachers[m]
        vs, of_m = exponents(ts, t_top, scale, K)
        if M == 1:
            qs = of_m
            ds = chunks.differences(vs, us, K)
        elif m == 0:
            qs = chunks.scaled(of_m, share, K)
        else:
            qs = chunks.added(qs, of_m, share, K)
        from_t += stride_tm
    if M > 1:
        ds = chunks.log_ratios(qs, us, z_x, K)
    return us, es, qs, ds


@triton.jit
def divergence(es, qs, ds, ratio, shift, beta, BETA: tl.constexpr, EXACT: tl.constexpr, K: tl.constexpr):
    """What the classes add to the divergence, per lane, and what they have of its gradient."""
    costs = ()
    gs = ()
    for k in tl.static_range(K):
        cost, g = terms.divergence_terms(es[k], qs[k], ratio, ds[k] + shift, beta, BETA, EXACT)
        costs = costs + (cost,)
        gs = gs + (g,)
    return chunks.lane_sums(costs, K), gs


@triton.jit
def find_large(found, es, qs, gs, more, ratio, half, start, lane, K: tl.constexpr, L: tl.constexpr):
    """Per lane the sum of `gs` of all classes but one with p and q above 1/2, that one's column
    plus 1, and what it has `more`."""
    others, at, kept = found
    for k in tl.static_range(K):
        large = (es[k] * ratio > half) & (qs[k] > half)
        others += tl.where(large, 0.0, gs[k])
        at += tl.where(large, (start + k * L + lane + 1).to(tl.int32), 0)
        if len(more) > 0:
            kept += tl.where(large, more[k], 0.0)
    return others, at, kept


@triton.jit
def smoothing(us, class_weight_ptr, log_z, at, start, lane, C, K: tl.constexpr, L: tl.constexpr):
    """Class weights, and per lane the cross-entropies with all classes times these, to base 2."""
    ws = ()
    costs = ()
    for k in tl.static_range(K):
        col = start + k * L + lane
        if class_weight_ptr is not None:
            w = tl.load(class_weight_ptr + col, mask=col < C, other=0.0).to(tl.float32)
        else:
            w = tl.where(col < C, 1.0, 0.0)
        ws = ws + (w,)
        costs = costs + (tl.where(col < C, w * (log_z - us[k] * at), 0.0),)
    return ws, chunks.lane_sums(costs, K)


@triton.jit
def store(at, stride, lane, end, gs, K: tl.constexpr, L: tl.constexpr, CARE: tl.constexpr):
    """The gradient of a block; with CARE up to `end`."""
    for k in tl.static_range(K):
        col = k * L + lane
        g = gs[k].to(at.dtype.element_ty)
        if CARE:
            tl.store(at + col * stride, g, mask=col < end, eviction_policy="evict_first")
        else:
            tl.store(at + col * stride, g, eviction_policy="evict_first")
