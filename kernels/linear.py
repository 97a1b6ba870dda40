"""`distillation_loss_linear`: the loss from hidden states and a classifier, its logits never whole.

Promise: the loss, settings and refusals of `distillation_loss` of `F.linear(hidden, classifier,
bias)`, under autocast too, with a gradient for each of the three that requires one. The logits are
there for a chunk of rows at a time: with Triton and numba by the operator of `linear_op.py`, else
by ordinary autograd, which computes chunks again in backward.
Letters: B batch rows, D features of a row, W width of the logits, C classes.
"""

from __future__ import annotations

from typing import Literal, Unpack, overload

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from antcache.errors import BadConfig
from antcache.kernels.arguments import (
    CommonSettings,
    check_names,
    computable,
    loss_inputs,
    shaped,
)
from antcache.kernels.checks import FLOATS, check_tensors, whole
from antcache.kernels.linear_rows import Layer, chunks, row_counts, rows_at_once, rows_of
from antcache.kernels.loss import Impl, choice_for
from antcache.kernels.record import LossInputs
from antcache.kernels.reference import DistillationParts, reference
from antcache.kernels.targets import Targets, check_tensor

ROUNDED = ("cuda",)
"""Where logits are in half precision, if their tensors or autocast are, for the faster products.

Elsewhere these are float32, and nothing but the results is rounded.
"""


class LinearSettings(CommonSettings, total=False):
    """What `distillation_loss_linear` takes by keyword besides `return_parts`."""

    num_classes: int | None
    impl: Impl
    chunk_rows: int | None


@overload
def distillation_loss_linear(
    hidden: Tensor,
    classifier: Tensor,
    bias: Tensor | None = ...,
    targets: Targets | Tensor | None = ...,
    labels: Tensor | None = ...,
    *,
    return_parts: Literal[False] = ...,
    **settings: Unpack[LinearSettings],
) -> Tensor: ...


@overload
def distillation_loss_linear(
    hidden: Tensor,
    classifier: Tensor,
    bias: Tensor | None = ...,
    targets: Targets | Tensor | None = ...,
    labels: Tensor | None = ...,
    *,
    return_parts: Literal[True],
    **settings: Unpack[LinearSettings],
) -> DistillationParts: ...


def distillation_loss_linear(
    hidden: Tensor,
    classifier: Tensor,
    bias: Tensor | None = None,
    targets: Targets | Tensor | None = None,
    labels: Tensor | None = None,
    *,
    num_classes: int | None = None,
    return_parts: bool = False,
    impl: Impl = "auto",
    chunk_rows: int | None = None,
    **settings: Unpack[CommonSettings],
) -> Tensor | DistillationParts:
    """`distillation_loss` of `F.linear(hidden, classifier, bias)`, a chunk of rows at a time.

    Beside the inputs there are the gradients, summed in float32 (float32 tensors get these sums
    themselves, others a copy in their own dtype, which makes 6 bytes a number of the classifier),
    and the logits of one chunk, over which their gradient is written. On a GPU the products are
    those of `F.linear`, in half precision if the tensors or autocast are; elsewhere they are in
    float32, and more exact. Where that is not the classifier's dtype, there is a copy of it.

    Args:
        hidden: (B, D) or (..., D), what the classifier is given.
        classifier: (W, D), the `weight` of a `torch.nn.Linear`.
        bias: (W,) or None.
        targets: as in `distillation_loss`. The teachers' logits are yours, whole.
        labels: likewise.
        num_classes: likewise.
        return_parts: likewise.
        impl: Triton and numba make the gradients with the loss and let backward run once; but for
            reduction `none`, whose rows have a factor each: its backward computes the chunks again.
            torch is ordinary autograd of chunks that backward computes again (`checkpoint`).
        chunk_rows: rows of a chunk, at most. None: as many as have logits of the size of `hidden`,
            but enough to keep the matrix products fast (64 to 192 on a CPU, 512 to 1024 on a GPU).
        settings: the others of `distillation_loss`, but for `overwrite_logits`.

    Returns:
        () or (...), as `distillation_loss`.

    Raises:
        BadConfig: as `distillation_loss`; or a tensor of the layer does not fit the others.
    """
    check_names("distillation_loss_linear", settings)
    layer, lead = _layer(hidden, classifier, bias)
    if chunk_rows is not None:
        chunk_rows = whole("chunk_rows", chunk_rows)
        if chunk_rows < 1:
            raise BadConfig("impossible chunk_rows", expected="1 or more", found=chunk_rows)
    logits = hidden.new_empty((), dtype=layer.dtype).expand(*lead, classifier.shape[0])
    inputs = loss_inputs(logits, targets, labels, num_classes=num_classes, **settings)
    check_tensors(inputs)
    how = _implementation(layer, inputs, impl)
    if how == "torch":
        parts = _autograd(layer, computable(inputs), chunk_rows or 0)
    else:
        parts = _fused(layer, computable(inputs), chunk_rows or 0, how)
    parts = shaped(parts, lead)
    return parts if return_parts else parts.loss


def _layer(hidden: object, classifier: object, bias: object) -> tuple[Layer, tuple[int, ...]]:
    """The layer, its hidden rows as (B, D), and their leading axes.

    Raises:
        BadConfig: its tensors don't fit each other.
    """
    check_tensor("hidden", hidden)
    check_tensor("classifier", classifier)
    if bias is not None:
        check_tensor("bias", bias)
    assert isinstance(hidden, Tensor)
    assert isinstance(classifier, Tensor)
    assert isinstance(bias, Tensor | None)
    if hidden.ndim < 2 or hidden.dtype not in FLOATS:
        raise BadConfig(
            "hidden of a wrong shape or dtype",
            expected="(batch, features) of float16, bfloat16, float32 or float64",
            found=f"{tuple(hidden.shape)} of {hidden.dtype}",
        )
    device = hidden.device
    cast = torch.amp.is_autocast_available(device.type) and hidden.dtype != torch.float64
    cast = cast and torch.is_autocast_enabled(device.type)
    dtype = torch.get_autocast_dtype(device.type) if cast else hidden.dtype
    for name, tensor, shape in (
        ("classifier", classifier, (*classifier.shape[:1], hidden.shape[-1])),
        ("bias", bias, classifier.shape[:1]),
    ):
        if tensor is None:
            continue
        fits = tensor.shape == shape and tensor.device == device
        if not fits or not (tensor.dtype == hidden.dtype or (cast and tensor.dtype in FLOATS[:3])):
            raise BadConfig(
                f"{name} of a wrong shape, dtype or device",
                expected=f"{hidden.dtype} {tuple(shape)} on {device}, as hidden is",
                found=f"{tensor.dtype} {tuple(tensor.shape)} on {tensor.device}",
            )
    if dtype != torch.float64 and device.type not in ROUNDED:
        dtype = torch.float32
    return Layer(hidden.flatten(0, -2), classifier, bias, dtype), tuple(hidden.shape[:-1])


def _implementation(layer: Layer, inputs: LossInputs, impl: str) -> str:
    """What computes the loss: as for logits, but that the tangents are the layer's.

    Raises:
        BadConfig: `impl` can't.
        MissingExtra: its package is not installed.
    """
    inside = not torch.compiler.is_compiling() and forward_ad._current_level >= 0
    if inside and any(_tangent(tensor) is not None for tensor in layer[:3]):
        if impl in ("auto", "torch"):
            return "torch"
        found = "a tangent of forward-mode AD"
        raise BadConfig(f"impl={impl!r} can't compute this", found=found, hint="use impl='torch'")
    if inputs.reduction != "none":  # a chunk is given its denominators
        inputs = inputs._replace(normaliser=inputs.logits.new_empty(2))
    return choice_for(inputs, impl).impl


def _tangent(tensor: Tensor | None) -> Tensor | None:
    """That of forward-mode AD, where there is one."""
    return None if tensor is None else forward_ad.unpack_dual(tensor).tangent  # type: ignore[no-untyped-call]


def _fused(layer: Layer, inputs: LossInputs, chunk_rows: int, impl: str) -> DistillationParts:
    from antcache.kernels import linear_op

    hidden, classifier, bias = (
        torch.is_grad_enabled() and tensor is not None and tensor.requires_grad
        for tensor in layer[:3]
    )
    call = linear_op.LinearCall(layer, inputs, chunk_rows, (hidden, classifier, bias), impl)
    loss, ce, kl, has_target, *_ = linear_op.fused(*call.arguments())
    return DistillationParts(loss, ce.detach(), kl.detach(), has_target)


def _autograd(layer: Layer, inputs: LossInputs, chunk_rows: int) -> DistillationParts:
    """By ordinary autograd, each chunk computed again in backward; transforms keep the chunks."""
    if inputs.reduction != "none":
        inputs = inputs._replace(reduction="mean", normaliser=row_counts(inputs))

    # Chunks add up in the dtype of what is shared by them.
    wide, narrow = layer.to(layer.wide), layer.dtype

    def compute(
        hidden: Tensor, classifier: Tensor, bias: Tensor | None, at: slice
    ) -> DistillationParts:
        cast = Layer(hidden.to(narrow), classifier, bias, narrow).to(narrow)
        return reference(rows_of(inputs, F.linear(*cast[:3]), at))

    transformed = not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active()
    found = []
    for at in chunks(layer.hidden.shape[0], rows_at_once(layer, chunk_rows)):
        given = (layer.hidden[at], wide.classifier, wide.bias, at)
        found.append(
            compute(*given)
            if transformed
            else checkpoint(compute, *given, use_reentrant=False, preserve_rng_state=False)
        )
    losses, *parts = zip(*found, strict=True)
    total = torch.cat(losses) if inputs.reduction == "none" else torch.stack(losses).sum()
    return DistillationParts(total, *(torch.cat(part) for part in parts))
