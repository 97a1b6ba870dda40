"""Pieces of the top-k kernel: the E = M * K entries of the teachers of R rows.

Promise: what is done with entries (R, E), with a teacher (R, M) and with a row stands here. What
there is one of per row is (R, 1), and a mere number where R is 1: it is needed beside tensors of many
layouts, into which one of (1, 1) would go by way of shared memory. A class out of range makes
everything of its row NaN, through the teacher's logit. Exponents and logarithms are to base 2: `scale` is log2(e) / T.
Letters as in `few.py`; `to_x`, `to_t`, ... are a pointer and its strides.
"""
# ruff: noqa: ANN001, ANN201, N803, SIM108, E501
# mypy: ignore-errors
# fmt: off

from __future__ import annotations

import triton
import triton.language as tl

from antcache.kernels.gpu import parts, terms


@triton.jit
def row_max(x):
    """Largest of each row."""
    if x.shape[0] == 1:
        top = tl.max(x)
    else:
        top = tl.max(x, 1, keep_dims=True)
    return top


@triton.jit
def row_sum(x):
    """Sum of each row."""
    if x.shape[0] == 1:
        total = tl.sum(x)
    else:
        total = tl.sum(x, 1, keep_dims=True)
    return total


@triton.jit
def all_one(factor, R: tl.constexpr):
    """Whether the factors of all rows are 1."""
    if R == 1:
        ones = factor == 1
    else:
        ones = tl.sum(tl.where(factor == 1, 0, 1)) == 0
    return ones


@triton.jit
def teacher_max(t, M: tl.constexpr, K: tl.constexpr):
    """Largest entry of each teacher, (R, M) of (R, M * K)."""
    if M == 1:
        top = row_max(t)
    else:
        top = tl.max(tl.reshape(t, (t.shape[0], M, K)), 2)
    return top


@triton.jit
def teacher_sum(e, M: tl.constexpr, K: tl.constexpr):
    """Sum over each teacher's entries."""
    if M == 1:
        total = row_sum(e)
    else:
        total = tl.sum(tl.reshape(e, (e.shape[0], M, K)), 2)
    return total


@triton.jit
def of_entries(value, M: tl.constexpr, K: tl.constexpr):
    """What there is of a teacher, (R, M), at each of its entries, (R, M * K)."""
    if M > 1:
        spread = tl.broadcast_to(value[:, :, None], (value.shape[0], M, K))
        value = tl.reshape(spread, (value.shape[0], M * K))
    return value


@triton.jit
def load_entries(
    to_x, to_t, to_index, row, teacher, has, C, M: tl.constexpr, K: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_K: tl.constexpr,
):
    """Class, student logit, teacher logit of the entries, and which there are.

    Of no entry are class 0, the student logit 0, the teacher's -inf; 0 where the row has no target.
    """
    x_ptr, stride_xb, stride_xc = to_x
    t_ptr, stride_tm, stride_tn, stride_tc = to_t
    index_ptr, stride_im, stride_in, stride_ic = to_index
    entry = tl.arange(0, BLOCK_M * BLOCK_K)[None, :]
    k = (entry % BLOCK_K).to(tl.int64)
    m = (entry // BLOCK_K).to(tl.int64)
    own = has & (m < M)
    there = own & (k < K)
    cls = tl.load(index_ptr + m * stride_im + teacher * stride_in + k * stride_ic, mask=there, other=0)
    t = tl.load(t_ptr + m * stride_tm + teacher * stride_tn + k * stride_tc, mask=there, other=float("-inf"))
    cls = cls.to(tl.int64)
    inside = (cls >= 0) & (cls < C)
    cls = tl.where(inside, cls, 0)
    t = tl.where(inside, tl.where(own, t.to(tl.float32), 0.0), float("nan"))
    x = tl.load(x_ptr + row * stride_xb + cls * stride_xc, mask=there, other=0.0).to(tl.float32)
    return cls, x, t, there


@triton.jit
def teacher_masses(
    t, tail_ptr, stride_lm, stride_ln, teacher, has, C, scale, M: tl.constexpr, K: tl.constexpr,
    TAIL_FORM: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_K: tl.constexpr,
):
    """Of each teacher alone, (R, M): its largest logit, and what (t - it) times `scale` lacks of the
    log2 of an entry's mass; the sum of all masses, and log2 of that of a class outside its k.
    """
    high = teacher_max(t, BLOCK_M, BLOCK_K)
    t -= of_entries(high, BLOCK_M, BLOCK_K)
    if TAIL_FORM:
        at = tail_ptr + teacher * stride_ln
        there = has
        if M > 1:
            m = tl.arange(0, BLOCK_M)[None, :]
            at += m.to(tl.int64) * stride_lm
            there = has & (m < M)
        tail = tl.load(at, mask=there, other=-1.0).to(tl.float32)
        others = (C - K).to(tl.float32)
        inside = tl.log2(teacher_sum(tl.exp2(t * terms.LOG2E), BLOCK_M, BLOCK_K)) * terms.LN2
        add = (parts.log1m_exp(tail) - inside) * scale
        log_other = (tail - tl.log(others)) * scale
        top = tl.maximum(add, log_other)  # the largest t is 0
        add -= top
        other = log_other - top
        e = tl.exp2(tl.fma(t, scale, of_entries(add, BLOCK_M, BLOCK_K)))
        total = teacher_sum(e, BLOCK_M, BLOCK_K) + others * tl.exp2(other)
    else:
        add = tl.zeros_like(high)
        other = add + float("-inf")
        total = teacher_sum(tl.exp2(t * scale), BLOCK_M, BLOCK_K)
    return high, add, total, other


@triton.jit
def teacher_shares(share_ptr, stride_sb, stride_sm, row, M: tl.constexpr, BLOCK_M: tl.constexpr):
    """Weights of the teachers of each row (R, BLOCK_M), scaled to the sum 1; NaN below 0."""
    m = tl.arange(0, BLOCK_M)[None, :]
    share = tl.where(m < M, 1.0 / M, 0.0)
    if share_ptr is not None:
        at = share_ptr + row * stride_sb + m.to(tl.int64) * stride_sm
        share = tl.load(at, mask=m < M, other=0.0).to(tl.float32)
        share = tl.where(share < 0, float("nan"), share / row_sum(share))
    return share


@triton.jit
def as_mark(number, kind: tl.constexpr):
    """A whole number as the bits of a logit, to be kept where a gradient will stand."""
    if kind.primitive_bitwidth == 16:
        mark = number.to(tl.int16).to(kind, bitcast=True)
    else:
        mark = number.to(kind, bitcast=True)
    return mark


@triton.jit
def from_mark(mark, kind: tl.constexpr):
    """The number of such bits."""
    if kind.primitive_bitwidth == 16:
        number = mark.to(tl.int16, bitcast=True).to(tl.int32)
    else:
        number = mark.to(tl.int32, bitcast=True)
    return number


@triton.jit
def of_teacher(value, m):
    """What there is of teacher m in each row, (R, 1) of (R, M)."""
    return row_sum(tl.where(tl.arange(0, value.shape[1])[None, :] == m, value, 0.0))


@triton.jit
def mixed_entries(
    at, there, to_t, teacher, share, high, add, total, other, scale,
    M: tl.constexpr, BETA: tl.constexpr, TAIL_FORM: tl.constexpr, BLOCK_M: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Several teachers mixed: of the entries exponents and what q is times 2^them (without any for
    divergences in which log q does not count where q vanishes), and which are the first of their
    class; both of a class that none names.

    One teacher after the other writes the numbers of its entries to its classes' places in the
    gradient's row, `at`, where every entry then finds who else names its class: no pair of entries
    is compared.
    """
    t_ptr, stride_tm, stride_tn, stride_tc = to_t
    kind: tl.constexpr = at.dtype.element_ty
    entry = tl.broadcast_to(tl.arange(0, BLOCK_M * BLOCK_K)[None, :], at.shape)
    share /= total
    q = tl.zeros(at.shape, tl.float32)
    top = q
    if BETA == parts.REVERSE:
        top = tl.full(at.shape, terms.LOWEST, tl.float32)
    first = there
    tl.store(at, as_mark(tl.full(at.shape, BLOCK_M * BLOCK_K, tl.int32), kind), mask=there)
    tl.debug_barrier()
    from_t = t_ptr + teacher * stride_tn
    for m in range(M):
        tl.store(at, as_mark(entry, kind), mask=there & (entry // BLOCK_K == m))
        tl.debug_barrier()
        found = from_mark(tl.load(at, mask=there, other=0.0), kind)
        tl.debug_barrier()
        named = there & (found // BLOCK_K == m)
        t = tl.load(from_t + (found % BLOCK_K).to(tl.int64) * stride_tc, mask=named, other=0.0)
        v = (t.to(tl.float32) - of_teacher(high, m)) * scale
        if TAIL_FORM:
            v = tl.where(named, v + of_teacher(add, m), of_teacher(other, m))
        else:
            v = tl.where(named, v, float("-inf"))
        if BETA == parts.REVERSE:
            q, top = terms.with_share(q, top, v, of_teacher(share, m))
        else:
            q = tl.fma(tl.exp2(v), of_teacher(share, m), q)
        first = first & ((entry // BLOCK_K <= m) | ~named)
        from_t += stride_tm
    other += tl.where(share == 0, float("-inf"), 0.0)
    other_top = tl.maximum(row_max(other), terms.LOWEST)
    other_q = row_sum(share * tl.exp2(other - other_top))
    return top, tl.where(first, q, 0.0), first, other_top, other_q


@triton.jit
def teachers(
    t, to_t, tail_ptr, stride_lm, stride_ln, share_ptr, stride_sb, stride_sm, row, teacher, has, there,
    at, C, scale, M: tl.constexpr, K: tl.constexpr, BETA: tl.constexpr, TAIL_FORM: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_K: tl.constexpr,
):
    """What the teachers say together: exponents of the entries; what q is times 2^these, of a single
    teacher divided by it; which of them are the first of their class; both of a class that none names.
    """
    high, add, total, other = teacher_masses(
        t, tail_ptr, stride_lm, stride_ln, teacher, has, C, scale, M, K, TAIL_FORM, BLOCK_M, BLOCK_K
    )
    tl.debug_barrier()  # all logits are read before anything may go over them
    if M == 1:
        t = tl.fma(t - high, scale, add)
        q = total
        first = there
        other_top = tl.maximum(other, terms.LOWEST)
        other_q = tl.exp2(other - other_top) / total
    else:
        share = teacher_shares(share_ptr, stride_sb, stride_sm, row, M, BLOCK_M)
        t, q, first, other_top, other_q = mixed_entries(
            at, there, to_t, teacher, share, high, add, total, other, scale, M, BETA, TAIL_FORM,
            BLOCK_M, BLOCK_K,
        )
    return t, q, first, other_top, other_q
