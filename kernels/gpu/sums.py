"""Pieces of the Triton kernels that see the whole batch: what means divide by, and the sum of rows.

Promise: no program passes over the whole batch alone. Rows are summed in groups, each by the
program of it that is done last, and the groups by the program that is last of all; always in the
same order, so that the result is the same every time. A ticket counts the programs that are done,
and the last sets it back to 0. Letters as in `scale.py`.
"""
# ruff: noqa: ANN001, ANN201, N803
# mypy: ignore-errors
# fmt: off

from __future__ import annotations

import triton
import triton.language as tl

from antcache.kernels.gpu import parts

UNDIVIDED = tl.constexpr(0)
ALL_ROWS = tl.constexpr(1)
COUNTED_HERE = tl.constexpr(2)
COUNTED_BEFORE = tl.constexpr(3)
GIVEN = tl.constexpr(4)
"""What the sums are divided by: nothing; the number of rows, where each has a label and a target;
counts that each program makes for itself; that an earlier launch has made; a given normaliser."""

GROUPS = tl.constexpr(256)
"""Groups whose sums are added up at once."""


@triton.jit
def count_rows(
    labels_ptr, class_weight_ptr, rows_ptr, valid_ptr, row, mask, C, N, ignore_index,
    HAS_TARGETS: tl.constexpr,
):
    """What these rows add to the divisors: class weights of labels that count, 1 for a target."""
    n_ce = tl.zeros(row.shape, tl.float32)
    n_kl = tl.zeros(row.shape, tl.float32)
    if labels_ptr is not None:
        label = tl.load(labels_ptr + row, mask=mask, other=0).to(tl.int64)
        counted = mask & (label != ignore_index)
        n_ce = tl.where(counted, 1.0, 0.0)
        if class_weight_ptr is not None:
            known = counted & (label >= 0) & (label < C)
            n_ce = tl.load(class_weight_ptr + label, mask=known, other=0.0).to(tl.float32)
    if HAS_TARGETS:
        _, has, _ = parts.teacher_row(rows_ptr, valid_ptr, row, mask, N)
        n_kl = tl.where(has, 1.0, 0.0)
    return n_ce, n_kl


@triton.jit
def count_kernel(
    labels_ptr, class_weight_ptr, rows_ptr, valid_ptr, counts_ptr, ticket_ptr, sums_ptr,
    B, C, N, ignore_index, HAS_TARGETS: tl.constexpr, SUMMED: tl.constexpr,
):
    """Both divisors of a batch too large for every program to count it; a group per program."""
    group = tl.program_id(0)
    row = group * SUMMED + tl.arange(0, SUMMED)
    n_ce, n_kl = count_rows(
        labels_ptr, class_weight_ptr, rows_ptr, valid_ptr, row, row < B, C, N, ignore_index,
        HAS_TARGETS,
    )
    write_sums(sums_ptr, group, n_ce, n_kl)
    if is_last(ticket_ptr, tl.num_programs(0)):
        all_ce, all_kl = sum_of_groups(sums_ptr, tl.num_programs(0))
        tl.store(counts_ptr, all_ce)
        tl.store(counts_ptr + 1, all_kl)


@triton.jit
def divisors(
    labels_ptr, class_weight_ptr, rows_ptr, valid_ptr, counts_ptr, normaliser_ptr, stride_n,
    B, C, N, ignore_index, FORM: tl.constexpr, COUNT: tl.constexpr, BLOCK_B: tl.constexpr,
):
    """What cross-entropy and KL are divided by; 1 instead of 0, whose sums are 0 as well."""
    n_ce = 1.0
    n_kl = 1.0
    if COUNT == ALL_ROWS:
        n_ce = B * 1.0
        n_kl = n_ce
    elif COUNT == COUNTED_HERE:
        row = tl.arange(0, BLOCK_B)
        n_ce, n_kl = count_rows(
            labels_ptr, class_weight_ptr, rows_ptr, valid_ptr, row, row < B, C, N, ignore_index,
            FORM != parts.NONE,
        )
        n_ce = tl.sum(n_ce, 0)
        n_kl = tl.sum(n_kl, 0)
    elif COUNT == COUNTED_BEFORE:
        n_ce = tl.load(counts_ptr)
        n_kl = tl.load(counts_ptr + 1)
    elif COUNT == GIVEN:
        n_ce = tl.load(normaliser_ptr)
        n_kl = tl.load(normaliser_ptr + stride_n)
    if COUNT > ALL_ROWS:
        n_ce = tl.where(n_ce == 0, 1.0, n_ce)
        n_kl = tl.where(n_kl == 0, 1.0, n_kl)
    return n_ce, n_kl


@triton.jit
def kl_factor(row_weight_ptr, stride_wb, row_temperature_ptr, stride_yb, row, mask):
    """What the KL of rows is multiplied by beside `kl_weight`: a row's weight times its T^2."""
    factor = tl.full(row.shape, 1.0, tl.float32)
    if row_weight_ptr is not None:
        factor *= tl.load(row_weight_ptr + row * stride_wb, mask=mask, other=1.0)
    if row_temperature_ptr is not None:
        at = tl.load(row_temperature_ptr + row * stride_yb, mask=mask, other=1.0)
        factor *= at * at
    return factor


@triton.jit
def write_rows(
    ce_ptr, kl_ptr, has_ptr, loss_ptr, counts_ptr, ticket_ptr, sums_ptr,
    row_weight_ptr, stride_wb, row_temperature_ptr, stride_yb, begin, row, row_mask, ce, kl, has,
    inside, B, label_weight, kl_weight, n_ce, n_kl,
    PER_ROW: tl.constexpr, ROWS: tl.constexpr, SUMMED: tl.constexpr,
):
    """Parts of R rows, the first of them `begin`, and the loss: per row, or of all by the programs
    that are last.

    Rows whose teacher's row or class is not `inside` its range are NaN.
    """
    kl = tl.where(has, tl.where(inside, kl, float("nan")), 0.0)
    if begin == 0:
        tl.store(counts_ptr, n_ce)
        tl.store(counts_ptr + 1, n_kl)
    tl.store(ce_ptr + row, ce, mask=row_mask)
    tl.store(kl_ptr + row, kl, mask=row_mask)
    tl.store(has_ptr + row, has.to(tl.int8), mask=row_mask)
    if PER_ROW:
        factor = kl_factor(row_weight_ptr, stride_wb, row_temperature_ptr, stride_yb, row, has)
        tl.store(loss_ptr + row, label_weight * ce + kl_weight * factor * kl, mask=row_mask)
    else:
        finish(
            ce_ptr, kl_ptr, loss_ptr, ticket_ptr, sums_ptr, row_weight_ptr, stride_wb,
            row_temperature_ptr, stride_yb, begin, B, label_weight, kl_weight, n_ce, n_kl, ROWS,
            SUMMED,
        )


@triton.jit
def finish(
    ce_ptr, kl_ptr, loss_ptr, ticket_ptr, sums_ptr, row_weight_ptr, stride_wb,
    row_temperature_ptr, stride_yb, begin, B, label_weight, kl_weight, n_ce, n_kl,
    ROWS: tl.constexpr, SUMMED: tl.constexpr,
):
    """The last program of a group of SUMMED rows adds these up, the last of all the groups."""
    group = (begin // SUMMED).to(tl.int32)
    if is_last(ticket_ptr + 1 + group, tl.cdiv(tl.minimum(B - group * SUMMED, SUMMED), ROWS)):
        row = group * SUMMED + tl.arange(0, SUMMED)
        # From L2: other multiprocessors have written these.
        ce = tl.load(ce_ptr + row, mask=row < B, other=0.0, cache_modifier=".cg")
        kl = tl.load(kl_ptr + row, mask=row < B, other=0.0, cache_modifier=".cg")
        kl *= kl_factor(
            row_weight_ptr, stride_wb, row_temperature_ptr, stride_yb, row, (row < B) & (kl != 0)
        )
        write_sums(sums_ptr, group, ce, kl)
        groups = tl.cdiv(B, SUMMED)
        if is_last(ticket_ptr, groups):
            all_ce, all_kl = sum_of_groups(sums_ptr, groups)
            tl.store(loss_ptr, label_weight * (all_ce / n_ce) + kl_weight * (all_kl / n_kl))


@triton.jit
def is_last(ticket_ptr, of):
    """Whether all others of so many programs have come here before, with what they have written."""
    tl.debug_barrier()  # the whole program has written
    last = tl.atomic_add(ticket_ptr, 1) == of - 1
    if last:
        tl.store(ticket_ptr, 0)  # ready for the next call
    return last


@triton.jit
def write_sums(sums_ptr, group, a, b):
    """Both sums of a group."""
    tl.store(sums_ptr + 2 * group, tl.sum(a, 0))
    tl.store(sums_ptr + 2 * group + 1, tl.sum(b, 0))


@triton.jit
def sum_of_groups(sums_ptr, groups):
    """Both sums of all groups."""
    a = tl.zeros((GROUPS,), tl.float32)
    b = tl.zeros((GROUPS,), tl.float32)
    for start in range(0, groups, GROUPS):
        group = start + tl.arange(0, GROUPS)
        a += tl.load(sums_ptr + 2 * group, mask=group < groups, other=0.0, cache_modifier=".cg")
        b += tl.load(sums_ptr + 2 * group + 1, mask=group < groups, other=0.0, cache_modifier=".cg")
    return tl.sum(a, 0), tl.sum(b, 0)
