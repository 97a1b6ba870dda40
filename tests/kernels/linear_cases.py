"""Hidden states, layers and teachers, and the bound that the loss from them is held to.

Truth is the composition in float64: `F.linear`, then the reference. The error may be as large as
that of the same calls in the same precision, plus 1e-6 relative.
"""

from __future__ import annotations

import importlib.util

import torch
from torch.nn import functional as F

from antcache.kernels import DenseTargets, TopKTargets, distillation_loss, distillation_loss_linear

B, D, C, K, M = 11, 5, 13, 3, 2
FORMS = ("none", "dense", "dense_mix", "topk", "topk_mix", "tail", "tail_mix")
FUSED = [name for name in ("triton", "numba") if importlib.util.find_spec(name)]
IMPLS = [*FUSED, "torch"]
HALF = (torch.float16, torch.bfloat16)


def layer(make, *, batch=B, features=D, classes=C, dtype=torch.float32, offset=0.0, seed=0):
    """Hidden rows, classifier and bias, leaves; the offset is that of all logits.

    With one, numbers have so few bits that the logits are exact, else their rounding hides all.
    """
    sizes = ((batch, features), (classes, features), (classes,))
    found = [make.randn(*size, seed=seed + i) for i, size in enumerate(sizes)]
    if offset:
        found = [(8 * tensor).round() / 8 for tensor in found]
        found[2] += offset
    return [tensor.to(dtype).requires_grad_() for tensor in found]


def teacher(make, form, *, rows=B, classes=C, valid=None, seed=3):
    if form == "none":
        return None
    shape = (M if form.endswith("mix") else 1, rows, classes)
    dense = 2 * make.randn(*shape, seed=seed, dtype=torch.float32)
    if form.startswith("dense"):
        return DenseTargets(dense, valid=valid)
    found = make.top_k(dense, K, tail=form.startswith("tail"))
    return TopKTargets(found.index, found.logit, tail=found.tail, valid=valid)


def composed(hidden, classifier, bias, *rest, chunk_rows=None, **given):
    """What the function is to equal; it has no chunks."""
    del chunk_rows
    return distillation_loss(F.linear(hidden, classifier, bias), *rest, **given)


def outcome(loss, tensors, *rest, factor=1.0, **given):
    """Loss, parts and gradients, as float64."""
    tensors = [None if t is None else t.detach().clone().requires_grad_() for t in tensors]
    parts = loss(*tensors, *rest, return_parts=True, **given)
    factor = torch.as_tensor(factor).to(parts.loss.dtype)
    (parts.loss * factor).sum().backward()
    found = {"loss": parts.loss, "ce": parts.ce, "kl": parts.kl}
    for name, tensor in zip(("hidden", "classifier", "bias"), tensors, strict=True):
        if tensor is not None:
            found[name] = tensor.grad
    return {name: value.detach().double() for name, value in found.items()}


def assert_as_exact(tensors, *rest, impl="auto", **given):
    """Hold it against truth and composition; relative to the largest value, or 1e-9."""
    doubles = [None if t is None else t.double() for t in tensors]
    truth = outcome(composed, doubles, *rest, impl="torch", **given)
    plain = outcome(composed, tensors, *rest, impl="torch", **given)
    found = outcome(distillation_loss_linear, tensors, *rest, impl=impl, **given)
    for name, right in truth.items():
        size = right.abs().max().clamp(min=1e-9)
        allowed = (plain[name] - right).abs().max() / size + 1e-6
        error = (found[name] - right).abs().max() / size
        assert error <= allowed, f"{name}: {error:.2e}, the composition has {allowed:.2e}"
