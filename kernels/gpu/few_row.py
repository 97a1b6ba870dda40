"""Pieces of the top-k kernel: the row itself, beside its entries. How it is read, summed and written.

Promise: rows in registers and rows in blocks (LONG, `long/few.py`) differ here and nowhere else. What
a row has no use for is left out of what is returned, and its place is taken by 0 or ().
Letters as in `few.py`; K chunks of L columns. `held` is what `read` returns, `outside` what `sum_up`.
"""
# ruff: noqa: ANN001, ANN201, N803, E501
# mypy: ignore-errors
# fmt: off

from __future__ import annotations

import triton
import triton.language as tl

from antcache.kernels.gpu import entries, outcomes, parts, terms
from antcache.kernels.gpu import row as chunks
from antcache.kernels.gpu.long import few as long


@triton.jit
def read_label(labels_ptr, class_weight_ptr, from_x, stride_xc, lane, row, row_mask, has, C, ignore_index):
    """Label, whether it is a class and whether it counts, its class weight and logit; its column, -1
    for none; and which rows take part, by their target or by their label."""
    out = (0, False, False, 1.0, 0.0, -1, has)
    if labels_ptr is not None:
        label, counted, weight = parts.row_labels(
            labels_ptr, class_weight_ptr, row, row_mask, C, ignore_index
        )
        known = counted & (label >= 0) & (label < C)
        x = tl.load(from_x + label * stride_xc, mask=known, other=0.0).to(tl.float32)
        column = tl.where(known, label, -1).to(lane.dtype)
        out = (label, known, counted, weight, x, column, has | counted)
    return out


@triton.jit
def read(
    from_x, stride_xc, to_grad, stride_gc, class_weight_ptr, lane, C, live, place,
    TAIL_FORM: tl.constexpr, LABELS: tl.constexpr, SMOOTH: tl.constexpr, LONG: tl.constexpr,
    K: tl.constexpr, L: tl.constexpr, V: tl.constexpr, SOME: tl.constexpr, WIDE: tl.constexpr,
):
    """The row, before anything is written: its chunks and those of class weights, the sum of these;
    of a long one what smoothing and, without a tail, the cross-entropy need of it.

    With a tail a long row is copied to where its gradient will stand, and read there from then on.
    """
    xs, ws, w_sum, smoothed, sums = (), (), 0.0, (), ()
    if LONG:
        if SMOOTH:
            w_sum, smoothed = long.smoothing_sums(
                from_x, stride_xc, class_weight_ptr, lane, C, live, L, WIDE
            )
        if TAIL_FORM:
            long.copy_row(from_x, stride_xc, to_grad, stride_gc, lane, C, L, WIDE)
        elif LABELS:
            sums = long.row_sums(
                from_x, stride_xc, lane, live, C, place, terms.LOG2E, 1.0, 1, True, K, L, V, SOME, WIDE
            )
    else:
        if SMOOTH:
            ws, _ = chunks.class_weights(class_weight_ptr, lane, C, K, L)
            w_sum = tl.sum(chunks.lane_sums(ws, K))
        if TAIL_FORM or LABELS:
            xs = chunks.load_chunks(from_x, stride_xc, lane, C, live, K, L, SOME)
    return xs, ws, w_sum, smoothed, sums


@triton.jit
def sum_up(
    held, to_grad, stride_gc, lane, at_e, there, row_mask, live, C, place, scale, at,
    TAIL_FORM: tl.constexpr, LABELS: tl.constexpr, POWER: tl.constexpr, LONG: tl.constexpr,
    K: tl.constexpr, L: tl.constexpr, V: tl.constexpr, SOME: tl.constexpr, WIDE: tl.constexpr,
):
    """Sums of exponentials, with a tail of what is outside the entries alone: the largest logit; the
    sum at T, and of all but the label's at 1; factors that undo what both are off by. Then what the
    gradient is made of: the exponentials at T and at 1, of a long row what they are relative to.
    """
    xs, _ws, _w_sum, _smoothed, sums = held
    base, top, z, rest, undo, undo_1 = 0.0, 0.0, 0.0, 0.0, 1.0, 1.0
    es, ones = (), ()
    if LONG:
        if TAIL_FORM:
            outcomes.put_out(at_e, there)
            base, top, z, rest, undo, undo_1 = long.row_sums(
                to_grad, stride_gc, lane, live, C, place, scale, at, POWER, LABELS, K, L, V, SOME, WIDE
            )
        elif LABELS:
            base, top, _z, rest, _undo, undo_1 = sums
    else:
        if TAIL_FORM:
            outs = outcomes.outside_chunks(
                xs, to_grad, stride_gc, lane, at_e, there, row_mask, live, C, K, L, SOME
            )
            us, es, top, undo, undo_1 = outcomes.outside_exponents(outs, scale, at, K)
            ones = chunks.at_one(us, es, at, POWER, K)
            z = entries.row_sum(chunks.lane_sums(es, K))
        elif LABELS:
            top = entries.row_max(chunks.largest(xs, K))
            _, ones = chunks.exponents(xs, top, terms.LOG2E, K)
            undo_1 = tl.exp2(-outcomes.rounding(top, terms.LOG2E))
        if LABELS:
            others = chunks.replaced(ones, place - lane, 0.0, K, L)
            rest = entries.row_sum(chunks.lane_sums(others, K))
    return (top, z, rest, undo, undo_1), (base, es, ones)


@triton.jit
def cross_entropy(
    held, rest, top, of_label, x_e, cls, first, lane, C, a, smoothing, class_weight_ptr,
    TAIL_FORM: tl.constexpr, SMOOTH: tl.constexpr, LONG: tl.constexpr, K: tl.constexpr, L: tl.constexpr,
):
    """Cross-entropy; of its gradient, whose factor is `a`, what exponentials at 1 relative to the logit
    `top` and what class weights are times, and the label's and the entries'.
    """
    label, known, counted, weight, x_label = of_label
    xs, ws, w_sum, smoothed, _sums = held
    ce, z, rest, one_l, one_e = outcomes.label_loss(
        rest, top, x_label, known, x_e, cls, label, first, TAIL_FORM
    )
    ce *= (1 - smoothing) * weight
    if SMOOTH:
        if LONG:
            cost = long.smoothing_cost(smoothed, w_sum, top, z)
        else:
            cost = outcomes.smoothing_cost(xs, ws, top, z, lane, C, K, L)
        ce += smoothing / C * cost
    a = tl.where(counted, a, 0.0)
    sharp = tl.where(counted, a * (1 - smoothing) * weight / z, 0.0)  # times exponentials
    flat = a * (smoothing / C)  # times class weights, and these exponentials
    of_label, of_entries = outcomes.label_gradient(
        sharp, flat, w_sum, z, rest, one_l, weight, one_e, cls, label, first, class_weight_ptr, SMOOTH
    )
    return tl.where(counted, ce, 0.0), sharp + flat * w_sum / z, -flat, of_label, of_entries


@triton.jit
def write(
    from_x, stride_xc, to_grad, stride_gc, class_weight_ptr, lane, C, W, row_mask, live, held, made_of,
    factors, scale, at, TAIL_FORM: tl.constexpr, LABELS: tl.constexpr, SMOOTH: tl.constexpr,
    POWER: tl.constexpr, LONG: tl.constexpr, R: tl.constexpr, K: tl.constexpr, L: tl.constexpr,
    SOME: tl.constexpr, PADDED: tl.constexpr, WIDE: tl.constexpr,
):
    """The gradient of all classes that are neither label nor entries: exponentials at T and at 1, and
    class weights, each times its factor.
    """
    base, es, ones = made_of
    of_t, of_1, of_w = factors
    if LONG:
        if TAIL_FORM:
            long.write_row(
                to_grad, stride_gc, to_grad, stride_gc, class_weight_ptr, lane, C, W, live,
                (base, scale, at), factors, True, LABELS, SMOOTH, POWER, K, L, SOME, PADDED, WIDE,
            )
        else:
            long.write_row(
                from_x, stride_xc, to_grad, stride_gc, class_weight_ptr, lane, C, W, live,
                (base, terms.LOG2E, 1.0), factors, False, LABELS, SMOOTH, 1, K, L, SOME, PADDED, WIDE,
            )
    else:
        gs = outcomes.zeros(R, K, L)
        if TAIL_FORM:
            gs = chunks.added(gs, es, of_t, K)
        if LABELS:
            gs = chunks.added(gs, ones, of_1, K)
        if SMOOTH:
            gs = chunks.added(gs, held[1], of_w, K)
        chunks.store_chunks(to_grad, stride_gc, lane, row_mask, gs, C, W, K, L, PADDED)
