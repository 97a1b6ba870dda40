"""Pieces of the top-k kernel for rows too long for registers: how one is read and written in blocks.

Promise: a row is read as often as it must be: for its sums and for its gradient; with a tail once
more, to be copied where its gradient will stand, and with smoothing for the costs of that. Nothing is
allocated. Letters as in `../few.py`; K and L of a block.
"""
# ruff: noqa: ANN001, ANN201, N803, E501
# mypy: ignore-errors
# fmt: off

from __future__ import annotations

import triton
import triton.language as tl

from antcache.kernels.gpu import outcomes, terms
from antcache.kernels.gpu import row as chunks
from antcache.kernels.gpu.long import row as blocks


@triton.jit
def copy_row(from_x, stride_xc, to_grad, stride_gc, lane, C, L: tl.constexpr, WIDE: tl.constexpr):
    """The row as it is, to where its gradient will stand."""
    for begin in range(0, C, L):
        col = blocks.wide(begin, WIDE) + lane
        x = tl.load(from_x + col * stride_xc, mask=col < C, other=0.0)
        tl.store(to_grad + col * stride_gc, x, mask=col < C)


@triton.jit
def row_sums(
    from_x, stride, lane, live, C, label, scale, at, POWER: tl.constexpr, REST: tl.constexpr,
    K: tl.constexpr, L: tl.constexpr, V: tl.constexpr, SOME: tl.constexpr, WIDE: tl.constexpr,
):
    """What exponents x `scale` are taken relative to, and about that as a logit; the sum of the
    exponentials, and with REST that of all but the label's at 1; factors that make these two relative
    to that logit.
    """
    base, total, rest = blocks.segment_sums(
        from_x, stride, lane, live, 0, C, label, scale, at, POWER, REST, K, L, V, True, SOME, WIDE
    )
    some = base > blocks.LOWEST
    top = tl.where(some, base / scale, float("-inf"))
    off = tl.where(some, tl.fma(base / scale, scale, -base), 0.0)
    return base, top, total, rest, tl.exp2(-off), tl.exp2(-off * at)


@triton.jit
def smoothing_sums(
    from_x, stride, class_weight_ptr, lane, C, live, L: tl.constexpr, WIDE: tl.constexpr
):
    """The sum of all class weights; per lane the largest exponent so far, weights, and these times
    what exponents are below it: no term is negative, however it rises.
    """
    zero = tl.zeros((1, L), tl.float32)
    top, weight, cost = zero + blocks.LOWEST, zero, zero
    for begin in range(0, C, L):
        col = blocks.wide(begin, WIDE) + lane
        inside = col < C
        x = tl.load(from_x + col * stride, mask=inside & live, other=0.0).to(tl.float32)
        ws, _ = chunks.class_weights(class_weight_ptr, col, C, 1, L)
        new = tl.maximum(top, tl.where(inside, x * terms.LOG2E, blocks.LOWEST))
        cost += (new - top) * weight - tl.where(inside, ws[0] * tl.fma(x, terms.LOG2E, -new), 0.0)
        weight += ws[0]
        top = new
    return tl.sum(weight), (top, weight, cost)


@triton.jit
def smoothing_cost(found, w_sum, top, z):
    """Cross-entropy with all classes, weighted by class; z is relative to the logit `top`."""
    tops, weight, cost = found
    cost += weight * tl.fma(tl.zeros_like(tops) + top, terms.LOG2E, -tops)
    return (tl.sum(cost) + w_sum * tl.log2(z)) * terms.LN2


@triton.jit
def write_row(
    from_x, stride_xc, to_grad, stride_gc, class_weight_ptr, lane, C, W, live, heat, factors,
    TAIL_FORM: tl.constexpr, LABELS: tl.constexpr, SMOOTH: tl.constexpr, POWER: tl.constexpr,
    K: tl.constexpr, L: tl.constexpr, SOME: tl.constexpr, PADDED: tl.constexpr, WIDE: tl.constexpr,
):
    """The gradient of all classes that are neither label nor entries; 0 from column C to W."""
    whole = blocks.whole_blocks(0, C, K, L)
    for begin in range(0, whole, K * L):
        write_block(
            from_x, stride_xc, to_grad, stride_gc, class_weight_ptr, blocks.wide(begin, WIDE), lane, C,
            live, heat, factors, TAIL_FORM, LABELS, SMOOTH, POWER, K, L, False, SOME,
        )
    for begin in range(whole, C, L):
        write_block(
            from_x, stride_xc, to_grad, stride_gc, class_weight_ptr, blocks.wide(begin, WIDE), lane, C,
            live, heat, factors, TAIL_FORM, LABELS, SMOOTH, POWER, 1, L, True, SOME,
        )
    if PADDED:
        for begin in range(C, W, L):
            col = blocks.wide(begin, WIDE) + lane
            zero = tl.zeros((1, L), to_grad.dtype.element_ty)
            tl.store(to_grad + col * stride_gc, zero, mask=col < W)


@triton.jit
def write_block(
    from_x, stride_xc, to_grad, stride_gc, class_weight_ptr, start, lane, C, live, heat, factors,
    TAIL_FORM: tl.constexpr, LABELS: tl.constexpr, SMOOTH: tl.constexpr, POWER: tl.constexpr,
    K: tl.constexpr, L: tl.constexpr, CARE: tl.constexpr, SOME: tl.constexpr,
):
    """The same of a block: exponentials at T and at 1, and class weights, each times its factor."""
    base, scale, at = heat
    of_t, of_1, of_w = factors
    gs = outcomes.zeros(1, K, L)
    if TAIL_FORM or LABELS:
        xs = blocks.load(
            from_x + start * stride_xc, stride_xc, lane, C - start, live, K, L, CARE, SOME, False
        )
        us, es = blocks.exponents(xs, base, scale, K)
        if TAIL_FORM:
            gs = chunks.added(gs, es, of_t, K)
        if LABELS:
            gs = chunks.added(gs, chunks.at_one(us, es, at, POWER, K), of_1, K)
    if SMOOTH:
        ws, _ = chunks.class_weights(class_weight_ptr, start + lane, C, K, L)
        gs = chunks.added(gs, ws, of_w, K)
    blocks.store(to_grad + start * stride_gc, stride_gc, lane, C - start, gs, K, L, CARE)
