"""What all losses take, checked and brought into the one record that computes them.

Promise: the same words, checks and forms of the arguments wherever the loss comes from: logits,
hidden states, or classes that are spread over processes. Values of tensors are not looked at.
Letters: B batch rows, W width of the logits, C classes, M teachers, N teacher rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypedDict, get_args

import torch
from torch import Tensor

from antcache.checks import one_of
from antcache.errors import BadConfig
from antcache.kernels.checks import check_logits, check_settings, per_row, whole
from antcache.kernels.record import LossInputs, teacher_tensors
from antcache.kernels.reference import DistillationParts
from antcache.kernels.targets import DenseTargets, Targets, TopKTargets, check_tensor

Reduction = Literal["mean", "sum", "none"]


class CommonSettings(TypedDict, total=False):
    """What every loss takes by keyword in one meaning, as `distillation_loss` explains it."""

    rows: Tensor | None
    temperature: float | Tensor
    weight: float | Tensor
    label_weight: float
    class_weight: Tensor | None
    label_smoothing: float
    ignore_index: int
    teacher_weight: Tensor | None
    beta: float
    normaliser: Tensor | None
    reduction: Reduction


COMMON = frozenset(CommonSettings.__annotations__)


def check_names(function: str, settings: Iterable[str]) -> None:
    """Refuse a name that `CommonSettings` lacks, as Python does where each is spelled out.

    Raises:
        TypeError: names the function and the keyword.
    """
    for name in settings:
        if name not in COMMON:
            raise TypeError(f"{function}() got an unexpected keyword argument {name!r}")


def loss_inputs(
    logits: Tensor,
    targets: Targets | Tensor | None,
    labels: Tensor | None,
    *,
    num_classes: int | None = None,
    rows: Tensor | None = None,
    temperature: float | Tensor = 1.0,
    weight: float | Tensor = 1.0,
    label_weight: float = 1.0,
    class_weight: Tensor | None = None,
    label_smoothing: float = 0.0,
    ignore_index: int = -100,
    teacher_weight: Tensor | None = None,
    beta: float = 0.0,
    normaliser: Tensor | None = None,
    reduction: Reduction = "mean",
) -> LossInputs:
    """The record of one loss; whether its tensors fit each other is left to `check_tensors`.

    Args:
        logits: (..., W).
        targets: a record, or a plain tensor, which is one dense teacher.
        labels: (...).
        num_classes: how many of the columns are classes; None for all.
        rows, temperature, weight, label_weight, class_weight, label_smoothing, ignore_index,
            teacher_weight, beta, normaliser, reduction: as in `distillation_loss`.

    Raises:
        BadConfig: one of them is of a wrong type, shape or range by itself.
    """
    one_of("reduction", reduction, get_args(Reduction))
    ignore_index = whole("ignore_index", ignore_index)
    if num_classes is not None:
        num_classes = whole("num_classes", num_classes)
    check_logits(logits, num_classes)
    check_settings(
        temperature=temperature,
        weight=weight,
        label_weight=label_weight,
        label_smoothing=label_smoothing,
        beta=beta,
        ignore_index=ignore_index,
    )
    for name, value in (("class_weight", class_weight), ("normaliser", normaliser)):
        if value is not None:
            check_tensor(name, value)
    lead, width = logits.shape[:-1], logits.shape[-1]
    # Constants, for whoever computes: an operator would else promise gradients that it has not.
    teacher, index, tail, valid = map(_detached, teacher_tensors(targets_of(targets, lead)))
    share = (1 if teacher is None else teacher.shape[0],)
    graph = torch.compiler.is_compiling() and teacher is not None
    row_temperature, temperature = _constant("temperature", temperature, logits, graph)
    row_weight, weight = _constant("weight", weight, logits, graph)
    return LossInputs(
        logits=logits if len(lead) == 1 else logits.flatten(0, -2),
        teacher=teacher,
        teacher_index=index,
        tail=tail,
        valid=valid,
        labels=per_row("labels", labels, lead),
        rows=per_row("rows", rows, lead),
        class_weight=class_weight,
        teacher_weight=per_row("teacher_weight", teacher_weight, lead, after=share, one=True),
        row_temperature=row_temperature,
        row_weight=row_weight,
        normaliser=normaliser,
        temperature=temperature,
        weight=weight,
        label_weight=label_weight,
        label_smoothing=label_smoothing,
        beta=beta,
        ignore_index=ignore_index,
        num_classes=0 if num_classes is None or num_classes == width else num_classes,
        reduction=reduction,
        gradient=torch.is_grad_enabled() and logits.requires_grad,
    )


def computable(inputs: LossInputs) -> LossInputs:
    """The same with its constants as they are computed with: in one dtype, both divisors."""
    dtype = torch.float64 if inputs.logits.dtype == torch.float64 else torch.float32
    changed = {
        name: value.to(dtype)
        for name in ("row_temperature", "row_weight", "normaliser")
        if (value := getattr(inputs, name)) is not None
    }
    if "normaliser" in changed:
        changed["normaliser"] = changed["normaliser"].expand(2)
    return inputs._replace(**changed) if changed else inputs


def shaped(parts: DistillationParts, lead: tuple[int, ...]) -> DistillationParts:
    """What there is one of per row, with the leading axes of the logits."""
    if len(lead) == 1:
        return parts
    return DistillationParts(*(part.reshape(lead) if part.ndim else part for part in parts))


def targets_of(given: object, lead: tuple[int, ...]) -> Targets | None:
    """Targets as records; a plain tensor is one dense teacher."""
    if given is None or isinstance(given, DenseTargets | TopKTargets):
        return given
    check_tensor("targets", given)
    assert isinstance(given, Tensor)
    if not given.dtype.is_floating_point:
        raise BadConfig(
            "targets must be floating", found=given.dtype, hint="labels are the third argument"
        )
    if len(lead) > 1 and given.shape[:-1] == lead:
        given = given.flatten(0, -2)
    if given.ndim != 2:
        raise BadConfig(
            "targets of a wrong shape",
            expected=f"(rows, classes), of one teacher, or {(*lead, 'classes')}",
            found=tuple(given.shape),
            hint="several teachers (teachers, rows, classes) are DenseTargets(logits)",
        )
    return DenseTargets(given[None])


def _detached(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.detach()


def _constant(
    name: str, given: float | Tensor, logits: Tensor, graph: bool
) -> tuple[Tensor | None, float]:
    """A constant of all rows, or of each, as a tensor () or (B,), else as a number.

    A `graph` that is compiled gets a tensor, lest it hold for this value alone; but 1 is quicker
    as a number.
    """
    if isinstance(given, Tensor):
        return per_row(name, given, logits.shape[:-1], one=True), 1.0
    if graph and given != 1:
        # A product, which PyTorch makes of a symbol; for `torch.full` it would take the value.
        return torch.ones((), dtype=torch.float32, device=logits.device) * given, 1.0
    return None, given
