"""Pieces of the dense kernel: R rows in registers, as K chunks of L columns each.

Promise: what the kernel does with every element stands here, in as few instructions as exactness
allows; what it does with a row is a column vector (R, 1). All chunks but the last lie wholly inside
the row, so only the last is masked, and only where it is read and written. Exponents are to base 2:
u = x log2(e) / T minus the row's largest.
Letters as in `dense.py`; `us`, `es`, ... are tuples of K chunks (R, L).
"""
# ruff: noqa: ANN001, ANN201, N803, E501
# mypy: ignore-errors
# fmt: off

from __future__ import annotations

import triton
import triton.language as tl

from antcache.kernels.gpu import parts, terms


@triton.jit
def load_chunks(at, stride, lane, C, has, K: tl.constexpr, L: tl.constexpr, SOME: tl.constexpr):
    """Chunks of rows that begin at `at` (R, 1), -inf past their end.

    With SOME, rows that `has` (R, 1) not are 0 and aren't read.
    """
    chunks = ()
    for k in tl.static_range(K):
        col = k * L + lane
        to = at + col * stride
        if k == K - 1:
            inside = col < C
            if SOME:
                inside = inside & has
            chunk = tl.load(to, mask=inside, other=float("-inf"), eviction_policy="evict_first")
            if SOME:
                chunk = tl.where(has, chunk, 0.0)
        elif SOME:
            chunk = tl.load(to, mask=has, other=0.0, eviction_policy="evict_first")
        else:
            chunk = tl.load(to, eviction_policy="evict_first")
        chunks += (chunk,)
    return chunks


@triton.jit
def largest(chunks, K: tl.constexpr):
    """Largest of each lane (R, L)."""
    top = terms.as_float(chunks[0])
    for k in tl.static_range(1, K):
        top = tl.maximum(top, terms.as_float(chunks[k]))
    return top


@triton.jit
def max_of_two(a, b):
    """Largest of the lanes of two (R, L), both (R, 1) by one reduction."""
    return tl.split(tl.max(tl.join(a, b), 1, keep_dims=True))


@triton.jit
def sum_of_two(a, b):
    """Sums over the lanes of two (R, L), both (R, 1) by one reduction."""
    return tl.split(tl.sum(tl.join(a, b), 1, keep_dims=True))


@triton.jit
def sum_of_three(a, b, c):
    """The same of three."""
    ab, cc = tl.split(tl.sum(tl.join(tl.join(a, b), tl.join(c, c)), 1, keep_dims=True))
    a, b = tl.split(ab)
    c, _ = tl.split(cc)
    return a, b, c


@triton.jit
def sum_of_four(a, b, c, d):
    """The same of four."""
    ac, bd = tl.split(tl.sum(tl.join(tl.join(a, c), tl.join(b, d)), 1, keep_dims=True))
    a, c = tl.split(ac)
    b, d = tl.split(bd)
    return a, b, c, d


@triton.jit
def exponents(chunks, top, scale, K: tl.constexpr):
    """u = (x - top) scale, and its exponentials 2^u.

    What top scale is rounded by is common to the row and cancels wherever u or 2^u is used.
    """
    shift = -(top * scale)
    us = ()
    es = ()
    for k in tl.static_range(K):
        u = tl.fma(terms.as_float(chunks[k]), scale, shift)
        us += (u,)
        es += (tl.exp2(u),)
    return us, es


@triton.jit
def differences(vs, us, K: tl.constexpr):
    """v - u of each chunk."""
    ws = ()
    for k in tl.static_range(K):
        ws += (vs[k] - us[k],)
    return ws


@triton.jit
def lane_sums(es, K: tl.constexpr):
    """Sum of each lane (R, L)."""
    total = es[0]
    for k in tl.static_range(1, K):
        total += es[k]
    return total


@triton.jit
def at_one(us, es, temperature, POWER: tl.constexpr, K: tl.constexpr):
    """exp(x) at temperature 1, of u and e = 2^u at T."""
    if POWER == 1:
        return es
    ones = ()
    for k in tl.static_range(K):
        ones += (es[k] * es[k] if POWER == 2 else tl.exp2(us[k] * temperature),)
    return ones


@triton.jit
def lane_sums_at_one(us, es, temperature, POWER: tl.constexpr, K: tl.constexpr):
    """Sum of each lane of exp(x) at temperature 1."""
    if POWER == 2:
        total = es[0] * es[0]
        for k in tl.static_range(1, K):
            total = tl.fma(es[k], es[k], total)
    else:
        total = lane_sums(at_one(us, es, temperature, POWER, K), K)
    return total


@triton.jit
def replaced(es, from_lane, value, K: tl.constexpr, L: tl.constexpr):
    """The chunks with `value` where the label is, `from_lane` columns to the right."""
    out = ()
    for k in tl.static_range(K):
        out += (tl.where(from_lane == k * L, value, es[k]),)
    return out


@triton.jit
def class_weights(class_weight_ptr, lane, C, K: tl.constexpr, L: tl.constexpr):
    """Chunks (1, L) of class weights, 1 without any, 0 past the end; and their sum (1, 1)."""
    ws = ()
    for k in tl.static_range(K):
        col = k * L + lane
        if class_weight_ptr is not None:
            w = tl.load(class_weight_ptr + col, mask=col < C, other=0.0).to(tl.float32)
        else:
            w = tl.where(col < C, 1.0, 0.0)
        ws += (w,)
    return ws, tl.sum(lane_sums(ws, K), 1, keep_dims=True)


@triton.jit
def smoothing_cost(us, ws, log_z, temperature, lane, C, K: tl.constexpr, L: tl.constexpr):
    """Cross-entropy with all classes, weighted by class (R, 1), to base 2."""
    costs = ()
    for k in tl.static_range(K):
        cost = ws[k] * (log_z - us[k] * temperature)
        costs += (tl.where(k * L + lane < C, cost, 0.0),)
    return tl.sum(lane_sums(costs, K), 1, keep_dims=True)


@triton.jit
def label_exponential(u, temperature, POWER: tl.constexpr):
    """exp(x) at temperature 1 of a label whose exponent at T is u."""
    if POWER == 0:
        e = tl.exp2(u * temperature)
    else:
        e = tl.exp2(u)
        if POWER == 2:
            e = e * e
    return e


@triton.jit
def label_sum(u, rest, known, temperature, POWER: tl.constexpr):
    """The sum of all exponentials at 1; `rest` is that of all but the label's, whose exponent is u."""
    return rest + tl.where(known, label_exponential(u, temperature, POWER), 0.0)


@triton.jit
def cross_entropy(u, rest, known, temperature, POWER: tl.constexpr):
    """Cross-entropy of labels whose exponent at T is u (R, 1), and the sum of all exponentials at 1.

    `rest` is the sum of all but the label's. Near the largest logit, log(1 + rest / exp(x)): of a z
    close to 1 little of the rest would be left.
    """
    z = label_sum(u, rest, known, temperature, POWER)
    x = u * (temperature * terms.LN2)
    ratio = rest / label_exponential(u, temperature, POWER)
    one = 1 + ratio
    close = x > -1
    log = tl.log2(tl.where(close, one, z)) * terms.LN2
    log1p = tl.where(one < 2, log + (ratio - (one - 1)), log)  # with what 1 + ratio has rounded off
    return tl.where(close, log1p, log - x), z


@triton.jit
def mixture(
    to_t, from_t, share_ptr, stride_sb, stride_sm, row, has, lane, C, scale,
    M: tl.constexpr, BETA: tl.constexpr, K: tl.constexpr, L: tl.constexpr, SOME: tl.constexpr,
):
    """Mixed probabilities of M teachers, whose rows begin `from_t` (R,) behind the first, but for
    2^v, and v (`with_teacher`).
    """
    t_ptr, stride_tm, stride_tc = to_t
    qs, tops = no_teacher(has.shape[0], BETA, K, L)
    for m in range(M):  # not unrolled: all teachers at once would not fit the registers
        ts = load_chunks(t_ptr + from_t[:, None], stride_tc, lane, C, has[:, None], K, L, SOME)
        top = tl.max(largest(ts, K), 1, keep_dims=True)
        vs, es = exponents(ts, top, scale, K)
        share = parts.teacher_share(share_ptr, stride_sb, stride_sm, row, m, has, M)
        share = share[:, None] / tl.sum(lane_sums(es, K), 1, keep_dims=True)
        qs, tops = with_teacher(qs, tops, vs, es, share, BETA, K)
        from_t += stride_tm
    return qs, tops


@triton.jit
def no_teacher(R: tl.constexpr, BETA: tl.constexpr, K: tl.constexpr, L: tl.constexpr):
    """Chunks to which no teacher has been added."""
    qs = ()
    tops = ()
    for _k in tl.static_range(K):
        qs += (tl.zeros((R, L), tl.float32),)
        if BETA == parts.REVERSE:
            tops += (tl.full((R, L), terms.LOWEST, tl.float32),)
    return qs, tops


@triton.jit
def with_teacher(qs, tops, vs, es, share, BETA: tl.constexpr, K: tl.constexpr):
    """The mixture with es = 2^vs of one more teacher, times its share (R, 1).

    The logarithm of what no teacher thinks likely counts in KL(p || q), so q may not vanish: there
    it is q times 2^top, with the largest v of each class. Else it is q, and there are no tops.
    """
    if BETA == parts.REVERSE:
        out = ()
        highest = ()
        for k in tl.static_range(K):
            q, top = terms.with_share(qs[k], tops[k], vs[k], share)
            out += (q,)
            highest += (top,)
    else:
        out = added(qs, es, share, K)
        highest = tops
    return out, highest


@triton.jit
def log_ratios(qs, tops, us, z, BETA: tl.constexpr, K: tl.constexpr):
    """Probabilities q of a mixture, and log2(q / p) of p = 2^u / z.

    z is multiplied in: a logarithm of its own would be rounded alike for all classes.
    """
    ds = ()
    out = ()
    for k in tl.static_range(K):
        if BETA == parts.REVERSE:
            out += (qs[k] * tl.exp2(tops[k]),)
            ds += (tl.log2(qs[k] * z) + (tops[k] - us[k]),)
        else:
            out += (qs[k],)
            ds += (tl.log2(qs[k] * z) - us[k],)
    return out, ds


@triton.jit
def divergence(
    es, qs, ds, z_x, z_t, b, betas, M: tl.constexpr, BETA: tl.constexpr, EXACT: tl.constexpr,
    K: tl.constexpr,
):
    """Divergence (R, 1) of p = es / z_x from q = qs / z_t, and b (R, 1) times its gradient.

    The gradient of a class is its own part less p times the sum of all, which of p - q is 0 but for
    what rounding leaves. `ds` is log2(q / p), of one teacher but for the ratio of the sums.
    """
    if BETA == parts.REVERSE:
        z = z_x
        ratio = tl.div_rn(z_x, z_t)  # exactly 1 for equal rows
        p_ratio = 1.0
        shift = tl.log2(ratio)
    else:
        z = z_t
        ratio = tl.div_rn(z_t, z_x)
        p_ratio = ratio
        shift = -tl.log2(ratio)
    if M > 1:
        shift = 0.0
    costs = ()
    gs = ()
    for k in tl.static_range(K):
        cost, g = terms.divergence_terms(es[k], qs[k], ratio, ds[k] + shift, betas, BETA, EXACT)
        costs += (cost,)
        gs += (g,)
    cost = lane_sums(costs, K)
    each = 1 / z
    b *= each
    if BETA == parts.FORWARD:
        if EXACT:
            cost, off = sum_of_two(cost, lane_sums(gs, K))
            gs = weighted(gs, es, b, -b * off * p_ratio * each, K)
        else:
            cost = tl.sum(cost, 1, keep_dims=True)
            gs = scaled(gs, b, K)
    else:
        # Of a class with p near 1 little would be left: it has minus the sum of all others.
        half = 0.5 * z_x
        own, few, big = split_sums(gs, es, half, K)
        cost, own, few, big = sum_of_four(cost, own, few, big)
        mean = (own + big) * p_ratio * each
        gs = replaced_above(weighted(gs, es, b, -b * mean, K), es, half, b * (mean * few - own), K)
    return cost * each, gs


@triton.jit
def split_sums(gs, es, half, K: tl.constexpr):
    """Per lane the sums of `gs` and of `es` where e is at most `half`, and of `gs` elsewhere."""
    own = ()
    few = ()
    big = ()
    for k in tl.static_range(K):
        small = es[k] <= half
        own += (tl.where(small, gs[k], 0.0),)
        few += (tl.where(small, es[k], 0.0),)
        big += (tl.where(small, 0.0, gs[k]),)
    return lane_sums(own, K), lane_sums(few, K), lane_sums(big, K)


@triton.jit
def weighted(gs, es, factor, push, K: tl.constexpr):
    """`gs` times a factor (R, 1) plus `es` times another."""
    out = ()
    for k in tl.static_range(K):
        out += (tl.fma(es[k], push, gs[k] * factor),)
    return out


@triton.jit
def of_live(gs, live, K: tl.constexpr):
    """`gs` in rows (R, 1) that take part, 0 in all others, whatever they hold."""
    out = ()
    for k in tl.static_range(K):
        out += (tl.where(live, gs[k], 0.0),)
    return out


@triton.jit
def scaled(gs, factor, K: tl.constexpr):
    """`gs` times a factor (R, 1)."""
    out = ()
    for k in tl.static_range(K):
        out += (gs[k] * factor,)
    return out


@triton.jit
def replaced_above(gs, es, half, value, K: tl.constexpr):
    """`gs` with `value` where e is more than `half`."""
    out = ()
    for k in tl.static_range(K):
        out += (tl.where(es[k] > half, value, gs[k]),)
    return out


@triton.jit
def added(gs, more, factor, K: tl.constexpr):
    """`gs` and `more` times a factor (R, 1)."""
    out = ()
    for k in tl.static_range(K):
        out += (tl.fma(more[k], factor, gs[k]),)
    return out


@triton.jit
def store_chunks(at, stride, lane, there, gs, C, W, K: tl.constexpr, L: tl.constexpr, PADDED: tl.constexpr):
    """The gradient of rows that are `there` and begin at `at` (R, 1); 0 from column C to W."""
    kind = at.dtype.element_ty
    for k in tl.static_range(K):
        col = k * L + lane
        g = gs[k]
        inside = there
        if k == K - 1:
            inside = there & (col < W)
            if PADDED:
                g = tl.where(col < C, g, 0.0)
        tl.store(at + col * stride, g.to(kind), mask=inside, eviction_policy="evict_first")
    if PADDED:
        for start in range(K * L, W, L):
            col = start + lane
            zero = tl.zeros(gs[0].shape, kind)
            tl.store(at + col * stride, zero, mask=there & (col < W))
