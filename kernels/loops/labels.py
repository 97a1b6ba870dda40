"""The cross-entropy of one row, with class weights and label smoothing.

Promise: a label that is no class gives NaN. Near the largest logit nothing is lost: what the other
classes have is summed without it.
"""
# mypy: ignore-errors
# ruff: noqa: ANN001, ANN201, ANN202

from __future__ import annotations

import math

import numpy as np
from numba import njit

from antcache.kernels.loops.arithmetic import NAN, F, sum_of


@njit
def _costs(weight, x, top, log_z, out):
    """weight * (log_z - (x - top)): -log p of each class, weighted."""
    for c in range(len(out)):
        out[c] = weight[c] * (log_z - (x[c] - top))


@njit(error_model="numpy")
def cross_entropy(x, top, e, label, class_weight, smoothing, weight_sum, grad_weight, part):
    """Cross-entropy of one row, and what e, which is exp(x - top), is times in the gradient.

    The label's e is changed so that this holds for it as well: 1 - p comes from the other classes,
    not from a rounded p. What smoothing takes off the gradient everywhere is left to the caller.
    `part` is overwritten.
    """
    if not 0 <= label < len(x):
        return math.nan, NAN
    own = np.float64(class_weight[label]) if len(class_weight) else 1.0
    x_label = np.float64(x[label]) - np.float64(top)
    e_label = np.float64(e[label])
    e[label] = F(0)
    rest = sum_of(e)
    z = rest + e_label
    log_z = math.log(z)
    near = x_label > -1  # of a z close to 1 little of the rest is left
    own_cost = math.log1p(rest / math.exp(x_label)) if near else log_z - x_label
    value = (1 - smoothing) * own * own_cost
    if smoothing > 0:
        _costs(class_weight, x, top, F(log_z), part)
        value += smoothing / len(x) * sum_of(part)
    sharp = grad_weight * (1 - smoothing) * own
    smooth = grad_weight * smoothing / len(x) * weight_sum
    at_label = smooth * e_label - sharp * rest
    e[label] = F(at_label / (sharp + smooth)) if sharp + smooth != 0 else F(0)
    return value, F((sharp + smooth) / z)
