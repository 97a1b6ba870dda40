"""The distillation loss in plain PyTorch: the truth that every faster version is held against.

Promise: the loss and its gradient for the logits by autograd, on any device, without a wait of the
host for the device: no value of a tensor is ever looked at, so a wrong shape, dtype or setting is
an error here, while a label or row out of range is PyTorch's own and a teacher row with NaN gives
NaN. Letters: B batch rows, C classes, N teacher rows, K top-k, M teachers, T temperature.

With q the teacher and p the student, both as softmax(logits / T) (Hinton, Vinyals and Dean 2015):

    loss = label_weight * CE(logits, labels) + weight * T^2 * mean over rows with a target (KL_T)
    KL_T = sum_c q_c (log q_c - log p_c)

or, with beta, the generalised Jensen-Shannon divergence (Agarwal et al. 2024) in place of KL_T.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from antcache.kernels.record import TAIL, LossInputs


class DistillationParts(NamedTuple):
    """The loss with what it is made of; of the parts, only `impl="torch"` gives gradients.

    Attributes:
        loss: the loss itself, () or (B,), as without `return_parts`.
        ce: (B,) cross-entropy in nats, with class weight and smoothing, without `label_weight`;
            0 where the label is ignored or there are no labels.
        kl: (B,) KL_T in nats, without `weight` and T^2; 0 where a row has no target.
        has_target: (B,) bool, true where the KL term counts.
    """

    loss: Tensor
    ce: Tensor
    kl: Tensor
    has_target: Tensor


def reference(inputs: LossInputs) -> DistillationParts:
    """Loss and parts, by autograd.

    float64 for float64 logits, else float32: everything is accumulated in that.
    """
    logits = inputs.logits
    student = logits if logits.dtype == torch.float64 else logits.float()
    if inputs.num_classes:
        student = student[:, : inputs.num_classes]
    zeros = student.new_zeros(student.shape[0])
    ce, kl, has_target = zeros, zeros, torch.zeros_like(zeros, dtype=torch.bool)
    ce_count = zeros.sum()  # what the sum of `ce` is divided by for the mean
    if inputs.labels is not None:
        labels, weight = inputs.labels.long(), inputs.class_weight
        counted = labels != inputs.ignore_index
        per_class = None if weight is None else weight.to(student.dtype)
        ce = F.cross_entropy(
            student.where(counted[:, None], 0),  # 0 times NaN would be a gradient of NaN
            labels,
            weight=per_class,
            ignore_index=inputs.ignore_index,
            label_smoothing=inputs.label_smoothing,
            reduction="none",
        )
        if per_class is None:
            ce_count = counted.sum(dtype=student.dtype)
        else:
            ce_count = (per_class[labels.where(counted, 0)] * counted).sum()
    if inputs.teacher is not None:
        rows, has_target = locate(inputs, student.device)
        temperature = temperatures(inputs, student)
        log_q, inside = _teacher(inputs, inputs.teacher, rows, has_target, student, temperature)
        tail = inputs.form == TAIL
        scaled = student.where(has_target[:, None], 0) / temperature
        kl = _divergence(scaled, log_q, inside, tail=tail, beta=inputs.beta)
        kl = kl.where(has_target, 0)

    pull = (kl_weights(inputs, student) * kl).where(has_target, 0)
    if inputs.reduction == "none":
        loss = inputs.label_weight * ce + pull
    elif inputs.reduction == "sum":
        loss = inputs.label_weight * ce.sum() + pull.sum()
    else:
        n_ce, n_kl = ce_count, has_target.sum(dtype=student.dtype)
        if inputs.normaliser is not None:
            n_ce, n_kl = inputs.normaliser.to(student.dtype)
        # A count of 0 comes with a sum of 0; dividing that by 1 keeps value and gradient at 0.
        loss = inputs.label_weight * ce.sum() / n_ce.where(n_ce != 0, 1)
        loss = loss + pull.sum() / n_kl.where(n_kl != 0, 1)
    return DistillationParts(loss, ce, kl, has_target)


def temperatures(inputs: LossInputs, student: Tensor) -> Tensor | float:
    """T, or those of the rows (B, 1)."""
    given = inputs.row_temperature
    if given is None:
        return inputs.temperature
    return given.to(student.dtype).expand(student.shape[0])[:, None]


def kl_weights(inputs: LossInputs, student: Tensor) -> Tensor | float:
    """What the KL is multiplied by, T^2 included: one number, () or (B,)."""
    factor: Tensor | float = inputs.kl_weight
    if inputs.row_weight is not None:
        factor = factor * inputs.row_weight.to(student.dtype)
    if inputs.row_temperature is not None:
        factor = factor * inputs.row_temperature.to(student.dtype).square()
    return factor


def locate(inputs: LossInputs, device: torch.device) -> tuple[Tensor, Tensor]:
    """Teacher row (B,) of each batch row, 0 where there is none, and which have one (B,)."""
    given = inputs.rows
    rows = torch.arange(inputs.logits.shape[0], device=device) if given is None else given.long()
    has_target = rows >= 0
    rows = rows.clamp(min=0)
    if inputs.valid is not None:
        has_target = has_target & inputs.valid[rows]
    return rows, has_target


def _teacher(
    inputs: LossInputs,
    teacher: Tensor,
    rows: Tensor,
    has_target: Tensor,
    student: Tensor,
    temperature: Tensor | float,
) -> tuple[Tensor, Tensor | None]:
    """Log-probabilities of the mixed teachers at T (B, C), and the classes inside their k (B, C).

    The latter is None for the dense form. A row without a target gets some finite distribution, so
    that whatever its teacher row holds can't reach the gradient.
    """
    teacher = teacher.detach()
    if inputs.teacher_index is None:
        teacher = teacher[..., : student.shape[1]]
    logit = teacher[:, rows].to(student.dtype).where(has_target[:, None], 0)  # (M, B, C or K)
    if inputs.teacher_index is None:
        return mix(F.log_softmax(logit / temperature, dim=-1), inputs.teacher_weight), None

    num_teachers, batch, k = logit.shape
    index = inputs.teacher_index[:, rows].long()
    index = index.where(has_target[:, None], torch.arange(k, device=index.device))
    shape = (num_teachers, batch, student.shape[1])
    if inputs.tail is not None and inputs.form == TAIL:
        others = student.shape[1] - k
        tail = inputs.tail.detach()[:, rows].to(student.dtype)
        tail = tail.where(has_target, -1.0).unsqueeze(-1)  # (M, B, 1)
        log_k = F.log_softmax(logit, dim=-1) + torch.log(-torch.expm1(tail))  # at T = 1
        log_k, log_other = log_k / temperature, (tail - math.log(others)) / temperature
        log_sum = torch.cat([log_k, log_other + math.log(others)], -1).logsumexp(-1, keepdim=True)
        log_q = (log_other - log_sum).expand(shape).scatter(-1, index, log_k - log_sum)
    else:
        nothing = student.new_full((), -math.inf).expand(shape)
        log_q = nothing.scatter(-1, index, F.log_softmax(logit / temperature, dim=-1))
    # Not in place: of a batch of functions (`vmap`), each would write into the one tensor.
    inside = index.new_zeros((), dtype=torch.bool).expand(shape).scatter(-1, index, True)
    return mix(log_q, inputs.teacher_weight), inside.any(0)


def mix(log_q: Tensor, teacher_weight: Tensor | None) -> Tensor:
    """Mix (M, B, C) log-probabilities as probabilities into (B, C)."""
    if log_q.shape[0] == 1:
        return log_q[0]  # as it is: a logsumexp would round, and its only weight is 1
    if teacher_weight is None:
        return log_q.logsumexp(0) - math.log(log_q.shape[0])
    share = teacher_weight.to(log_q.dtype)
    log_share = (share / share.sum(-1, keepdim=True)).log()
    return (log_q + (log_share.T if share.ndim == 2 else log_share[:, None])[..., None]).logsumexp(
        0
    )


def _divergence(
    scaled: Tensor, log_q: Tensor, inside: Tensor | None, *, tail: bool, beta: float
) -> Tensor:
    """Divergence (B,) of teacher log-probabilities (B, C) and the student, softmax(scaled) (B, C).

    Over the classes `inside` alone, in which the student is renormalised, or, with `tail`, over
    these and all others together as one outcome.
    """
    if inside is None:
        return _terms(log_q, F.log_softmax(scaled, dim=1), beta).sum(1)
    if not tail:
        log_p = F.log_softmax(scaled.masked_fill(~inside, -math.inf), dim=1)
        return _terms(log_q, log_p, beta).sum(1)
    log_p = F.log_softmax(scaled, dim=1)
    known_q, known_p = (x.masked_fill(~inside, -math.inf) for x in (log_q, log_p))
    within = _terms(known_q, known_p, beta).sum(1)
    # Several teachers may name all classes together: then there is no other outcome.
    log_q_tail, log_p_tail = (
        x.masked_fill(inside, -math.inf).masked_fill(inside.all(1, keepdim=True), 0).logsumexp(1)
        for x in (log_q, log_p)
    )
    return within + _terms(log_q_tail, log_p_tail, beta).where(~inside.all(1), 0)


def _terms(log_q: Tensor, log_p: Tensor, beta: float) -> Tensor:
    """What each outcome adds to the divergence; 0 where p and q are 0, or its first factor is."""
    out = (log_q == -math.inf) & (log_p == -math.inf)
    log_q, log_p = log_q.masked_fill(out, 0), log_p.masked_fill(out, 0)
    if beta == 0:
        terms = _excess(log_q, log_p)
    elif beta == 1:
        terms = _excess(log_p, log_q)
    else:
        log_m = torch.logaddexp(log_q + math.log(beta), log_p + math.log1p(-beta))
        terms = beta * _excess(log_q, log_m) + (1 - beta) * _excess(log_p, log_m)
    return terms.masked_fill(out, 0)


def _excess(log_a: Tensor, log_b: Tensor) -> Tensor:
    """a (log a - log b) elementwise; 0 where a is 0 and log b finite, as in `F.kl_div`."""
    return log_a.exp() * (log_a.masked_fill(log_a == -math.inf, 0) - log_b)
