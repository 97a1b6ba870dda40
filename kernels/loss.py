"""`distillation_loss`: cross-entropy and temperature KL from logits, by the fastest way there is.

Promise: one signature and one meaning, whoever computes: Triton in one pass over the logits on a
GPU, numba on a CPU, or plain PyTorch (`reference.py`, the truth). `choose` says which, and why.
Letters: B batch rows, C classes, N teacher rows, K top-k, M teachers, T temperature.

    loss = label_weight * CE(logits, labels) + weight * T^2 * mean over rows with a target (KL_T)
    KL_T = sum_c q_c (log q_c - log p_c), q the teacher, p the student, softmax(logits / T)

The paper (Ghosh et al. 2023, code: StonyBrookNLP/action-anticipation-lmtovideo) averages the terms
over rows *and* classes: its weight w is `weight = w / C` here (w / K for the top-k form).
"""

from __future__ import annotations

import importlib.util
import os
from typing import Literal, NamedTuple, TypedDict, Unpack, get_args, overload

import torch
from torch import Tensor

from antcache.checks import one_of
from antcache.errors import BadConfig, MissingExtra
from antcache.kernels.checks import check_settings, check_tensors
from antcache.kernels.record import LossInputs, teacher_tensors
from antcache.kernels.reference import DistillationParts, reference
from antcache.kernels.targets import DenseTargets, Targets

Reduction = Literal["mean", "sum", "none"]
Impl = Literal["auto", "triton", "numba", "torch"]
EXTRAS = {"triton": "gpu", "numba": "teacher"}


class Choice(NamedTuple):
    """What computes the loss (triton, numba or torch), and why."""

    impl: str
    reason: str


class Settings(TypedDict, total=False):
    """What `distillation_loss` takes by keyword besides `return_parts`."""

    rows: Tensor | None
    temperature: float
    weight: float
    label_weight: float
    class_weight: Tensor | None
    label_smoothing: float
    ignore_index: int
    teacher_weight: Tensor | None
    reduction: Reduction
    impl: Impl
    overwrite_logits: bool


@overload
def distillation_loss(
    logits: Tensor,
    targets: Targets | Tensor | None = ...,
    labels: Tensor | None = ...,
    *,
    return_parts: Literal[False] = ...,
    **settings: Unpack[Settings],
) -> Tensor: ...


@overload
def distillation_loss(
    logits: Tensor,
    targets: Targets | Tensor | None = ...,
    labels: Tensor | None = ...,
    *,
    return_parts: Literal[True],
    **settings: Unpack[Settings],
) -> DistillationParts: ...


def distillation_loss(
    logits: Tensor,
    targets: Targets | Tensor | None = None,
    labels: Tensor | None = None,
    *,
    rows: Tensor | None = None,
    temperature: float = 1.0,
    weight: float = 1.0,
    label_weight: float = 1.0,
    class_weight: Tensor | None = None,
    label_smoothing: float = 0.0,
    ignore_index: int = -100,
    teacher_weight: Tensor | None = None,
    reduction: Reduction = "mean",
    return_parts: bool = False,
    impl: Impl = "auto",
    overwrite_logits: bool = False,
) -> Tensor | DistillationParts:
    """Cross-entropy on labels plus temperature-scaled KL to soft targets, from raw logits.

    Args:
        logits: (B, C) student logits, float16, bfloat16, float32 or float64.
        targets: soft targets of N rows, constants for autograd; a plain tensor (N, C) means the
            `DenseTargets` of one teacher; None leaves the KL term out.
        labels: (B,) integer classes; None leaves the cross-entropy out.
        rows: (B,) integer, the teacher row of each batch row; a negative one (or one that
            `targets.valid` calls false) masks the KL of that row. None: row i is teacher row i.
        temperature: T > 0, of both softmaxes in the KL; the cross-entropy is taken at 1.
        weight: of the KL term, >= 0.
        label_weight: of the cross-entropy, >= 0.
        class_weight: (C,) floating, as in `torch.nn.functional.cross_entropy`.
        label_smoothing: share of the label that is spread evenly over all classes, in [0, 1].
        ignore_index: label without cross-entropy.
        teacher_weight: (M,) or (B, M) floating, >= 0, each row scaled to the sum 1; the M
            teachers are mixed as probabilities at T. None: equal weights. Top-k teachers each keep
            their own k, and the union of these is the top-k of the mixture.
        reduction: `mean`: cross-entropy over labels not ignored, weighted by class as PyTorch does
            it, plus KL over rows with a target. `sum`: of both over rows. `none`: (B,).
            The mean over no row at all is 0 in both terms (PyTorch's cross-entropy gives NaN).
        return_parts: return `DistillationParts` instead of the loss alone.
        impl: `auto`, `triton`, `numba` or `torch`; `choose` says what auto takes and why (Triton
            on a GPU, never by its interpreter; numba on a CPU; torch for the rest). Triton
            and numba compute the gradient with the loss and let backward run once, of the loss
            alone; torch is ordinary autograd, which also differentiates twice, and the parts.
        overwrite_logits: the gradient is written over `logits`, which must not be used afterwards;
            saves a buffer of their size. For Triton and numba; a compiled graph (`torch.compile`)
            places its buffers itself.

    Returns:
        () or (B,), float64 for float64 logits, else float32: everything is accumulated in that.
        Non-finite student logits give a non-finite loss, as in PyTorch.

    Raises:
        BadConfig: wrong shape, dtype, device or setting, a setting that would have no effect, or an
            `impl` that can't do it.
    """
    check_settings(temperature, weight, label_weight, label_smoothing, reduction)
    if isinstance(targets, Tensor):
        targets = DenseTargets(logits=targets[None])
    teacher, index, tail, valid = teacher_tensors(targets)
    inputs = LossInputs(
        logits=logits,
        teacher=teacher,
        teacher_index=index,
        tail=tail,
        valid=valid,
        labels=labels,
        rows=rows,
        class_weight=class_weight,
        teacher_weight=teacher_weight,
        temperature=float(temperature),
        weight=float(weight),
        label_weight=float(label_weight),
        label_smoothing=float(label_smoothing),
        ignore_index=ignore_index,
        reduction=reduction,
        gradient=torch.is_grad_enabled() and logits.requires_grad,
    )
    check_tensors(inputs)
    choice = choose(logits, targets, impl)
    if choice.impl != "torch":
        parts = _fused(inputs, choice.impl, overwrite=overwrite_logits)
    elif overwrite_logits:
        raise BadConfig(
            "impl='torch' can't write over the logits", found=choice.reason, hint="leave it out"
        )
    else:
        parts = reference(inputs)
    return parts if return_parts else parts.loss


def choose(logits: Tensor, targets: Targets | None = None, impl: str = "auto") -> Choice:
    """What computes the loss of these logits (B, C), and why.

    Raises:
        BadConfig: `impl` is no name, or can't compute it.
        MissingExtra: its package is not installed.
    """
    one_of("impl", impl, get_args(Impl))
    if impl == "torch":
        return Choice("torch", "asked for")
    wanted = impl
    if impl == "auto":
        wanted = "triton" if logits.is_cuda else "numba"
    refusal = _refusal(wanted, logits, targets)
    missing = importlib.util.find_spec(wanted) is None
    if impl == "auto":
        if refusal or missing:
            return Choice("torch", refusal or f"{wanted} is not installed")
        where = "on a GPU" if logits.is_cuda else "on the CPU"
        return Choice(wanted, f"the logits are {where}")
    if missing:
        raise MissingExtra(wanted, EXTRAS[wanted])
    if refusal:
        raise BadConfig(f"impl={impl!r} can't compute this", found=refusal, hint="use impl='torch'")
    return Choice(wanted, "asked for")


def _triton_device(logits: Tensor) -> bool:
    """Whether Triton runs where the logits are: on a GPU, or on the CPU by its interpreter.

    The interpreter is slow and there for tests: `auto` never takes it.
    """
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    return logits.is_cuda or (interpreted and logits.device.type == "cpu")


def _refusal(impl: str, logits: Tensor, targets: Targets | None) -> str:
    """Why `impl` can't compute the loss, empty if it can."""
    if logits.dtype == torch.float64:
        return "float64 logits"
    if not logits.numel():
        return "empty logits"
    if impl == "numba" and logits.device.type != "cpu":
        return f"logits on {logits.device}"
    if impl == "triton":
        if not _triton_device(logits):
            return f"logits on {logits.device}"
        if targets is not None and not isinstance(targets, DenseTargets):
            teachers, k = targets.num_teachers, targets.index.shape[2]
            block_k = _power_of_2(k)
            entries = block_k * _power_of_2(teachers)
            if entries > MAX_ENTRIES or (teachers > 1 and entries * block_k > MAX_PAIRS):
                return f"{teachers} x {k} entries of top-k teachers"
    return ""


MAX_ENTRIES = 1024
"""Entries of top-k teachers, M * K in powers of two, that the Triton kernel holds at once."""

MAX_PAIRS = 32768
"""Entries times K that it compares at once where several teachers may name the same class."""


def _power_of_2(number: int) -> int:
    return 1 << max(0, number - 1).bit_length()


def _overlaps(logits: Tensor) -> bool:
    """Whether two of the logits (B, C) may be one number in memory, as after `expand`."""
    dims = zip(logits.stride(), logits.shape, strict=True)
    (near, short), (far, _) = sorted((s, n) for s, n in (*dims, (2**62, 2), (2**62, 2)) if n > 1)[
        :2
    ]
    return near == 0 or far <= near * (short - 1)


def _fused(inputs: LossInputs, impl: str, *, overwrite: bool) -> DistillationParts:
    from antcache.kernels import op

    if overwrite and _overlaps(inputs.logits):
        raise BadConfig("logits that share memory among themselves can't be written over")
    if overwrite and inputs.gradient and not torch.compiler.is_compiling():
        loss, ce, kl, has_target = op.Overwriting.apply(inputs.logits, inputs, impl)  # type: ignore[no-untyped-call]
    else:
        loss, ce, kl, has_target, *_ = op.fused(*inputs, impl)
    return DistillationParts(loss, ce.detach(), kl.detach(), has_target)
