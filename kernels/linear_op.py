"""Classifier and loss as an operator of PyTorch: autograd, compile, fake tensors, refusals.

Promise: `torch.ops.antcache.distillation_loss_linear` passes `torch.library.opcheck`. Gradients
come out of the forward pass, summed in float32, and backward multiplies them by the upstream factor
before they are rounded; hence one backward per forward. Reduction `none` has a factor for each row,
by which a sum over rows can't be multiplied afterwards: its backward computes the chunks again.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from antcache.kernels.linear_rows import Gradients, Layer, run
from antcache.kernels.op import FIELDS, compute, keep, once, refuse_double_backward, traced
from antcache.kernels.record import LossInputs, LossOutputs, empty_outputs

_LAYER = {"hidden": "Tensor", "classifier": "Tensor", "bias": "Tensor?"}
_LOSS = {name: kind for name, kind in FIELDS.items() if name != "logits"}
_REST = {
    "dtype": "ScalarType",
    "chunk_rows": "int",
    "for_hidden": "bool",
    "for_classifier": "bool",
    "for_bias": "bool",
    "impl": "str",
}
_FIELDS_HERE = {**_LAYER, **_LOSS, **_REST}
_TENSORS = sum(kind.startswith("Tensor") for kind in _FIELDS_HERE.values())
_GIVEN = ", ".join(f"{kind} {name}" for name, kind in _FIELDS_HERE.items())
_FORWARD = f"({_GIVEN}) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)"
_BACKWARD = f"(Tensor factor, {_GIVEN}) -> (Tensor, Tensor, Tensor)"


class LinearCall(NamedTuple):
    """What the operators take, in this order but for the loss's inputs, which lie between.

    Attributes:
        layer: classifier and hidden rows.
        inputs: of the loss; its logits have a shape, a dtype and a device, but no memory.
        chunk_rows: of a chunk at most, 0 for a good number.
        wanted: gradients that are, of hidden rows, classifier and bias.
        impl: triton or numba.
    """

    layer: Layer
    inputs: LossInputs
    chunk_rows: int
    wanted: tuple[bool, bool, bool]
    impl: str

    def arguments(self) -> tuple[Any, ...]:
        """The same as the operators take it."""
        *tensors, dtype = self.layer
        return (*tensors, *self.inputs[1:], dtype, self.chunk_rows, *self.wanted, self.impl)

    @staticmethod
    def of(given: tuple[Any, ...]) -> LinearCall:
        """`arguments` as a record."""
        hidden, classifier, bias, *loss, dtype, chunk_rows, a, b, c, impl = given
        logits = hidden.new_empty((), dtype=dtype).expand(hidden.shape[0], classifier.shape[0])
        layer = Layer(hidden, classifier, bias, dtype)
        return LinearCall(layer, LossInputs(logits, *loss), chunk_rows, (a, b, c), impl)

    def run(self, factor: Tensor | None = None) -> tuple[tuple[Tensor, ...], Gradients]:
        """Loss with its parts, and the gradients, which reduction `none` has for a factor alone."""
        inputs, wanted = self.inputs, self.wanted
        if factor is not None:
            inputs = inputs._replace(reduction="sum")
        elif inputs.reduction == "none":
            wanted = (False, False, False)
        with torch.no_grad(), torch.autocast(inputs.logits.device.type, enabled=False):
            return run(self.layer, inputs, self._compute, self.chunk_rows, wanted, factor)

    def _compute(self, inputs: LossInputs, grad: Tensor | None) -> LossOutputs:
        return compute(inputs, self.impl, grad)


@torch.library.custom_op("antcache::distillation_loss_linear", mutates_args=(), schema=_FORWARD)
def fused(*given: Any) -> tuple[Tensor, ...]:
    """Loss, parts, and the gradients for hidden rows, classifier and bias in float32."""
    parts, gradients = LinearCall.of(given).run()
    return (*parts, *gradients)


@fused.register_fake
def _(*given: Any) -> tuple[Tensor, ...]:
    call = LinearCall.of(given)
    wanted = call.wanted if call.inputs.reduction != "none" else (False, False, False)
    parts = empty_outputs(call.inputs._replace(gradient=False))[:4]
    return (*parts, *Gradients.empty(call.layer, wanted))


@torch.library.custom_op(
    "antcache::distillation_gradient_linear", mutates_args=(), schema=_BACKWARD
)
def gradient(factor: Tensor, *given: Any) -> tuple[Tensor, ...]:
    """The gradients of the sum of the rows' losses, each times its factor (B,), in float32."""
    return tuple(LinearCall.of(given).run(factor)[1])


@gradient.register_fake
def _(_factor: Tensor, *given: Any) -> tuple[Tensor, ...]:
    call = LinearCall.of(given)
    return tuple(Gradients.empty(call.layer, call.wanted))


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)  # or autograd would fill zeros for them
    per_row = LinearCall.of(inputs).inputs.reduction == "none"
    keep(ctx, *(inputs[:_TENSORS] if per_row else output[4:]))
    ctx.numbers = inputs[_TENSORS:] if per_row else None
    ctx.dtypes = [None if tensor is None else tensor.dtype for tensor in inputs[:3]]
    ctx.used = False


def _backward(
    ctx: Any, factor: Tensor | None, *_others: Tensor | None
) -> tuple[Tensor | None, ...]:
    nothing = (None,) * (len(_FIELDS_HERE) - 3)
    if factor is None:
        return (None, None, None, *nothing)
    refuse_double_backward()
    if ctx.numbers is not None:
        found = gradient(factor, *ctx.saved_tensors, *ctx.numbers)
    else:
        found = _scaled(ctx, factor)
    wanted = zip(found, ctx.dtypes, ctx.needs_input_grad, strict=False)
    return (*(g.to(dtype) if need else None for g, dtype, need in wanted), *nothing)


def _scaled(ctx: Any, factor: Tensor) -> tuple[Tensor, ...]:
    """The gradients of the forward pass times the factor (), in place where no graph is traced."""
    once(ctx, factor)
    made: tuple[Tensor, ...] = ctx.saved_tensors
    if traced(factor):
        return tuple(one * factor for one in made)
    if factor.device.type != "cpu" or factor != 1:
        for one in made:
            one.mul_(factor)
    return made


fused.register_autograd(_backward, setup_context=_setup)
