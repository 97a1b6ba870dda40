"""The distillation loss as an operator of PyTorch: autograd, compile, fake tensors, refusals.

Promise: `torch.ops.antcache.distillation_loss` passes `torch.library.opcheck`. The gradient comes
out of the forward pass; backward multiplies it by the upstream factor in place, without a wait for
the device, which is why a second backward over the same graph is refused, as is double backward. In
half precision it is computed again where the factor is not 1, so as to be rounded once, after it.
"""

from __future__ import annotations

from typing import Any, get_type_hints

import torch
from torch import Tensor

from antcache.errors import BadConfig
from antcache.kernels.record import LossInputs, LossOutputs, empty_outputs

HALF = (torch.float16, torch.bfloat16)
PLAIN = "use impl='torch', which is ordinary autograd"

_KINDS = {
    Tensor: "Tensor",
    Tensor | None: "Tensor?",
    float: "float",
    int: "int",
    str: "str",
    bool: "bool",
}
FIELDS = {name: _KINDS[kind] for name, kind in get_type_hints(LossInputs).items()}
"""Name -> kind, as a schema has it."""
_TENSORS = sum(kind.startswith("Tensor") for kind in FIELDS.values())
# What the operators take: the fields of the record, and which implementation is to compute.
_GIVEN = ", ".join(f"{kind} {name}" for name, kind in {**FIELDS, "impl": "str"}.items())
_FORWARD = f"({_GIVEN}) -> ({', '.join('Tensor' for _ in LossOutputs._fields)})"
_BACKWARD = f"(Tensor grad, Tensor counts, Tensor factor, {_GIVEN}) -> Tensor"


def compute(inputs: LossInputs, impl: str, grad: Tensor | None = None) -> LossOutputs:
    """Loss, parts and gradient with Triton or numba; the latter over `grad`, if given."""
    if impl == "triton":
        from antcache.kernels.gpu.launch import launch

        return launch(inputs, grad)
    from antcache.kernels.loops import run

    return run(inputs, grad)


@torch.library.custom_op("antcache::distillation_loss", mutates_args=(), schema=_FORWARD)
def fused(*given: Any) -> tuple[Tensor, ...]:
    """`LossOutputs` of `LossInputs`, by the implementation that comes last."""
    *fields, impl = given
    return tuple(compute(LossInputs(*fields), impl))


@fused.register_fake
def _(*given: Any) -> tuple[Tensor, ...]:
    return tuple(empty_outputs(LossInputs(*given[:-1])))


@torch.library.custom_op("antcache::distillation_gradient", mutates_args=(), schema=_BACKWARD)
def scaled_gradient(grad: Tensor, counts: Tensor, factor: Tensor, *given: Any) -> Tensor:
    """The gradient times the factor () or (B,), rounded once; graphs need it as a new tensor."""
    *fields, impl = given
    out = grad.clone()
    _scale_exactly(LossInputs(*fields), impl, out, counts, factor)
    return out


@scaled_gradient.register_fake
def _(grad: Tensor, *_given: Any) -> Tensor:
    return torch.empty_like(grad)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)  # or autograd would fill zeros for the gradient's own gradient
    tensors = inputs[:_TENSORS] if inputs[0].dtype in HALF else ()
    keep(ctx, *output[4:], *tensors)
    ctx.numbers, ctx.impl = inputs[_TENSORS:-1], inputs[-1]
    ctx.used = False


def _backward(
    ctx: Any, factor: Tensor | None, *_others: Tensor | None
) -> tuple[Tensor | None, ...]:
    nothing = (None,) * len(FIELDS)  # the other fields, and `impl`
    if factor is None:
        return (None, *nothing)
    once(ctx, factor)
    grad, counts, *tensors = ctx.saved_tensors
    if not tensors:
        return (scaled(grad, factor), *nothing)
    given = (*tensors, *ctx.numbers)
    if traced(grad):
        return (scaled_gradient(grad, counts, factor, *given, ctx.impl), *nothing)
    _scale_exactly(LossInputs(*given), ctx.impl, grad, counts, factor)
    return (grad, *nothing)


def _scale_exactly(
    inputs: LossInputs, impl: str, grad: Tensor, counts: Tensor, factor: Tensor
) -> None:
    """Write the gradient times the factor into `grad`, which already is right where that is 1."""
    if grad.device.type == "cpu" and bool((factor == 1).all()):
        return
    if impl == "triton":
        from antcache.kernels.gpu.launch import launch_again

        launch_again(inputs, grad, counts, factor)
    else:
        from antcache.kernels.loops import run

        run(inputs, grad, factor)


def keep(ctx: Any, *tensors: Tensor | None) -> None:
    """Keep tensors for backward; of those of inference mode copies, as autograd could not tell
    whether somebody has written over them since."""
    ctx.save_for_backward(*map(own, tensors))


def own(tensor: Tensor | None) -> Tensor | None:
    """A tensor that autograd can keep: itself, or a copy of one of inference mode."""
    if tensor is None or not tensor.is_inference() or torch.is_inference_mode_enabled():
        return tensor
    return tensor.clone()


def traced(grad: Tensor) -> bool:
    """Whether a graph is traced: then nothing may be overwritten."""
    plain = type(grad) in (Tensor, torch.nn.Parameter)
    return torch.compiler.is_compiling() or not plain


def refuse_double_backward() -> None:
    """A gradient that was made in the forward pass has none of its own."""
    if torch.is_grad_enabled():
        raise BadConfig("double backward (create_graph=True) is not supported", hint=PLAIN)


def _batched(factor: Tensor) -> bool:
    """Whether several backward passes are made at once, as by `is_grads_batched` or `vmap`."""
    functorch = torch._C._functorch
    return functorch.is_batchedtensor(factor) or functorch.is_legacy_batchedtensor(factor)


def once(ctx: Any, factor: Tensor) -> None:
    """Refuse what one gradient, made in the forward pass and then scaled in place, can't give.

    Whoever reads what was saved asks here first: of what was scaled, autograd would say that
    somebody has changed it. In a graph that is traced nothing is scaled in place.
    """
    if traced(factor):
        return
    refuse_double_backward()
    if _batched(factor):
        raise BadConfig("a batch of backward passes at once is not supported", hint=PLAIN)
    if ctx.used:
        raise BadConfig("backward was called a second time", hint=PLAIN)
    ctx.used = True


def scaled(grad: Tensor, factor: Tensor) -> Tensor:
    """The gradient times the upstream factor () or (B,), in place where no graph is traced."""
    per_row = factor if factor.ndim == 0 else factor[:, None]
    if traced(grad):
        return (grad.to(factor.dtype) * per_row).to(grad.dtype)
    if grad.device.type == "cpu":
        return grad if bool((factor == 1).all()) else grad.mul_(per_row)
    from antcache.kernels.gpu.launch import scale

    scale(grad, factor)
    return grad


fused.register_autograd(_backward, setup_context=_setup)


class Overwriting(torch.autograd.Function):
    """The same with the gradient written over the logits, which the caller gives away."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, inputs: LossInputs, impl: str) -> tuple[Tensor, ...]:
        """Loss and parts of `inputs`, whose logits are `logits`."""
        # Whoever saved the logits for their own backward gets autograd's error, not wrong numbers.
        torch.autograd.graph.increment_version(logits)
        out = compute(inputs, impl, grad=inputs.logits.detach())
        ctx.save_for_backward(out.grad)
        ctx.used = False
        ctx.mark_non_differentiable(out.ce, out.kl, out.has_target)
        return tuple(out)[:4]

    @staticmethod
    def backward(ctx: Any, factor: Tensor, *_others: Tensor) -> tuple[Tensor | None, ...]:
        """Gradient for the logits."""
        once(ctx, factor)
        (grad,) = ctx.saved_tensors
        return scaled(grad, factor), None, None
