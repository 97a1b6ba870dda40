"""The last stage of the loop kernel: the gradient of a segment, and a row's loss by whoever is last.

Promise: the segment is read once. Nothing of a row's logits is read where its gradient, which may go
over them, has begun: the label's is kept with the sums. What only the label has is written apart,
so that no other class is compared with it. Letters as in `dense.py`; K and L of a block.
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
from antcache.kernels.gpu.long import stages, state


@triton.jit
def write_gradient(
    to_x, to_t, to_share, of_batch, heat, to_grad, of_row, done_ptr, segments: tl.constexpr, segment, row, seg,
    a, b, n_ce, n_kl, W, smoothing, betas,
    FORM: tl.constexpr, M: tl.constexpr, SMOOTH: tl.constexpr, BETA: tl.constexpr,
    POWER: tl.constexpr, GRAD: tl.constexpr, EXACT: tl.constexpr, SOME: tl.constexpr,
    PADDED: tl.constexpr, K: tl.constexpr, L: tl.constexpr, BLOCK_S: tl.constexpr,
    WIDE: tl.constexpr,
):
    """The gradient of a segment; and whether the row is done with it, its cross-entropy and KL,
    whether it has a target, and one that exists."""
    after: tl.constexpr = state.TEACHERS + 2 * M
    forward: tl.constexpr = FORM == parts.DENSE and BETA == parts.FORWARD
    x_ptr, stride_xb, stride_xc = to_x
    t_ptr, stride_tm, stride_tn, stride_tc = to_t
    grad_ptr, stride_gb, stride_gc = to_grad
    C = of_batch[4]
    labels_ptr = of_batch[2]
    class_weight_ptr = of_batch[3]
    LABELS: tl.constexpr = labels_ptr is not None
    teacher, has, inside, label, counted, weight = stages.row_of(of_batch, row, FORM)
    at, scale = stages.temperature(heat, row, has)
    top, z_x, fades = state.take_sums(of_row, state.STUDENT, segments, BLOCK_S)
    zero = tl.full((), 0.0, tl.float32)

    # What the gradient of the cross-entropy is made of.
    x_label, rest, z_1, push, level, w_push = zero, zero, z_x, zero, zero, zero
    if LABELS:
        rests = state.take(of_row, state.STUDENT + 2, segments, 0.0, BLOCK_S)
        rest = tl.sum(rests * tl.exp2(fades * at), 0)
        x_label = tl.load(of_row + state.LABEL * segments, mask=label >= 0, other=0.0, cache_modifier=".cg")
        z_1 = chunks.label_sum(tl.fma(x_label, scale, -top), rest, label >= 0, at, POWER)
        a = tl.where(counted, a / (n_ce * z_1), 0.0)
        push = tl.where(counted, a * ((1 - smoothing) * weight), 0.0)
        if SMOOTH:
            w_sum = C * 1.0
            if class_weight_ptr is not None:
                w_sum = state.take_sum(of_row, state.CLASS_WEIGHT, segments, BLOCK_S)
            level = a * (smoothing / C) * w_sum
            w_push = -a * z_1 * (smoothing / C)

    # The same of the KL.
    teachers = ()
    z, ratio, p_ratio, shift, off, one = z_x, z_x, z_x, zero, zero, zero
    if FORM == parts.DENSE:
        teachers, z_t = stages.teachers_of(of_row, segments, to_share, row, has, M, BLOCK_S)
        z, ratio, p_ratio, shift = blocks.ratios(z_x, z_t, M, BETA)
        b = b / (at * n_kl * z)
        b = tl.where(has, tl.where(inside, b, float("nan")), 0.0)
        if not forward:
            own = state.take_sum(of_row, after + state.OWN, segments, BLOCK_S)
            few = state.take_sum(of_row, after + state.FEW, segments, BLOCK_S)
            large = state.take_sum(of_row, after + state.LARGE, segments, BLOCK_S)
            mean = (own + large) * p_ratio / z
            off = -b * mean
            one = b * (mean * few - own)
    of_class = (
        (top, z_x), teachers, (z, ratio, shift), (tl.log2(z_1), at, scale),
        (push, level, w_push, b, off, one, has | counted), betas,
    )

    from_x = x_ptr + row * stride_xb
    from_t = (t_ptr, stride_tm, stride_tc)
    if FORM == parts.DENSE:
        from_t = (t_ptr + teacher * stride_tn, stride_tm, stride_tc)
    to_row = (grad_ptr + row * stride_gb, stride_gc)
    lane = parts.columns(0, L, WIDE)[None, :]
    first = seg * segment
    end = tl.minimum(first + segment, C)
    whole = blocks.whole_blocks(first, end, K, L)
    found = nothing(L)
    if GRAD or SMOOTH or forward:
        for begin in range(first, whole, K * L):
            start = blocks.wide(begin, WIDE)
            xs = blocks.load(
                from_x + start * stride_xc, stride_xc, lane, C - start, has, K, L, False, False, False
            )
            found = write_block(
                found, xs, from_t, to_row, class_weight_ptr, start, lane, C, has, of_class, 0.0,
                FORM, M, LABELS, False, SMOOTH, BETA, POWER, GRAD, EXACT, K, L, False, SOME,
            )
        for begin in range(whole, end, L):
            start = blocks.wide(begin, WIDE)
            xs = blocks.load(
                from_x + start * stride_xc, stride_xc, lane, C - start, has, 1, L, True, False, False
            )
            found = write_block(
                found, xs, from_t, to_row, class_weight_ptr, start, lane, C, has, of_class, 0.0,
                FORM, M, LABELS, False, SMOOTH, BETA, POWER, GRAD, EXACT, 1, L, True, SOME,
            )
    cost, smooth, others, large_at, kept = found
    to = of_row + after * segments + seg
    if SMOOTH:
        tl.store(to + state.SMOOTHED * segments, tl.sum(smooth))
    if forward:
        tl.store(to + state.COST * segments, tl.sum(cost))
        if GRAD and EXACT:
            tl.store(to + state.OWN * segments, tl.sum(others))
            tl.store(to + state.FOUND * segments, tl.max(large_at).to(tl.float32, bitcast=True))
            tl.store(to + state.KEPT * segments, tl.sum(kept))
    if GRAD and LABELS:
        if (label >= first) & (label < end):
            tl.debug_barrier()  # it is written over what its thread has written
            start = blocks.wide(label, WIDE)
            alone = tl.zeros((1, 1), tl.int32)
            x = tl.zeros((1, 1), tl.float32) + x_label
            _cost, _smooth, _others, label_at, label_kept = write_block(
                nothing(1), (x,), from_t, to_row, class_weight_ptr, start, alone, C, has, of_class, -rest,
                FORM, M, True, True, SMOOTH, BETA, POWER, True, EXACT, 1, 1, False, SOME,
            )
            if forward and EXACT:
                tl.store(to + state.KEPT * segments, tl.sum(label_kept), mask=tl.max(label_at) > 0)
    if GRAD and PADDED:
        if seg == segments - 1:
            for start in range(C, W, L):
                col = start + lane
                to_col = grad_ptr + row * stride_gb + col * stride_gc
                tl.store(to_col, tl.zeros((1, L), grad_ptr.dtype.element_ty), mask=col < W)

    last = sums.is_last(done_ptr, segments)
    ce, kl = zero, zero
    if last:
        if LABELS:
            ce, _z_1 = chunks.cross_entropy(tl.fma(x_label, scale, -top), rest, label >= 0, at, POWER)
            ce *= (1 - smoothing) * weight
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
def nothing(L: tl.constexpr):
    """What has been found before the first block."""
    zero = tl.zeros((1, L), tl.float32)
    return zero, zero, zero, tl.zeros((1, L), tl.int32), zero


@triton.jit
def write_block(
    found, xs, from_t, to_grad, class_weight_ptr, start, lane, C, has, of_class, at_label,
    FORM: tl.constexpr, M: tl.constexpr, LABELS: tl.constexpr, LABEL: tl.constexpr,
    SMOOTH: tl.constexpr, BETA: tl.constexpr, POWER: tl.constexpr, GRAD: tl.constexpr,
    EXACT: tl.constexpr, K: tl.constexpr, L: tl.constexpr, CARE: tl.constexpr, SOME: tl.constexpr,
):
    """The gradient of a block, and per lane what is found on the way, with a block more.

    A LABEL has `at_label` in place of its exponential at temperature 1.
    """
    cost, smooth, others, large_at, kept = found
    t_ptr, stride_tm, stride_tc = from_t
    grad_ptr, stride_gc = to_grad
    student, teachers, shape, logs, pushes, betas = of_class
    push, level, w_push, b, off, one, live = pushes
    z, ratio, shift = shape
    log_z_1, at, scale = logs
    if FORM == parts.DENSE:
        us, es, qs, ds = blocks.probabilities(
            xs, t_ptr + start * stride_tc, stride_tm, stride_tc, lane, C - start, has, student,
            teachers, scale, M, BETA, K, L, CARE, SOME, False,
        )
    else:
        us, es = blocks.exponents(xs, student[0], scale, K)
    gs = ()
    if LABELS:
        ones = chunks.at_one(us, es, at, POWER, K)
        if LABEL:
            gs = (tl.zeros((1, L), tl.float32) + at_label * push,)
        else:
            gs = chunks.scaled(ones, push, K)
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
        blocks.store(grad_ptr + start * stride_gc, stride_gc, lane, C - start, gs, K, L, CARE)
    return cost, smooth, others, large_at, kept
