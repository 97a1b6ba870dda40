"""The loss by numba under settings drawn together, and each of them alone, against float64.

An error may be as large as that of PyTorch's own composition in the same precision, plus 1e-6
relative to the largest value (which counts as 1e-9 at least).
"""

from __future__ import annotations

import ast
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import pad

from antcache.kernels import DenseTargets, TopKTargets, distillation_loss

pytest.importorskip("numba")

FORMS = ("dense", "dense_mix", "topk", "topk_mix", "tail", "tail_mix")
BETAS = (0.0, 1e-3, 0.1, 0.5, 0.9, 0.999, 1.0)


def outcome(logits, targets, labels, impl, factor=1.0, **kwargs):
    """(loss, ce, kl, gradient) in float64."""
    logits = logits.detach().requires_grad_()
    parts = distillation_loss(logits, targets, labels, impl=impl, return_parts=True, **kwargs)
    parts.loss.backward(torch.as_tensor(factor).to(parts.loss.dtype).expand_as(parts.loss))
    return [x.detach().double() for x in (parts.loss, parts.ce, parts.kl, logits.grad)]


def assert_as_exact_as_torch(logits, targets, labels, **kwargs):
    truth = outcome(logits.double(), targets, labels, "torch", **kwargs)
    plain = outcome(logits, targets, labels, "torch", **kwargs)
    found = outcome(logits, targets, labels, "numba", **kwargs)
    for name, exact, near, ours in zip(
        ("loss", "ce", "kl", "grad"), truth, plain, found, strict=True
    ):
        size = exact.abs().max().clamp(min=1e-9)
        allowed = (near - exact).abs().max() + 1e-6 * size
        assert (ours - exact).abs().max() <= allowed, (name, kwargs)


class Cases:
    """Draws what a loss is of: each kind of input by its own name."""

    def __init__(self, draw, make):
        self.draw, self.make = draw, make
        self.classes, self.batch = self.whole(2, 70), self.whole(1, 9)
        self.seed = self.whole(0, 99)
        self.generator = torch.Generator().manual_seed(self.seed)

    def whole(self, low, high):
        return self.draw(st.integers(low, high))

    def one_of(self, *options):
        return self.draw(st.sampled_from(options))

    def targets(self, width):
        """A teacher of any form; dense ones as wide as the logits or not."""
        name = self.one_of(*FORMS)
        if name == "tail_mix" and self.classes == 2:
            name = "tail"  # the two may name both classes: nothing is left for the tail
        shape = (2 if name.endswith("mix") else 1, self.batch, self.classes)
        dense = self.one_of(0.01, 3.0) * self.make.randn(*shape, seed=self.seed).float()
        if name.startswith("dense"):
            more = self.one_of(0, width - self.classes)
            return DenseTargets(pad(dense, (0, more), value=math.nan))
        k = self.whole(1, max(1, min(self.classes // 3, 8)))
        return self.make.top_k(dense, k, tail=name.startswith("tail"))

    def labels(self):
        """Labels, or none, with what goes with them."""
        if not self.draw(st.booleans()):
            return None, {}
        labels = torch.randint(0, self.classes, (self.batch,), generator=self.generator)
        labels[self.seed % self.batch] = -100
        smoothing = self.one_of(0.0, 0.1, 1.0)
        per_class = self.one_of(None, torch.linspace(0, 2, self.classes))
        return labels, {"label_smoothing": smoothing, "class_weight": per_class}

    def settings(self):
        """All else that is new beside plain numbers."""
        per_row = torch.rand(self.batch, generator=self.generator)
        found = {
            "temperature": self.one_of(0.5, 1.0, 3.0, torch.tensor(2.0), 0.3 + 3 * per_row),
            "weight": self.one_of(1.0, 0.3, torch.tensor(0.5), per_row),
            "beta": self.one_of(*BETAS),
            "reduction": self.one_of("mean", "sum", "none"),
            "factor": self.one_of(1.0, -1.7),
        }
        if found["reduction"] == "mean":
            counts = (torch.tensor(3.7), torch.tensor([2.0, 0.0]), torch.tensor([1.3, 5.0]))
            found["normaliser"] = self.one_of(None, *counts)
        return found


@settings(max_examples=300, deadline=None, derandomize=True)
@given(data=st.data())
def test_any_settings_together(make, data):
    case = Cases(data.draw, make)
    width = case.classes + case.one_of(0, 1, 5)
    targets = case.targets(width)
    labels, labelled = case.labels()
    offset, spread = case.one_of(0.0, 1e4, -1e4), case.one_of(0.01, 1.0, 30.0)
    student = make.randn(case.batch, case.classes, seed=case.seed + 1)
    if labels is None and isinstance(targets, DenseTargets) and case.draw(st.booleans()):
        student = targets.logits[0, :, : case.classes] + 1e-3 * student  # nearly the teacher
        offset, spread = 0.0, 1.0
    logits = pad((spread * student + offset).float(), (0, width - case.classes), value=math.nan)
    given = {**labelled, **case.settings()}
    if width > case.classes:
        given["num_classes"] = case.classes
    assert_as_exact_as_torch(logits, targets, labels, **given)


def test_no_difference_stands_where_sums_may_be_reordered():
    """Reordered, a - (x - top) is (a + top) - x, which loses digits: such loops only add."""
    from antcache.kernels.loops import rows

    found = []
    for module in (*rows.SOURCES, rows):
        for node in ast.walk(ast.parse(Path(module.__file__).read_text())):
            if isinstance(node, ast.FunctionDef) and "fastmath" in ast.dump(
                ast.Module(node.decorator_list, [])
            ):
                found.append(node)
    assert found
    for function in found:
        assert not [n for n in ast.walk(function) if isinstance(n, ast.Sub | ast.USub | ast.Mult)]


# --- each by itself


@pytest.mark.parametrize("name", ["dense", "topk"])
@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("classes", [2, 37, 2513])
def test_equal_logits_have_exactly_no_gradient(make, name, beta, classes):
    teacher = 5 * make.randn(9, classes, seed=1, dtype=torch.float32)
    dense = DenseTargets(teacher[None])
    targets = dense if name == "dense" else make.top_k(teacher[None], min(classes, 50))
    for temperature in (1.0, torch.linspace(0.5, 4, 9)):
        loss, _, kl, grad = outcome(
            teacher, targets, None, "numba", temperature=temperature, beta=beta
        )
        assert loss == kl.abs().max() == grad.abs().max() == 0


@pytest.mark.parametrize("classes", [106, 2513])
@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_half_precision_and_padding(make, name, classes, dtype):
    targets = targets_of(make, name, classes)
    labels = torch.arange(7) * 11 % classes
    logits = pad(make.randn(7, classes).to(dtype), (0, 6), value=math.nan)
    for beta in (0.0, 0.4, 1.0):
        given = {"beta": beta, "temperature": torch.linspace(1, 2, 7), "num_classes": classes}
        assert_as_exact_as_torch(logits, targets, labels, factor=0.37, **given)
        grad = outcome(logits, targets, labels, "numba", **given)[3]
        assert not grad[:, classes:].any()


def targets_of(make, name, classes, rows=7):
    dense = 3 * make.randn(
        2 if name.endswith("mix") else 1, rows, classes, seed=1, dtype=torch.float32
    )
    if name.startswith("dense"):
        return DenseTargets(dense)
    return make.top_k(dense, 5, tail=name.startswith("tail"))


@pytest.mark.parametrize("name", FORMS)
def test_a_gradient_over_padded_logits(make, name):
    targets, labels = targets_of(make, name, 16), torch.arange(7)
    logits = pad(make.randn(7, 16, dtype=torch.float32), (0, 4), value=math.nan)
    given = {"num_classes": 16, "beta": 0.5}
    expected = outcome(logits, targets, labels, "numba", **given)[3]
    leaf = logits.clone().requires_grad_()
    distillation_loss(
        leaf * 1, targets, labels, impl="numba", overwrite_logits=True, **given
    ).backward()
    assert torch.equal(leaf.grad.double(), expected)


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_a_class_that_all_exclude_takes_no_part(make, name, beta):
    """As if it was not there, be it among a teacher's k or not."""
    targets, labels = targets_of(make, name, 40), torch.arange(7)
    logits = make.randn(7, 40, dtype=torch.float32)
    wide = pad(logits, (0, 1), value=-math.inf)
    if isinstance(targets, DenseTargets):
        widened = DenseTargets(pad(targets.logits, (0, 1), value=-math.inf))
    else:
        logit = pad(targets.logit, (0, 1), value=-math.inf)
        widened = TopKTargets(pad(targets.index, (0, 1), value=40), logit, tail=targets.tail)
    expected = outcome(logits, targets, labels, "numba", temperature=2.0, beta=beta)
    found = outcome(wide, widened, labels, "numba", temperature=2.0, beta=beta)
    assert not found[3][:, 40].any()
    for ours, theirs in zip((*found[:3], found[3][:, :40]), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("excluded_by", ["student", "teacher"])
def test_what_one_excludes(make, beta, excluded_by):
    """Infinite for the divergence that asks for its logarithm, else finite and exact."""
    logits, teacher = make.randn(7, 40).float(), make.randn(1, 7, 40, seed=1).float()
    (logits if excluded_by == "student" else teacher)[..., 3] = -math.inf
    found = outcome(logits, DenseTargets(teacher), None, "numba", beta=beta)
    endless = beta == (0.0 if excluded_by == "student" else 1.0)
    assert found[2].isinf().all() if endless else found[2].isfinite().all()
    if not endless:
        assert found[3].isfinite().all()
        truth = outcome(logits.double(), DenseTargets(teacher), None, "torch", beta=beta)
        torch.testing.assert_close(found[2], truth[2], rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", FORMS)
def test_reverse_kl_where_the_teachers_nearly_exclude_what_the_student_believes(make, name):
    """q is below what float32 holds, its logarithm is not."""
    dense = 100 * make.randn(2 if name.endswith("mix") else 1, 7, 40, seed=1, dtype=torch.float32)
    tail = name.startswith("tail")
    targets = DenseTargets(dense) if name.startswith("dense") else make.top_k(dense, 20, tail=tail)
    assert_as_exact_as_torch(make.randn(7, 40).float(), targets, None, beta=1.0)


@pytest.mark.parametrize("name", FORMS)
def test_constants_as_tensors_are_those_numbers(make, name):
    targets, labels = targets_of(make, name, 40), torch.arange(7)
    logits = make.randn(7, 40, dtype=torch.float32)
    expected = outcome(logits, targets, labels, "numba", temperature=2.0, weight=0.25)
    for shape in ((), (7,)):
        given = {"temperature": torch.full(shape, 2.0), "weight": torch.full(shape, 0.25)}
        found = outcome(logits, targets, labels, "numba", **given)
        assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_a_sum_that_float32_can_not_hold_is_infinite(make):
    logits = torch.full((4, 3), 3e38)
    logits[:, 0] = -3e38
    loss, *_ = outcome(logits, None, torch.zeros(4).long(), "numba", reduction="sum")
    assert loss == math.inf
