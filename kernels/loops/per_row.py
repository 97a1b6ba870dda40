"""What the loops need once per batch row, and what the means divide by, as arrays.

Promise: nothing here grows with the classes but their weights. A teacher row that is none stays out
of range. Letters: B batch rows, C classes, N teacher rows, M teachers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from antcache.kernels.loops.lines import Floats, Ints, as_numpy
from antcache.kernels.record import LossInputs

Doubles = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class PerRow:
    """What there is one of per batch row, and what the means divide by.

    Attributes:
        teacher: (B,) teacher row, -1 without a target, at most N (which is out of range).
        labels: (B,) or empty.
        class_weight: (C,) or empty.
        log_weight: its logarithm.
        weight_sum: sum of the class weights.
        share: (B, M) or (1, M) weights of the teachers, of sum 1.
        inv_t: (B,) or (1,), 1 / T of each row or of all.
        kl_weight: as long, what the KL is multiplied by, T^2 included.
        push: as long, what its gradient for the logits over T is multiplied by.
        n_ce: what the sum of the cross-entropy is divided by.
        n_kl: the same of the KL.
    """

    teacher: Ints
    labels: Ints
    class_weight: Floats
    log_weight: Floats
    weight_sum: float
    share: Doubles
    inv_t: Doubles
    kl_weight: Doubles
    push: Doubles
    n_ce: float
    n_kl: float

    @staticmethod
    def of(inputs: LossInputs) -> PerRow:
        """Those of `inputs`."""
        num_classes = inputs.logits.shape[1]
        labels, per_class = np.empty(0, np.int64), np.empty(0, np.float32)
        log_weight = per_class
        if inputs.labels is not None:
            labels = as_numpy(inputs.labels, torch.int64)
            if inputs.class_weight is not None:
                per_class = as_numpy(inputs.class_weight, torch.float32)
            elif inputs.label_smoothing > 0:
                per_class = np.ones(num_classes, np.float32)
            if inputs.label_smoothing > 0:
                with np.errstate(divide="ignore"):
                    log_weight = np.log(per_class)
        teacher = _teacher_rows(inputs)
        n_ce = n_kl = 1.0
        if inputs.reduction == "mean":
            counted = labels[labels != inputs.ignore_index]
            n_ce = float(len(counted))
            if inputs.class_weight is not None:
                known = counted[(counted >= 0) & (counted < num_classes)]
                n_ce = float(per_class[known].sum(dtype=np.float64))
            n_kl = float(np.count_nonzero(teacher >= 0))
            if inputs.normaliser is not None:
                n_ce, n_kl = as_numpy(inputs.normaliser, torch.float64).tolist()
        share = np.full((1, inputs.num_teachers), 1 / inputs.num_teachers)
        if inputs.teacher_weight is not None:
            given = np.atleast_2d(as_numpy(inputs.teacher_weight, torch.float64))
            with np.errstate(invalid="ignore", divide="ignore"):  # weights of sum 0: NaN
                share = given / given.sum(1, keepdims=True)
        n_ce, n_kl = (n if n != 0 else 1.0 for n in (n_ce, n_kl))
        inv_t, kl_weight = _constants(inputs)
        return PerRow(
            teacher=teacher,
            labels=labels,
            class_weight=per_class,
            log_weight=log_weight,
            weight_sum=float(per_class.sum(dtype=np.float64)),
            share=share,
            inv_t=inv_t,
            kl_weight=kl_weight,
            push=kl_weight * inv_t / n_kl,
            n_ce=n_ce,
            n_kl=n_kl,
        )


def _constants(inputs: LossInputs) -> tuple[Doubles, Doubles]:
    """1 / T and what the KL is multiplied by, (B,) or (1,)."""
    inv_t, weight = np.array([1 / inputs.temperature]), np.array([inputs.kl_weight])
    if inputs.row_temperature is None and inputs.row_weight is None:
        return inv_t, weight
    if inputs.row_temperature is not None:
        temperature = as_numpy(inputs.row_temperature, torch.float64).ravel()
        with np.errstate(divide="ignore"):
            inv_t = 1 / temperature
        weight = weight * temperature**2
    if inputs.row_weight is not None:
        weight = weight * as_numpy(inputs.row_weight, torch.float64).ravel()
    longest = np.zeros(max(len(inv_t), len(weight)))
    return inv_t + longest, weight + longest


def _teacher_rows(inputs: LossInputs) -> Ints:
    batch = len(inputs.logits)
    if inputs.teacher is None:
        return np.full(batch, -1)
    num_rows = inputs.teacher.shape[1]
    if inputs.rows is None:
        rows = np.arange(batch)
    else:
        rows = as_numpy(inputs.rows, torch.int64).clip(-1, num_rows)
    if inputs.valid is not None:
        valid = as_numpy(inputs.valid, torch.bool)
        rows = np.where((rows < num_rows) & ~valid[np.minimum(rows, num_rows - 1)], -1, rows)
    return rows
