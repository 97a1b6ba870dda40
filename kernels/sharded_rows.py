"""A few rows of the distillation loss over the classes of one process, in float64.

Promise: what `sharded.py` adds up over the processes, and the gradient from these sums; nothing
here communicates or looks at the value of a tensor. float64, since a class that the loss depends on
may lie in another process: what a single pass over a row makes exact by the row's own differences
(`docs/kernel.md`) is so here by the precision alone. Letters: R rows, n own classes, C classes of
all processes, M teachers, N teacher rows, K top-k, T temperature.

With D the sum over classes (and the tail) of d(q, p), p = softmax(u), and h = p d'(p), the gradient
of D for u_c is h_c - p_c sum(h): like D itself it needs the others' classes only in sums.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from antcache.kernels.record import DENSE, NONE, TAIL, TOP_K, LossInputs
from antcache.kernels.reference import locate, mix, temperatures


class Shard(NamedTuple):
    """The classes of one of several processes: `offset` to `offset + width`, of `num_classes`."""

    offset: int
    width: int
    num_classes: int
    processes: int

    @property
    def surplus(self) -> float:
        """What adds up to 0 if the processes have each class once: twice their ids, from 1 on."""
        own = self.width * (2 * self.offset + self.width + 1)
        return float(self.processes * own - self.num_classes * (self.num_classes + 1))

    def columns(self, classes: Tensor, elsewhere: int) -> Tensor:
        """The own column of each class id, `elsewhere` for the classes of other processes."""
        own = classes.long() - self.offset
        return own.where((own >= 0) & (own < self.width), elsewhere)

    def form(self, inputs: LossInputs) -> int:
        """As `LossInputs.form`; where K is all classes nothing is left for a tail."""
        if inputs.teacher is None:
            return NONE
        if inputs.teacher_index is None:
            return DENSE
        whole = inputs.top_k == self.num_classes
        return TOP_K if inputs.tail is None or whole else TAIL


class Scales(NamedTuple):
    """What multiplies each row's terms in the gradient (R,), and the sums over all classes (R,).

    Attributes:
        ce: of the cross-entropy.
        kl: of the divergence.
        label_weight: class weight of the label.
        class_weight: sum of all class weights.
        slope: sum of h.
    """

    ce: Tensor
    kl: Tensor
    label_weight: Tensor
    class_weight: Tensor
    slope: Tensor


class Terms(NamedTuple):
    """What is summed over the processes, (R,) each; as in `Scales`.

    Attributes:
        ce: cross-entropy.
        divergence: d(q, p).
        slope: h.
        label_weight: class weight of the label, 0 where another process has it.
        class_weight: sum of the class weights.
        surplus: that of the shard.
    """

    ce: Tensor
    divergence: Tensor
    slope: Tensor
    label_weight: Tensor
    class_weight: Tensor
    surplus: Tensor


def cut(inputs: LossInputs, shard: Shard, at: slice) -> LossInputs:
    """The record of rows `at` and own classes, which names none but teacher rows that there are."""

    def mine(value: Tensor | None, *, ndim: int = 1) -> Tensor | None:
        return value if value is None or value.ndim < ndim else value[at]

    rows = inputs.rows
    if inputs.teacher is not None:
        every = torch.arange(len(inputs.logits), device=inputs.logits.device)
        rows = (every if rows is None else rows.long()).clamp(max=inputs.num_rows - 1)
    return inputs._replace(
        logits=inputs.logits[at, : shard.width],
        labels=mine(inputs.labels),
        rows=mine(rows),
        teacher_weight=mine(inputs.teacher_weight, ndim=2),
        row_temperature=mine(inputs.row_temperature),
        row_weight=mine(inputs.row_weight),
    )


class ShardRows:
    """The own columns of rows `at`: their log-sums, then, given everybody's, terms and gradient."""

    def __init__(self, inputs: LossInputs, shard: Shard, at: slice) -> None:
        self.at, self.shard, self.form = at, shard, shard.form(inputs)
        self.inputs = cut(inputs, shard, at)
        self.logits = self.inputs.logits.double()
        self.zeros = self.logits.new_zeros(len(self.logits))
        self.unknown = self.zeros.bool()  # names a top-k class that there is not
        self.weights = self.logits.new_ones(shard.width)
        if inputs.class_weight is not None:
            self.weights = inputs.class_weight[: shard.width].double()
        if self.inputs.labels is not None:
            self.label = shard.columns(self.inputs.labels, -1)  # -1: not here
        if inputs.teacher is not None:
            self._read_teacher(inputs.teacher)

    def _read_teacher(self, teacher: Tensor) -> None:
        """`scaled` student (R, n) at T, and `teacher` (M, R, n), log-probabilities up to a sum."""
        inputs, shard = self.inputs, self.shard
        temperature = self.temperature = temperatures(inputs, self.logits)
        self.scaled = self.logits / temperature
        row, has_target = locate(inputs, self.logits.device)
        # Whatever the teacher row of a masked row holds, it can't reach a sum.
        logit = teacher[:, row].double().where(has_target[:, None], 0)
        if inputs.teacher_index is None:
            self.teacher = logit[..., : shard.width] / temperature
            return
        num_teachers, batch, k = logit.shape
        index = inputs.teacher_index[:, row].long()
        index = index.where(has_target[:, None], torch.arange(k, device=index.device))
        self.unknown = ((index < 0) | (index >= shard.num_classes)).any(-1).any(0)
        shape = (num_teachers, batch, shard.width + 2)  # own classes, any in no k, those elsewhere
        if self.form == TAIL and inputs.tail is not None:
            others = shard.num_classes - k
            tail = inputs.tail[:, row].double().where(has_target, -1.0)[..., None]
            log_k = logit.log_softmax(-1) + torch.log(-torch.expm1(tail))  # at T = 1
            log_k, log_other = log_k / temperature, (tail - math.log(others)) / temperature
            log_sum = torch.cat([log_k, log_other + math.log(others)], -1)
            log_sum = log_sum.logsumexp(-1, keepdim=True)
            log_k, log_q = log_k - log_sum, (log_other - log_sum).expand(shape).clone()
        else:
            log_k = (logit / temperature).log_softmax(-1)
            log_q = logit.new_full(shape, -math.inf)
        own = shard.columns(index, shard.width + 1)
        self.teacher = log_q.scatter_(-1, own, log_k)[..., :-1]
        inside = torch.zeros(shape, dtype=torch.bool, device=own.device).scatter_(-1, own, True)
        self.inside = inside[..., : shard.width].any(0)
        if self.form == TOP_K:
            self.scaled = self.scaled.masked_fill(~self.inside, -math.inf)
        named = index.movedim(0, 1).flatten(1).sort(1).values
        union = 1 + (named.diff(dim=1) != 0).sum(1)
        self.log_others = (shard.num_classes - union).double().log()  # -inf: no class is left

    def log_sums(self) -> Tensor:
        """Logarithms of the sums over own classes (R, 3 or 3 + M) that make log-probabilities.

        Of the student at 1, at T, and at T outside the k; then of dense teachers.
        """
        sums = [self.zeros, self.zeros, self.zeros]
        if self.inputs.labels is not None:
            sums[0] = self.logits.logsumexp(1)
        if self.form != NONE:
            sums[1] = self.scaled.logsumexp(1)
        if self.form == TAIL:
            sums[2] = self.scaled.masked_fill(self.inside, -math.inf).logsumexp(1)
        if self.form == DENSE:
            sums += self.teacher.logsumexp(-1)
        return torch.stack(sums, 1)

    def _log_probabilities(self, log_sums: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of teacher and student: own classes (R, n) each, then the tail (R,) each."""
        log_p, log_q = self.scaled - log_sums[:, 1:2], self.teacher
        if self.form == DENSE:
            log_q = log_q - log_sums[:, 3:].T[..., None]
        log_q = mix(log_q, self.inputs.teacher_weight)
        nothing = self.zeros - math.inf
        if self.form != TAIL:
            return log_q[:, : self.shard.width], log_p, nothing, nothing
        return log_q[:, :-1], log_p, log_q[:, -1] + self.log_others, log_sums[:, 2] - log_sums[:, 1]

    def terms(self, log_sums: Tensor) -> Terms:
        """Sums over own classes, given the log-sums over all; with the tail where class 0 is."""
        ce = divergence = slope = label_weight = self.zeros
        if self.inputs.labels is not None:
            log_p, here = self.logits - log_sums[:, :1], self.label >= 0
            smoothing = self.inputs.label_smoothing
            if self.shard.width:
                column = self.label.clamp(min=0)
                label_weight = self.weights[column].where(here, 0)
                ce = -label_weight * log_p.gather(1, column[:, None])[:, 0]
                ce = ((1 - smoothing) * ce).where(here, 0)
            if smoothing:
                ce = ce - smoothing / self.shard.num_classes * (log_p * self.weights).sum(1)
        if self.form != NONE:
            log_q, log_p, log_q_tail, log_p_tail = self._log_probabilities(log_sums)
            terms = diverge(log_q, log_p, self.inputs.beta)
            if self.form == TAIL:  # the others are in the tail together
                terms = terms[0].where(self.inside, 0), terms[1].where(self.inside, 0)
            divergence, slope = terms[0].sum(1), terms[1].sum(1)
            if self.form == TAIL and not self.shard.offset:  # one process adds what all know
                tail = diverge(log_q_tail, log_p_tail, self.inputs.beta)
                divergence, slope = divergence + tail[0], slope + tail[1]
        every, surplus = self.zeros + self.weights.sum(), self.zeros + self.shard.surplus
        return Terms(ce, divergence, slope, label_weight, every, surplus)

    def gradient(self, log_sums: Tensor, scales: Scales) -> Tensor:
        """For own logits (R, n)."""
        grad = torch.zeros_like(self.logits)
        if self.inputs.labels is not None:
            smoothing = self.inputs.label_smoothing
            spread = smoothing / self.shard.num_classes
            hard = (1 - smoothing) * scales.label_weight
            total = (hard + spread * scales.class_weight)[:, None]
            grad = total * (self.logits - log_sums[:, :1]).exp() - spread * self.weights
            columns = torch.arange(self.shard.width, device=grad.device)
            grad = grad - hard[:, None] * (columns == self.label[:, None])
            grad = _times(scales.ce[:, None], grad)
        if self.form != NONE:
            log_q, log_p, log_q_tail, log_p_tail = self._log_probabilities(log_sums)
            slope = diverge(log_q, log_p, self.inputs.beta)[1]
            if self.form == TAIL:
                # Its classes take of the tail's slope in proportion to their probabilities.
                of_tail = diverge(log_q_tail, log_p_tail, self.inputs.beta)[1][:, None]
                share = (log_p - log_p_tail[:, None]).masked_fill(log_p == -math.inf, -math.inf)
                slope = slope.where(self.inside, of_tail * share.exp())
            slope = slope - log_p.exp() * scales.slope[:, None]
            grad = grad + _times(scales.kl[:, None] / self.temperature, slope)
        return grad


def _times(scale: Tensor, value: Tensor) -> Tensor:
    """Their product, 0 for a row that does not count, whatever it holds."""
    return (scale * value).where(scale != 0, 0)


def diverge(log_q: Tensor, log_p: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    """d(q, p) and h = p d'(p) by class, the latter up to a multiple of p, which cancels."""
    if beta == 0:
        return _relative(log_q, log_p), log_p.exp() - log_q.exp()
    if beta == 1:
        reverse = _relative(log_p, log_q)
        return reverse, reverse
    log_m = torch.logaddexp(log_q + math.log(beta), log_p + math.log1p(-beta))
    reverse = (1 - beta) * _relative(log_p, log_m)
    return beta * _relative(log_q, log_m) + reverse, reverse


def _relative(log_a: Tensor, log_b: Tensor) -> Tensor:
    """a (log a - log b); 0 where a is 0, also where b is, too: such a class takes no part."""
    return (log_a.exp() * (log_a - log_b)).masked_fill(log_a == -math.inf, 0)
