"""Who is measured from hidden states: the classifier and the loss in one.

Promise: as in `contenders.py`; the gradients are for the hidden states and the classifier's weight.
The teacher's logits are cached, as soft targets are, but for who takes its hidden states alone.
Letters: B batch rows, D = 1024 hidden features, C classes, T = 2.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from antcache import kernels
from antcache.kernels.benchmark.contenders import (
    TEMPERATURE,
    Skip,
    compile_once,
    composed,
    load,
)
from antcache.kernels.benchmark.rows import (
    COMPILED,
    EAGER,
    FLA,
    LIGER,
    ORDA,
    OURS,
    PLAIN,
    WHOLE,
    Case,
)
from antcache.kernels.loss import Impl, distillation_loss

HIDDEN = 1024


@dataclass(frozen=True, kw_only=True, eq=False)
class Hidden:
    """One set of inputs, with one teacher row per batch row.

    Attributes:
        hidden: (B, D), a leaf that requires a gradient.
        weight: (C, D) of the classifier, likewise.
        teacher_hidden: (B, D) of the teacher.
        teacher_weight: (C, D) of its classifier.
        teacher: (B, C), the logits of these two.
        labels: (B,) int64.
    """

    hidden: Tensor
    weight: Tensor
    teacher_hidden: Tensor
    teacher_weight: Tensor
    teacher: Tensor
    labels: Tensor

    @property
    def leaves(self) -> tuple[Tensor, ...]:
        """What the gradients are for."""
        return (self.hidden, self.weight)


HiddenLoss = Callable[[Hidden], Tensor]


def make_hidden(case: Case, device: str, generator: torch.Generator) -> Hidden:
    """Random inputs, logits of the deviation 2."""
    dtype = getattr(torch, case.dtype)

    def normal(rows: int, scale: float) -> Tensor:
        made = torch.randn(rows, HIDDEN, device=device, dtype=dtype, generator=generator)
        return made.mul_(scale)

    theirs = normal(case.batch, 1.0), normal(case.classes, 2.0 / HIDDEN**0.5)
    return Hidden(
        hidden=normal(case.batch, 1.0).requires_grad_(),
        weight=normal(case.classes, 2.0 / HIDDEN**0.5).requires_grad_(),
        teacher_hidden=theirs[0],
        teacher_weight=theirs[1],
        teacher=F.linear(*theirs),
        labels=torch.randint(case.classes, (case.batch,), device=device, generator=generator),
    )


def ours(impl: Impl) -> HiddenLoss:
    """`distillation_loss_linear` as a user calls it.

    Raises:
        Skip: it is not there.
    """
    linear = getattr(kernels, "distillation_loss_linear", None)
    if linear is None:
        raise Skip("this version has no distillation_loss_linear")

    def loss(item: Hidden) -> Tensor:
        made: Tensor = linear(
            item.hidden,
            item.weight,
            None,
            item.teacher,
            item.labels,
            temperature=TEMPERATURE,
            impl=impl,
        )
        return made

    return loss


def whole(impl: Impl) -> HiddenLoss:
    """The classifier, then `distillation_loss` of all logits."""

    def loss(item: Hidden) -> Tensor:
        logits = F.linear(item.hidden, item.weight)
        return distillation_loss(
            logits, item.teacher, item.labels, temperature=TEMPERATURE, impl=impl
        )

    return loss


def _composed(hidden: Tensor, weight: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
    return composed(F.linear(hidden, weight), teacher[None], None, labels, len(weight))


def plain() -> HiddenLoss:
    """The classifier, then what one would write."""
    return lambda item: _composed(item.hidden, item.weight, item.teacher, item.labels)


def compiled() -> HiddenLoss:
    """`plain` under torch.compile."""
    fast = compile_once(_composed)
    return lambda item: fast(item.hidden, item.weight, item.teacher, item.labels)


def liger() -> HiddenLoss:
    """Liger-Kernel's fused linear KLDiv, which takes probabilities, and its cross-entropy.

    Raises:
        Skip: the package is not here, or older than the former.
    """
    package, ops = "liger-kernel", "liger_kernel.ops"
    (kl,) = load(package, f"{ops}.fused_linear_kl_div", "LigerFusedLinearKLDivFunction")
    (ce,) = load(
        package, f"{ops}.fused_linear_cross_entropy", "LigerFusedLinearCrossEntropyFunction"
    )

    def loss(item: Hidden) -> Tensor:
        target = F.softmax(item.teacher / TEMPERATURE, -1)
        # Their order: ..., labels, reduction, ignored label, temperature.
        divergence: Tensor = kl.apply(
            item.hidden, item.weight, target, None, "batchmean", -100, TEMPERATURE
        )
        label: Tensor = ce.apply(item.hidden, item.weight, item.labels)[0]
        return label + TEMPERATURE**2 * divergence

    return loss


def orda() -> HiddenLoss:
    """orda-kernel with a precomputed teacher, which it looks through when it is given, once.

    Raises:
        Skip: the package is not here.
    """
    fused, precomputed, configured = load(
        "orda-kernel", "orda_kernel", "distillation_loss", "PrecomputedTeacher", "KernelConfig"
    )

    @functools.cache
    def teacher(item: Hidden) -> object:
        return precomputed(logits=item.teacher)

    def loss(item: Hidden) -> Tensor:
        made: Tensor = fused(
            item.hidden,
            item.weight,
            item.labels,
            teacher(item),
            kl_weight=1.0,
            kl_temperature=TEMPERATURE,  # it multiplies by T^2 itself
            profile="fast",
            backend="triton",  # `auto` would fall back to PyTorch unseen
            config=configured(assume_valid_labels=True),
        ).loss
        return made

    return loss


def flash_linear_attention() -> HiddenLoss:
    """flash-linear-attention's fused linear KL and cross-entropy; it computes the teacher's logits.

    It has no temperature: hidden states are divided by it, and so are their logits.

    Raises:
        Skip: the package is not here.
    """
    package = "flash-linear-attention"
    (kl,) = load(package, "fla.modules.fused_kl_div", "fused_kl_div_loss")
    (ce,) = load(
        package, "fla.modules.fused_linear_cross_entropy", "fused_linear_cross_entropy_loss"
    )

    def loss(item: Hidden) -> Tensor:
        divergence: Tensor = kl(
            item.hidden / TEMPERATURE,
            item.teacher_hidden / TEMPERATURE,
            item.weight,
            item.teacher_weight,
        )
        label: Tensor = ce(item.hidden, item.labels, item.weight)
        return label + TEMPERATURE**2 * divergence

    return loss


def hidden_contender(name: str, fast: Impl) -> HiddenLoss:
    """The loss by this contender; `fast` is the implementation that stands for ours.

    Raises:
        Skip: it is not here.
    """
    made: dict[str, Callable[[], HiddenLoss]] = {
        OURS: lambda: ours(fast),
        WHOLE: lambda: whole(fast),
        PLAIN: plain,
        EAGER: lambda: whole("torch"),
        COMPILED: compiled,
        LIGER: liger,
        ORDA: orda,
        FLA: flash_linear_attention,
    }
    return made[name]()
