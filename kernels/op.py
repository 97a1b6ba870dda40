"""The distillation loss as an operator of PyTorch: autograd, compile, fake tensors, refusals.

Promise: `torch.ops.antcache.distillation_loss` passes `torch.library.opcheck`. The gradient comes
out of the forward pass; backward multiplies it by the upstream factor in place, without a wait for
the device, which is why a second backward over the same graph is refused, as is double backward. In
half precision it is computed again where the factor is not 1, so as to be rounded once, after it.
"""
# No `from __future__ import annotations`: PyTorch reads the operator's schema from the annotations.

from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from antcache.errors import BadConfig
from antcache.kernels.call import Call, Outputs, empty_outputs

FIELDS = tuple(f.name for f in fields(Call))
HALF = (torch.float16, torch.bfloat16)
_PLAIN = "use impl='torch', which is ordinary autograd"


def compute(call: Call, impl: str, grad: Tensor | None = None) -> Outputs:
    """Run `call` with Triton or numba."""
    if impl == "triton":
        from antcache.kernels.launch import launch

        return launch(call, grad)
    from antcache.kernels.loops import run

    return run(call, grad)


@torch.library.custom_op("antcache::distillation_loss", mutates_args=())
def fused(
    logits: Tensor,
    teacher: Tensor | None,
    index: Tensor | None,
    tail: Tensor | None,
    valid: Tensor | None,
    labels: Tensor | None,
    rows: Tensor | None,
    class_weight: Tensor | None,
    teacher_weight: Tensor | None,
    temperature: float,
    weight: float,
    label_weight: float,
    label_smoothing: float,
    ignore_index: int,
    reduction: str,
    gradient: bool,
    impl: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """`Outputs` of the `Call` with these fields."""
    given = locals()
    return tuple(compute(Call(**{name: given[name] for name in FIELDS}), impl))  # type: ignore[return-value]


@fused.register_fake
def _(*arguments: Any) -> tuple[Tensor, ...]:
    return tuple(empty_outputs(Call(**dict(zip(FIELDS, arguments, strict=False)))))


@torch.library.custom_op("antcache::distillation_gradient", mutates_args=())
def again(
    grad: Tensor,
    counts: Tensor,
    factor: Tensor,
    logits: Tensor,
    teacher: Tensor | None,
    index: Tensor | None,
    tail: Tensor | None,
    valid: Tensor | None,
    labels: Tensor | None,
    rows: Tensor | None,
    class_weight: Tensor | None,
    teacher_weight: Tensor | None,
    temperature: float,
    weight: float,
    label_weight: float,
    label_smoothing: float,
    ignore_index: int,
    reduction: str,
    gradient: bool,
    impl: str,
) -> Tensor:
    """The gradient times the factor () or (B,), rounded once; graphs need it as a new tensor."""
    given = locals()
    out = grad.clone()
    _compute_again(Call(**{name: given[name] for name in FIELDS}), impl, out, counts, factor)
    return out


@again.register_fake
def _(grad: Tensor, *_arguments: Any) -> Tensor:
    return torch.empty_like(grad)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)  # or autograd would fill zeros for the gradient's own gradient
    logits, impl = inputs[0], inputs[-1]
    given = dict(zip(FIELDS, inputs, strict=False)) if logits.dtype in HALF else {}
    tensors = {name: value for name, value in given.items() if isinstance(value, Tensor)}
    ctx.save_for_backward(*output[4:], *tensors.values())
    ctx.names, ctx.given, ctx.impl = tuple(tensors), {**given, **dict.fromkeys(tensors)}, impl
    ctx.used = False


def _backward(
    ctx: Any, factor: Tensor | None, *_others: Tensor | None
) -> tuple[Tensor | None, ...]:
    nothing = (None,) * len(FIELDS)  # the other fields, and `impl`
    if factor is None:
        return (None, *nothing)
    grad, counts, *tensors = ctx.saved_tensors
    if not ctx.given:
        return (scaled(ctx, grad, factor), *nothing)
    given = {**ctx.given, **dict(zip(ctx.names, tensors, strict=True))}
    if _traced(grad):
        return (again(grad, counts, factor, *given.values(), ctx.impl), *nothing)
    _once(ctx)
    _compute_again(Call(**given), ctx.impl, grad, counts, factor)
    return (grad, *nothing)


def _compute_again(call: Call, impl: str, grad: Tensor, counts: Tensor, factor: Tensor) -> None:
    """Write the gradient times the factor into `grad`, which already is right where that is 1."""
    if grad.device.type == "cpu" and bool((factor == 1).all()):
        return
    if impl == "triton":
        from antcache.kernels.launch import launch_again

        launch_again(call, grad, counts, factor)
    else:
        from antcache.kernels.loops import run

        run(call, grad, factor)


def _traced(grad: Tensor) -> bool:
    """Whether a graph is traced: then nothing may be overwritten."""
    return torch.compiler.is_compiling() or type(grad) is not Tensor


def _once(ctx: Any) -> None:
    """Refuse what one gradient, made in the forward pass, can't give."""
    if torch.is_grad_enabled():
        raise BadConfig("double backward (create_graph=True) is not supported", hint=_PLAIN)
    if ctx.used:
        raise BadConfig("backward was called a second time", hint=_PLAIN)
    ctx.used = True


def scaled(ctx: Any, grad: Tensor, factor: Tensor) -> Tensor:
    """The gradient times the upstream factor () or (B,)."""
    per_row = factor if factor.ndim == 0 else factor[:, None]
    if _traced(grad):
        return (grad.to(factor.dtype) * per_row).to(grad.dtype)
    _once(ctx)
    if grad.device.type == "cpu":
        return grad if bool((factor == 1).all()) else grad.mul_(per_row)
    from antcache.kernels.launch import scale

    scale(grad, factor)
    return grad


fused.register_autograd(_backward, setup_context=_setup)


@fused.register_vmap
def _(*_arguments: Any) -> None:
    raise BadConfig("vmap over the distillation loss is not supported", hint=_PLAIN)


class Overwriting(torch.autograd.Function):
    """The same with the gradient written over the logits, which the caller gives away."""

    @staticmethod
    def forward(ctx: Any, logits: Tensor, call: Call, impl: str) -> tuple[Tensor, ...]:
        """Loss and parts of `call`; `logits` are `call.logits`."""
        # Whoever saved the logits for their own backward gets autograd's error, not wrong numbers.
        torch.autograd.graph.increment_version(logits)
        out = compute(call, impl, grad=call.logits.detach())
        ctx.save_for_backward(out.grad)
        ctx.used = False
        ctx.mark_non_differentiable(out.ce, out.kl, out.has_target)
        return tuple(out)[:4]

    @staticmethod
    def backward(ctx: Any, factor: Tensor, *_others: Tensor) -> tuple[Tensor | None, ...]:
        """Gradient for the logits."""
        (grad,) = ctx.saved_tensors
        return scaled(ctx, grad, factor), None, None
