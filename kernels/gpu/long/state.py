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

from antcache.kernels.gpu import parts
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
