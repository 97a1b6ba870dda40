"""Who is measured in the benchmark of the kernel: ours, compositions of PyTorch calls, packages.

Promise: all compute the same loss from the same tensors, cross-entropy on labels plus T^2 KL, and
each in the fastest way its package offers: the compositions stay in the logits' dtype. What one
can't do is said in a `Skip`. Those that start from hidden states are in `hidden.py`.
Letters: B batch rows, C classes, W width of a row in memory, K = 50, M = 5 teachers, T = 2.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from antcache.kernels.benchmark.rows import (
    COMPILED,
    EAGER,
    FLA,
    LIGER,
    ORDA,
    OURS,
    OVER,
    PLAIN,
    Case,
)
from antcache.kernels.loss import Impl, distillation_loss
from antcache.kernels.targets import DenseTargets, Targets, TopKTargets

TEMPERATURE = 2.0
TEACHERS = 5
TOP_K = 50


class Skip(Exception):
    """Why a contender is not measured in a case."""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """One set of inputs, with one teacher row per batch row.

    Attributes:
        logits: (B, W), a leaf that requires a gradient; columns from C on are padding.
        teacher: (M, B, W), or (1, B, K) of the classes in `index`.
        index: (1, B, K) int64, None for the dense form.
        labels: (B,) int64.
        classes: C.
    """

    logits: Tensor
    teacher: Tensor
    index: Tensor | None
    labels: Tensor
    classes: int

    @property
    def leaves(self) -> tuple[Tensor, ...]:
        """What the gradient is for."""
        return (self.logits,)

    @property
    def targets(self) -> Targets:
        """The teacher as `distillation_loss` takes it."""
        if self.index is None:
            return DenseTargets(logits=self.teacher)
        return TopKTargets(index=self.index, logit=self.teacher)

    def num_bytes(self, *, gradient: bool) -> int:
        """What must move at least: student and teacher read, the gradient written if wanted.

        Padding is written, for its gradient is 0, but need not be read.
        """
        rows = self.logits[:, : self.classes]
        teacher = self.teacher[..., : self.classes]
        read = sum(t.numel() * t.element_size() for t in (rows, teacher))
        index = 0 if self.index is None else self.index.nbytes
        return read + index + (self.logits.nbytes if gradient else 0)

    def with_own_logits(self) -> Inputs:
        """The same, with a copy of the logits that may be overwritten."""
        return replace(self, logits=self.logits.detach().clone().requires_grad_())


Loss = Callable[[Inputs], Tensor]


def make_inputs(case: Case, device: str, generator: torch.Generator) -> Inputs:
    """Random inputs; the classes of the top-k are spread over the row, distinct in it."""
    batch, classes, dtype = case.batch, case.classes, getattr(torch, case.dtype)

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, device=device, dtype=dtype, generator=generator).mul_(2)

    def integers(*size: int) -> Tensor:
        return torch.randint(classes, size, device=device, generator=generator)

    index, width = None, case.width
    if case.form == "top-50":
        width = min(TOP_K, classes)
        step = torch.arange(width, device=device) * (classes // width)
        index = (integers(1, batch, 1) + step) % classes
    return Inputs(
        teacher=normal(TEACHERS if case.form == "5 teachers" else 1, batch, width),
        index=index,
        logits=normal(batch, case.width).requires_grad_(),
        labels=integers(batch),
        classes=classes,
    )


def composed(
    logits: Tensor, teacher: Tensor, index: Tensor | None, labels: Tensor, classes: int
) -> Tensor:
    """What one would write: `cross_entropy`, `log_softmax`, `kl_div`, in the logits' dtype."""
    if logits.shape[1] > classes:  # a slice of all would cost the gradient a copy
        logits, teacher = logits[:, :classes], teacher[..., :classes]
    log_p, log_q = _pair(logits, teacher, index)
    kl = F.kl_div(log_p, log_q, reduction="batchmean", log_target=True)
    return F.cross_entropy(logits, labels) + TEMPERATURE**2 * kl


def _pair(logits: Tensor, teacher: Tensor, index: Tensor | None) -> tuple[Tensor, Tensor]:
    """Log-probabilities at T of student and teacher, (B, C) or, inside the top-k, (B, K)."""
    if index is not None:
        logits = logits.gather(1, index[0])
    log_q = F.log_softmax(teacher / TEMPERATURE, -1)
    log_q = log_q[0] if len(log_q) == 1 else log_q.logsumexp(0) - math.log(len(log_q))
    return F.log_softmax(logits / TEMPERATURE, -1), log_q


def plain(item: Inputs) -> Tensor:
    """`composed` of these inputs."""
    return composed(item.logits, item.teacher, item.index, item.labels, item.classes)


class _Handed(torch.autograd.Function):
    """Logits as a classifier hands them over, no leaf; in the memory of those that are given."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor) -> Tensor:
        return logits.data  # autograd does not see that they share it, as a view it would

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0]


def fused(impl: Impl, *, overwrite: bool = False) -> Loss:
    """`distillation_loss` as a user calls it."""
    return lambda item: distillation_loss(
        _handed(item.logits) if overwrite else item.logits,
        item.targets,
        item.labels,
        temperature=TEMPERATURE,
        num_classes=item.classes,
        impl=impl,
        overwrite_logits=overwrite,
    )


def _handed(logits: Tensor) -> Tensor:
    made: Tensor = _Handed.apply(logits)  # type: ignore[no-untyped-call]
    return made


def compiled() -> Loss:
    """`composed` under torch.compile, for one shape; what dynamo traces has no class of ours.

    The loss raises `Skip` on a CPU without a C++ compiler.
    """
    fast = compile_once(composed)
    return lambda item: fast(item.logits, item.teacher, item.index, item.labels, item.classes)


def compile_once(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """The function under torch.compile, for the first shape that it meets."""
    torch._dynamo.reset()  # type: ignore[attr-defined,no-untyped-call,unused-ignore]
    fast = torch.compile(function, dynamic=False)

    def call(*arguments: object) -> Tensor:
        try:
            return fast(*arguments)
        except RuntimeError as error:
            if "InvalidCxxCompiler" not in str(error):
                raise
            raise Skip("torch.compile needs a C++ compiler on a CPU, and found none") from error

    return call


def load(package: str, module: str, *names: str) -> list[Any]:
    """What has these names in a module of another package.

    Raises:
        Skip: the package is not installed, can't be imported, or has them elsewhere.
    """
    if importlib.util.find_spec(module.partition(".")[0]) is None:
        raise Skip(f"the package {package} is not installed")
    try:
        found = importlib.import_module(module)
    except Exception as error:  # whatever a package does while it is imported
        reason = " ".join(str(error).split()) or type(error).__name__
        raise Skip(f"{package} can't be imported: {reason}") from error
    for name in names:
        if not hasattr(found, name):
            raise Skip(f"this {package} has no {module}.{name}")
    return [getattr(found, name) for name in names]


def liger() -> Loss:
    """Liger-Kernel's KLDiv on log-softmax; the labels' term is PyTorch's.

    Raises:
        Skip: the package is not here.
    """
    (divergence,) = load("liger-kernel", "liger_kernel.ops.kl_div", "LigerKLDivLossFunction")

    def loss(item: Inputs) -> Tensor:
        logits, teacher = item.logits, item.teacher
        if logits.shape[1] > item.classes:
            logits, teacher = logits[:, : item.classes], teacher[..., : item.classes]
        log_p, log_q = _pair(logits, teacher, item.index)
        kl: Tensor = divergence.apply(log_p, log_q, "batchmean", True)
        return F.cross_entropy(logits, item.labels) + TEMPERATURE**2 * kl

    return loss


def _needs_hidden_states() -> Loss:
    raise Skip("takes hidden states and the classifier's weight, not logits")


def contender(name: str, fast: Impl) -> Loss:
    """The loss by this contender; `fast` is the implementation that stands for ours.

    Raises:
        Skip: it is not here, or takes no logits.
    """
    made: dict[str, Callable[[], Loss]] = {
        OURS: lambda: fused(fast),
        OVER: lambda: fused(fast, overwrite=True),
        PLAIN: lambda: plain,
        EAGER: lambda: fused("torch"),
        COMPILED: compiled,
        LIGER: liger,
        ORDA: _needs_hidden_states,
        FLA: _needs_hidden_states,
    }
    return made[name]()
