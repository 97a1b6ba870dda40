"""What is checked before a distillation loss is computed, the same for every implementation.

Promise: shapes, dtypes, devices and settings, each refusal one line; never the values of a tensor,
which would make the host wait for the device.
"""

from __future__ import annotations

from numbers import Integral

import torch
from torch import Tensor

from antcache.checks import at_least
from antcache.errors import BadConfig
from antcache.kernels.record import LossInputs
from antcache.kernels.targets import INTEGERS, check_tensor

LEAST, MOST = 1e-6, 1e30
"""A temperature or beta nearer to an end of its range, or a larger weight, is a slip."""

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
NUMBERS = (*FLOATS, *INTEGERS)
_KINDS = {FLOATS: "floating", INTEGERS: "integer", NUMBERS: "floating or integer"}


def check_settings(
    *,
    temperature: float | Tensor,
    weight: float | Tensor,
    label_weight: float,
    label_smoothing: float,
    beta: float,
    ignore_index: int,
) -> None:
    """Check the numbers; of those that may be tensors, tensors are left to `check_tensors`.

    Raises:
        BadConfig: one of them is out of range, or of another kind.
    """
    if not isinstance(temperature, Tensor):
        at_least("temperature", temperature, LEAST)
    if not isinstance(weight, Tensor):
        at_least("weight", weight, 0, MOST)
    at_least("label_weight", label_weight, 0, MOST)
    at_least("label_smoothing", label_smoothing, 0, 1)
    at_least("beta", beta, 0, 1)
    if 0 < min(beta, 1 - beta) < LEAST:
        hint = "0 is KL(q || p) and 1 is KL(p || q); what is next to them is nearly 0"
        raise BadConfig("beta too near to 0 or 1", found=beta, hint=hint)
    if not -(2**63) <= ignore_index < 2**63:
        raise BadConfig("impossible ignore_index", expected="64 bits", found=ignore_index)


def whole(name: str, value: object) -> int:
    """A whole number as an int, NumPy's too; the symbol of a graph stays one.

    Raises:
        BadConfig: it is none.
    """
    if isinstance(value, torch.SymInt):
        return value  # type: ignore[return-value]
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise BadConfig(f"{name} must be a whole number", found=repr(value))
    return int(value)


def check_logits(logits: object, num_classes: int | None) -> None:
    """Check the student's logits, and how many of their columns are classes.

    Raises:
        BadConfig: they are no tensor (..., W) of at least one class, or there are fewer columns.
    """
    check_tensor("logits", logits)
    assert isinstance(logits, Tensor)
    if logits.ndim < 2 or logits.shape[-1] == 0 or logits.dtype not in FLOATS:
        raise BadConfig(
            "logits of a wrong shape or dtype",
            expected="(batch, classes) of float16, bfloat16, float32 or float64",
            found=f"{tuple(logits.shape)} of {logits.dtype}",
        )
    if num_classes is None:
        return
    if not 1 <= num_classes <= logits.shape[-1]:
        expected = f"1 to {logits.shape[-1]}, the columns of the logits"
        raise BadConfig("impossible num_classes", expected=expected, found=num_classes)


def per_row(
    name: str,
    value: Tensor | None,
    lead: tuple[int, ...],
    *,
    after: tuple[int, ...] = (),
    one: bool = False,
) -> Tensor | None:
    """What there is one of per row of the logits (*lead, W), as (B, ...); None stays None.

    Args:
        name: for the message.
        value: (*lead, *after).
        lead: leading axes of the logits.
        after: axes of what there is for a row.
        one: (*after) for all rows together will do, and comes back as it is.

    Raises:
        BadConfig: it is no tensor, or its shape is another. That of a plain batch is left to
            `check_tensors`.
    """
    if value is None:
        return None
    check_tensor(name, value)
    if len(lead) == 1 or (one and value.ndim <= len(after)):
        return value
    if value.shape[: len(lead)] != lead or value.ndim != len(lead) + len(after):
        expected = f"{(*lead, *after)}" + (f" or {after}" if one else "")
        raise BadConfig(f"{name} of a wrong shape", expected=expected, found=tuple(value.shape))
    return value.flatten(0, len(lead) - 1)


def check_tensors(inputs: LossInputs) -> None:
    """Check that the tensors fit each other, and that none is given in vain.

    Raises:
        BadConfig: a shape, dtype or device is wrong, or an argument would have no effect.
    """
    logits, teacher, rows = inputs.logits, inputs.teacher, inputs.rows
    if teacher is None and inputs.labels is None:
        raise BadConfig("neither targets nor labels: there is nothing to learn from")
    batch, device = logits.shape[0], logits.device
    if inputs.labels is None and (inputs.class_weight is not None or inputs.label_smoothing):
        raise BadConfig("class_weight and label_smoothing have no effect without labels")
    _check("labels", inputs.labels, INTEGERS, [(batch,)], device)
    check_constants(inputs, "class_weight")
    _check("class_weight", inputs.class_weight, FLOATS, [(inputs.classes,)], device)
    if inputs.normaliser is not None:
        if inputs.reduction != "mean":
            raise BadConfig("a normaliser has no effect but for the mean", found=inputs.reduction)
        _check("normaliser", inputs.normaliser, NUMBERS, [(), (2,)], device)
    if teacher is None:
        given = ("rows", "teacher_weight", "row_temperature", "row_weight")
        if inputs.beta or any(getattr(inputs, name) is not None for name in given):
            raise BadConfig(
                "rows, teacher_weight, beta and a temperature or weight of each row have no effect "
                "without targets"
            )
        return
    _check_teacher(inputs, teacher)
    _check("rows", rows, INTEGERS, [(batch,)], device)
    if rows is not None and not inputs.num_rows and batch:
        raise BadConfig("the targets hold no row")
    if rows is None and inputs.num_rows != batch:
        raise BadConfig(
            "one teacher row per batch row is needed",
            expected=batch,
            found=inputs.num_rows,
            hint="rows= picks teacher rows by index",
        )
    shapes = [(teacher.shape[0],), (batch, teacher.shape[0])]
    _check("teacher_weight", inputs.teacher_weight, FLOATS, shapes, device)
    _check_share(inputs.teacher_weight)
    for name, value in (("temperature", inputs.row_temperature), ("weight", inputs.row_weight)):
        _check(name, value, FLOATS, [(), (batch,)], device)


def check_constants(inputs: LossInputs, *names: str) -> None:
    """Refuse to be asked for the gradient of what has none."""
    for name in names:
        value = getattr(inputs, name)
        if torch.is_grad_enabled() and isinstance(value, Tensor) and value.requires_grad:
            what = name.removeprefix("row_")
            raise BadConfig(f"a gradient is wanted for the {what}", hint=f"`{what}` is a constant")


def _check_teacher(inputs: LossInputs, teacher: Tensor) -> None:
    num_classes, found, width = inputs.classes, teacher.shape[2], inputs.logits.shape[1]
    dense = inputs.teacher_index is None
    if found not in (num_classes, width) if dense else found > num_classes:
        expected = f"{num_classes}" if dense else f"k of at most {num_classes}"
        raise BadConfig("targets and logits differ in classes", expected=expected, found=found)
    if teacher.device != inputs.logits.device:
        raise BadConfig(
            "targets on another device than the logits",
            expected=inputs.logits.device,
            found=teacher.device,
            hint="targets.to(device) moves them, once",
        )


def _check_share(teacher_weight: Tensor | None) -> None:
    """Refuse negative weights where a look costs nothing; on a GPU they make NaN."""
    if (
        teacher_weight is None
        or torch.compiler.is_compiling()
        or type(teacher_weight) is not Tensor
    ):
        return
    if teacher_weight.device.type == "cpu" and bool((teacher_weight < 0).any()):
        raise BadConfig("teacher_weight below 0", found=teacher_weight.min().item())


def _check(
    name: str,
    value: Tensor | None,
    dtypes: tuple[torch.dtype, ...],
    shapes: list[tuple[int, ...]],
    device: torch.device,
) -> None:
    if value is None:
        return
    check_tensor(name, value)
    if value.dtype not in dtypes or tuple(value.shape) not in shapes or value.device != device:
        raise BadConfig(
            f"{name} of a wrong shape, dtype or device",
            expected=f"{_KINDS[dtypes]} {' or '.join(str(shape) for shape in shapes)} on {device}",
            found=f"{value.dtype} {tuple(value.shape)} on {value.device}",
        )
