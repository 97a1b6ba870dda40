"""The loss from hidden states: as exact as the composition, whatever is asked of it.

What an error may be is said in `linear_cases.py`.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import pairwise
from linear_cases import (
    FORMS,
    FUSED,
    HALF,
    IMPLS,
    B,
    C,
    D,
    M,
    assert_as_exact,
    composed,
    layer,
    outcome,
    teacher,
)
from torch.nn import functional as F

from antcache.kernels import distillation_loss, distillation_loss_linear

# --- equal to the composition


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_any_setting_together(make, data):
    def one_of(*choices):
        return data.draw(st.sampled_from(choices))

    batch, classes = data.draw(st.integers(1, 12)), data.draw(st.integers(4, 40))
    padding, seed = one_of(0, 0, 3), data.draw(st.integers(0, 99))
    dtype = one_of(torch.float32, torch.float32, torch.float64, *HALF)
    form, reduction = one_of(*FORMS), one_of("mean", "sum", "none")
    tensors = layer(
        make,
        batch=batch,
        classes=classes + padding,
        dtype=dtype,
        offset=one_of(0.0, 1e4, -1e4) if dtype not in HALF else 0.0,
        seed=seed,
    )
    if one_of(True, False, False):
        tensors[2] = None
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (batch,), generator=generator)
    labels[seed % batch] = -100
    rest = {"reduction": reduction, "label_weight": 0.7, "num_classes": classes}
    if form == "none" or one_of(True, True, False):
        rest["label_smoothing"] = one_of(0.0, 0.1)
        if one_of(True, False):
            rest["class_weight"] = 0.5 + torch.arange(classes) % 3
    else:
        labels = None
    targets = None
    if form != "none":
        many = one_of(True, False)
        valid = torch.arange(batch + 2 * many) % 4 != 1 if one_of(True, False) else None
        rows = torch.randint(-1, batch + 2, (batch,), generator=generator)
        targets = teacher(make, form, rows=batch + 2 * many, classes=classes, valid=valid)
        rest |= {
            "rows": rows if many else None,
            "beta": one_of(0.0, 0.0, 0.5, 1.0),
            "temperature": one_of(1.0, 2.0, torch.linspace(0.5, 3, batch)),
            "weight": one_of(1.0, 0.3, torch.linspace(0, 2, batch)),
        }
        if form.endswith("mix"):
            share = torch.rand(batch, M, generator=generator) + 0.1
            rest["teacher_weight"] = one_of(None, share, share[0])
    if reduction == "mean":
        rest["normaliser"] = one_of(None, None, torch.tensor(7.0), torch.tensor([3.0, 5.0]))
    factor = one_of(1.0, -1.7)
    if reduction == "none" and one_of(True, False):
        factor = torch.linspace(-1, 2, batch)
    rest["chunk_rows"] = one_of(None, 1, 3, 5)
    assert_as_exact(tensors, targets, labels, factor=factor, **rest)


@pytest.mark.parametrize(
    ("impl", "form", "reduction"), pairwise(IMPLS, FORMS, ("mean", "sum", "none"))
)
def test_every_form_by_every_implementation(make, impl, form, reduction):
    labels = torch.arange(B) % C
    labels[2] = -100
    share = torch.rand(B, M) + 0.1 if form.endswith("mix") else None
    given = {} if form == "none" else {"temperature": 2.0, "teacher_weight": share}
    factor = torch.linspace(-1, 2, B) if reduction == "none" else 0.37
    assert_as_exact(
        layer(make),
        teacher(make, form),
        labels,
        impl=impl,
        factor=factor,
        reduction=reduction,
        label_smoothing=0.1,
        chunk_rows=4,
        **given,
    )


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_chunks_change_nothing(make, impl, reduction):
    tensors, targets, labels = layer(make), teacher(make, "dense"), torch.arange(B) % C
    labels[2] = -100
    rows = torch.arange(B).where(torch.arange(B) != 5, -1)
    whole, *others = (
        outcome(
            distillation_loss_linear,
            *(tensors, targets, labels),
            rows=rows,
            impl=impl,
            reduction=reduction,
            chunk_rows=size,
        )
        for size in (B, 1, 2, 4, 100, None)
    )
    for other in others:
        for name, value in whole.items():
            bound = 1e-6 * value.abs().max().item()
            torch.testing.assert_close(other[name], value, rtol=0, atol=bound)


@pytest.mark.parametrize("impl", IMPLS)
def test_leading_axes(make, impl):
    hidden, classifier, bias = layer(make, batch=12)
    targets, labels = teacher(make, "dense", rows=12).logits[0], torch.arange(12) % C
    shape = (3, 2, 2)
    given = {"temperature": torch.linspace(1, 2, 12), "impl": "torch", "reduction": "none"}
    flat = distillation_loss_linear(
        hidden, classifier, bias, targets, labels, return_parts=True, **given
    )
    given["temperature"] = given["temperature"].view(shape)
    parts = distillation_loss_linear(
        hidden.view(*shape, D),
        classifier,
        bias,
        targets.view(*shape, C),
        labels.view(shape),
        return_parts=True,
        chunk_rows=5,
        **given,
    )
    for one, other in zip(parts, flat, strict=True):
        assert one.shape == shape
        torch.testing.assert_close(one.flatten(), other)
    loss = distillation_loss_linear(
        hidden.view(*shape, D), classifier, bias, targets.view(*shape, C), impl=impl
    )
    (found,) = torch.autograd.grad(loss, hidden)
    expected = distillation_loss(F.linear(hidden, classifier, bias), targets, impl="torch")
    torch.testing.assert_close(found, torch.autograd.grad(expected, hidden)[0])


@pytest.mark.parametrize("impl", IMPLS)
def test_an_empty_batch(make, impl):
    tensors = layer(make, batch=0)
    none = torch.zeros(0, dtype=torch.long)
    found = outcome(
        distillation_loss_linear, tensors, teacher(make, "dense"), none, rows=none, impl=impl
    )
    assert found["loss"] == 0
    assert not found["classifier"].any()
    assert not found["bias"].any()


# --- half precision


@pytest.mark.parametrize("impl", IMPLS)
def test_autocast(make, impl):
    """What was float32 gets float32 gradients; what comes out of autocast is half."""
    tensors, targets = layer(make), teacher(make, "dense")
    found = {}
    for loss in (distillation_loss_linear, composed):
        for tensor in tensors:
            tensor.grad = None
        with torch.autocast("cpu", torch.bfloat16):
            hidden = F.linear(tensors[0], torch.eye(D))
            assert hidden.dtype == torch.bfloat16
            value = loss(hidden, *tensors[1:], targets, temperature=2.0, impl=impl)
        value.backward()
        assert {tensor.grad.dtype for tensor in tensors} == {torch.float32}
        found[loss] = [value.detach(), *(tensor.grad for tensor in tensors)]
    for one, other in zip(*found.values(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=2e-2 * other.abs().max().item())


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """Logits and the gradient's factors in half precision on the CPU as well."""
    monkeypatch.setattr("antcache.kernels.linear.ROUNDED", ("cuda", "cpu"))
    monkeypatch.setattr("antcache.kernels.linear_rows.BLOCK", 5)


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize(
    ("impl", "dtype", "reduction"), pairwise(IMPLS, HALF, ("mean", "sum", "none"))
)
def test_the_rounded_way_rounds_as_the_composition_does(make, impl, dtype, reduction):
    tensors, targets, labels = layer(make, dtype=dtype), teacher(make, "dense"), torch.arange(B)
    given = {"reduction": reduction, "temperature": 2.0}
    right, found = (
        outcome(loss, tensors, targets, labels, factor=3.7, impl=how, **given)
        for loss, how in ((composed, "torch"), (distillation_loss_linear, impl))
    )
    for name, value in right.items():
        bound = 2 * torch.finfo(dtype).eps * value.abs().max()
        assert (found[name] - value).abs().max() <= bound, name


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize("impl", FUSED)
@pytest.mark.parametrize("form", ["none", "dense"])
@pytest.mark.parametrize("size", [1e-6, 1e6])
def test_float16_loses_no_small_gradient_and_no_large_one(make, impl, form, size):
    """As of a row of a mean over a million: that of a logit would be 0, or infinite.

    The upstream factor, a loss scaler's, brings the results back to where float16 has numbers.
    """
    tensors, targets = layer(make, dtype=torch.float16), teacher(make, form)
    labels = torch.arange(B) % C if form == "none" else None
    given = {"weight": size} if targets else {"label_weight": size}
    doubles = [tensor.double() for tensor in tensors]
    right = outcome(composed, doubles, targets, labels, factor=1 / size, impl="torch", **given)
    loss = distillation_loss_linear(*tensors, targets, labels, impl=impl, **given)
    found = torch.autograd.grad(loss, tensors, torch.tensor(1 / size))
    for name, value in zip(("hidden", "classifier", "bias"), found, strict=True):
        bound = 5e-3 * right[name].abs().max().item()
        torch.testing.assert_close(value.double(), right[name], rtol=0, atol=bound)
