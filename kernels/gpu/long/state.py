"""Pieces of the loop kernel: what the programs of one row tell each other.

Promise: what segments have is written down per row and field and added up in one order by whoever
needs it, so that all get the same. A program that waits, waits for such with lower numbers, which do
not wait before they have done it. Letters as in `dense.py`.
"""
# ruff: noqa: ANN001, ANN201, N803, E501
# mypy: ignore-errors
# fmt: off

from __future__ import annotations

import triton
import triton.language as tl

from antcache.kernels.gpu import parts, sums
from antcache.kernels.gpu.long.row import LOWEST

STUDENT = tl.constexpr(0)
"""Fields of a row: top and sum of the student's exponentials, the sum of all but the label's at 1,"""
CLASS_WEIGHT = tl.constexpr(3)
"""the sum of the class weights,"""
LABEL = tl.constexpr(4)
"""in the first segment's place the student's logit of the label,"""
TEACHERS = tl.constexpr(5)
"""top and sum of each teacher; then,"""
COST = tl.constexpr(0)
OWN = tl.constexpr(1)
FEW = tl.constexpr(2)
LARGE = tl.constexpr(3)
SMOOTHED = tl.constexpr(4)
FOUND = tl.constexpr(5)
KEPT = tl.constexpr(6)
PARTS = tl.constexpr(7)
"""after those, parts of the divergence and of its gradient (`row.split_sums`), of smoothing's
cost, and of the one large class (`row.find_large`)."""


@triton.jit
def tell(done_ptr):
    """One more program is done with what it has written."""
    tl.debug_barrier()
    tl.atomic_add(done_ptr, 1)


@triton.jit
def wait(done_ptr, of):
    """Until so many programs are done."""
    while tl.atomic_add(done_ptr, 0) < of:
        pass


@triton.jit
def take(of_row, field, segments: tl.constexpr, other, BLOCK_S: tl.constexpr):
    """A field of all segments of a row, from L2: other multiprocessors have written it."""
    seg = tl.arange(0, BLOCK_S)
    at = of_row + field * segments + seg
    return tl.load(at, mask=seg < segments, other=other, cache_modifier=".cg")


@triton.jit
def take_sum(of_row, field, segments: tl.constexpr, BLOCK_S: tl.constexpr):
    """The sum of a field over all segments."""
    return tl.sum(take(of_row, field, segments, 0.0, BLOCK_S), 0)


@triton.jit
def take_sums(of_row, field, segments: tl.constexpr, BLOCK_S: tl.constexpr):
    """Top and sum of a row's exponentials, and the exponents by which what segments have fades."""
    tops = take(of_row, field, segments, LOWEST, BLOCK_S)
    top = tl.max(tops, 0)
    totals = take(of_row, field + 1, segments, 0.0, BLOCK_S)
    return top, tl.sum(totals * tl.exp2(tops - top), 0), tops - top


@triton.jit
def finish_row(
    ce_ptr, kl_ptr, has_ptr, loss_ptr, counts_ptr, ticket_ptr, sums_ptr,
    row_weight_ptr, stride_wb, row_temperature_ptr, stride_yb, row, ce, kl, has, inside,
    B, label_weight, kl_weight, n_ce, n_kl, PER_ROW: tl.constexpr, SUMMED: tl.constexpr,
):
    """Parts of a row and its loss, or that of all by the programs that finish groups last."""
    kl = tl.where(has, tl.where(inside, kl, float("nan")), 0.0)
    if row == 0:
        tl.store(counts_ptr, n_ce)
        tl.store(counts_ptr + 1, n_kl)
    tl.store(ce_ptr + row, ce)
    tl.store(kl_ptr + row, kl)
    tl.store(has_ptr + row, has.to(tl.int8))
    if PER_ROW:
        factor = sums.kl_factor(
            row_weight_ptr, stride_wb, row_temperature_ptr, stride_yb, row, has
        )
        tl.store(loss_ptr + row, label_weight * ce + kl_weight * factor * kl)
    else:
        group = (row // SUMMED).to(tl.int32)
        if sums.is_last(ticket_ptr + 1 + group, tl.minimum(B - group * SUMMED, SUMMED)):
            rows = group * SUMMED + tl.arange(0, SUMMED)
            ces = tl.load(ce_ptr + rows, mask=rows < B, other=0.0, cache_modifier=".cg")
            kls = tl.load(kl_ptr + rows, mask=rows < B, other=0.0, cache_modifier=".cg")
            kls *= sums.kl_factor(
                row_weight_ptr, stride_wb, row_temperature_ptr, stride_yb, rows,
                (rows < B) & (kls != 0),
            )
            sums.write_sums(sums_ptr, group, ces, kls)
            groups = tl.cdiv(B, SUMMED)
            if sums.is_last(ticket_ptr, groups):
                ce_all, kl_all = sums.sum_of_groups(sums_ptr, groups)
                tl.store(loss_ptr, label_weight * (ce_all / n_ce) + kl_weight * (kl_all / n_kl))


@triton.jit
def row_of(
    rows_ptr, valid_ptr, labels_ptr, class_weight_ptr, row, C, N, ignore_index,
    FORM: tl.constexpr,
):
    """A row's teacher row, whether it counts and exists; label (-1 for none), whether it counts, and
    its class weight."""
    here = row >= 0
    teacher, has, inside = row, row < 0, here
    if FORM == parts.DENSE:
        teacher, has, inside = parts.teacher_row(rows_ptr, valid_ptr, row, here, N)
    label = tl.full((), -1, tl.int32)
    counted = row < 0
    weight = tl.full((), 1.0, tl.float32)
    if labels_ptr is not None:
        label, counted, weight = parts.row_labels(
            labels_ptr, class_weight_ptr, row, here, C, ignore_index
        )
        label = tl.where(counted & (label >= 0) & (label < C), label, -1).to(tl.int32)
    return teacher, has, inside, label, counted, weight
