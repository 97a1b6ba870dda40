"""Gradients, precision and numbers at the edge of the reference loss."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import pairwise

from antcache.kernels import DenseTargets, distillation_loss

B, C, N, M = 5, 7, 9, 2
FORMS = ("dense", "dense_mix", "topk", "topk_mix", "tail", "tail_mix")
TEMPERATURES = (0.5, 1.0, 5.0)


# --- gradients


@pytest.mark.parametrize(
    ("name", "temperature", "reduction"), pairwise(FORMS, TEMPERATURES, ("mean", "none"))
)
def test_gradcheck(make, name, temperature, reduction):
    targets = make.form(name)
    rows, labels = torch.tensor([4, -1, 0, 8, 3]), torch.tensor([1, 2, -100, 0, 5])
    weight = torch.tensor([0.3, 0.9]).double() if name.endswith("mix") else None
    per_class = torch.linspace(0.5, 2.0, C).double()
    assert torch.autograd.gradcheck(
        lambda x: distillation_loss(
            x,
            targets,
            labels,
            rows=rows,
            temperature=temperature,
            weight=0.7,
            class_weight=per_class,
            label_smoothing=0.1,
            teacher_weight=weight,
            reduction=reduction,
        ),
        make.randn(B, C).requires_grad_(),
    )


def test_parts_are_differentiable(make):
    student = make.randn(B, C).requires_grad_()
    parts = distillation_loss(
        student, make.form("dense", rows=B), torch.zeros(B).long(), return_parts=True
    )
    for part in (parts.ce, parts.kl):
        assert torch.autograd.grad(part.sum(), student, retain_graph=True)[0].abs().max() > 0


# Top-k teachers without tails that name different classes stay apart at any temperature.
@pytest.mark.parametrize("name", [name for name in FORMS if name != "topk_mix"])
def test_gradient_scale_does_not_depend_on_a_large_temperature(make, name):
    """T^2 makes up for softmax(x / T): the gradient tends to a limit (for centred logits)."""

    def gradient(temperature):
        student = make.randn(B, C).requires_grad_()
        distillation_loss(student, make.form(name, rows=B), temperature=temperature).backward()
        return student.grad

    limit = gradient(1e4)
    assert limit.abs().max() > 1e-3
    torch.testing.assert_close(gradient(1e3), limit, rtol=0, atol=0.01 * limit.abs().max().item())
    if name == "dense":  # (s - t) / (B C), both centred
        student, teacher = (
            x - x.mean(1, keepdim=True) for x in (make.randn(B, C), make.form(name, B).logits[0])
        )
        torch.testing.assert_close(limit, (student - teacher) / (B * C), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["dense", "topk"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_logits_leave_nothing_to_learn(make, name, dtype):
    teacher = 5 * make.randn(64, 100, seed=1, dtype=dtype)
    targets = (
        DenseTargets(logits=teacher[None]) if name == "dense" else make.top_k(teacher[None], 10)
    )
    student = teacher.clone().requires_grad_()
    loss = distillation_loss(student, targets, temperature=2.0, reduction="sum")
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-5)
    assert student.grad.abs().max() <= 4 * torch.finfo(dtype).eps


def test_targets_are_constants(make):
    teacher = make.randn(B, C, seed=1).requires_grad_()
    loss = distillation_loss(make.randn(B, C).requires_grad_(), DenseTargets(logits=teacher[None]))
    loss.backward()
    assert teacher.grad is None


# --- numbers at the edge


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    name=st.sampled_from(FORMS),
    batch=st.integers(1, 6),
    scale=st.sampled_from([0.01, 1.0, 30.0, 1000.0]),
    temperature=st.sampled_from([0.5, 1.0, 2.0, 5.0, 10.0]),
    seed=st.integers(0, 1000),
    dtype=st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]),
)
def test_kl_is_never_negative(make, name, batch, scale, temperature, seed, dtype):
    targets = make.form(name, rows=batch, seed=seed)
    student = (scale * make.randn(batch, C, seed=seed + 1)).to(dtype)
    rows = make.kl(student, targets, temperature)
    assert rows.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert torch.isfinite(rows).all()
    assert rows.min() >= -1e-6


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("offset", [1e4, -1e4])
def test_offsets_change_nothing(make, name, offset):
    """An offset of every logit cancels; in float32 up to the rounding of the shifted logits."""
    targets = make.form(name, rows=B)
    key = "logits" if isinstance(targets, DenseTargets) else "logit"
    fields = {k: getattr(targets, k) for k in targets.__dataclass_fields__}
    moved = type(targets)(**{**fields, key: fields[key] + offset})
    for dtype, tolerance in ((torch.float64, 1e-9), (torch.float32, 5e-3)):
        student = (make.randn(B, C) - offset).to(dtype).requires_grad_()
        loss = distillation_loss(student, moved, torch.zeros(B).long(), temperature=2.0)
        loss.backward()
        expected = distillation_loss(
            make.randn(B, C), targets, torch.zeros(B).long(), temperature=2.0
        )
        assert loss.item() == pytest.approx(expected.item(), abs=tolerance)
        assert torch.isfinite(student.grad).all()


@pytest.mark.parametrize("name", FORMS)
def test_excluded_classes_have_probability_zero(make, name):
    targets = make.form(name, rows=B)
    key = "logits" if isinstance(targets, DenseTargets) else "logit"
    fields = {k: getattr(targets, k) for k in targets.__dataclass_fields__}
    fields[key] = fields[key].clone()
    fields[key][..., 0] = -math.inf
    student = make.randn(B, C).requires_grad_()
    excluded = make.kl(student, type(targets)(**fields), 2.0)
    excluded.sum().backward()
    assert torch.isfinite(excluded).all()
    assert torch.isfinite(student.grad).all()
    fields[key][..., 0] = -1e5
    torch.testing.assert_close(excluded, make.kl(student, type(targets)(**fields), 2.0))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_non_finite_student_logits_stay_visible(make, value):
    student = make.randn(B, C)
    student[1, 2] = value
    targets = make.form("dense", rows=B)
    assert not torch.isfinite(distillation_loss(student, targets))
    assert torch.isfinite(make.kl(student, targets)[[0, 2, 3, 4]]).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", FORMS)
def test_low_precision_is_accumulated_in_float32(make, name, dtype):
    student, targets, labels = make.randn(B, C).to(dtype), make.form(name, rows=B), torch.arange(B)
    student.requires_grad_()
    loss = distillation_loss(student, targets, labels, temperature=2.0)
    loss.backward()
    assert loss.dtype == torch.float32
    assert student.grad.dtype == dtype
    truth = distillation_loss(student.detach().double(), targets, labels, temperature=2.0)
    assert loss.item() == pytest.approx(truth.item(), rel=1e-6)


def test_no_value_of_a_tensor_is_looked_at(make):
    """Fake tensors have no values: reading one (a host synchronisation on a GPU) raises."""
    from torch._subclasses import FakeTensorMode

    for name in FORMS:
        with FakeTensorMode() as mode:
            real = make.form(name)
            fields = {k: getattr(real, k) for k in real.__dataclass_fields__}
            fake = {k: None if v is None else mode.from_tensor(v) for k, v in fields.items()}
            loss = distillation_loss(
                torch.empty(B, C, dtype=torch.bfloat16),
                type(real)(**{**fake, "valid": torch.ones(N, dtype=torch.bool)}),
                torch.zeros(B).long(),
                rows=torch.zeros(B).long(),
                class_weight=torch.ones(C),
                label_smoothing=0.1,
                teacher_weight=torch.ones(M) if name.endswith("mix") else None,
            )
        assert loss.shape == ()
