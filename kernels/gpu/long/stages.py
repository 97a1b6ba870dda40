"""The three stages of the loop kernel: sums of a segment, terms of the divergence, the gradient.

Promise: each reads its segment once and writes down what the whole row needs of it. Nothing of a
row's logits is read where its gradient, which may go over them, has begun. Letters as in
`dense.py`; K and L of each stage's blocks.
"""
# ruff: noqa: ANN001, ANN201, N803, N806, SIM102, E501
# mypy: ignore-errors
# fmt: off

from __future__ import annotations

import triton
import triton.language as tl

from antcache.kernels.gpu import parts, sums, terms
from antcache.kernels.gpu import row as chunks
from antcache.kernels.gpu.long import row as blocks
from antcache.kernels.gpu.long import state


@triton.jit
def temperature(heat, row, has):
    """T of a row, and what logits are multiplied by."""
    at, row_temperature_ptr, stride_yb = heat
    if row_temperature_ptr is not None:
        at = tl.where(has, tl.load(row_temperature_ptr + row * stride_yb), 1.0)
    return at, 1 / at * terms.LOG2E


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
    SOME: tl.constexpr, K: tl.constexpr, L: tl.constexpr, WIDE: tl.constexpr,
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
    top, total, total_1 = blocks.segment_sums(
        from_x, stride_xc, lane, has, first, end, label, scale, at,
        POWER, labels_ptr is not None, K, L, False, WIDE,
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
    if FORM == parts.DENSE:
        from_t = t_ptr + teacher * stride_tn
        for m in range(M):
            top, total, _total_1 = blocks.segment_sums(
                from_t, stride_tc, lane, has, first, end, label, scale, at,
                POWER, False, K, L, SOME, WIDE,
            )
            tl.store(to + (state.TEACHERS + 2 * m) * segments, top)
            tl.store(to + (state.TEACHERS + 2 * m + 1) * segments, total)
            from_t += stride_tm


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


@triton.jit
def write_gradient(
    to_x, to_t, to_share, of_batch, heat, to_grad, of_row, done_ptr, segments: tl.constexpr, segment, row, seg,
    a, b, W, smoothing, betas,
    FORM: tl.constexpr, M: tl.constexpr, SMOOTH: tl.constexpr, BETA: tl.constexpr,
    POWER: tl.constexpr, GRAD: tl.constexpr, EXACT: tl.constexpr, SOME: tl.constexpr,
    PADDED: tl.constexpr, K: tl.constexpr, L: tl.constexpr, BLOCK_S: tl.constexpr,
    WIDE: tl.constexpr,
):
    """The gradient of a segment; and whether the row is done with it, its cross-entropy and KL,
    whether it has a target, and one that exists."""
    after: tl.constexpr = state.TEACHERS + 2 * M
    forward: tl.constexpr = FORM == parts.DENSE and BETA == parts.FORWARD
    C = of_batch[4]
    labels_ptr = of_batch[2]
    class_weight_ptr = of_batch[3]
    teacher, has, inside, label, counted, weight = row_of(of_batch, row, FORM)
    at, scale = temperature(heat, row, has)
    top, z_x, fades = state.take_sums(of_row, state.STUDENT, segments, BLOCK_S)
    student = (top, z_x)
    zero = tl.full((), 0.0, tl.float32)

    # The cross-entropy, and what its gradient is made of.
    ce, rest, z_1, push, level, w_push = zero, zero, z_x, zero, zero, zero
    if labels_ptr is not None:
        known = label >= 0
        rests = state.take(of_row, state.STUDENT + 2, segments, 0.0, BLOCK_S)
        rest = tl.sum(rests * tl.exp2(fades * at), 0)
        x = tl.load(of_row + state.LABEL * segments, mask=known, other=0.0, cache_modifier=".cg")
        ce, z_1 = chunks.cross_entropy(tl.fma(x, scale, -top), rest, known, at, POWER)
        ce *= (1 - smoothing) * weight
        a = tl.where(counted, a, 0.0)
        push = tl.where(counted, a * (1 - smoothing) * weight / z_1, 0.0)
        if SMOOTH:
            w_sum = C * 1.0
            if class_weight_ptr is not None:
                w_sum = state.take_sum(of_row, state.CLASS_WEIGHT, segments, BLOCK_S)
            level = a * (smoothing / C) * w_sum / z_1
            w_push = -a * (smoothing / C)

    # The same of the KL.
    teachers = ()
    z, ratio, p_ratio, shift, off, one = z_x, z_x, z_x, zero, zero, zero
    if FORM == parts.DENSE:
        b = tl.where(has, tl.where(inside, b / at, float("nan")), 0.0)
        teachers, z_t = teachers_of(of_row, segments, to_share, row, has, M, BLOCK_S)
        z, ratio, p_ratio, shift = blocks.ratios(z_x, z_t, M, BETA)
        b = b / z
        if not forward:
            own = state.take_sum(of_row, after + state.OWN, segments, BLOCK_S)
            few = state.take_sum(of_row, after + state.FEW, segments, BLOCK_S)
            large = state.take_sum(of_row, after + state.LARGE, segments, BLOCK_S)
            mean = (own + large) * p_ratio / z
            off = -b * mean
            one = b * (mean * few - own)
    pushes = (push, rest, level, w_push, b, off, one, has | counted)
    shape = (z, ratio, shift)
    logs = (tl.log2(z_1), at, scale)

    lane = parts.columns(0, L, WIDE)[None, :]
    first = seg * segment
    end = tl.minimum(first + segment, C)
    whole = blocks.whole_blocks(first, end, K, L)
    lanes = tl.zeros((1, L), tl.float32)
    found = (lanes, lanes, lanes, tl.zeros((1, L), tl.int32), lanes)
    if GRAD or SMOOTH or forward:
        for begin in range(first, whole, K * L):
            found = write_block(
                found, to_x, to_t, to_grad, class_weight_ptr, labels_ptr is not None, row, teacher,
                blocks.wide(begin, WIDE), lane, C, has, label, student, teachers, pushes, shape,
                logs, betas, FORM, M, SMOOTH, BETA, POWER, GRAD, EXACT, K, L, False, SOME,
            )
        for begin in range(whole, end, L):
            found = write_block(
                found, to_x, to_t, to_grad, class_weight_ptr, labels_ptr is not None, row, teacher,
                blocks.wide(begin, WIDE), lane, C, has, label, student, teachers, pushes, shape,
                logs, betas, FORM, M, SMOOTH, BETA, POWER, GRAD, EXACT, 1, L, True, SOME,
            )
    cost, smooth, others, large_at, kept = found
    to = of_row + after * segments + seg
    if SMOOTH:
        tl.store(to + state.SMOOTHED * segments, tl.sum(tl.sum(smooth, 1), 0))
    if forward:
        tl.store(to + state.COST * segments, tl.sum(tl.sum(cost, 1), 0))
        if GRAD and EXACT:
            tl.store(to + state.OWN * segments, tl.sum(tl.sum(others, 1), 0))
            at_large = tl.max(tl.max(large_at, 1), 0).to(tl.float32, bitcast=True)
            tl.store(to + state.FOUND * segments, at_large)
            tl.store(to + state.KEPT * segments, tl.sum(tl.sum(kept, 1), 0))
    grad_ptr, stride_gb, stride_gc = to_grad
    if GRAD and PADDED:
        if seg == segments - 1:
            for start in range(C, W, L):
                col = start + lane
                to_col = grad_ptr + row * stride_gb + col * stride_gc
                tl.store(to_col, tl.zeros((1, L), grad_ptr.dtype.element_ty), mask=col < W)

    last = sums.is_last(done_ptr, segments)
    kl = zero
    if last:
        if SMOOTH:
            smooth_cost = state.take_sum(of_row, after + state.SMOOTHED, segments, BLOCK_S)
            ce += smoothing / C * terms.LN2 * smooth_cost
        if FORM == parts.DENSE:
            kl = state.take_sum(of_row, after + state.COST, segments, BLOCK_S) / z
        if forward and GRAD and EXACT:
            # Of a class with p and q near 1 little would be left: it has minus the sum of all others.
            other = state.take_sum(of_row, after + state.OWN, segments, BLOCK_S)
            kept_one = state.take_sum(of_row, after + state.KEPT, segments, BLOCK_S)
            at_one = state.take(of_row, after + state.FOUND, segments, 0.0, BLOCK_S)
            col_one = tl.max(at_one.to(tl.int32, bitcast=True), 0).to(tl.int64) - 1
            to_one = grad_ptr + row * stride_gb + col_one * stride_gc
            one = kept_one - b * other
            tl.store(to_one, one.to(grad_ptr.dtype.element_ty), mask=(col_one >= 0) & has)
    return last, tl.where(counted, ce, 0.0), kl, has, inside


@triton.jit
def write_block(
    found, to_x, to_t, to_grad, class_weight_ptr, LABELS: tl.constexpr, row, teacher, start, lane, C,
    has, label, student, teachers, pushes, shape, logs, betas,
    FORM: tl.constexpr, M: tl.constexpr, SMOOTH: tl.constexpr, BETA: tl.constexpr,
    POWER: tl.constexpr, GRAD: tl.constexpr, EXACT: tl.constexpr, K: tl.constexpr, L: tl.constexpr,
    CARE: tl.constexpr, SOME: tl.constexpr,
):
    """The gradient of a block, and per lane what is found on the way, with a block more."""
    cost, smooth, others, large_at, kept = found
    x_ptr, stride_xb, stride_xc = to_x
    grad_ptr, stride_gb, stride_gc = to_grad
    push, rest, level, w_push, b, off, one, live = pushes
    z, ratio, shift = shape
    log_z_1, at, scale = logs
    xs = blocks.load(
        x_ptr + row * stride_xb + start * stride_xc, stride_xc, lane, C - start, has,
        K, L, CARE, False, False,
    )
    if FORM == parts.DENSE:
        t_ptr, stride_tm, stride_tn, stride_tc = to_t
        us, es, qs, ds = blocks.probabilities(
            xs, t_ptr + teacher * stride_tn + start * stride_tc, stride_tm, stride_tc, lane,
            C - start, has, student, teachers, scale, M, BETA, K, L, CARE, SOME, False,
        )
    else:
        us, es = blocks.exponents(xs, student[0], scale, K)
    gs = ()
    if LABELS:
        ones = chunks.at_one(us, es, at, POWER, K)
        sharp = chunks.replaced(ones, label - start - lane, -rest, K, L)
        gs = chunks.scaled(sharp, push, K)
        if SMOOTH:
            ws, more_smooth = blocks.smoothing(us, class_weight_ptr, log_z_1, at, start, lane, C, K, L)
            smooth += more_smooth
            gs = chunks.added(chunks.added(gs, ones, level, K), ws, w_push, K)
    if FORM == parts.DENSE:
        if GRAD or BETA == parts.FORWARD:
            more, own = blocks.divergence(es, qs, ds, ratio, shift, betas, BETA, EXACT, K)
            if BETA == parts.FORWARD:
                cost += more
                if GRAD and EXACT:
                    others, large_at, kept = blocks.find_large(
                        (others, large_at, kept), es, qs, own, gs, ratio, 0.5 * z, start, lane, K, L
                    )
                gs = chunks.added(gs, own, b, K) if LABELS else chunks.scaled(own, b, K)
            else:
                own = chunks.weighted(own, es, b, off, K)
                own = chunks.replaced_above(own, es, 0.5 * student[1], one, K)
                gs = chunks.added(gs, own, 1.0, K) if LABELS else own
    if GRAD:
        if SOME or FORM == parts.NONE:
            gs = chunks.of_live(gs, live, K)
        blocks.store(
            grad_ptr + row * stride_gb + start * stride_gc, stride_gc, lane, C - start, gs, K, L, CARE
        )
    return cost, smooth, others, large_at, kept
