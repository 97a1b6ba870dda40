"""Pieces of the loop kernel: a segment of one row, in blocks of K chunks of L columns.

Promise: what a block takes is as lean as in the dense kernel; only the chunks after the last whole
block are masked (CARE). A top is the largest exponent x log2(e) / T so far; what it is rounded by is
in all that is taken off it and in all that it is taken off, and cancels.
Letters as in `dense.py`; `us`, `es`, ... are tuples of K chunks (1, L); a row has scalars.
V neighbours are lanes side by side that a thread has alone.
"""
# ruff: noqa: ANN001, ANN201, N803, E501
# mypy: ignore-errors
# fmt: off

from __future__ import annotations

import triton
import triton.language as tl

from antcache.kernels.gpu import row as chunks
from antcache.kernels.gpu import terms

LOWEST = tl.constexpr(-1e30)
"""In place of -inf, less which it would be NaN."""


@triton.jit
def whole_blocks(first, end, K: tl.constexpr, L: tl.constexpr):
    """Where the last whole block of a segment ends; the chunks from there on need care."""
    return first + ((end - first) & -(K * L))  # a power of 2


@triton.jit
def wide(begin, WIDE: tl.constexpr):
    """A column as what its stride is multiplied by."""
    return begin.to(tl.int64) if WIDE else begin


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
        out += (chunk,)
    return out


@triton.jit
def exponents(xs, top, scale, K: tl.constexpr):
    """u = x scale - top, and its exponentials 2^u."""
    us = ()
    es = ()
    for k in tl.static_range(K):
        u = tl.fma(terms.as_float(xs[k]), scale, -top)
        us += (u,)
        es += (tl.exp2(u),)
    return us, es


@triton.jit
def of_neighbours(lanes, L: tl.constexpr, V: tl.constexpr):
    """What a thread has of each group of neighbouring lanes, (1, L) of (1, L / V)."""
    spread = tl.broadcast_to(lanes[:, :, None], (1, L // V, V))
    return tl.reshape(spread, (1, L))


@triton.jit
def sum_neighbours(lanes, L: tl.constexpr, V: tl.constexpr):
    """Sums of neighbouring lanes, (1, L / V) of (1, L)."""
    return tl.sum(tl.reshape(lanes, (1, L // V, V)), 2)


@triton.jit
def add_block(
    sums, at_x, stride, lane, end, has, scale, at, POWER: tl.constexpr, REST: tl.constexpr,
    K: tl.constexpr, L: tl.constexpr, V: tl.constexpr, CARE: tl.constexpr, SOME: tl.constexpr,
):
    """`sums` (of neighbouring lanes the top, the sum of exponentials, and with REST that of those at
    temperature 1) with a block more."""
    top, total, rest = sums
    xs = load(at_x, stride, lane, end, has, K, L, CARE, SOME, True)
    high = tl.reshape(chunks.largest(xs, K), (1, L // V, V))
    new = tl.maximum(top, tl.max(high, 2) * scale)
    us, es = exponents(xs, of_neighbours(new, L, V), scale, K)
    fade = top - new
    total = tl.fma(total, tl.exp2(fade), sum_neighbours(chunks.lane_sums(es, K), L, V))
    if REST:
        ones = sum_neighbours(chunks.lane_sums_at_one(us, es, at, POWER, K), L, V)
        rest = tl.fma(rest, tl.exp2(fade * at), ones)
    return new, total, rest


@triton.jit
def lane_sums(
    from_x, stride, lane, has, first, end, scale, at, POWER: tl.constexpr, REST: tl.constexpr,
    K: tl.constexpr, L: tl.constexpr, V: tl.constexpr, SOME: tl.constexpr, WIDE: tl.constexpr,
):
    """Of neighbouring lanes of a segment the top, the sum of exponentials, with REST that at 1."""
    zero = tl.zeros((1, L // V), tl.float32)
    sums = (zero + LOWEST, zero, zero)
    whole = whole_blocks(first, end, K, L)
    for begin in range(first, whole, K * L):
        sums = add_block(
            sums, from_x + wide(begin, WIDE) * stride, stride, lane, end - begin, has, scale, at,
            POWER, REST, K, L, V, False, SOME,
        )
    for begin in range(whole, end, L):
        sums = add_block(
            sums, from_x + wide(begin, WIDE) * stride, stride, lane, end - begin, has, scale, at,
            POWER, REST, 1, L, V, True, SOME,
        )
    return sums


@triton.jit
def flat(lanes, L: tl.constexpr, V: tl.constexpr):
    """Neighbouring lanes as a vector, from whose reductions numbers come."""
    return tl.reshape(lanes, (L // V,))


@triton.jit
def max_of_two(a, b, L: tl.constexpr, V: tl.constexpr):
    """Largest of the lanes of two, both by one reduction."""
    return tl.split(tl.max(tl.join(flat(a, L, V), flat(b, L, V)), 0))


@triton.jit
def sum_of_two(a, b, L: tl.constexpr, V: tl.constexpr):
    """Sums over the lanes of two, both by one reduction."""
    return tl.split(tl.sum(tl.join(flat(a, L, V), flat(b, L, V)), 0))


@triton.jit
def sum_of_three(a, b, c, L: tl.constexpr, V: tl.constexpr):
    """The same of three."""
    a, b, c = flat(a, L, V), flat(b, L, V), flat(c, L, V)
    ab, cc = tl.split(tl.sum(tl.join(tl.join(a, b), tl.join(c, c)), 0))
    a, b = tl.split(ab)
    c, _ = tl.split(cc)
    return a, b, c


@triton.jit
def without_label(
    rests, from_x, stride, label, first, end, top, scale, at,
    L: tl.constexpr, V: tl.constexpr, MANY: tl.constexpr, WIDE: tl.constexpr,
):
    """Sums at 1, relative to `top`, without the label's, whose neighbours alone are read once more for
    that, spread over all lanes. So no other column is compared with the label. MANY: there may be more
    of them than lanes."""
    if (label >= first) & (label < end):
        lane = tl.arange(0, L // V)[None, :]
        group = ((label - first) & (L - 1)) // V * V
        rests = tl.where(lane * V == group, 0.0, rests)
        col = first + group + lane // V * L + lane % V
        rests += ones_beside(from_x, stride, col, label, end, top, scale, at, WIDE)
        if MANY:
            step: tl.constexpr = L // V // V * L  # columns for which the lanes suffice
            for ahead in range(step, end - first, step):
                rests += ones_beside(from_x, stride, col + ahead, label, end, top, scale, at, WIDE)
    return rests


@triton.jit
def ones_beside(from_x, stride, col, label, end, top, scale, at, WIDE: tl.constexpr):
    """Exponentials at 1 of columns of a segment but for the label's."""
    there = (col < end) & (col != label)
    x = tl.load(from_x + wide(col, WIDE) * stride, mask=there, other=float("-inf"))
    return tl.exp2(tl.fma(terms.as_float(x), scale, -top) * at)


@triton.jit
def segment_sums(
    from_x, stride, lane, has, first, end, label, scale, at, POWER: tl.constexpr,
    REST: tl.constexpr, K: tl.constexpr, L: tl.constexpr, V: tl.constexpr, MANY: tl.constexpr,
    SOME: tl.constexpr, WIDE: tl.constexpr,
):
    """Top of a segment, sum of its exponentials, and with REST of all but the label's at 1."""
    tops, totals, rests = lane_sums(
        from_x, stride, lane, has, first, end, scale, at, POWER, REST, K, L, V, SOME, WIDE
    )
    top = tl.max(tops)
    totals *= tl.exp2(tops - top)
    if REST:
        rests *= tl.exp2((tops - top) * at)
        rests = without_label(rests, from_x, stride, label, first, end, top, scale, at, L, V, MANY, WIDE)
        total, rest = sum_of_two(totals, rests, L, V)
        return top, total, rest
    total = tl.sum(totals)
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
    M: tl.constexpr, BETA: tl.constexpr, K: tl.constexpr, L: tl.constexpr, CARE: tl.constexpr,
    SOME: tl.constexpr, AGAIN: tl.constexpr,
):
    """Exponents of the student, its exponentials, the teachers' and log2(q / p) but for the sums."""
    top, z_x = student
    us, es = exponents(xs, top, scale, K)
    qs, tops = chunks.no_teacher(1, BETA, K, L)
    ds = us
    for m in tl.static_range(M):
        ts = load(from_t, stride_tc, lane, end, has, K, L, CARE, SOME, AGAIN)
        t_top, share = teachers[m]
        vs, of_m = exponents(ts, t_top, scale, K)
        if M == 1:
            qs = of_m
            ds = chunks.differences(vs, us, K)
        else:
            qs, tops = chunks.with_teacher(qs, tops, vs, of_m, share, BETA, K)
        from_t += stride_tm
    if M > 1:
        qs, ds = chunks.log_ratios(qs, tops, us, z_x, BETA, K)
    return us, es, qs, ds


@triton.jit
def divergence(es, qs, ds, ratio, shift, betas, BETA: tl.constexpr, EXACT: tl.constexpr, K: tl.constexpr):
    """What the classes add to the divergence, per lane, and what they have of its gradient."""
    costs = ()
    gs = ()
    for k in tl.static_range(K):
        cost, g = terms.divergence_terms(es[k], qs[k], ratio, ds[k] + shift, betas, BETA, EXACT)
        costs += (cost,)
        gs += (g,)
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
        ws += (w,)
        costs += (tl.where(col < C, w * (log_z - us[k] * at), 0.0),)
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
