"""The compiled loops of `loops.py`: loss, parts and gradient of float32 rows, one row at a time.

Promise: a row's result depends on that row alone and is computed in one fixed order: any number of
threads gives the same bits. No index is used unchecked: a label, teacher row or class out of range
gives NaN. Student and teacher pass through the same functions without fused multiply-adds, so equal
logits have equal probabilities. All compiled code is in this file: numba's cache looks at one file.
Letters: B batch rows, C classes, N teacher rows, K top-k, M teachers, E classes of a row that its
top-k teachers name, T temperature.
"""
# mypy: ignore-errors
# ruff: noqa: ANN001, ANN202

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import njit, prange, types
from numba.extending import intrinsic

F = np.float32
I = np.int32  # noqa: E741
INF = F(np.inf)
NAN = F(np.nan)
LARGE = F(1e30)
"""Logarithm of a teacher's probability of 0: finite, since it is multiplied by 0."""
LOWEST = I(-(2**31))
DENSE, TOP_K, TAIL = 1, 2, 3  # as in record.py, whose constants numba would read from another file
SERIAL = 1 << 15
"""Logits of a call up to which starting threads takes longer than it saves."""

# Only sums may be reordered, which lets the compiler vectorise them. Never "contract".
SUMS = {"reassoc", "nsz"}


def _bitcast(source: Any, target: Any, kind: Any) -> Any:
    def build(_context: Any, _number: Any) -> Any:
        def code(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
            return builder.bitcast(arguments[0], kind)

        return target(source), code

    return build


# Bits of an int32 as a float32, and the other way round.
_as_float = intrinsic(_bitcast(types.int32, types.float32, ir.FloatType()))
_as_int = intrinsic(_bitcast(types.float32, types.int32, ir.IntType(32)))


@njit(inline="always")
def _exp(x):
    """exp(x) for x <= 0 within 2 units in the last place; 0 below -87, NaN for NaN.

    A polynomial on [-ln 2 / 2, ln 2 / 2] (Cephes, `expf`) times a power of two, which the compiler
    can vectorise; it can't do that with a call of the C library.
    """
    low = x if x > F(-87.0) else F(-87.0)  # also for NaN, which has no integer part
    n = np.floor(low * F(1.44269504) + F(0.5))
    r = low - n * F(0.693359375) + n * F(2.12194440e-4)
    p = F(1.9875691500e-4)
    p = p * r + F(1.3981999507e-3)
    p = p * r + F(8.3334519073e-3)
    p = p * r + F(4.1665795894e-2)
    p = p * r + F(1.6666665459e-1)
    p = p * r + F(5.0000001201e-1)
    p = p * r * r + r + F(1)
    value = p * _as_float((I(n) + I(127)) << I(23))
    return value if x >= F(-87.0) else (F(0) if x < F(-87.0) else x)


@njit(inline="always")
def _log(x):
    """log(x) for normal x > 0 (Cephes, `logf`); some finite number for 0 and subnormal x."""
    bits = _as_int(x)
    n = F((bits >> I(23)) - I(126))
    m = _as_float((bits & I(0x7FFFFF)) | I(0x3F000000))  # in [1/2, 1)
    small = m < F(0.707106781)
    n = n - F(1) if small else n
    m = m + m - F(1) if small else m - F(1)
    p = F(7.0376836292e-2)
    p = p * m - F(1.1514610310e-1)
    p = p * m + F(1.1676998740e-1)
    p = p * m - F(1.2420140846e-1)
    p = p * m + F(1.4249322787e-1)
    p = p * m - F(1.6668057665e-1)
    p = p * m + F(2.0000714765e-1)
    p = p * m - F(2.4999993993e-1)
    p = p * m + F(3.3333331174e-1)
    square = m * m
    return m + (p * m * square - n * F(2.12194440e-4) - F(0.5) * square) + n * F(0.693359375)


@njit
def _largest(x):
    """Largest of x, compared as integers of the same order; a NaN may be taken for the largest."""
    bits = x.view(np.int32)
    top = LOWEST
    for c in range(len(bits)):
        each = bits[c]
        top = max(top, I(each ^ ((each >> I(31)) & I(0x7FFFFFFF))))
    return _as_float(I(top ^ ((top >> I(31)) & I(0x7FFFFFFF))))


@njit
def _exps(x, top, scale, out):
    """exp((x - top) * scale)."""
    for c in range(len(out)):
        out[c] = _exp((x[c] - top) * scale)


@njit(fastmath=SUMS)
def _total(x):
    """Sum in float64 of sums of a few hundred."""
    total = 0.0
    for start in range(0, len(x), 512):
        block = x[start : start + 512]
        part = F(0)
        for c in range(len(block)):
            part += block[c]
        total += part
    return total


@njit
def _shifted(t, top, scale, out):
    """(t - top) * scale, `LARGE` for -inf."""
    for c in range(len(out)):
        value = (t[c] - top) * scale
        out[c] = LARGE if value == -INF else value


@njit
def _logs(q, z, out):
    """Logarithms of probabilities times z, `LARGE` for that of 0."""
    for c in range(len(out)):
        value = _log(q[c] * z)
        out[c] = value if q[c] > F(0) else LARGE


@njit
def _terms(q, log_q, p, r_p, x, top, scale, shift):
    """q log(q / p) - q + p in place of log_q, and p - q in place of q, with p times r_p.

    log(q / p) is d = log_q - (x - top) * scale + shift. As `kl_terms` of `kernel_parts.py` has it:
    no term is negative, and what rounding does to sums and logarithms counts in proportion to d.
    Not in one loop with the sums, whose reordering would leave a rest where p and q are equal.
    """
    for c in range(len(q)):
        d = log_q[c] - (x[c] - top) * scale + shift
        series = F(2.489152211637702e-05) * d - F(0.0002032434131251648)
        series = series * d + F(0.0013892363058403134)
        series = series * d - F(0.008330944925546646)
        series = series * d + F(0.04166647791862488)
        series = series * d - F(0.16666695475578308)
        series = series * d + F(0.5)
        near = abs(d) < F(1)
        far = p[c] * r_p - q[c]
        log_q[c] = q[c] * d * (d * series) if near else q[c] * d + far
        q[c] = q[c] * d * (d * series - F(1)) if near else far


@njit(fastmath=SUMS)
def _smoothing_cost(weight, x, top, log_z):
    """Sum of weight * (log_z - (x - top))."""
    total = 0.0
    for start in range(0, len(x), 512):
        w_, x_ = weight[start : start + 512], x[start : start + 512]
        part = F(0)
        for c in range(len(x_)):
            part += w_[c] * (log_z - (x_[c] - top))
        total += part
    return total


@njit
def _add(x, factor, y):
    """Add factor * y to x."""
    for c in range(len(x)):
        x[c] = x[c] + factor * y[c]


@njit
def _gradient(grad, pull, e_1, push, diff, r_d, e_t, off):
    """Gradient: what the cross-entropy has of a softmax's form, and p - q, whose sum is off z."""
    for c in range(len(grad)):
        grad[c] = pull * e_1[c] + push * (diff[c] * r_d - e_t[c] * off)


@njit(error_model="numpy")
def _dense(t_flat, place, stride_m, num_teachers, share, scale, z_p, log_z_p, q, log_q, part):
    """Mixed teachers of one row: q (C,) and log q (C,), up to what is returned.

    Returns (z, log_z): q is q / z, log q is log q - log_z. With several, z_p is multiplied in
    before the logarithm is taken, so that log z is not rounded by itself.
    """
    classes = len(q)
    if num_teachers == 1:
        t = t_flat[place : place + classes]
        top = _largest(t)
        _exps(t, top, scale, q)
        z = _total(q)
        _shifted(t, top, scale, log_q)
        return z, math.log(z)
    q[:] = F(0)
    for m in range(num_teachers):
        t = t_flat[place + m * stride_m : place + m * stride_m + classes]
        _exps(t, _largest(t), scale, part)
        _add(q, F(share[m] / _total(part)), part)
    _logs(q, F(z_p), log_q)
    return 1.0, log_z_p


@njit(error_model="numpy")
def _top_k(t, tail, others, inv_t, part, log_part):
    """One top-k teacher: exp of each class (K,), their logarithms' zero, the sum, the rest.

    Returns (sum, rest): q is part / sum, and each of the `others` classes outside has rest; log q
    is log_part - log(sum). `others` is 0 for the form without a tail.
    """
    scale = F(inv_t)
    top = _largest(t)
    if others == 0:
        _exps(t, top, scale, part)
        for k in range(len(t)):
            log_part[k] = (t[k] - top) * scale
        return _total(part), 0.0
    _exps(t, top, F(1), part)
    log_inside = math.log(-math.expm1(tail)) - math.log(_total(part))
    for k in range(len(t)):
        log_part[k] = F((np.float64(t[k] - top) + log_inside) * inv_t)
    log_other = (tail - math.log(others)) * inv_t
    highest = max(np.float64(_largest(log_part)), log_other)
    for k in range(len(t)):
        log_part[k] = F(log_part[k] - highest)
    _exps(log_part, F(0), F(1), part)
    each = math.exp(log_other - highest)
    total = _total(part) + others * each
    return total, each / total


@njit(error_model="numpy")
def _union(index, classes, slot, cls):
    """Number E of distinct classes in `index`, and whether all are classes.

    `cls` (E,) gets the classes and `slot` (C,) the place of each in it.
    """
    count = 0
    known = True
    for c in index.flat:
        if c < 0 or c >= classes:
            known = False
        elif slot[c] < 0:
            slot[c] = count
            cls[count] = c
            count += 1
    return count, known


@njit(error_model="numpy")
def _few(index, t, tail, share, others, inv_t, slot, mixed, z_p, log_z_p, q, log_q, part, log_part):
    """Mixed top-k teachers of one row: q and log q (E,).

    Returns what each other class has, and what is still to be taken off log q; z_p as in `_dense`.
    """
    num_teachers, k = t.shape
    if num_teachers == 1 and len(q) == k:
        total, rest = _top_k(t[0], np.float64(tail[0]), others, inv_t, part, log_part)
        r_q = F(1.0 / total)
        for e in range(k):
            q[e] = part[e] * r_q
            log_q[e] = LARGE if log_part[e] == -INF else log_part[e]
        return rest, math.log(total)
    mixed[:] = 0.0  # float64: what a teacher has for classes that it does not name is taken off
    other = 0.0
    for m in range(num_teachers):
        total, rest = _top_k(t[m], np.float64(tail[m]), others, inv_t, part, log_part)
        for e in range(k):
            mixed[slot[index[m, e]]] += share[m] * (np.float64(part[e]) / total - rest)
        other += share[m] * rest
    for e in range(len(q)):
        q[e] = F(mixed[e] + other)
    _logs(q, F(z_p), log_q)
    return other, log_z_p


@njit(error_model="numpy")
def _outside(x, cls, inv_t, x_top, log_z, q_out, hidden, q):
    """KL and p - q of the classes outside `cls` as one outcome; q gets the latter by class."""
    if len(cls) == len(x):
        q[:] = F(0)
        return 0.0, 0.0
    hidden[:] = x
    for e in range(len(cls)):
        hidden[cls[e]] = -INF
    top = _largest(hidden)
    _exps(hidden, top, F(inv_t), q)
    z = _total(q)
    log_p = (np.float64(top) - np.float64(x_top)) * inv_t + math.log(z) - log_z
    log_ratio = math.log(q_out) - log_p if q_out > 0 else LARGE
    near = abs(log_ratio) < 1
    diff = q_out * math.expm1(-log_ratio) if near else math.exp(log_p) - q_out
    q *= F(diff / z)
    return q_out * log_ratio + diff, diff


@njit(error_model="numpy")
def _cross_entropy(x, top, e, label, class_weight, smoothing, weight_sum, grad_weight):
    """Cross-entropy of one row, and what e, which is exp(x - top), is times in the gradient.

    The label's e is changed so that this holds for it as well: 1 - p comes from the other classes,
    not from a rounded p. What smoothing takes off the gradient everywhere is left to the caller.
    """
    if not 0 <= label < len(x):
        return math.nan, NAN
    own = np.float64(class_weight[label]) if len(class_weight) else 1.0
    x_label = np.float64(x[label]) - np.float64(top)
    e_label = np.float64(e[label])
    e[label] = F(0)
    rest = _total(e)
    z = rest + e_label
    log_z = math.log(z)
    near = x_label > -1  # of a z close to 1 little of the rest is left
    own_cost = math.log1p(rest / math.exp(x_label)) if near else log_z - x_label
    value = (1 - smoothing) * own * own_cost
    if smoothing > 0:
        value += smoothing / len(x) * _smoothing_cost(class_weight, x, top, F(log_z))
    sharp = grad_weight * (1 - smoothing) * own
    smooth = grad_weight * smoothing / len(x) * weight_sum
    at_label = smooth * e_label - sharp * rest
    e[label] = F(at_label / (sharp + smooth)) if sharp + smooth != 0 else F(0)
    return value, F((sharp + smooth) / z)


class LoopInputs(NamedTuple):
    """What the loops read and write for B rows; whole numbers are int64, others float64."""

    x: Any  # float32 logits, row b from b * stride_x on
    grad: Any  # float32 gradient, likewise; may be the logits
    t: Any  # float32 teacher logits: n from m * stride_m + n * stride_n on; of top-k (N, M, K)
    index: Any  # (N, M, K) int64 classes of the top-k forms
    tail: Any  # (N, M) float32 log mass outside them
    teacher: Any  # (B,) int64 teacher row, negative for none
    share: Any  # float64 weights of the teachers, from b * stride_share on, of sum 1
    labels: Any  # (B,) int64, or empty
    class_weight: Any  # (C,) float32, or empty; with smoothing it is always given
    ce: Any  # (B,) float64, written
    kl: Any  # (B,) float64, written
    classes: int  # C
    stride_x: int
    stride_g: int
    stride_m: int
    stride_n: int
    stride_share: int
    num_rows: int  # N
    num_teachers: int  # M
    form: int  # as in record.py
    ignore_index: int
    gradient: bool  # whether it is wanted
    threads: int  # how many may be used
    inv_t: float  # 1 / T
    pull: float  # factor of the cross-entropy's gradient
    push: float  # factor of p - q
    smoothing: float  # share of the label that is spread over all classes
    weight_sum: float  # of the class weights


@njit(error_model="numpy")
def _rows(start, stop, r):
    """Rows start to stop of `LoopInputs` r."""
    classes, num_teachers, form, inv_t = r.classes, r.num_teachers, r.form, r.inv_t
    scale, push = F(inv_t), F(r.push)
    few = form in (TOP_K, TAIL)
    k = r.index.shape[2]
    others = np.int64(classes - k) if form == TAIL else np.int64(0)
    e_t, e_1, q = np.empty(classes, F), np.empty(classes, F), np.empty(classes, F)
    log_q, part = np.empty(classes, F), np.empty(classes, F)
    slot = np.full(classes if few else 0, -1, I)
    room = min(num_teachers * k, classes) if few else 0
    cls = np.empty(room, np.int64)
    mixed = np.empty(room, np.float64)
    x_few, p_few = np.empty(room, F), np.empty(room, F)
    q_few, log_q_few = np.empty(room, F), np.empty(room, F)
    part_few, log_part_few = np.empty(k, F), np.empty(k, F)
    r_d = off = pull = F(0)

    for i in range(start, stop):
        x = r.x[i * r.stride_x : i * r.stride_x + classes]
        counted = len(r.labels) > 0 and r.labels[i] != r.ignore_index
        row = r.teacher[i] if form else -1
        full = 0 <= row < r.num_rows and form != TOP_K  # the KL needs the softmax of the whole row
        top, z = F(0), 1.0
        if counted or full:
            top = _largest(x)
        if full:
            _exps(x, top, scale, e_t)
            z = _total(e_t)
        log_z = math.log(z)

        r.ce[i] = 0.0
        if counted:
            if full and inv_t == 1.0:
                e_1[:] = e_t
            else:
                _exps(x, top, F(1), e_1)
            r.ce[i], pull = _cross_entropy(
                x, top, e_1, r.labels[i], r.class_weight, r.smoothing, r.weight_sum, r.pull
            )

        kl = 0.0
        count, known = 0, row < r.num_rows
        share = r.share[i * r.stride_share : i * r.stride_share + num_teachers]
        if form == DENSE and full:
            z_q, log_z_q = _dense(
                r.t, row * r.stride_n, r.stride_m, num_teachers, share, scale, z, log_z, q, log_q,
                part,
            )  # fmt: skip
            _terms(q, log_q, e_t, F(z_q / z), x, top, scale, F(log_z - log_z_q))
            kl = _total(log_q) / z_q
            r_d, off = F(1.0 / z_q), F(_total(q) / z_q / z)
        elif few and row >= 0 and known:
            index = r.index[row]
            count, known = _union(index, classes, slot, cls)
            if known:
                t = r.t[row * r.stride_n : (row + 1) * r.stride_n].reshape(num_teachers, k)
                x_, p_ = x_few[:count], p_few[:count]
                q_, log_q_ = q_few[:count], log_q_few[:count]
                for e in range(count):
                    x_[e] = x[cls[e]]
                if form == TOP_K:
                    top = _largest(x_)
                _exps(x_, top, scale, p_)
                if form == TOP_K:
                    z = _total(p_)
                    log_z = math.log(z)
                p_ *= F(1.0 / z)
                other, log_z_q = _few(
                    index, t, r.tail[row], share, others, inv_t, slot, mixed[:count], z, log_z, q_,
                    log_q_, part_few, log_part_few,
                )  # fmt: skip
                diff = 0.0
                if form == TAIL:
                    kl, diff = _outside(
                        x, cls[:count], inv_t, top, log_z, other * (classes - count), part, q
                    )
                _terms(q_, log_q_, p_, F(1), x_, top, scale, F(log_z - log_z_q))
                kl += _total(log_q_)
                r_d, off = F(1), F((diff + _total(q_)) / z)
                if form == TAIL:
                    for e in range(count):
                        q[cls[e]] = q_[e]
            for e in range(count):
                slot[cls[e]] = I(-1)
        r.kl[i] = kl if known else math.nan

        if r.gradient:
            grad = r.grad[i * r.stride_g : i * r.stride_g + classes]
            if not counted:
                e_1[:] = pull = F(0)
            if full:
                _gradient(grad, pull, e_1, push, q, r_d, e_t, off)
            else:
                grad[:] = F(0)
                _add(grad, pull, e_1)
            if not known:
                grad[:] = NAN
            elif form == TOP_K:
                for e in range(count):
                    grad[cls[e]] += push * (q_few[e] - p_few[e] * (off * F(z)))
            if counted and r.smoothing > 0:
                _add(grad, F(-r.pull * r.smoothing / classes), r.class_weight)


def _compiled(function: Any) -> Any:
    """Compile for threads, and keep the result where there is a folder to write to."""
    options = {"parallel": True, "nogil": True, "error_model": "numpy"}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # numba has found no folder for its cache
        return njit(**options)(function)


@_compiled
def compute_rows(given) -> None:
    """Loss, parts and gradient of all rows; `given` are `LoopInputs` as a plain tuple.

    Numba's cache names the arguments' types: were a class of ours renamed, it could not be read.
    """
    rows = LoopInputs(*given)
    batch = np.int64(len(rows.ce))
    if batch * rows.classes <= SERIAL or rows.threads == 1:
        _rows(np.int64(0), batch, rows)
        return
    parts = min(batch, 4 * rows.threads)
    for unsigned in prange(parts):
        part = np.int64(unsigned)
        _rows(part * batch // parts, (part + 1) * batch // parts, rows)
