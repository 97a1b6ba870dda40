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
        temperature: (B,) or (1,), T of each row or of all.
        kl_weight: as long, what the KL is multiplied by, T^2 included.
        n_ce: what the sum of the cross-entropy is divided by.
        n_kl: the same of the KL.
    """

    teacher: Ints
    labels: Ints
    class_weight: Floats
    log_weight: Floats
    weight_sum: float
    share: Doubles
    temperature: Doubles
    kl_weight: Doubles
    n_ce: float
    n_kl: float

    @staticmethod
    def of(inputs: LossInputs) -> PerRow:
        """Those of `inputs`."""
        num_classes = inputs.logits.shape[1]
        labels, per_class = np.empty(0, np.int64), np.empty(0, np.float32)
        if inputs.labels is not None:
            labels = as_numpy(inputs.labels, torch.int64)
            if inputs.class_weight is not None:
                per_class = as_numpy(inputs.class_weight, torch.float32)
            elif inputs.label_smoothing > 0:
                per_class = np.ones(num_classes, np.float32)
        with np.errstate(divide="ignore"):
            log_weight = np.log(per_class, dtype=np.float32)
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
        given_t, given_weight = (
            np.ones(1) if each is None else as_numpy(each.reshape(-1), torch.float64)
            for each in (inputs.row_temperature, inputs.row_weight)
        )
        kl_weight = inputs.kl_weight * given_weight * given_t**2
        return PerRow(
            teacher=teacher,
            labels=labels,
            class_weight=per_class,
            log_weight=log_weight,
            weight_sum=float(per_class.sum(dtype=np.float64)),
            share=share,
            temperature=np.broadcast_to(inputs.temperature * given_t, kl_weight.shape),
            kl_weight=kl_weight,
            n_ce=n_ce if n_ce > 0 else 1.0,
            n_kl=n_kl if n_kl > 0 else 1.0,
        )


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
