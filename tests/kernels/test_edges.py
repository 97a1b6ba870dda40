"""Rows that take no part, constants at the ends of their range: all say the same."""

from __future__ import annotations

import importlib.util
import itertools
import math

import pytest
import torch
from kernel_cases import pairwise

from antcache.errors import BadConfig
from antcache.kernels import DenseTargets, choose, distillation_loss

B, C, LONG = 3, 6, 10_300
IMPLS = [name for name in ("torch", "numba", "triton") if importlib.util.find_spec(name)]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture(params=IMPLS)
def impl(request):
    return request.param


def loss(impl, logits, *tensors, **given):
    """The loss of float32 inputs where the implementation runs."""
    device = "cpu" if impl == "numba" else DEVICE
    moved = [None if t is None else t.to(device) for t in tensors]
    given = {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in given.items()}
    return distillation_loss(logits.to(device), *moved, impl=impl, **given)


@pytest.mark.parametrize(
    ("impl", "junk", "teachers", "classes"),
    # A long row with a mixture has a kernel of its own, which must hide each of them.
    dict.fromkeys(
        [
            *pairwise(IMPLS, (math.nan, math.inf, -math.inf), (0, 1, 2), (C, LONG)),
            *itertools.product(IMPLS, (math.nan, math.inf, -math.inf), (2,), (LONG,)),
        ]
    ),
    indirect=["impl"],
)
def test_a_row_without_label_and_target_has_no_gradient(make, impl, junk, teachers, classes):
    logits = make.randn(B, classes, dtype=torch.float32)
    logits[0] = junk
    logits.requires_grad_()
    targets, given = None, {}
    if teachers:
        targets = DenseTargets(make.randn(teachers, B, classes, seed=1, dtype=torch.float32))
        given["rows"] = torch.tensor([-1, 1, 2])
    value = loss(impl, logits, targets, torch.tensor([-100, 1, 2]), label_smoothing=0.1, **given)
    value.backward()
    assert value.isfinite()
    assert logits.grad.isfinite().all()
    assert not logits.grad[0].any()
    assert logits.grad[1:].any()


@pytest.mark.parametrize("classes", [C, LONG])
def test_labels_alone_are_no_targets(make, impl, classes):
    logits = make.randn(B, classes, dtype=torch.float32)
    parts = loss(impl, logits, None, torch.zeros(B).long(), return_parts=True)
    assert not parts.has_target.any()


@pytest.mark.parametrize("name", ["temperature", "weight"])
@pytest.mark.parametrize("value", [0.0, math.nan])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_what_a_masked_row_has_as_a_constant_does_not_matter(make, impl, name, value, reduction):
    logits = make.randn(B, C, dtype=torch.float32).requires_grad_()
    teacher = make.randn(B, C, seed=1, dtype=torch.float32)
    losses = [
        loss(
            impl,
            logits,
            teacher,
            rows=torch.tensor([-1, 1, 2]),
            reduction=reduction,
            **{name: torch.tensor([first, 1.0, 2.0])},
        ).sum()
        for first in (1.5, value)
    ]
    assert losses[0] == losses[1]
    gradients = [torch.autograd.grad(one, logits)[0] for one in losses]
    assert torch.equal(*gradients)
    assert gradients[0].isfinite().all()


def test_a_normaliser_of_nan_is_nan_and_one_of_0_counts_as_1(make, impl):
    logits, teacher = (make.randn(B, C, seed=s, dtype=torch.float32) for s in (0, 1))
    assert loss(impl, logits, teacher, normaliser=torch.tensor(math.nan)).isnan()
    zero = loss(impl, logits, teacher, normaliser=torch.tensor(0.0))
    torch.testing.assert_close(zero, loss(impl, logits, teacher, reduction="sum"))


def test_class_weights_of_0_leave_nothing(make, impl):
    logits = make.randn(B, C, dtype=torch.float32).requires_grad_()
    given = {"class_weight": torch.zeros(C), "label_smoothing": 0.1}
    loss(impl, logits, None, torch.zeros(B).long(), **given).backward()
    assert not logits.grad.any()


def test_the_gradient_of_a_temperature_is_that_of_the_whole_loss(make):
    student, targets = make.randn(B, C), DenseTargets(make.randn(2, B, C, seed=1))
    share = torch.tensor([0.3, 0.7], dtype=torch.float64, requires_grad=True)
    temperature = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda t, s: distillation_loss(student, targets, temperature=t, teacher_weight=s, beta=0.3),
        (temperature, share),
    )


def test_constants_keep_the_precision_of_the_logits(make):
    student, teacher = make.randn(B, C), make.randn(B, C, seed=1)
    tensor = torch.tensor(0.1, dtype=torch.float64)
    expected = distillation_loss(student, teacher, temperature=0.1, weight=0.1)
    found = distillation_loss(student, teacher, temperature=tensor, weight=tensor)
    torch.testing.assert_close(found, expected, rtol=1e-14, atol=0)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"beta": sum([0.1] * 10)}, "beta too near to 0 or 1"),
        ({"beta": 1e-46}, "beta too near to 0 or 1"),
        ({"temperature": 1e300}, "impossible temperature"),
        ({"temperature": 1e-300}, "impossible temperature"),
        ({"weight": 10**400}, "impossible weight"),
        ({"label_weight": 1e300}, "impossible label_weight"),
        ({"ignore_index": 2**63}, "impossible ignore_index"),
    ],
)
def test_numbers_that_nothing_can_compute_with_are_refused(given, words):
    with pytest.raises(BadConfig, match=words):
        distillation_loss(torch.zeros(B, C), torch.zeros(B, C), torch.zeros(B).long(), **given)


def test_choose_takes_what_the_loss_takes(make):
    student, teacher = make.randn(B, C), make.randn(B, C, seed=1)
    assert choose(student, teacher) == choose(student, DenseTargets(teacher[None]))
