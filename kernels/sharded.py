"""`distillation_loss_sharded`: the loss where each process of a group holds a part of the classes.

Promise: on every process the loss that `distillation_loss` gives for all columns side by side, and
the gradient of the process's own. What is communicated has a few numbers a row, whatever the number
of classes: twice going forward, never going back.

1. All-gather of each process's log-sums: of the student at 1 (for the cross-entropy), at T, and
   outside the k; of each dense teacher at T. From them follow everybody's log-probabilities; sums
   of exponentials would need a maximum first.
2. All-reduce of the sums of what these make: cross-entropy, divergence, and what the gradient needs
   to know of the classes of others.

Backward computes the gradient from the logits and these sums, so that it is rounded once, after the
upstream factor, and no buffer of the logits' size waits for it.
Letters: B batch rows, W columns of a process, n of them its classes, C classes of all processes, N
teacher rows, K top-k, M teachers, T temperature.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple, Unpack, overload

import torch
import torch.distributed as dist
from torch import Tensor
from torch._compile import _disable_dynamo

from antcache.checks import at_least
from antcache.errors import BadConfig
from antcache.kernels.arguments import (
    CommonSettings,
    check_names,
    computable,
    loss_inputs,
    shaped,
)
from antcache.kernels.checks import check_constants, check_logits, check_tensors, whole
from antcache.kernels.op import own
from antcache.kernels.record import LossInputs
from antcache.kernels.reference import DistillationParts, kl_weights, locate
from antcache.kernels.sharded_rows import Scales, Shard, ShardRows, Terms, cut
from antcache.kernels.targets import Targets

BLOCK = 2**20
"""Logits that are in memory as float64 at once, several times."""


class ShardedSettings(CommonSettings, total=False):
    """What `distillation_loss_sharded` takes by keyword besides `return_parts`."""

    group: dist.ProcessGroup | None
    offset: int | None
    num_classes: int | None


@overload
def distillation_loss_sharded(
    logits: Tensor,
    targets: Targets | Tensor | None = ...,
    labels: Tensor | None = ...,
    *,
    return_parts: Literal[False] = ...,
    **settings: Unpack[ShardedSettings],
) -> Tensor: ...


@overload
def distillation_loss_sharded(
    logits: Tensor,
    targets: Targets | Tensor | None = ...,
    labels: Tensor | None = ...,
    *,
    return_parts: Literal[True],
    **settings: Unpack[ShardedSettings],
) -> DistillationParts: ...


@_disable_dynamo
def distillation_loss_sharded(
    logits: Tensor,
    targets: Targets | Tensor | None = None,
    labels: Tensor | None = None,
    *,
    group: dist.ProcessGroup | None = None,
    offset: int | None = None,
    num_classes: int | None = None,
    return_parts: bool = False,
    **settings: Unpack[CommonSettings],
) -> Tensor | DistillationParts:
    """`distillation_loss` with the classes spread over the processes of a group.

    Every process of the group calls it, with its own columns of what has one per class, and with
    all else alike: the same rows, labels, teacher rows and settings. That can't be checked without
    communication: another number of rows, or an argument that one process alone refuses, lets the
    others wait until the group's timeout. A graph (`torch.compile`) ends before it, and another one
    begins after it.

    Args:
        logits: (B, W) or (..., W), own columns of the student's logits.
        targets: `DenseTargets` with own columns; `TopKTargets` with all K entries on every process,
            under the ids of the classes among all; a plain tensor (N, W) is one dense teacher.
        labels: (B,) ids of the classes among all.
        group: who holds the classes; None for all processes.
        offset: class id of the first own column. None: all processes have W columns, and the
            classes are in the order of the ranks.
        num_classes: C, of all processes, to be given with `offset`. Columns from this class id on
            are padding, as where the last process has fewer classes but as many columns. None: all
            columns are classes.
        return_parts: as in `distillation_loss`.
        settings: the others of `distillation_loss`, but for `impl` and `overwrite_logits`;
            `class_weight` is (n,) of own classes, (W,) on a process that has none.

    Returns:
        As `distillation_loss`, the same on every process; accumulated in float64. The gradient that
        it sends back is that of own columns: backward has to run on every process, with the same
        factor, but does not communicate. NaN in all rows where the processes' classes don't add up
        to all; in its row for a label, teacher row or top-k class that there is not. Of the parts
        none gives gradients, and there is no second derivative.

    Raises:
        BadConfig: as `distillation_loss`; or this process is in no such group.
    """
    check_names("distillation_loss_sharded", settings)
    check_logits(logits, None)
    shard = _shard(logits.shape[-1], group, offset, num_classes)
    own = shard.width or None
    inputs = loss_inputs(logits, targets, labels, num_classes=own, **settings)
    _check(inputs, shard)
    given = _Sharded.apply(inputs.logits, _ShardedCall(computable(inputs), shard, group))  # type: ignore[no-untyped-call]
    parts = shaped(DistillationParts(*given), logits.shape[:-1])
    return parts if return_parts else parts.loss


def _shard(
    width: int, group: dist.ProcessGroup | None, offset: int | None, num_classes: int | None
) -> Shard:
    """The own classes of this process."""
    if not (dist.is_available() and dist.is_initialized()):
        raise BadConfig(
            "no group of processes to share the classes",
            hint="torch.distributed.init_process_group opens one; `distillation_loss` needs none",
        )
    rank, count = dist.get_rank(group), dist.get_world_size(group)
    if rank < 0:
        raise BadConfig("this process is not in the group that shares the classes")
    if offset is None:
        offset, every = rank * width, count * width
    elif num_classes is None:
        raise BadConfig("offset needs num_classes, of all processes together")
    else:
        every = num_classes
    every = every if num_classes is None else num_classes
    offset, every = whole("offset", offset), whole("num_classes", every)
    at_least("offset", offset, 0, math.inf)
    at_least("num_classes", every, 1, math.inf)
    return Shard(offset, min(width, max(0, every - offset)), every, count)


def _check(inputs: LossInputs, shard: Shard) -> None:
    """As in one process, but that the K of all processes may be more than the classes of one."""
    check_constants(inputs, "row_temperature", "row_weight", "normaliser", "teacher_weight")
    if inputs.teacher is None or inputs.teacher_index is None:
        check_tensors(inputs)
        return
    if inputs.top_k > shard.num_classes:
        expected = f"k of at most {shard.num_classes}"
        raise BadConfig(
            "targets and logits differ in classes", expected=expected, found=inputs.top_k
        )
    one = inputs._replace(
        teacher=inputs.teacher[..., :1], teacher_index=inputs.teacher_index[..., :1]
    )
    check_tensors(one)


class _ShardedCall(NamedTuple):
    """One call on this process."""

    inputs: LossInputs
    shard: Shard
    group: dist.ProcessGroup | None

    def blocks(self) -> Iterator[ShardRows]:
        """Its rows, a few at a time."""
        batch = len(self.inputs.logits)
        step = max(1, BLOCK // max(1, self.shard.width))
        for start in range(0, max(1, batch), step):
            yield ShardRows(self.inputs, self.shard, slice(start, min(start + step, batch)))


class _Sharded(torch.autograd.Function):
    """The loss and its parts from the logits; everything else is a constant."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, call: _ShardedCall) -> tuple[Tensor, ...]:
        """Parts, by two collectives."""
        given: dict[str, Any] = call.inputs._asdict()
        del given["logits"]
        given = {name: own(v) for name, v in given.items() if isinstance(v, Tensor)}
        call = call._replace(inputs=call.inputs._replace(**given))
        log_sums = _gathered(call)
        parts, scales = _loss(call, *_added(call, log_sums))
        # The logits are kept by autograd alone, which frees them; the constants by it as well, so
        # that it notices if one has changed before backward reads it again.
        constants = [value for value in call.inputs[1:] if isinstance(value, Tensor)]
        ctx.save_for_backward(logits, log_sums, *scales, *constants)
        ctx.call = call._replace(inputs=call.inputs._replace(logits=logits.new_empty(0)))
        ctx.mark_non_differentiable(*parts[1:])
        ctx.set_materialize_grads(False)
        return tuple(parts)

    @staticmethod
    def backward(ctx: Any, factor: Tensor | None, *_: Tensor | None) -> tuple[Tensor | None, None]:
        """Gradient for own logits, by nobody's help."""
        if factor is None:
            return None, None
        if torch.is_grad_enabled():
            raise BadConfig(
                "double backward (create_graph=True) is not supported",
                hint="`distillation_loss` with impl='torch' does it, in one process",
            )
        logits, log_sums, *saved = ctx.saved_tensors
        scales = Scales(*saved[: len(Scales._fields)])
        scales = scales._replace(ce=scales.ce * factor, kl=scales.kl * factor)
        call: _ShardedCall = ctx.call._replace(inputs=ctx.call.inputs._replace(logits=logits))
        grad = torch.zeros_like(logits)
        for rows in call.blocks():
            mine = Scales(*(value[rows.at] for value in scales))
            grad[rows.at, : call.shard.width] = rows.gradient(log_sums[rows.at], mine)
        return grad, None


def _gathered(call: _ShardedCall) -> Tensor:
    """Log-sums over all classes, (B, 3 or 3 + M)."""
    own = torch.cat([rows.log_sums() for rows in call.blocks()])
    if not own.numel():
        return own
    every = [torch.empty_like(own) for _ in range(dist.get_world_size(call.group))]
    dist.all_gather(every, own, group=call.group)
    return torch.stack(every).logsumexp(0)


def _added(call: _ShardedCall, log_sums: Tensor) -> tuple[Terms, Tensor]:
    """Terms of all classes (B,) each; which rows name a top-k class that there is not (B,)."""
    terms, unknown = [], []
    for rows in call.blocks():
        terms.append(torch.stack(rows.terms(log_sums[rows.at]), 1))
        unknown.append(rows.unknown)
    total = torch.cat(terms)
    if total.numel():
        dist.all_reduce(total, group=call.group)
    return Terms(*total.unbind(1)), torch.cat(unknown)


def _loss(call: _ShardedCall, terms: Terms, unknown: Tensor) -> tuple[DistillationParts, Scales]:
    """Loss and parts, and what the gradient is made of, from the terms of all classes."""
    inputs, shard = call.inputs, call.shard
    zeros = torch.zeros_like(terms.ce)
    counted = has_target = zeros.bool()
    no_label = strange = terms.surplus != 0  # some class is in no process, or in two
    if inputs.labels is not None:
        labels = inputs.labels.long()
        counted = labels != inputs.ignore_index
        no_label = strange | (counted & ((labels < 0) | (labels >= shard.num_classes)))
    if inputs.teacher is not None:
        rows = cut(inputs, shard, slice(0, len(zeros)))
        _, has_target = locate(rows, zeros.device)
        strange = strange | unknown
        if inputs.rows is not None:
            strange = strange | (inputs.rows >= inputs.num_rows)
    ce = terms.ce.where(counted, 0).masked_fill(no_label, math.nan)
    kl = terms.divergence.where(has_target, 0).masked_fill(strange, math.nan)

    label_weight, kl_weight = inputs.label_weight + zeros, kl_weights(inputs, zeros) + zeros
    if inputs.reduction == "mean":
        n_ce, n_kl = (terms.label_weight * counted).sum(), has_target.sum()
        if inputs.normaliser is not None:
            n_ce, n_kl = inputs.normaliser.double()
        # A count of 0 comes with a sum of 0, as in `reference`.
        label_weight = label_weight / n_ce.where(n_ce != 0, 1)
        kl_weight = kl_weight / n_kl.where(n_kl != 0, 1)
    loss = label_weight * ce + kl_weight * kl
    if inputs.reduction != "none":
        loss = loss.sum()
    scales = Scales(
        ce=(label_weight * counted).masked_fill(no_label, math.nan),
        kl=(kl_weight * has_target).masked_fill(strange, math.nan),
        label_weight=terms.label_weight,
        class_weight=terms.class_weight,
        slope=terms.slope,
    )
    dtype = torch.float64 if inputs.logits.dtype == torch.float64 else torch.float32
    return DistillationParts(loss.to(dtype), ce.to(dtype), kl.to(dtype), has_target), scales
