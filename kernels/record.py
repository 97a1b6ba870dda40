"""The record of one distillation loss: what every implementation takes, and what it gives back.

Promise: what was asked for stands here once, from the operator down to the launch, as plain tensors
and numbers; the results have the same names, shapes and types whoever computes them.
Letters: B batch rows, C classes, M teachers, N teacher rows, K top-k.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from antcache.kernels.targets import DenseTargets, Targets

NONE, DENSE, TOP_K, TAIL = range(4)
"""Forms of the teacher: none, dense logits, top-k, top-k with all other classes as one outcome."""


class LossInputs(NamedTuple):
    """Arguments, as `distillation_loss` explains them; tensors first, which `op.py` relies on.

    Attributes:
        logits: (B, C).
        teacher: (M, N, C) dense logits or (M, N, K) top-k logits, None without a teacher.
        teacher_index: (M, N, K) classes of the top-k forms, else None.
        tail: (M, N) log mass of all other classes, or None.
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
    teacher_index: Tensor | None
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
        """NONE, DENSE, TOP_K or TAIL; where K = C nothing is left for a tail."""
        if self.teacher is None:
            return NONE
        if self.teacher_index is None:
            return DENSE
        return TOP_K if self.tail is None or self.top_k == self.logits.shape[1] else TAIL

    @property
    def num_teachers(self) -> int:
        """M, 1 without a teacher."""
        return 1 if self.teacher is None else len(self.teacher)

    @property
    def num_rows(self) -> int:
        """N, 1 without a teacher."""
        return 1 if self.teacher is None else self.teacher.shape[1]

    @property
    def top_k(self) -> int:
        """K, 1 without a top-k form."""
        return 1 if self.teacher_index is None else self.teacher_index.shape[2]

    @property
    def kl_weight(self) -> float:
        """What the KL is multiplied by."""
        return self.weight * self.temperature**2


class LossOutputs(NamedTuple):
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
    targets: Targets | None,
) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
    """`teacher`, `teacher_index`, `tail` and `valid` of the inputs."""
    if targets is None:
        return None, None, None, None
    if isinstance(targets, DenseTargets):
        return targets.logits, None, None, targets.valid
    return targets.logit, targets.index, targets.tail, targets.valid


def empty_outputs(inputs: LossInputs, grad: Tensor | None = None) -> LossOutputs:
    """Outputs to be filled; `grad` is where the gradient goes, None for a new buffer."""
    logits = inputs.logits
    batch, device = len(logits), logits.device
    if grad is None:
        shape = logits.shape if inputs.gradient else (0, logits.shape[1])
        grad = torch.empty(shape, dtype=logits.dtype, device=device)
    one = (batch,) if inputs.reduction == "none" else ()
    return LossOutputs(
        loss=torch.empty(one, dtype=torch.float32, device=device),
        ce=torch.empty(batch, dtype=torch.float32, device=device),
        kl=torch.empty(batch, dtype=torch.float32, device=device),
        has_target=torch.empty(batch, dtype=torch.bool, device=device),
        grad=grad,
        counts=torch.empty(2, dtype=torch.float32, device=device),
    )
