"""Pieces of the kernel for long rows of top-k teachers: what it does with a row and its entries.

Promise: every sum is in float32 and in one fixed order. Letters: B batch rows, C classes, N teacher
rows, K top-k, M teachers, T temperature, E = M * K, R rows of a program. `to_x`, `to_t`, ... are
tuples of a pointer and its strides, in the order (B or M, N, C or K).
"""
# ruff: noqa: ANN001, ANN201, N803, E501
# mypy: ignore-errors
# fmt: off

from __future__ import annotations

import triton
import triton.language as tl

from antcache.kernels.gpu import parts


@triton.jit
def student_logits(to_x, row, col, mask):
    """Logits (R, BLOCK) of batch rows, -inf where the mask is false."""
    x_ptr, stride_xb, stride_xc = to_x
    at = x_ptr + row[:, None] * stride_xb + col[None, :] * stride_xc
    return tl.load(at, mask=mask, other=float("-inf")).to(tl.float32)


@triton.jit
def teacher_logits(t_ptr, from_t, stride_tc, col, mask, has):
    """Logits (R, BLOCK) of a teacher's rows, -inf past their end, 0 in rows without a target."""
    at = t_ptr + from_t[:, None] + col[None, :] * stride_tc
    t = tl.load(at, mask=mask & has[:, None], other=float("-inf")).to(tl.float32)
    return tl.where(has[:, None], t, 0.0)


@triton.jit
def few_classes(
    to_x, to_t, to_index, tail_ptr, stride_lm, stride_ln, share_ptr, stride_sb, stride_sm,
    row, teacher, has, C, inv_t, x_max, M: tl.constexpr, K: tl.constexpr, TAIL_FORM: tl.constexpr,
    ROWS: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_E: tl.constexpr, BLOCK_N: tl.constexpr,
):
    """The E = M * K entries of the top-k teachers of R rows.

    Returns for each entry (R, E): class (0 for one out of range), student logit, mixed teacher
    probability, whether it counts (a class that two teachers name counts once); and (R,) the mixed
    probability of a class that none of them names, and whether all classes are in range. Of a
    single teacher also its shifted logits (R, E) and the sum of their exponentials (R,).
    """
    x_ptr, stride_xb, stride_xc = to_x
    t_ptr, stride_tm, stride_tn, stride_tc = to_t
    index_ptr, stride_im, stride_in, stride_ic = to_index
    entry = tl.arange(0, BLOCK_E).to(tl.int64)
    m_of = entry // BLOCK_K
    k_of = entry % BLOCK_K
    there = has[:, None] & (m_of < M)[None, :] & (k_of < K)[None, :]
    place = m_of[None, :] * stride_im + teacher[:, None] * stride_in + k_of[None, :] * stride_ic
    cls = tl.load(index_ptr + place, mask=there, other=0).to(tl.int64)
    inside = (cls >= 0) & (cls < C)
    known = tl.sum(tl.where(inside, 0, 1), 1) == 0
    cls = tl.where(inside, cls, 0)
    at = x_ptr + row[:, None] * stride_xb + cls * stride_xc
    x = tl.load(at, mask=there, other=0.0).to(tl.float32)
    x = tl.where(there, x, x_max[:, None])
    q = tl.zeros((ROWS, BLOCK_E), tl.float32)
    other = tl.zeros((ROWS,), tl.float32)
    first = there
    k = tl.arange(0, BLOCK_K).to(tl.int64)
    from_t = teacher * stride_tn  # 64-bit sums: m * stride_tm would be 32-bit
    from_i = teacher * stride_in
    from_l = teacher * stride_ln
    t_own = q
    t_sum = other
    for m in range(M):
        t = teacher_logits(t_ptr, from_t, stride_tc, k, (k < K)[None, :], has)
        high = tl.max(t, 1)
        t = t - high[:, None]
        rest = tl.zeros((ROWS,), tl.float32)
        add = rest  # q is exp((t + add) / T - top) / total
        top = rest
        if TAIL_FORM:
            tail = tl.load(tail_ptr + from_l, mask=has, other=-1.0)
            tail = tail.to(tl.float32)
            others = (C - K).to(tl.float32)
            add = parts.log1m_exp(tail) - tl.log(tl.sum(tl.exp(t), 1))
            log_other = (tail - tl.log(others)) * inv_t
            top = tl.maximum(add * inv_t, log_other)  # the largest t is 0
            e_other = tl.exp(log_other - top)
            e = tl.exp((t + add[:, None]) * inv_t - top[:, None])
            total = tl.sum(e, 1) + others * e_other
            rest = e_other / total
        else:
            e = tl.exp(t * inv_t)
            total = tl.sum(e, 1)
        share = parts.teacher_share(share_ptr, stride_sb, stride_sm, row, m, has, M)
        if M == 1:
            q = tl.where(there, e / total[:, None], 0.0)
            t_own = t + (add - top / inv_t)[:, None]
            t_sum = total
        else:
            # Each entry against this teacher's classes, a few at a time: all at once spill.
            named = tl.zeros((ROWS, BLOCK_E), tl.int32)
            here = tl.zeros((ROWS, BLOCK_E), tl.float32)
            for start in range(0, K, BLOCK_N):
                n = start + tl.arange(0, BLOCK_N).to(tl.int64)
                own_n = has[:, None] & (n < K)[None, :]
                t_n = teacher_logits(t_ptr, from_t, stride_tc, n, (n < K)[None, :], has)
                t_n -= high[:, None]
                q_n = tl.exp((t_n + add[:, None]) * inv_t - top[:, None]) / total[:, None]
                at_n = from_i[:, None] + n[None, :] * stride_ic
                theirs = tl.load(index_ptr + at_n, mask=own_n, other=-1).to(tl.int32)
                same = (cls.to(tl.int32)[:, :, None] == theirs[:, None, :]) & own_n[:, None, :]
                named += tl.sum(same.to(tl.int32), 2)
                here += tl.sum(tl.where(same, q_n[:, None, :], 0.0), 2)
            q += share[:, None] * tl.where(named > 0, here, rest[:, None])
            first = first & ((m_of <= m)[None, :] | (named == 0))
        other += share * rest
        from_t += stride_tm
        from_i += stride_im
        from_l += stride_lm
    return cls, x, tl.where(first, q, 0.0), first, other, known, t_own, t_sum


@triton.jit
def cross_entropy(x, rest, own, smoothing):
    """Cross-entropy and sum of exponentials of a label's shifted logit x, (R,), without smoothing's
    part; `rest` is the sum of all others'.

    Near the largest logit, log(1 + rest / exp(x)): of a z close to 1 little of the rest is left.
    """
    e = tl.exp(x)
    z = rest + e
    ratio = rest / e
    one = 1 + ratio
    log1p = tl.where(one == 1, ratio, tl.log(one) * (ratio / (one - 1)))
    return (1 - smoothing) * own * tl.where(x > -1, log1p, tl.log(z) - x), z


@triton.jit
def ce_gradient(p, here, others, own, smoothing, C, w_sum, w):
    """Gradient of cross-entropies for logits whose probabilities are p, (R, ...).

    `others` (R,) is 1 - p of the label, without the rounding of that p.
    """
    sharp = (1 - smoothing) * own[:, None] * tl.where(here, -others[:, None], p)
    return sharp + smoothing / C * (w_sum * p - w)


@triton.jit
def label_gradient(
    x, e_1, mask, here, w, counted, own, rest, z_1, a, smoothing, C, w_sum, SMOOTH: tl.constexpr,
):
    """What a block (R, BLOCK) has of the cross-entropies' gradient, times a, and of smoothing's cost.

    `e_1` is exp(x), z_1 (R,) its sum over the whole row, `rest` that of all but the label's.
    """
    cost = tl.zeros(own.shape, tl.float32)
    if SMOOTH:
        cost = tl.where(mask, w * (tl.log(z_1)[:, None] - x), 0.0)
        cost = smoothing / C * tl.sum(cost, 1)
    grad = ce_gradient(e_1 / z_1[:, None], here, rest / z_1, own, smoothing, C, w_sum, w)
    return tl.where(counted[:, None], a[:, None] * grad, 0.0), cost


@triton.jit
def class_weights(class_weight_ptr, col, C, SMOOTH: tl.constexpr):
    """Class weights (1, BLOCK_C), 1 without any, 0 past the end; 0 where nothing is smoothed."""
    w = tl.zeros(col.shape, tl.float32)
    if SMOOTH:
        w = tl.where(col < C, 1.0, 0.0)
        if class_weight_ptr is not None:
            w = tl.load(class_weight_ptr + col, mask=col < C, other=0.0).to(tl.float32)
    return w[None, :]


@triton.jit
def dense_log_ratio(x, t, inv_t, log_sums):
    """log(q / p) of shifted logits x and t, given the logarithm of the ratio of their sums.

    The logits are subtracted before anything else, so that equal rows give 0. Where the teacher has
    -inf, q is 0 and this a large number, which leaves -inf of the student visible.
    """
    t = tl.where(t == float("-inf"), 1e30, t)
    return (t - x) * inv_t + log_sums


@triton.jit
def mixed_log_ratio(x, q, inv_t, z):
    """log(q / p) of probabilities q and shifted logits x, whose exponentials have the sum z (R,).

    z is multiplied in: a logarithm of its own would be rounded alike for all classes. Where q is 0
    as above.
    """
    return tl.where(q > 0, tl.log(q * z[:, None]), 1e30) - x * inv_t


@triton.jit
def kl_terms(p, q, log_ratio):
    """q log(q / p) - q + p, whose sum is the KL, since p and q have the same sum; and p - q.

    No term is negative, and what p, q and the logarithm d are off counts in proportion to d alone:
    sums and logarithms may be rounded without harm where p and q are close. There a term is
    q (d^2 / 2 - d^3 / 6 + ...), as p = q exp(-d); the polynomial is within 1.2e-7 for |d| <= 1.
    """
    d = log_ratio
    series = tl.fma(d, 2.489152211637702e-05, -0.0002032434131251648)
    series = tl.fma(d, series, 0.0013892363058403134)
    series = tl.fma(d, series, -0.008330944925546646)
    series = tl.fma(d, series, 0.04166647791862488)
    series = tl.fma(d, series, -0.16666695475578308)
    series = tl.fma(d, series, 0.5)
    near = tl.abs(d) < 1
    terms = tl.where(near, q * d * (d * series), q * d + (p - q))
    return terms, tl.where(near, q * d * (d * series - 1), p - q)


@triton.jit
def mark_outside(outside_ptr, row, stride_ob, col, mask, value):
    """Write a mark for columns (R, BLOCK): being scattered, they go through memory."""
    to = outside_ptr + row[:, None] * stride_ob + col
    tl.store(to, tl.full(mask.shape, value, tl.float32).to(outside_ptr.dtype.element_ty), mask=mask)


@triton.jit
def is_outside(outside_ptr, row, stride_ob, col, mask):
    """Where columns (R, BLOCK) are of classes that no teacher names."""
    to = outside_ptr + row[:, None] * stride_ob + col[None, :]
    return tl.load(to, mask=mask, other=0.0).to(tl.float32) > 0


@triton.jit
def outside_terms(x, z_out, z, other, first, C):
    """KL and p - q of all classes outside the k as one outcome, (R,).

    Its probability is exp(x) z_out / z for the student, x <= 0, and for the teachers `other` for
    each of its classes.
    """
    count = tl.sum(first.to(tl.int32), 1)
    q = other * (C - count).to(tl.float32)
    log_ratio = tl.where(q > 0, tl.log(q * (z / z_out)), 1e30) - x
    kl, diff = kl_terms(tl.exp(x) * (z_out / z), q, log_ratio)
    some = count < C  # else several teachers name all classes
    return tl.where(some, kl, 0.0), tl.where(some, diff, 0.0)


@triton.jit
def top_k_entries(x_e, x_max, z_t, first, has, inv_t, TAIL_FORM: tl.constexpr):
    """Student probability of the entries, shifted logit (R, E), sum of exponentials.

    With a tail they are those of the whole row, else renormalised inside the k.
    """
    if TAIL_FORM:
        x_e = x_e - x_max[:, None]
        z = z_t
        p = tl.exp(x_e * inv_t) / z[:, None]
    else:
        top = tl.where(has, tl.max(tl.where(first, x_e, float("-inf")), 1), 0.0)
        x_e = x_e - top[:, None]
        e = tl.where(first, tl.exp(x_e * inv_t), 0.0)
        z = tl.where(has, tl.sum(e, 1), 1.0)
        p = e / z[:, None]
    return p, x_e, z


@triton.jit
def entry_terms(p, q, x, z, t, t_sum, first, diff_out, b, inv_t, M: tl.constexpr):
    """KL of the entries (R,), what all p - q add up to (exactly 0), and the gradient (R, E).

    log(q / p) of a single teacher comes from its logits t and the sum of their exponentials.
    """
    if M == 1:
        log_ratio = dense_log_ratio(x, t, inv_t, tl.log(z / t_sum)[:, None])
    else:
        log_ratio = mixed_log_ratio(x, q, inv_t, z)
    terms, diff = kl_terms(p, q, log_ratio)
    off = diff_out + tl.sum(tl.where(first, diff, 0.0), 1)
    few = b[:, None] * (diff - p * off[:, None])
    return tl.sum(tl.where(first, terms, 0.0), 1), off, few


@triton.jit
def outside_gradient(e_out, z_out, diff_out, e_t, z_t, off, outside, has, b):
    """Gradient (R, BLOCK) of the KL for classes outside the k, 0 for all others."""
    push = e_out * (diff_out / z_out)[:, None] - e_t * (off / z_t)[:, None]
    return tl.where(outside & has[:, None], b[:, None] * push, 0.0)


@triton.jit
def entry_gradient(
    few, cls, x_e, z_1, rest, label, counted, own, first, class_weight_ptr, smoothing, C, w_sum, a,
    SMOOTH: tl.constexpr,
):
    """`few` (R, E) with what the cross-entropy has for the entries' classes, of shifted logits x_e."""
    w = tl.zeros(few.shape, tl.float32)
    if SMOOTH:
        w = tl.where(first, 1.0, 0.0)
        if class_weight_ptr is not None:
            w = tl.load(class_weight_ptr + cls, mask=first, other=0.0).to(tl.float32)
    here = cls == label[:, None]
    p = tl.exp(x_e) / z_1[:, None]
    ce = ce_gradient(p, here, rest / z_1, own, smoothing, C, w_sum, w)
    return few + tl.where(counted[:, None], a[:, None] * ce, 0.0)
