"""The distillation loss as an operator of PyTorch: autograd, compile, fake tensors, refusals.

Promise: `torch.ops.antcache.distillation_loss` passes `torch.library.opcheck`. The gradient comes
out of the forward pass; backward multiplies it by the upstream factor in place, without a wait for
the device, which is why a second backward over the same graph is refused, as is double backward.
"""
# No `from __future__ import annotations`: PyTorch reads the operator's schema from the annotations.

from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from antcache.errors import BadConfig
from antcache.kernels.call import Call, Outputs, empty_outputs

FIELDS = tuple(f.name for f in fields(Call))
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
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """`Outputs` of the `Call` with these fields."""
    given = locals()
    return tuple(compute(Call(**{name: given[name] for name in FIELDS}), impl))  # type: ignore[return-value]


@fused.register_fake
def _(*arguments: Any) -> tuple[Tensor, ...]:
    return tuple(empty_outputs(Call(**dict(zip(FIELDS, arguments, strict=False)))))


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)  # or autograd would fill zeros for the gradient's own gradient
    ctx.save_for_backward(output[4])
    ctx.used = False


def _backward(
    ctx: Any, factor: Tensor | None, *_others: Tensor | None
) -> tuple[Tensor | None, ...]:
    (grad,) = ctx.saved_tensors
    nothing = (None,) * len(FIELDS)  # the other fields, and `impl`
    return (None if factor is None else scaled(ctx, grad, factor), *nothing)


def scaled(ctx: Any, grad: Tensor, factor: Tensor) -> Tensor:
    """The gradient times the upstream factor () or (B,)."""
    per_row = factor if factor.ndim == 0 else factor[:, None]
    if torch.compiler.is_compiling() or type(grad) is not Tensor:
        # A graph is traced: nothing may be overwritten.
        return (grad.to(factor.dtype) * per_row).to(grad.dtype)
    if torch.is_grad_enabled():
        raise BadConfig("double backward (create_graph=True) is not supported", hint=_PLAIN)
    if ctx.used:
        raise BadConfig("backward was called a second time", hint=_PLAIN)
    ctx.used = True
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
