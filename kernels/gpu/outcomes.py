"""Pieces of the top-k kernel: outcomes, which are the entries and what is outside them together.

Promise: what the student has outside the k is as exact as in it, however little it is: it is summed
by itself, relative to its own largest logit. Exponents and logarithms are to base 2: `scale` is
log2(e) / T. Letters as in `few.py`; what there is one of per row as in `entries.py`.
"""
# ruff: noqa: ANN001, ANN201, N803, E501
# mypy: ignore-errors
# fmt: off

from __future__ import annotations

import triton
import triton.language as tl

from antcache.kernels.gpu import parts, terms
from antcache.kernels.gpu import row as chunks
from antcache.kernels.gpu.entries import row_max, row_sum


@triton.jit
def outside_chunks(
    xs, to_grad, stride, lane, at, there, row_mask, live, C, K: tl.constexpr, L: tl.constexpr,
    SOME: tl.constexpr,
):
    """The chunks with -inf at the entries' classes.

    Being scattered, those go through memory: the row is written where its gradient will stand, they
    are written over it, and it is read again.
    """
    for k in tl.static_range(K):
        col = k * L + lane
        inside = row_mask
        if k == K - 1:
            inside = row_mask & (col < C)
        tl.store(to_grad + col * stride, xs[k], mask=inside)
    put_out(at, there)
    return chunks.load_chunks(to_grad, stride, lane, C, live, K, L, SOME)


@triton.jit
def put_out(at, there):
    """-inf for the entries' classes in the row that is written where its gradient will stand."""
    out = tl.full(at.shape, float("-inf"), tl.float32)
    tl.debug_barrier()
    tl.store(at, out.to(at.dtype.element_ty), mask=there)
    tl.debug_barrier()


@triton.jit
def outside_exponents(outs, scale, at, K: tl.constexpr):
    """Exponents and exponentials of what is outside the k, its largest logit, and factors that undo
    what the exponentials at T and at 1 are off by, because the largest times `scale` is rounded.
    """
    top = row_max(chunks.largest(outs, K))
    base = tl.where(top == float("-inf"), 0.0, top)  # there may be nothing
    us, es = chunks.exponents(outs, base, scale, K)
    off = rounding(base, scale)
    return us, es, top, tl.exp2(-off), tl.exp2(-off * at)


@triton.jit
def rounding(top, scale):
    """What the product of both is rounded by, exactly."""
    return tl.fma(top, scale, -(top * scale))


@triton.jit
def top_entry(x, there, has):
    """Largest student logit of the entries; 0 in rows without a target."""
    return tl.where(has, row_max(tl.where(there, x, float("-inf"))), 0.0)


@triton.jit
def relative_to_all(top, top_o, undo_1, has, scale, TAIL_FORM: tl.constexpr):
    """Largest logit of all outcomes, from that of the entries and that of the row, with a tail of what
    is outside; the largest of all classes; by what exponents at T outside are below it; and what
    exponentials at 1 there are to be multiplied by to be relative to it.
    """
    top_1 = top_o
    fade = 0.0
    if TAIL_FORM:
        top = tl.where(has, tl.maximum(top, top_o), top_o)
        top_1 = top
        fade = (top_o - top) * scale
        undo_1 *= tl.exp2((top_o - top) * terms.LOG2E)
    return top, top_1, fade, undo_1


@triton.jit
def exponentials(x, top, first, has, z_o, fade, scale, TAIL_FORM: tl.constexpr):
    """Exponents of the entries, their exponentials, and the sum of these and of what is outside."""
    u = (x - top) * scale
    e = tl.where(first, tl.exp2(u), 0.0)
    z = row_sum(e)
    if TAIL_FORM:
        z += z_o * tl.exp2(fade)
    return u, e, tl.where(has, z, 1.0)


@triton.jit
def num_classes(first, K: tl.constexpr, M: tl.constexpr):
    """How many classes the teachers of a row name."""
    count = K
    if M > 1:
        count = row_sum(first.to(tl.int32))
    return count


@triton.jit
def log_ratios(t, q, u, z, M: tl.constexpr):
    """q of the entries, and log2(q / p), from what `entries.teachers` says of them."""
    if M == 1:
        d = t - u + tl.log2(tl.div_rn(z, q))  # equal logits then give 0
        q = tl.exp2(t) / q
    else:
        d = tl.log2(q * z) + (t - u)
        q *= tl.exp2(t)
    return q, d


@triton.jit
def outside_outcome(z_o, fade, z, top, q, first, C, K: tl.constexpr, M: tl.constexpr):
    """p, q and log2(q / p) of all classes outside the k together.

    z_o is their sum relative to the largest of them, whose exponent in the row is `fade`; a class has
    q times 2^top of the teachers.
    """
    p = z_o * tl.exp2(fade) / z
    q *= (C - num_classes(first, K, M)).to(tl.float32)
    nothing = (q == 0) & (z_o == 0)  # for teachers and student
    d = tl.log2(q * (z / z_o)) + (top - fade)
    return p, q * tl.exp2(top), tl.where(nothing, 0.0, d)


@triton.jit
def label_loss(rest, top, x_label, known, x_e, cls, label, first, TAIL_FORM: tl.constexpr):
    """Cross-entropy, the sum of all exponentials at 1, that of all but the label's, and these of the
    label and the entries, relative to the row's largest logit.

    `rest` is the sum of all but the label's, with a tail of what is outside the k alone.
    """
    one_e = tl.exp2((x_e - top) * terms.LOG2E)
    if TAIL_FORM:
        rest += row_sum(tl.where(first & (cls != label), one_e, 0.0))
    u = (x_label - top) * terms.LOG2E
    ce, z = chunks.cross_entropy(u, rest, known, 1.0, 1)
    return ce, z, rest, tl.exp2(u), one_e


@triton.jit
def smoothing_cost(xs, ws, top, z, lane, C, K: tl.constexpr, L: tl.constexpr):
    """Cross-entropy with all classes, weighted by class."""
    us, _ = chunks.exponents(xs, top, terms.LOG2E, K)
    log_z = tl.log2(z) + rounding(top, terms.LOG2E)
    return row_sum(chunks.smoothing_cost(us, ws, log_z, 1.0, lane, C, K, L)) * terms.LN2


@triton.jit
def divergence(p, q, d, first, outcome, betas, BETA: tl.constexpr, TAIL_FORM: tl.constexpr):
    """Divergence of p from q, and its gradient for the logits: of the entries, and of what is outside
    as one more outcome, of which p, q and d are there together. d is log2(q / p).

    The gradient of an outcome is its own part less p times the sum of all, which of p - q is 0 but for
    what rounding leaves. Of KL(p || q) and mixtures little would be left where p is near 1: there it
    is minus the sum of all others.
    """
    p_o, q_o, d_o = outcome
    cost, part = terms.divergence_terms(p, q, 1.0, d, betas, BETA, True)
    part = tl.where(first, part, 0.0)
    total = row_sum(tl.where(first, cost, 0.0))
    part_o = 0.0
    if TAIL_FORM:
        cost_o, part_o = terms.divergence_terms(p_o, q_o, 1.0, d_o, betas, BETA, True)
        total += cost_o
    if BETA == parts.FORWARD:
        off = row_sum(part) + part_o
        g = part - p * off
        g_o = part_o - p_o * off
    else:
        own = row_sum(tl.where(p > 0.5, 0.0, part)) + tl.where(p_o > 0.5, 0.0, part_o)
        big = row_sum(tl.where(p > 0.5, part, 0.0)) + tl.where(p_o > 0.5, part_o, 0.0)
        few = row_sum(tl.where(p > 0.5, 0.0, p)) + tl.where(p_o > 0.5, 0.0, p_o)
        mean = own + big
        largest = mean * few - own
        g = tl.where(p > 0.5, largest, part - p * mean)
        g_o = tl.where(p_o > 0.5, largest, part_o - p_o * mean)
    return total, g, g_o


@triton.jit
def class_weights(class_weight_ptr, cls, first):
    """Class weights of the entries, 1 without any."""
    w = tl.where(first, 1.0, 0.0)
    if class_weight_ptr is not None:
        w = tl.load(class_weight_ptr + cls, mask=first, other=0.0).to(tl.float32)
    return w


@triton.jit
def zeros(R: tl.constexpr, K: tl.constexpr, L: tl.constexpr):
    """Chunks of nothing."""
    out = ()
    for _k in tl.static_range(K):
        out += (tl.zeros((R, L), tl.float32),)
    return out


@triton.jit
def label_gradient(
    sharp, flat, w_sum, z, rest, one_l, weight, one_e, cls, label, first, class_weight_ptr,
    SMOOTH: tl.constexpr,
):
    """Gradient of the cross-entropy for the label's logit and the entries' (R, E).

    `sharp` times an exponential at 1 is that of any other class, `flat` times its weight is
    smoothing's; that of the label is minus all others', which is not 1 - p.
    """
    w_e = 0.0
    if SMOOTH:
        w_e = class_weights(class_weight_ptr, cls, first)
    entry = sharp * tl.where(cls == label, -rest, one_e) + flat * (w_sum / z * one_e - w_e)
    return flat * (w_sum / z * one_l - weight) - sharp * rest, entry
