"""One call of the distillation loss in the form that every implementation takes.

Promise: what was checked once (`checks.py`) is here as plain tensors and numbers, and the results
have the same names, shapes and types whoever computes them.
Letters: B batch rows, C classes, N teacher rows, K top-k, M teachers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from antcache.kernels.targets import DenseTargets, Targets, TopKTargets

NONE, DENSE, TOP_K, TAIL = range(4)
"""Forms of the teacher: none, dense logits, top-k, top-k with all other classes as one outcome."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """Arguments, as `distillation_loss` explains them.

    Attributes:
        logits: (B, C).
        teacher: (M, N, C) dense logits or (M, N, K) top-k logits, None without a teacher.
        index: (M, N, K) classes of the top-k form, else None.
        tail: (M, N) log mass of all other classes, None in the other forms.
        valid: (N,) bool or None.
        labels: (B,) integer or None.
        rows: (B,) integer or None.
        class_weight: (C,) or None.
        teacher_weight: (M,) or (B, M), or None.
        temperature: T.
        weight: of the KL term.
        label_weight: of the cross-entropy.
        label_smoothing: share that is spread over all classes.
        ignore_index: label that does not count.
        reduction: mean, sum or none.
        gradient: whether the gradient for the logits is wanted.
    """

    logits: Tensor
    teacher: Tensor | None
    index: Tensor | None
    tail: Tensor | None
    valid: Tensor | None
    labels: Tensor | None
    rows: Tensor | None
    class_weight: Tensor | None
    teacher_weight: Tensor | None
    temperature: float
    weight: float
    label_weight: float
    label_smoothing: float
    ignore_index: int
    reduction: str
    gradient: bool

    @property
    def form(self) -> int:
        """NONE, DENSE, TOP_K or TAIL."""
        if self.teacher is None:
            return NONE
        if self.index is None:
            return DENSE
        return TOP_K if self.tail is None else TAIL

    @property
    def num_teachers(self) -> int:
        """M, 1 without a teacher."""
        return 1 if self.teacher is None else len(self.teacher)

    @property
    def kl_weight(self) -> float:
        """What the KL is multiplied by."""
        return self.weight * self.temperature**2


class Outputs(NamedTuple):
    """Results.

    Attributes:
        loss: () or (B,) float32.
        ce: (B,) float32.
        kl: (B,) float32.
        has_target: (B,) bool.
        grad: (B, C) in the logits' dtype: the gradient of the (summed) loss; empty if not wanted.
        counts: (2,) float32, what the sums of cross-entropy and KL are divided by.
    """

    loss: Tensor
    ce: Tensor
    kl: Tensor
    has_target: Tensor
    grad: Tensor
    counts: Tensor


def teacher_tensors(
    targets: Targets | None, num_classes: int
) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
    """`teacher`, `index`, `tail` and `valid` of a `Call`."""
    if targets is None:
        return None, None, None, None
    if isinstance(targets, DenseTargets):
        return _teachers(targets.logits, 3), None, None, targets.valid
    assert isinstance(targets, TopKTargets)
    has_tail = targets.tail is not None and targets.index.shape[-1] < num_classes
    tail = _teachers(targets.tail, 2) if has_tail and targets.tail is not None else None
    return _teachers(targets.logit, 3), _teachers(targets.index, 3), tail, targets.valid


def _teachers(tensor: Tensor, ndim: int) -> Tensor:
    """`tensor` with the leading M that a single teacher leaves out."""
    return tensor.unsqueeze(0) if tensor.ndim < ndim else tensor


def empty_outputs(call: Call, grad: Tensor | None = None) -> Outputs:
    """Outputs to be filled; `grad` is where the gradient goes, None for a new buffer."""
    batch, device = len(call.logits), call.logits.device
    if grad is None:
        shape = call.logits.shape if call.gradient else (0, call.logits.shape[1])
        grad = torch.empty(shape, dtype=call.logits.dtype, device=device)
    one = (batch,) if call.reduction == "none" else ()
    return Outputs(
        loss=torch.empty(one, dtype=torch.float32, device=device),
        ce=torch.empty(batch, dtype=torch.float32, device=device),
        kl=torch.empty(batch, dtype=torch.float32, device=device),
        has_target=torch.empty(batch, dtype=torch.bool, device=device),
        grad=grad,
        counts=torch.empty(2, dtype=torch.float32, device=device),
    )
