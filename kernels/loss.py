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
from typing import Any, Literal, NamedTuple, Unpack, get_args, overload

import torch
from torch import Tensor
from torch.autograd import forward_ad

from antcache.checks import one_of
from antcache.errors import BadConfig, MissingExtra
from antcache.kernels.arguments import (
    CommonSettings,
    Reduction,
    computable,
    loss_inputs,
    shaped,
    targets_of,
)
from antcache.kernels.checks import check_logits, check_tensors
from antcache.kernels.record import LossInputs, teacher_tensors
from antcache.kernels.reference import DistillationParts, reference
from antcache.kernels.targets import Targets

Impl = Literal["auto", "triton", "numba", "torch"]
EXTRAS = {"triton": "gpu", "numba": "cpu"}


class Choice(NamedTuple):
    """What computes the loss (triton, numba or torch), and why."""

    impl: str
    reason: str


class LossSettings(CommonSettings, total=False):
    """What `distillation_loss` takes by keyword besides `return_parts`."""

    num_classes: int | None
    impl: Impl
    overwrite_logits: bool


@overload
def distillation_loss(
    logits: Tensor,
    targets: Targets | Tensor | None = ...,
    labels: Tensor | None = ...,
    *,
    return_parts: Literal[False] = ...,
    **settings: Unpack[LossSettings],
) -> Tensor: ...


@overload
def distillation_loss(
    logits: Tensor,
    targets: Targets | Tensor | None = ...,
    labels: Tensor | None = ...,
    *,
    return_parts: Literal[True],
    **settings: Unpack[LossSettings],
) -> DistillationParts: ...


def distillation_loss(
    logits: Tensor,
    targets: Targets | Tensor | None = None,
    labels: Tensor | None = None,
    *,
    rows: Tensor | None = None,
    temperature: float | Tensor = 1.0,
    weight: float | Tensor = 1.0,
    label_weight: float = 1.0,
    class_weight: Tensor | None = None,
    label_smoothing: float = 0.0,
    ignore_index: int = -100,
    teacher_weight: Tensor | None = None,
    num_classes: int | None = None,
    beta: float = 0.0,
    normaliser: Tensor | None = None,
    reduction: Reduction = "mean",
    return_parts: bool = False,
    impl: Impl = "auto",
    overwrite_logits: bool = False,
) -> Tensor | DistillationParts:
    """Cross-entropy on labels plus temperature-scaled KL to soft targets, from raw logits.

    Args:
        logits: (B, W) student logits, float16, bfloat16, float32 or float64. With more axes in
            front, (..., W), everything of which there is one per row has them too, and B is their
            product.
        targets: soft targets of N rows, constants for autograd; a plain tensor (N, C) means the
            `DenseTargets` of one teacher; None leaves the KL term out.
        labels: (B,) integer classes; None leaves the cross-entropy out.
        rows: (B,) integer, the teacher row of each batch row; a negative one (or one that
            `targets.valid` calls false) masks the KL of that row. None: row i is teacher row i.
        temperature: T > 0, of both softmaxes in the KL; the cross-entropy is taken at 1. A tensor,
            () or one per row (B,), is a constant too (only torch gives it a gradient), and a
            compiled graph is not made anew for another value.
        weight: of the KL term, >= 0; likewise. The mean divides by rows, not by weights.
        label_weight: of the cross-entropy, >= 0.
        class_weight: (C,) floating, a constant, as in `torch.nn.functional.cross_entropy`.
        label_smoothing: share of the label that is spread evenly over all classes, in [0, 1].
        ignore_index: label without cross-entropy.
        teacher_weight: (M,) or (B, M) floating, >= 0, each row scaled to the sum 1; the M
            teachers are mixed as probabilities at T. None: equal weights. Top-k teachers each keep
            their own k, and the union of these is the top-k of the mixture.
        num_classes: C, where the logits have more columns: these take no part, and have no
            gradient. Rows of a multiple of 16 columns are read faster on a GPU. Dense targets have
            C or W columns. None: all columns are classes.
        beta: 0 for KL(q || p), the teacher's q to the student's p; 1 for KL(p || q); in between
            the generalised Jensen-Shannon divergence (Agarwal et al. 2024) of the mixture
            m = beta q + (1 - beta) p: beta KL(q || m) + (1 - beta) KL(p || m).
        normaliser: () or (2,), what the mean divides by in place of the counts of this
            batch: of labels and of rows with a target, e.g. those of a step's micro-batches or of
            all processes. Nothing waits for its value; 0 counts as 1.
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
        Non-finite student logits give a non-finite loss, as in PyTorch, but where all teachers
        exclude the class as well: a class of -inf in all of them takes no part.

    Raises:
        BadConfig: wrong type, shape, dtype, device or setting, a setting that would have no effect,
            or an `impl` that can't do it. Values of tensors are not looked at: `targets.check`.
    """
    inputs = loss_inputs(
        logits,
        targets,
        labels,
        rows=rows,
        temperature=temperature,
        weight=weight,
        label_weight=label_weight,
        class_weight=class_weight,
        label_smoothing=label_smoothing,
        ignore_index=ignore_index,
        teacher_weight=teacher_weight,
        num_classes=num_classes,
        beta=beta,
        normaliser=normaliser,
        reduction=reduction,
    )
    check_tensors(inputs)
    choice = choice_for(inputs, impl)
    if choice.impl != "torch":
        parts = _fused(computable(inputs), choice.impl, overwrite=overwrite_logits)
    elif overwrite_logits and logits.numel():
        raise BadConfig(
            "impl='torch' can't write over the logits", found=choice.reason, hint="leave it out"
        )
    else:
        parts = reference(computable(inputs))
    parts = shaped(parts, logits.shape[:-1])
    return parts if return_parts else parts.loss


def choose(logits: Tensor, targets: Targets | Tensor | None = None, impl: str = "auto") -> Choice:
    """What computes the loss of these logits (B, C), and why.

    Raises:
        BadConfig: `impl` is no name, or can't compute it.
        MissingExtra: its package is not installed.
    """
    check_logits(logits, None)
    tensors = teacher_tensors(targets_of(targets, logits.shape[:-1]))
    return choice_for(LossInputs(logits.flatten(0, -2), *tensors), impl)


def choice_for(inputs: LossInputs, impl: str) -> Choice:
    """As `choose`, of everything that is asked for."""
    one_of("impl", impl, get_args(Impl))
    if impl == "torch":
        return Choice("torch", "asked for")
    if not inputs.logits.numel():
        return Choice("torch", "empty logits")
    on_gpu = inputs.logits.is_cuda
    wanted = impl
    if impl == "auto":
        wanted = "triton" if on_gpu else "numba"
    refusal = _refusal(wanted, inputs)
    missing = importlib.util.find_spec(wanted) is None
    if impl == "auto":
        if refusal or missing:
            return Choice("torch", refusal or f"{wanted} is not installed")
        return Choice(wanted, f"the logits are {'on a GPU' if on_gpu else 'on the CPU'}")
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


def _refusal(impl: str, inputs: LossInputs) -> str:
    """Why `impl` can't compute the loss, empty if it can."""
    logits = inputs.logits
    if logits.dtype == torch.float64:
        return "float64 logits"
    if not torch.compiler.is_compiling():
        if torch._C._are_functorch_transforms_active():
            return "a transform of torch.func (grad, vmap, jvp, ...)"
        unpack: Any = forward_ad.unpack_dual  # PyTorch gives it no types
        if forward_ad._current_level >= 0 and unpack(logits).tangent is not None:
            return "a tangent of forward-mode AD"
    if torch.is_grad_enabled():
        for name in ("row_temperature", "row_weight", "normaliser", "teacher_weight"):
            value = getattr(inputs, name)
            if value is not None and value.requires_grad:
                return f"a gradient is wanted for the {name.removeprefix('row_')}"
    if impl == "numba" and logits.device.type != "cpu":
        return f"logits on {logits.device}"
    if impl == "triton" and not _triton_device(logits):
        return f"logits on {logits.device}"
    if impl == "triton" and inputs.teacher_index is not None:
        teachers, k = inputs.num_teachers, inputs.top_k
        if _power_of_2(k) * _power_of_2(teachers) > MAX_ENTRIES:
            return f"{teachers} x {k} entries of top-k teachers"
    return ""


MAX_ENTRIES = 1024
"""Entries of top-k teachers, M * K in powers of two, that the Triton kernel holds at once."""


def _power_of_2(number: int) -> int:
    return 1 << max(0, number - 1).bit_length()


def _overlaps(logits: Tensor) -> bool:
    """Whether two of the logits (B, C) may be one number in memory, as after `expand`."""
    dims = zip(logits.stride(), logits.shape, strict=True)
    (near, short), (far, _) = sorted((s, n) for s, n in (*dims, (2**62, 2), (2**63, 2)) if n > 1)[
        :2
    ]
    return near == 0 or far <= near * (short - 1)


def _sharing(inputs: LossInputs) -> str:
    """Which other tensor lies in the memory of the logits, empty if none does."""
    given = inputs._asdict()
    logits = given.pop("logits")
    low, high = _span(logits)
    for name, value in given.items():
        if isinstance(value, Tensor) and value.numel():
            begin, end = _span(value)
            if begin < high and low < end and not _beside(logits, value):
                return name.removeprefix("row_").replace("_", " ")
    return ""


def _beside(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are other columns of one matrix, as when one layer makes both."""
    width = one.stride(0)
    if width < one.shape[-1] or one.stride(-1) != 1:  # a batch of one may have any stride
        return False
    if other.dtype != one.dtype or other.stride(-1) != 1:
        return False
    if any(stride % width for stride in other.stride()[:-1]):
        return False
    first = (other.data_ptr() - one.data_ptr()) // one.element_size() % width
    return first >= one.shape[-1] and first + other.shape[-1] <= width


def _span(tensor: Tensor) -> tuple[int, int]:
    """Addresses of the first byte of a tensor's numbers, and of the one after the last."""
    last = sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True))
    begin = tensor.data_ptr()
    return begin, begin + (last + 1) * tensor.element_size()


def _keeps(logits: Tensor) -> bool:
    """Whether the logits are somebody's parameter, whose values must stay."""
    base = logits._base if logits._is_view() and logits._base is not None else logits
    return base.is_leaf and base.requires_grad


def _fused(inputs: LossInputs, impl: str, *, overwrite: bool) -> DistillationParts:
    from antcache.kernels import op

    overwrite = overwrite and not torch.compiler.is_compiling()  # a graph places its buffers itself
    if overwrite and _overlaps(inputs.logits):
        raise BadConfig("logits that share memory among themselves can't be written over")
    if overwrite and (shared := _sharing(inputs)):
        raise BadConfig(f"logits that share memory with the {shared} can't be written over")
    if overwrite and inputs.gradient and _keeps(inputs.logits):
        raise BadConfig(
            "logits that are a leaf of autograd, or a view of one, can't be written over",
            hint="overwrite_logits is for what a classifier has computed",
        )
    if overwrite and inputs.gradient:
        loss, ce, kl, has_target = op.Overwriting.apply(inputs.logits, inputs, impl)  # type: ignore[no-untyped-call]
    else:
        loss, ce, kl, has_target, *_ = op.fused(*inputs, impl)
    return DistillationParts(loss, ce.detach(), kl.detach(), has_target)
