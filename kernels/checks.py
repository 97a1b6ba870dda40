"""What is checked before a distillation loss is computed, the same for every implementation.

Promise: shapes, dtypes, devices and settings, each refusal one line; never the values of a tensor,
which would make the host wait for the device.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from antcache.checks import above, at_least, one_of
from antcache.errors import BadConfig
from antcache.kernels.record import LossInputs
from antcache.kernels.targets import INTEGERS

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def check_settings(
    temperature: float, weight: float, label_weight: float, label_smoothing: float, reduction: str
) -> None:
    """Check the plain numbers and the name of the reduction.

    Raises:
        BadConfig: one of them is out of range, or a tensor.
    """
    above("temperature", temperature, 0, math.inf)
    at_least("weight", weight, 0, math.inf)
    at_least("label_weight", label_weight, 0, math.inf)
    at_least("label_smoothing", label_smoothing, 0, 1)
    one_of("reduction", reduction, ("mean", "sum", "none"))


def check_tensors(inputs: LossInputs) -> None:
    """Check that the tensors fit each other, and that none is given in vain.

    Raises:
        BadConfig: a shape, dtype or device is wrong, or an argument would have no effect.
    """
    logits, teacher, rows = inputs.logits, inputs.teacher, inputs.rows
    if logits.ndim != 2 or logits.shape[1] == 0 or logits.dtype not in FLOATS:
        raise BadConfig(
            "logits of a wrong shape or dtype",
            expected="(batch, classes) of float16, bfloat16, float32 or float64",
            found=f"{tuple(logits.shape)} of {logits.dtype}",
        )
    if teacher is None and inputs.labels is None:
        raise BadConfig("neither targets nor labels: there is nothing to learn from")
    batch, num_classes = logits.shape
    if inputs.labels is None and (inputs.class_weight is not None or inputs.label_smoothing):
        raise BadConfig("class_weight and label_smoothing have no effect without labels")
    _check("labels", inputs.labels, INTEGERS, [(batch,)], logits.device)
    _check("class_weight", inputs.class_weight, FLOATS, [(num_classes,)], logits.device)
    if teacher is None:
        if rows is not None or inputs.teacher_weight is not None:
            raise BadConfig("rows and teacher_weight have no effect without targets")
        return
    _check_teacher(inputs, teacher)
    _check("rows", rows, INTEGERS, [(batch,)], logits.device)
    if rows is not None and batch and not inputs.num_rows:
        raise BadConfig("the targets hold no row")
    if rows is None and inputs.num_rows != batch:
        raise BadConfig(
            "one teacher row per batch row is needed",
            expected=batch,
            found=inputs.num_rows,
            hint="rows= picks teacher rows by index",
        )
    shapes = [(len(teacher),), (batch, len(teacher))]
    _check("teacher_weight", inputs.teacher_weight, FLOATS, shapes, logits.device)


def _check_teacher(inputs: LossInputs, teacher: Tensor) -> None:
    num_classes, found = inputs.logits.shape[1], teacher.shape[2]
    dense = inputs.teacher_index is None
    if found != num_classes if dense else found > num_classes:
        expected = f"{num_classes}" if dense else f"k of at most {num_classes}"
        raise BadConfig("targets and logits differ in classes", expected=expected, found=found)
    if teacher.device != inputs.logits.device:
        raise BadConfig(
            "targets on another device than the logits",
            expected=inputs.logits.device,
            found=teacher.device,
            hint="targets.to(device) moves them, once",
        )


def _check(
    name: str,
    value: Tensor | None,
    dtypes: tuple[torch.dtype, ...],
    shapes: list[tuple[int, ...]],
    device: torch.device,
) -> None:
    if value is None:
        return
    if value.dtype not in dtypes or tuple(value.shape) not in shapes or value.device != device:
        kind = "integer" if dtypes is INTEGERS else "floating"
        raise BadConfig(
            f"{name} of a wrong shape, dtype or device",
            expected=f"{kind} {' or '.join(str(shape) for shape in shapes)} on {device}",
            found=f"{value.dtype} {tuple(value.shape)} on {value.device}",
        )
