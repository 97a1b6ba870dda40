"""Who is measured in the benchmark of the kernel: ours, compositions of PyTorch calls, Liger.

Promise: all compute the same loss from the same tensors, cross-entropy on labels plus T^2 KL, and
each in the fastest way its package offers: the compositions stay in the logits' dtype. What one
can't do is said in a `Skip`.
Letters: B batch rows, C classes, K = 50, M = 5 teachers, T = 2.
"""

from __future__ import annotations

import importlib
import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from antcache.kernels.benchmark.rows import COMPILED, EAGER, LIGER, OURS, OVER, PLAIN, Case
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
        logits: (B, C), a leaf that requires a gradient.
        teacher: (M, B, C), or (1, B, K) of the classes in `index`.
        index: (1, B, K) int64, None for the dense form.
        labels: (B,) int64.
    """

    logits: Tensor
    teacher: Tensor
    index: Tensor | None
    labels: Tensor

    @property
    def targets(self) -> Targets:
        """The teacher as `distillation_loss` takes it."""
        if self.index is None:
            return DenseTargets(logits=self.teacher)
        return TopKTargets(index=self.index, logit=self.teacher)

    def num_bytes(self, *, gradient: bool) -> int:
        """What must move at least: student and teacher read, the gradient written if wanted."""
        index = 0 if self.index is None else self.index.nbytes
        return (2 if gradient else 1) * self.logits.nbytes + self.teacher.nbytes + index


Loss = Callable[[Inputs], Tensor]


def make_inputs(case: Case, device: str, generator: torch.Generator) -> Inputs:
    """Random inputs; the classes of the top-k are spread over the row, distinct in it."""
    batch, classes, dtype = case.batch, case.classes, getattr(torch, case.dtype)

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, device=device, dtype=dtype, generator=generator).mul_(2)

    def integers(*size: int) -> Tensor:
        return torch.randint(classes, size, device=device, generator=generator)

    index, width = None, classes
    if case.form == "top-50":
        width = min(TOP_K, classes)
        step = torch.arange(width, device=device) * (classes // width)
        index = (integers(1, batch, 1) + step) % classes
    return Inputs(
        teacher=normal(TEACHERS if case.form == "5 teachers" else 1, batch, width),
        index=index,
        logits=normal(batch, classes).requires_grad_(),
        labels=integers(batch),
    )


def _plain(logits: Tensor, teacher: Tensor, index: Tensor | None, labels: Tensor) -> Tensor:
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
    """What one would write: `cross_entropy`, `log_softmax`, `kl_div`, in the logits' dtype."""
    return _plain(item.logits, item.teacher, item.index, item.labels)


def fused(impl: Impl, *, overwrite: bool = False) -> Loss:
    """`distillation_loss` as a user calls it."""
    return lambda item: distillation_loss(
        item.logits,
        item.targets,
        item.labels,
        temperature=TEMPERATURE,
        impl=impl,
        overwrite_logits=overwrite,
    )


def compiled() -> Loss:
    """`plain` under torch.compile, for one shape; what dynamo traces has no class of ours."""
    torch._dynamo.reset()  # type: ignore[attr-defined,no-untyped-call,unused-ignore]
    fast = torch.compile(_plain, dynamic=False)
    return lambda item: fast(item.logits, item.teacher, item.index, item.labels)


def liger() -> Loss:
    """Liger-Kernel's KLDiv on log-softmax; the labels' term is PyTorch's.

    Raises:
        Skip: the package is not installed, or can't be imported.
    """
    if importlib.util.find_spec("liger_kernel") is None:
        raise Skip("the package liger-kernel is not installed")
    try:
        module = importlib.import_module("liger_kernel.ops.kl_div")
        divergence = module.LigerKLDivLossFunction
    except ImportError as error:
        raise Skip(f"liger-kernel can't be imported: {error}") from error

    def loss(item: Inputs) -> Tensor:
        log_p, log_q = _pair(item.logits, item.teacher, item.index)
        kl: Tensor = divergence.apply(log_p, log_q, "batchmean", True)
        return F.cross_entropy(item.logits, item.labels) + TEMPERATURE**2 * kl

    return loss


def contender(name: str, fast: Impl) -> Loss:
    """The loss by this contender; `fast` is the implementation that stands for ours.

    Raises:
        Skip: it is not here.
    """
    made: dict[str, Callable[[], Loss]] = {
        OURS: lambda: fused(fast),
        OVER: lambda: fused(fast, overwrite=True),
        PLAIN: lambda: plain,
        EAGER: lambda: fused("torch"),
        COMPILED: compiled,
        LIGER: liger,
    }
    return made[name]()
