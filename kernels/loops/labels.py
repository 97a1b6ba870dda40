"""The cross-entropy of one row, with class weights and label smoothing.

Promise: a label that is no class gives NaN. Near the largest logit nothing is lost: what the other
classes have is summed without it.
"""
# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201, ANN202

from __future__ import annotations

import math

import numpy as np

from antcache.kernels.loops.arithmetic import NAN, F, add, series, sum_of
from antcache.kernels.loops.compiled import inner


@inner
def _costs(weight, x, top, log_z, out):
    """weight * (log_z - (x - top)): -log p of each class, weighted."""
    for c in range(len(out)):
        out[c] = weight[c] * (log_z - (x[c] - top))


@inner
def _beyond(e, x, top, weight, log_weight, r_u, shift, out):
    """z (p - u), e being z p, and u the weight's share of their sum: the weight times r_u is z u.

    Where d = log(u / p) is small, p - u comes from it, as in `terms` of `divergence.py`.
    """
    for c in range(len(out)):
        d = log_weight[c] - (x[c] - top) + shift
        u = weight[c] * r_u
        out[c] = u * d * (d * series(d) - F(1)) if abs(d) < F(1) else e[c] - u


@inner(error_model="numpy")
def cross_entropy(
    x, top, e, label, class_weight, log_weight, weight_sum, smoothing, grad_weight, part
):
    """Cross-entropy of one row, and what e, which is exp(x - top), is times in the gradient.

    The label's e is changed so that this holds for it as well: 1 - p comes from the other classes,
    not from a rounded p. With smoothing all of e is. `part` is overwritten.
    """
    if not 0 <= label < len(x):
        return math.nan, NAN
    own = np.float64(class_weight[label]) if len(class_weight) else 1.0
    x_label = np.float64(x[label]) - np.float64(top)
    e_label = np.float64(e[label])
    e[label] = F(0)
    rest = sum_of(e)
    e[label] = F(e_label)
    z = rest + e_label
    log_z = math.log(z)
    near = x_label > -1  # of a z close to 1 little of the rest is left
    own_cost = math.log1p(rest / math.exp(x_label)) if near else log_z - x_label
    value = (1 - smoothing) * own * own_cost
    sharp = grad_weight * (1 - smoothing) * own
    if smoothing == 0 or weight_sum == 0:
        e[label] = F(-rest)
        return value, F(sharp / z)
    _costs(class_weight, x, top, F(log_z), part)
    value += smoothing / len(x) * sum_of(part)
    smooth = grad_weight * smoothing / len(x) * weight_sum
    shift = F(log_z - math.log(weight_sum))
    _beyond(e, x, top, class_weight, log_weight, F(z / weight_sum), shift, part)
    off = smooth * sum_of(part) / z  # what an error of all d leaves: their sum is 0
    at_label = smooth * part[label] - off * e_label - sharp * rest
    e *= F(sharp - off)
    add(e, F(smooth), part)
    e[label] = F(at_label)
    return value, F(1 / z)
