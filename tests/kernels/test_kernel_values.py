"""The Triton kernels on values at the edges: out of range, not finite, excluded, nearly equal.

What an error may be is said in `kernel_cases.py`.
"""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from antcache.kernels import DenseTargets, TopKTargets, distillation_loss, op
from antcache.kernels.record import LossInputs, teacher_tensors
from antcache.kernels.reference import reference

pytest.importorskip("triton")
from kernel_cases import DTYPES, FORMS, check, evaluate, gaussian, pairwise, teacher, to


@pytest.mark.parametrize("classes", [5, 106, 9000])
@pytest.mark.parametrize("form", ["dense", "topk"])
@pytest.mark.parametrize("temperature", [1.0, 0.7, 10.0])
def test_equal_logits_have_no_gradient_at_all(device, classes, form, temperature):
    x = (gaussian(3, classes, seed=5) + 1e3).to(device).requires_grad_()
    targets = DenseTargets(logits=x.detach().clone()[None])
    if form == "topk":
        index = targets.logits.topk(4).indices.flip(-1)
        targets = TopKTargets(index=index, logit=targets.logits.gather(2, index))
    parts = distillation_loss(x, targets, temperature=temperature, impl="triton", return_parts=True)
    parts.loss.backward()
    assert not x.grad.any()
    assert not parts.kl.any() if form == "dense" else parts.kl.abs().max() < 1e-6


@pytest.mark.parametrize("classes", [1000, 20000])
def test_kl_of_nearly_equal_rows_is_hardly_negative(device, classes):
    x = gaussian(2, classes, seed=6) / 30
    near = x + gaussian(2, classes, seed=7) * 1e-5
    kl = distillation_loss(
        x.to(device), near.to(device), impl="triton", return_parts=True, reduction="sum"
    ).kl
    assert kl.min() >= -1e-6
    assert kl.max() < 1e-6


@pytest.mark.parametrize("classes", [6, 8193])
@pytest.mark.parametrize("form", ["dense", "dense_mix", "topk", "topk_mix", "tail", "tail_mix"])
def test_out_of_range_is_nan_and_nothing_else(device, form, classes):
    """A label, teacher row or class that is none: NaN in its row, every other row untouched."""
    targets, x = teacher(form, 4, classes), gaussian(5, classes, seed=4)
    valid = torch.ones(4, dtype=torch.bool)
    index = getattr(targets, "index", None)
    if index is None:
        targets = DenseTargets(logits=targets.logits, valid=valid)
    else:
        index[..., 3, 0] = classes + 10**6
        targets = TopKTargets(index=index, logit=targets.logit, tail=targets.tail, valid=valid)
    rows = torch.tensor([0, 10**9, 2, -7, 3 if index is not None else 1])
    labels = torch.tensor([0, 1, 10**9, 3, 4])
    x = x.to(device).requires_grad_()
    weight = torch.ones(classes, device=device)
    parts = distillation_loss(
        *(x, targets.to(device), labels.to(device)),
        rows=rows.to(device),
        class_weight=weight,
        label_smoothing=0.1,
        reduction="none",
        return_parts=True,
        impl="triton",
    )
    parts.loss.sum().backward()
    bad = [False, True, False, False, index is not None]
    assert parts.kl.isnan().tolist() == bad
    assert parts.ce.isnan().tolist() == [False, False, True, False, False]
    nan_rows = x.grad.isnan().any(1).tolist()
    assert nan_rows == [False, True, True, False, index is not None]
    assert parts.has_target.tolist() == [True, True, True, False, True]
    mean = distillation_loss(
        *(x, targets.to(device), labels.to(device)),
        rows=rows.to(device),
        class_weight=weight,
        impl="triton",
    )
    assert mean.isnan()


@pytest.mark.parametrize(
    ("form", "value", "place"),
    dict.fromkeys(
        [
            *pairwise(FORMS, (math.nan, math.inf, -math.inf), ((0, 9), (5, 9), (5, 8193))),
            # A long row of these is read in parts, by a kernel of its own.
            *itertools.product(
                ("dense", "dense_mix"), (math.nan, math.inf, -math.inf), ((5, 8193),)
            ),
        ]
    ),
)
def test_non_finite_logits_are_never_hidden(device, form, value, place):
    """Where the reference is finite, so is the kernel, and nowhere else."""
    column, classes = place
    x = gaussian(3, classes, seed=8)
    x[1, column] = value
    labels, targets = torch.tensor([1, 2, 3]), teacher(form, 3, classes)
    inputs = [to(v, device) for v in (x, targets, labels)]
    right, found = (
        distillation_loss(*inputs, reduction="none", impl=impl, return_parts=True)
        for impl in ("torch", "triton")
    )
    for name in ("loss", "ce", "kl"):
        a, b = getattr(right, name), getattr(found, name)
        assert a.isfinite().tolist() == b.isfinite().tolist(), name


def test_minus_infinity_in_a_teacher_is_probability_zero(device):
    t = gaussian(3, 9, seed=1)
    t[:, 4] = -math.inf
    x, t = gaussian(3, 9, seed=2).to(device), t.to(device)
    best = t[None].topk(9)
    for targets in (DenseTargets(logits=t[None]), TopKTargets(index=best[1], logit=best[0])):
        factor = torch.tensor(1.0, device=device)
        check(x, targets, None, {"temperature": 2.0}, factor)


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("form", ["dense", "dense_mix"])
@pytest.mark.parametrize("share", [None, [0.0, 1.0, 2.0]])
def test_classes_that_no_teacher_thinks_likely(device, form, share, beta):
    """Probabilities far below what float32 holds, whose logarithms count."""
    x, targets = gaussian(5, 21, seed=2), teacher(form, 5, 21)
    targets = DenseTargets(logits=targets.logits * 30)
    given = {"temperature": 0.7, "beta": beta}
    if share and form == "dense_mix":
        given["teacher_weight"] = torch.tensor(share, device=device)
    check(*(to(v, device) for v in (x, targets, None)), given, torch.tensor(1.0, device=device))


@pytest.mark.parametrize("beta", [1e-5, 0.001, 0.999, 0.99999])
@pytest.mark.parametrize("form", ["dense", "dense_mix", "topk", "tail"])
def test_a_mixture_with_little_of_one(device, form, beta):
    """What the other has of it must not be lost in 1 - beta, nor what it has in 1 + a little."""
    x, targets = gaussian(32, 13, seed=2), teacher(form, 32, 13)
    given = {"beta": beta, "reduction": "sum"}
    for spread in (1, 3):
        upstream = torch.tensor(1.0, device=device)
        check(*(to(v, device) for v in (x * spread, targets, None)), given, upstream)


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("form", ["dense", "dense_mix"])
def test_a_class_that_student_and_teachers_exclude_takes_no_part(device, form, beta):
    x, targets = gaussian(3, 21, seed=2), teacher(form, 3, 21)
    out = torch.arange(21) % 4 == 1
    labels = torch.tensor([0, 2, 3])
    given = {"temperature": 2.0, "beta": beta}
    kept = DenseTargets(logits=targets.logits[..., ~out])
    place = torch.tensor([0, 1, 2])  # of the labels among the classes that are left
    factor = torch.tensor(1.0)
    right = evaluate(x[:, ~out].double(), kept, place, factor, given, impl="torch")
    masked = DenseTargets(logits=targets.logits.masked_fill(out, -math.inf))
    inputs = [to(v, device) for v in (x.masked_fill(out, -math.inf), masked, labels, factor)]
    *found, gradient = evaluate(*inputs, given, impl="triton")
    for a, b in zip(found, right, strict=False):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient[:, ~out], right[3], rtol=1e-5, atol=1e-6)
    assert not gradient[:, out].any()


@pytest.mark.parametrize(
    ("dtype", "beta", "distance"), pairwise(DTYPES, (0.0, 0.3, 1.0), (1e-4, 1e-2)), ids=str
)
def test_gradients_of_nearly_equal_rows(device, dtype, beta, distance):
    """p - q of rounded p and q loses digits where both are close, no more than PyTorch's does; in
    half precision, where it is plain, no more than one rounding of p beside: which of the two is
    luckier depends on the processor."""
    given = {"temperature": 2.0, "beta": beta, "reduction": "sum"}
    rounded = given["temperature"] * 2.0**-25 if beta == 0 and dtype != torch.float32 else 0.0
    for rows, seed in ((8, 3), (64, 6)):
        t = gaussian(rows, 106, seed=seed).to(dtype)
        x = (t.float() + gaussian(rows, 106, seed=seed + 1) * distance).to(dtype)
        inputs = (to(v, device) for v in (x, t, None))
        check(*inputs, given, torch.tensor(1.0, device=device), rounded=rounded)


def test_several_teachers_that_name_all_classes_leave_no_tail(device):
    index = torch.tensor([[[0, 1]], [[2, 3]]])
    logit = torch.tensor([[[0.0, 1.0]], [[2.0, -1.0]]])
    targets = TopKTargets(index=index, logit=logit, tail=torch.full((2, 1), math.log(0.25)))
    x = torch.tensor([[0.5, -0.5, 1.0, 0.0]])
    inside = 0.75 * logit.softmax(-1)
    q = torch.cat([inside[0] + 0.125, inside[1] + 0.125], 1) / 2
    expected = (q * (q.log() - x.log_softmax(1))).sum()
    x = x.to(device).requires_grad_()
    loss = distillation_loss(x, targets.to(device), impl="triton")
    loss.backward()
    torch.testing.assert_close(loss.cpu(), expected)
    torch.testing.assert_close(x.grad.cpu(), x.detach().cpu().softmax(1) - q)


@pytest.mark.parametrize("form", ["dense_mix", "topk_mix", "tail_mix"])
def test_a_weight_below_0_is_nan_where_values_are_not_looked_at(device, form):
    targets = to(teacher(form, 3, 13), device)
    given = LossInputs(
        gaussian(3, 13, seed=2).to(device),
        *teacher_tensors(targets),
        teacher_weight=torch.tensor([[1.0, 2.0, -1.0], [1.0, 1.0, 1.0], [-1.0, 1.0, 1.0]]).to(
            device
        ),
        reduction="none",
    )
    for kl in (op.compute(given, "triton").kl, reference(given).kl):
        assert kl.isnan().tolist() == [True, False, True]
