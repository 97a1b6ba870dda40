"""Pieces of the Triton kernels: what both of them do with a few rows.

Promise: every sum is in float32 and in one fixed order. Letters: B batch rows, C classes, N teacher
rows, K top-k, M teachers, T temperature, E = M * K, R rows of a program. `x_ptr` is a pointer,
`stride_xb` the distance in elements between neighbours of x along b; `to_x`, `to_t`, ... are tuples
of such a pointer and its strides, in the order (B or M, N, C or K).
"""
# ruff: noqa: ANN001, ANN201, N803
# mypy: ignore-errors
# fmt: off

from __future__ import annotations

import triton
import triton.language as tl

NONE = tl.constexpr(0)
DENSE = tl.constexpr(1)
TOP_K = tl.constexpr(2)
TAIL = tl.constexpr(3)
"""Forms of the teacher; TAIL takes all classes outside the k as one more outcome."""
FORWARD = tl.constexpr(0)
REVERSE = tl.constexpr(1)
MIXED = tl.constexpr(2)
"""Divergences: KL(q || p), KL(p || q), both from a mixture."""


@triton.jit
def columns(start, BLOCK: tl.constexpr, WIDE: tl.constexpr):
    """BLOCK columns from `start`; 64-bit where a column times its stride needs it."""
    col = start + tl.arange(0, BLOCK)
    if WIDE:
        col = col.to(tl.int64)
    return col


@triton.jit
def teacher_row(rows_ptr, valid_ptr, row, mask, N):
    """Teacher row of batch rows, whether it counts, and whether there is such a row.

    One past the end counts, and makes its row of the batch NaN; it comes back as row 0.
    """
    teacher = row.to(tl.int64)
    if rows_ptr is not None:
        teacher = tl.load(rows_ptr + row, mask=mask, other=-1).to(tl.int64)
    has = (teacher >= 0) & mask
    inside = teacher < N
    teacher = tl.where((teacher >= 0) & inside, teacher, 0)
    if valid_ptr is not None:
        has = has & (tl.load(valid_ptr + teacher, mask=has & inside, other=1) != 0)
    return teacher, has, inside


@triton.jit
def upstream(factor_ptr, row, row_mask, stride_f):
    """Upstream factors of batch rows, (R,)."""
    return tl.load(factor_ptr + row * stride_f, mask=row_mask, other=1.0).to(tl.float32)


@triton.jit
def log1m_exp(x):
    """log(1 - exp(x)) for x <= 0, exact near 0 where 1 - exp(x) would cancel."""
    series = 1 + x / 5 * (1 + x / 6 * (1 + x / 7 * (1 + x / 8)))
    series = -x * (1 + x / 2 * (1 + x / 3 * (1 + x / 4 * series)))
    return tl.log(tl.where(x > -0.5, series, 1 - tl.exp(x)))


@triton.jit
def teacher_share(share_ptr, stride_sb, stride_sm, row, m, row_mask, M: tl.constexpr):
    """Weight of teacher m for batch rows, the M of a row scaled to the sum 1; NaN below 0."""
    if share_ptr is not None:
        total = tl.zeros(row.shape, tl.float32)
        for each in range(M):
            one = tl.load(share_ptr + row * stride_sb + each * stride_sm, mask=row_mask, other=1.0)
            total += one.to(tl.float32)
        own = tl.load(share_ptr + row * stride_sb + m * stride_sm, mask=row_mask, other=1.0)
        own = own.to(tl.float32)
        return tl.where(own < 0, float("nan"), own) / total
    return tl.full(row.shape, 1.0 / M, tl.float32)


@triton.jit
def row_labels(labels_ptr, class_weight_ptr, row, row_mask, C, ignore_index):
    """Label, whether it counts, and its class weight, (R,); a label that is no class has NaN."""
    label = tl.load(labels_ptr + row, mask=row_mask, other=ignore_index).to(tl.int64)
    counted = label != ignore_index
    known = counted & (label >= 0) & (label < C)
    own = tl.full(row.shape, 1.0, tl.float32)
    if class_weight_ptr is not None:
        own = tl.load(class_weight_ptr + label, mask=known, other=1.0).to(tl.float32)
    return label, counted, tl.where(known, own, float("nan"))
