"""The truth of what is beside KL: other divergences, constants as tensors, padding, denominators.

Each is held against the same thing written another way, in float64.
"""

from __future__ import annotations

import math

import pytest
import torch
from kernel_cases import pairwise
from torch.nn import functional as F

from antcache.errors import BadConfig
from antcache.kernels import DenseTargets, TopKTargets, choose, distillation_loss

B, C, M, W = 5, 7, 2, 16
FORMS = ("dense", "dense_mix", "topk", "topk_mix", "tail", "tail_mix")
BETAS = (0.0, 0.1, 0.5, 0.9, 1.0)


def jensen_shannon(p, q, beta):
    """By its definition, from probabilities (B, C)."""
    if beta == 0:
        return (q * (q / p).log()).sum(1)
    if beta == 1:
        return (p * (p / q).log()).sum(1)
    m = beta * q + (1 - beta) * p
    return (beta * q * (q / m).log() + (1 - beta) * p * (p / m).log()).sum(1)


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("temperature", [0.5, 1.0, 5.0])
def test_dense_is_the_definition(make, beta, temperature):
    student, teacher = make.randn(B, C), make.randn(B, C, seed=1)
    p, q = ((x / temperature).softmax(1) for x in (student, teacher))
    found = make.kl(student, DenseTargets(teacher[None]), temperature, beta=beta)
    torch.testing.assert_close(found, jensen_shannon(p, q, beta))


@pytest.mark.parametrize("beta", BETAS)
def test_top_k_is_renormalised_and_a_tail_is_one_more_outcome(make, beta):
    student, dense = make.randn(B, C), make.randn(1, B, C, seed=1)
    targets = make.top_k(dense)
    p, q = ((x.gather(1, targets.index[0]) / 2).softmax(1) for x in (student, dense[0]))
    found = make.kl(student, targets, 2.0, beta=beta)
    torch.testing.assert_close(found, jensen_shannon(p, q, beta))
    targets = make.top_k(dense, tail=True)
    inside = torch.zeros(B, C, dtype=torch.bool).scatter(1, targets.index[0], True)

    def grouped(logits):
        p = logits.softmax(1)
        return torch.cat([p[inside].view(B, -1), p.masked_fill(inside, 0).sum(1)[:, None]], 1)

    found = make.kl(student, targets, beta=beta)
    expected = jensen_shannon(grouped(student), grouped(dense[0]), beta)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(("name", "beta", "per_row"), pairwise(FORMS, BETAS, (False, True)))
def test_gradients_at_any_beta(make, name, beta, per_row):
    targets, labels = make.form(name, rows=B), torch.tensor([1, 2, -100, 0, 5])
    given = {"temperature": 2.0}
    if per_row:
        given["temperature"] = torch.linspace(0.5, 4, B).double()
        given["weight"] = torch.linspace(0, 2, B).double()
    assert torch.autograd.gradcheck(
        lambda x: distillation_loss(
            x, targets, labels, label_smoothing=0.1, beta=beta, impl="torch", **given
        ),
        make.randn(B, C).requires_grad_(),
    )


@pytest.mark.parametrize("beta", [0.5, 1.0])
def test_excluded_classes(make, beta):
    """What a teacher excludes costs without end, or is finite where the student is mixed in."""
    teacher = make.randn(1, B, C, seed=1)
    teacher[..., 0] = -math.inf
    found = make.kl(make.randn(B, C), DenseTargets(teacher), beta=beta)
    assert torch.isinf(found).all() if beta == 1 else torch.isfinite(found).all()


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("labelled", [False, True])
def test_a_class_that_all_exclude_takes_no_part(make, name, beta, labelled):
    """As if the class was not there, whether it is among a teacher's k or not."""
    labels = torch.arange(B) % (C - 1) if labelled else None
    targets = make.form(name, rows=B)
    student = make.randn(B, C)
    wide = torch.cat([student, torch.full((B, 1), -math.inf)], 1).requires_grad_()
    student.requires_grad_()
    if isinstance(targets, DenseTargets):
        more = F.pad(targets.logits, (0, 1), value=-math.inf)
        widened = DenseTargets(more)
    else:
        more = F.pad(targets.logit, (0, 1), value=-math.inf)
        index = F.pad(targets.index, (0, 1), value=C)
        widened = TopKTargets(index, more, tail=targets.tail)
        if targets.tail is not None:  # spread over as many others as before
            assert C + 1 - (index.shape[-1]) == C - targets.index.shape[-1]
    losses = [
        distillation_loss(x, t, labels, temperature=2.0, beta=beta)
        for x, t in ((student, targets), (wide, widened))
    ]
    torch.testing.assert_close(losses[1], losses[0])
    gradients = [
        torch.autograd.grad(loss, x)[0] for loss, x in zip(losses, (student, wide), strict=True)
    ]
    torch.testing.assert_close(gradients[1][:, :C], gradients[0])
    assert not gradients[1][:, C].any()


@pytest.mark.parametrize("name", FORMS)
def test_constants_as_tensors_are_those_numbers(make, name):
    targets, labels = make.form(name, rows=B), torch.arange(B)
    student = make.randn(B, C)
    expected = distillation_loss(student, targets, labels, temperature=2.0, weight=0.3)
    for shape in ((), (B,)):
        given = {"temperature": torch.full(shape, 2.0), "weight": torch.full(shape, 0.3).double()}
        found = distillation_loss(student, targets, labels, **given)
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
    temperature, weight = torch.linspace(1, 3, B), torch.linspace(0, 2, B)
    given = {"temperature": temperature, "weight": weight, "reduction": "none"}
    rows = distillation_loss(student, targets, **given)
    alone = torch.stack(
        [
            make.kl(student, targets, t)[i] * w * t**2
            for i, (t, w) in enumerate(zip(temperature.tolist(), weight.tolist(), strict=True))
        ]
    )
    torch.testing.assert_close(rows, alone, rtol=1e-6, atol=0)
    mean = distillation_loss(student, targets, **{**given, "reduction": "mean"})
    torch.testing.assert_close(mean, rows.sum() / B)


def test_a_temperature_may_be_learned_by_torch_alone(make):
    student, teacher = make.randn(B, C, dtype=torch.float32), make.randn(B, C, seed=1)
    temperature = torch.tensor(2.0, requires_grad=True)
    distillation_loss(student, teacher, temperature=temperature).backward()
    assert temperature.grad
    with pytest.raises(BadConfig, match="a gradient is wanted for the temperature"):
        distillation_loss(student, teacher, temperature=temperature, impl="numba")
    with torch.no_grad():
        distillation_loss(student, teacher, temperature=temperature)
    assert choose(student).impl == "numba"


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("width", [C, W])
def test_padding_takes_no_part(make, name, width):
    """Whatever stands there; dense teachers may be padded or not."""
    targets, labels = make.form(name, rows=B), torch.arange(B)
    student = make.randn(B, C).requires_grad_()
    padded = F.pad(student.detach(), (0, W - C), value=math.nan).requires_grad_()
    wide = targets
    if isinstance(targets, DenseTargets):
        wide = DenseTargets(F.pad(targets.logits, (0, width - C), value=math.nan))
    given = {"temperature": 2.0, "label_smoothing": 0.1, "class_weight": torch.arange(C) + 1.0}
    right = distillation_loss(student, targets, labels, **given)
    found = distillation_loss(padded, wide, labels, num_classes=C, **given)
    assert found.item() == right.item()
    gradients = [torch.autograd.grad(*pair)[0] for pair in ((right, student), (found, padded))]
    assert torch.equal(gradients[1][:, :C], gradients[0])
    assert not gradients[1][:, C:].any()


def test_a_normaliser_stands_for_the_counts(make):
    targets, labels = make.form("dense", rows=B), torch.tensor([1, -100, -100, 0, 5])
    rows = torch.tensor([0, 1, -1, 3, 4])
    student = make.randn(B, C)
    whole = distillation_loss(student, targets, labels, rows=rows, temperature=2.0)
    counts = torch.tensor([3.0, 4.0])
    parts = [
        distillation_loss(
            student[at], targets, labels[at], rows=rows[at], temperature=2.0, normaliser=counts
        )
        for at in (slice(0, 2), slice(2, 5))
    ]
    torch.testing.assert_close(sum(parts), whole)
    both = distillation_loss(student, targets, labels, rows=rows, normaliser=torch.tensor(10.0))
    rest = distillation_loss(student, targets, labels, rows=rows, reduction="sum")
    torch.testing.assert_close(both, rest / 10)
    for kind in (torch.int64, torch.int32, torch.uint8):  # counts are whole numbers
        same = distillation_loss(
            student, targets, labels, rows=rows, normaliser=torch.tensor(10, dtype=kind)
        )
        assert torch.equal(same, both)


@pytest.mark.parametrize("impl", ["torch", "auto"])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_more_axes_are_a_longer_batch(make, impl, reduction):
    lead = (2, 3)
    student = make.randn(*lead, C, dtype=torch.float32).requires_grad_()
    teacher, labels = make.randn(*lead, C, seed=1), torch.arange(6).view(lead)
    given = {"temperature": torch.linspace(1, 2, 6), "reduction": reduction, "impl": impl}
    share = torch.rand(6, M)
    many = DenseTargets(make.randn(M, 6, C))
    rows = torch.arange(6).flip(0)
    pairs = [
        (
            distillation_loss(student, teacher, labels, **_shaped(given, lead)),
            distillation_loss(
                student.flatten(0, 1), teacher.flatten(0, 1), labels.flatten(), **given
            ),
        ),
        (
            distillation_loss(
                student,
                many,
                rows=rows.view(lead),
                teacher_weight=share.view(*lead, M),
                **_shaped(given, lead),
            ),
            distillation_loss(
                student.flatten(0, 1), many, rows=rows, teacher_weight=share, **given
            ),
        ),
    ]
    for found, right in pairs:
        assert found.shape == (lead if reduction == "none" else ())
        torch.testing.assert_close(found.flatten(), right.flatten())
    parts = distillation_loss(student, teacher, labels, return_parts=True)
    assert parts.ce.shape == parts.kl.shape == parts.has_target.shape == lead
    (gradient,) = torch.autograd.grad(parts.loss, student)
    assert gradient.shape == student.shape


def _shaped(given, lead):
    return {**given, "temperature": given["temperature"].view(lead)}


@pytest.mark.parametrize("impl", ["numba", "torch"])
def test_an_empty_batch_is_taken_by_all(make, impl):
    x = torch.zeros(0, C, requires_grad=True)
    rows = torch.zeros(0, dtype=torch.long)
    loss = distillation_loss(x, make.form("dense"), rows, rows=rows, impl=impl)
    loss.backward()
    assert loss == 0
    assert x.grad.shape == (0, C)
