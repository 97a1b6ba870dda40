"""The record of one distillation loss: what every implementation takes, and what it gives back.

Promise: what was asked for stands here once, from the operator down to the launch, as plain tensors
and numbers; the results have the same names, shapes and types whoever computes them.
Letters: B batch rows, W width of the logits, C classes (W or fewer: the rest is padding), M
teachers, N teacher rows, K top-k.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from antcache.kernels.targets import DenseTargets, Targets

NONE, DENSE, TOP_K, TAIL = range(4)
"""Forms of the teacher: none, dense logits, top-k, top-k with all other classes as one outcome."""

FORWARD, REVERSE, MIXED = range(3)
"""Divergences: KL(q || p), KL(p || q), both from a mixture."""


class LossInputs(NamedTuple):
    """Arguments, as `distillation_loss` explains them; tensors first, which `op.py` relies on.

    Attributes:
        logits: (B, W).
        teacher: (M, N, C or W) dense logits or (M, N, K) top-k logits, None without a teacher.
        teacher_index: (M, N, K) classes of the top-k forms, else None.
        tail: (M, N) log mass of all other classes, or None.
        valid: (N,) bool or None.
        labels: (B,) integer or None.
        rows: (B,) integer or None.
        class_weight: (C,) or None.
        teacher_weight: (M,) or (B, M), or None.
        row_temperature: () or (B,) float32, T in place of `temperature`; None for that.
        row_weight: () or (B,) float32, times `weight`; None for 1.
        normaliser: (2,) float32, what the means divide cross-entropy and KL by; None for counts.
        temperature: T.
        weight: of the KL term.
        label_weight: of the cross-entropy.
        label_smoothing: share that is spread over all classes.
        beta: 0 for KL(q || p), 1 for KL(p || q), between for the Jensen-Shannon divergence.
        ignore_index: label that does not count.
        num_classes: C, 0 for W: which leaves W a symbol where a graph is traced for any shape.
        reduction: mean, sum or none.
        gradient: whether the gradient for the logits is wanted.
    """

    logits: Tensor
    teacher: Tensor | None = None
    teacher_index: Tensor | None = None
    tail: Tensor | None = None
    valid: Tensor | None = None
    labels: Tensor | None = None
    rows: Tensor | None = None
    class_weight: Tensor | None = None
    teacher_weight: Tensor | None = None
    row_temperature: Tensor | None = None
    row_weight: Tensor | None = None
    normaliser: Tensor | None = None
    temperature: float = 1.0
    weight: float = 1.0
    label_weight: float = 1.0
    label_smoothing: float = 0.0
    beta: float = 0.0
    ignore_index: int = -100
    num_classes: int = 0
    reduction: str = "mean"
    gradient: bool = False

    @property
    def classes(self) -> int:
        """C."""
        return self.num_classes or self.logits.shape[1]

    @property
    def form(self) -> int:
        """NONE, DENSE, TOP_K or TAIL; where K = C nothing is left for a tail."""
        if self.teacher is None:
            return NONE
        if self.teacher_index is None:
            return DENSE
        return TOP_K if self.tail is None or self.top_k == self.classes else TAIL

    @property
    def divergence(self) -> int:
        """FORWARD, REVERSE or MIXED."""
        if self.beta == 0:
            return FORWARD
        return REVERSE if self.beta == 1 else MIXED

    @property
    def num_teachers(self) -> int:
        """M, 1 without a teacher."""
        return 1 if self.teacher is None else self.teacher.shape[0]

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
        """What the KL is multiplied by, but for `row_weight` and the square of `row_temperature`.

        With the latter, `temperature` is 1.
        """
        return self.weight * self.temperature**2


class LossOutputs(NamedTuple):
    """Results.

    Attributes:
        loss: () or (B,) float32.
        ce: (B,) float32.
        kl: (B,) float32.
        has_target: (B,) bool.
        grad: (B, W) in the logits' dtype: the gradient of the (summed) loss; empty if not wanted.
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
    batch, device = logits.shape[0], logits.device
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
