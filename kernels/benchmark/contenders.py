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

Loss = Callable[[Tensor, Targets, Tensor], Tensor]


class Skip(Exception):
    """Why a contender is not measured in a case."""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """One set of inputs.

    Attributes:
        logits: (B, C), a leaf that requires a gradient.
        targets: one teacher row per batch row.
        labels: (B,) int64.
    """

    logits: Tensor
    targets: Targets
    labels: Tensor

    def num_bytes(self, *, gradient: bool) -> int:
        """What must move at least: student and teacher read, the gradient written if wanted."""
        times = 2 if gradient else 1
        return times * self.logits.nbytes + teacher_bytes(self.targets)


def teacher_bytes(targets: Targets) -> int:
    """Size of the teacher's tensors."""
    if isinstance(targets, DenseTargets):
        return targets.logits.nbytes
    return targets.index.nbytes + targets.logit.nbytes


def make_inputs(case: Case, device: str, generator: torch.Generator) -> Inputs:
    """Random inputs; the classes of the top-k are spread over the row, distinct in it."""
    dtype = getattr(torch, case.dtype)
    shape = (case.batch, case.classes)

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, device=device, dtype=dtype, generator=generator).mul_(2)

    targets: Targets
    if case.form == "top-50":
        k = min(TOP_K, case.classes)
        start = torch.randint(
            case.classes, (case.batch, 1), device=device, generator=generator, dtype=torch.int64
        )
        step = torch.arange(k, device=device) * (case.classes // k)
        index = (start + step) % case.classes
        targets = TopKTargets(index=index, logit=normal(case.batch, k))
    elif case.form == "dense":
        targets = DenseTargets(logits=normal(*shape))
    else:
        targets = DenseTargets(logits=normal(TEACHERS, *shape))
    return Inputs(
        logits=normal(*shape).requires_grad_(),
        targets=targets,
        labels=torch.randint(case.classes, (case.batch,), device=device, generator=generator),
    )


def plain(logits: Tensor, targets: Targets, labels: Tensor) -> Tensor:
    """What one would write: `cross_entropy`, `log_softmax`, `kl_div`, in the logits' dtype."""
    log_p, log_q = _pair(logits, targets)
    kl = F.kl_div(log_p, log_q, reduction="batchmean", log_target=True)
    return F.cross_entropy(logits, labels) + TEMPERATURE**2 * kl


def _pair(logits: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
    """Log-probabilities at T of student and teacher, (B, C) or, inside the top-k, (B, K)."""
    if isinstance(targets, TopKTargets):
        logits, teacher = logits.gather(1, targets.index), targets.logit
    else:
        teacher = targets.logits
    log_q = F.log_softmax(teacher / TEMPERATURE, -1)
    if log_q.ndim == 3:
        log_q = log_q.logsumexp(0) - math.log(len(log_q))
    return F.log_softmax(logits / TEMPERATURE, -1), log_q


def fused(impl: Impl, *, overwrite: bool = False) -> Loss:
    """`distillation_loss` as a user calls it."""

    def loss(logits: Tensor, targets: Targets, labels: Tensor) -> Tensor:
        return distillation_loss(
            logits,
            targets,
            labels,
            temperature=TEMPERATURE,
            impl=impl,
            overwrite_logits=overwrite,
        )

    return loss


def compiled() -> Loss:
    """`plain` under torch.compile, for one shape."""
    torch._dynamo.reset()  # type: ignore[attr-defined,no-untyped-call,unused-ignore]

    # Tensors alone cross the border: what dynamo traces has no class of ours.
    def dense(logits: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        return plain(logits, DenseTargets(logits=teacher), labels)

    def top_k(logits: Tensor, index: Tensor, logit: Tensor, labels: Tensor) -> Tensor:
        return plain(logits, TopKTargets(index=index, logit=logit), labels)

    fast_dense = torch.compile(dense, dynamic=False)
    fast_top_k = torch.compile(top_k, dynamic=False)

    def loss(logits: Tensor, targets: Targets, labels: Tensor) -> Tensor:
        if isinstance(targets, DenseTargets):
            return fast_dense(logits, targets.logits, labels)
        return fast_top_k(logits, targets.index, targets.logit, labels)

    return loss


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

    def loss(logits: Tensor, targets: Targets, labels: Tensor) -> Tensor:
        log_p, log_q = _pair(logits, targets)
        kl: Tensor = divergence.apply(log_p, log_q, "batchmean", True)
        return F.cross_entropy(logits, labels) + TEMPERATURE**2 * kl

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
