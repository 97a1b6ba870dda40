"""The loss by numba on the CPU against the float64 reference, and at the edge of what it takes."""

from __future__ import annotations

import math
import os
import pickle
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from antcache.kernels import DenseTargets, TopKTargets, choose, distillation_loss

numba = pytest.importorskip("numba")

B, N = 7, 9
LABELS = torch.tensor([1, 0, -100, 1, 0, 1, 1])
ROWS = torch.tensor([3, -1, 0, 8, 2, 2, 5])
VALID = torch.arange(N) != 8
FORMS = ("none", "dense", "dense_mix", "topk", "topk_mix", "tail", "tail_mix")


def targets_of(make, name, classes, rows=N, seed=1, valid=VALID):
    """Teacher of a form, float32; the K of the two mixed ones never cover all classes."""
    if name == "none":
        return None
    shape = (2 if name.endswith("mix") else 1, rows, classes)
    dense = 3 * make.randn(*shape, seed=seed, dtype=torch.float32)
    if name.startswith("dense"):
        return DenseTargets(logits=dense, valid=valid)
    found = make.top_k(dense, 1 if classes < 50 else 5, tail=name.startswith("tail"))
    fields = {"index": found.index, "logit": found.logit, "tail": found.tail}
    return TopKTargets(**fields, valid=valid)


def outcome(logits, targets, labels, impl, factor=1.0, **kwargs):
    """(loss, ce, kl, gradient) in float64."""
    logits = logits.detach().requires_grad_()
    parts = distillation_loss(logits, targets, labels, impl=impl, return_parts=True, **kwargs)
    parts.loss.backward(torch.as_tensor(factor).to(parts.loss.dtype).expand_as(parts.loss))
    return [x.detach().double() for x in (parts.loss, parts.ce, parts.kl, logits.grad)]


def assert_as_exact_as_torch(logits, targets, labels, **kwargs):
    """No error larger than that of PyTorch in the same precision, plus 1e-6 relative.

    Relative to the largest value, which counts as 1e-9 at least: below, the rounding of float64
    itself exceeds 1e-6 of it.
    """
    truth = outcome(logits.double(), targets, labels, "torch", **kwargs)
    plain = outcome(logits, targets, labels, "torch", **kwargs)
    found = outcome(logits, targets, labels, "numba", **kwargs)
    names = ("loss", "ce", "kl", "grad")
    for name, exact, near, ours in zip(names, truth, plain, found, strict=True):
        size = exact.abs().max().clamp(min=1e-9)
        allowed = (near - exact).abs().max() + 1e-6 * size
        assert (ours - exact).abs().max() <= allowed, (name, kwargs)
    assert found[2].min() >= -1e-6


# --- equality with the reference


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("low", [-10.0, -30.0, -38.0, -44.0, -60.0, -95.0])
@pytest.mark.parametrize("tail", [(-0.11, -0.7, -1.3), (-40.0, -0.7, -1.3), (-80.0, -0.7, -60.0)])
def test_a_class_that_is_named_and_far_less_likely_than_those_that_are_not(low, tail, beta):
    """By all teachers or but one, as in lists of candidates. Found by a user: what a teacher had
    for classes that it does not name was added, and taken off again, and hid such a class."""
    index = torch.tensor([[[0, 1, 2, 3]]]).expand(3, 2, 4).contiguous()
    index[0, 1, 0] = 7  # in the second row two of three name class 0
    logit = torch.tensor([low, 0.3, -0.2, 0.5]).expand(3, 2, 4).contiguous()
    targets = TopKTargets(index, logit, tail=torch.tensor(tail)[:, None].expand(3, 2).contiguous())
    targets.check(16)
    assert_as_exact_as_torch(torch.zeros(2, 16), targets, None, beta=beta)


def test_another_default_dtype_compiles_nothing_anew(make):
    from antcache.kernels.loops.rows import compute_rows

    x, targets = torch.zeros(3, 4), DenseTargets(torch.ones(1, 3, 4))
    right = distillation_loss(x, targets, impl="numba")
    before = len(compute_rows.signatures)
    for dtype in (torch.float64, torch.float16):
        torch.set_default_dtype(dtype)
        try:
            found = distillation_loss(x, targets, impl="numba")
            assert torch.equal(found, right)
            distillation_loss(x.half(), replace(targets, logits=targets.logits.half()))
        finally:
            torch.set_default_dtype(torch.float32)
    assert len(compute_rows.signatures) == before


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("classes", [2, 3, 106, 2513])
def test_every_setting_of_every_form(make, name, classes):
    if (name, classes) == ("tail_mix", 2):
        pytest.skip("the two may name both classes: nothing is left for the tail")
    targets = targets_of(make, name, classes)
    per_class = torch.linspace(0.5, 2.0, classes)
    labels_of = [(LABELS, None, 0.0), (LABELS, per_class, 0.1)]
    if targets is not None:
        labels_of.append((None, None, 0.0))
    case = 0
    for temperature in (0.5, 1.0, 2.0, 5.0, 10.0) if targets is not None else (1.0,):
        for labels, weights, smoothing in labels_of:
            reduction = ("mean", "sum", "none")[case % 3]
            dtype = (torch.float32, torch.float16, torch.float32, torch.bfloat16)[case % 4]
            kwargs = {"class_weight": weights, "label_smoothing": smoothing, "label_weight": 0.7}
            if targets is not None:
                kwargs |= {"rows": ROWS, "weight": 0.3, "temperature": temperature}
            if name.endswith("mix"):
                per_row = torch.rand(B, 2, generator=torch.Generator().manual_seed(case)) + 0.1
                kwargs["teacher_weight"] = (None, per_row, per_row[0])[case % 3]
            logits = (3 * make.randn(B, classes, seed=case)).to(dtype)
            assert_as_exact_as_torch(
                logits, targets, labels, reduction=reduction, factor=0.37, **kwargs
            )
            case += 1


@pytest.mark.parametrize("name", ["dense", "dense_mix", "topk", "topk_mix"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_teachers_of_another_dtype(make, name, dtype):
    targets = targets_of(make, name, 106)
    key = "logits" if name.startswith("dense") else "logit"
    fields = {k: getattr(targets, k) for k in targets.__dataclass_fields__}
    fields[key] = fields[key].to(dtype)
    logits = make.randn(B, 106, dtype=torch.float32)
    assert_as_exact_as_torch(logits, type(targets)(**fields), LABELS, rows=ROWS, temperature=2.0)


def spread(tensor, how):
    """The same numbers with other distances in memory."""
    if how == "columns":
        return tensor.T.contiguous().T if tensor.ndim == 2 else tensor.mT.contiguous().mT
    wide = torch.full((*tensor.shape[:-1], tensor.shape[-1] + 3), math.nan)
    wide[..., : tensor.shape[-1]] = tensor
    return wide[..., : tensor.shape[-1]]


@pytest.mark.parametrize("how", ["rows", "columns"])
@pytest.mark.parametrize("name", FORMS)
def test_strides_change_nothing(make, name, how):
    logits, targets = make.randn(B, 106, dtype=torch.float32), targets_of(make, name, 106)
    kwargs = {} if targets is None else {"rows": ROWS, "temperature": 2.0}
    expected = outcome(logits, targets, LABELS, "numba", **kwargs)
    if isinstance(targets, DenseTargets):
        targets = DenseTargets(logits=spread(targets.logits, how), valid=VALID)
    found = outcome(spread(logits, how), targets, LABELS, "numba", **kwargs)
    assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_blocks_of_rows_change_nothing(make, monkeypatch):
    """What has to be brought into another form is so in blocks."""
    from antcache.kernels.loops import blocks

    logits = make.randn(B, 106, dtype=torch.float32).half()
    for name in FORMS[1:]:
        targets = targets_of(make, name, 106)
        expected = outcome(logits, targets, LABELS, "numba", rows=ROWS)
        with monkeypatch.context() as patched:
            patched.setattr(blocks, "_rows_at_once", lambda _inputs, _grad: 2)
            found = outcome(logits, targets, LABELS, "numba", rows=ROWS)
        assert all(torch.equal(a, b) for a, b in zip(expected, found, strict=True))


def test_blocks_are_small(make):
    from antcache.kernels.loops.blocks import _rows_at_once
    from antcache.kernels.record import LossInputs

    logits = torch.empty(8192, 2513, dtype=torch.bfloat16)
    fields = dict.fromkeys(LossInputs._fields)
    fields |= {"logits": logits, "teacher": torch.empty(2, 4, 2513).half(), "gradient": True}
    rows = _rows_at_once(LossInputs(**fields), logits)
    assert rows > 1
    assert rows * 2513 * (4 + 4 + 2 * 8) <= logits.nbytes / 20


def test_the_cache_of_compiled_loops_names_no_class_of_ours(make):
    """It outlives the version that wrote it: a class that is renamed would make it unreadable."""
    from antcache.kernels.loops.rows import compute_rows

    outcome(make.randn(B, 106, dtype=torch.float32), None, LABELS, "numba")
    assert compute_rows.signatures
    assert b"antcache" not in pickle.dumps(compute_rows.signatures)


# --- exactness and determinism


@pytest.mark.parametrize("name", ["dense", "topk"])
@pytest.mark.parametrize("classes", [2, 3, 37, 106, 2513])
def test_equal_logits_have_exactly_no_gradient(make, name, classes):
    teacher = 5 * make.randn(33, classes, seed=1, dtype=torch.float32)
    k = min(classes, 50)
    targets = (
        DenseTargets(logits=teacher[None]) if name == "dense" else make.top_k(teacher[None], k)
    )
    for temperature in (1.0, 2.0, 3.7):
        loss, _, kl, grad = outcome(teacher, targets, None, "numba", temperature=temperature)
        assert loss == 0
        assert kl.abs().max() == 0
        assert grad.abs().max() == 0


@pytest.mark.parametrize("name", FORMS)
def test_the_number_of_threads_changes_no_bit(make, name):
    batch, classes = 64, 1009  # enough for threads to be used
    targets = targets_of(make, name, classes, rows=batch, valid=None)
    labels = torch.arange(batch)
    logits = make.randn(batch, classes, dtype=torch.float32)
    found, before = [], (torch.get_num_threads(), numba.get_num_threads())
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(outcome(logits, targets, labels, "numba"))
            assert (torch.get_num_threads(), numba.get_num_threads()) == (threads, before[1])
    finally:
        torch.set_num_threads(before[0])
    assert all(torch.equal(a, b) for a, b in zip(found[0], found[-1], strict=True))


def test_the_first_call_of_a_process_leaves_the_number_of_threads():
    """It starts numba's threads, and with them may set OpenMP's number, which is PyTorch's."""
    code = (
        "import torch; torch.set_num_threads(1); from antcache.kernels import distillation_loss; "
        "logits = torch.randn(9, 64).bfloat16(); "
        "distillation_loss(logits, labels=torch.zeros(9).long(), impl='numba'); "
        "print(torch.get_num_threads())"
    )
    environment = {**os.environ, "NUMBA_NUM_THREADS": "2"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["1"]


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradient_over_the_logits(make, name, dtype):
    logits, targets = make.randn(B, 106).to(dtype), targets_of(make, name, 106)
    kwargs = {} if targets is None else {"rows": ROWS, "temperature": 2.0}
    expected = outcome(logits, targets, LABELS, "numba", **kwargs)[3]
    leaf = logits.clone().requires_grad_()
    given_away = leaf * 1
    memory = given_away.data_ptr()
    found = []
    given_away.register_hook(lambda grad: found.append(grad.data_ptr()))
    distillation_loss(
        given_away, targets, LABELS, impl="numba", overwrite_logits=True, **kwargs
    ).backward()
    assert torch.equal(leaf.grad.double(), expected)
    assert found == [memory]


def test_without_gradient(make):
    logits, targets = make.randn(B, 106, dtype=torch.float32), targets_of(make, "tail", 106)
    expected = outcome(logits, targets, LABELS, "numba", rows=ROWS)
    before = logits.clone()
    parts = distillation_loss(logits, targets, LABELS, rows=ROWS, impl="numba", return_parts=True)
    assert torch.equal(logits, before)
    assert not parts.loss.requires_grad
    assert torch.equal(parts.loss.double(), expected[0])
    assert torch.equal(parts.kl.double(), expected[2])


# --- numbers and indices at the edge


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_non_finite_logits_stay_non_finite(make, name, value):
    logits, targets = make.randn(B, 106, dtype=torch.float32), targets_of(make, name, 106)
    logits[0, :] = value
    logits[4, 17] = value
    kwargs = {} if targets is None else {"rows": ROWS}
    found = outcome(logits, targets, LABELS, "numba", reduction="none", **kwargs)
    expected = outcome(logits, targets, LABELS, "torch", reduction="none", **kwargs)
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours.isfinite(), theirs.isfinite())


def test_classes_that_are_impossible(make):
    """-inf in the teacher costs nothing; in student and label it costs everything."""
    logits = make.randn(B, 106, dtype=torch.float32)
    teacher = make.randn(B, 106, seed=1, dtype=torch.float32)
    teacher[:, 5:] = -math.inf
    assert_as_exact_as_torch(logits, DenseTargets(logits=teacher[None]), LABELS, temperature=2.0)
    logits[:, 1] = -math.inf
    ce = outcome(logits, None, LABELS, "numba", reduction="none")[1]
    assert torch.equal(ce == math.inf, LABELS == 1)


@pytest.mark.parametrize("label", [-1, 106, 2**40, -(2**40)])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_label_that_is_no_class_gives_nan(make, label, weighted):
    labels = LABELS.clone()
    labels[3] = label
    per_class = torch.ones(106) if weighted else None
    logits = make.randn(B, 106, dtype=torch.float32)
    _, ce, _, grad = outcome(logits, None, labels, "numba", class_weight=per_class)
    assert ce.isnan().tolist() == [i == 3 for i in range(B)]
    assert torch.equal(grad.isnan().all(1), ce.isnan())
    assert torch.equal(grad.isnan().any(1), ce.isnan())


@pytest.mark.parametrize("name", FORMS[1:])
@pytest.mark.parametrize("row", [N, 2**40])
def test_a_teacher_row_that_is_none_gives_nan(make, name, row):
    rows = ROWS.clone()
    rows[2] = row
    targets = targets_of(make, name, 106)
    logits = make.randn(B, 106, dtype=torch.float32)
    _, _, kl, grad = outcome(logits, targets, LABELS, "numba", rows=rows)
    assert kl.isnan().tolist() == [i == 2 for i in range(B)]
    assert torch.equal(grad.isnan().all(1), kl.isnan())


@pytest.mark.parametrize("name", ["topk", "topk_mix", "tail", "tail_mix"])
@pytest.mark.parametrize("wrong", [-1, 106, 2**40])
def test_a_top_k_class_that_is_none_gives_nan(make, name, wrong):
    targets = targets_of(make, name, 106)
    targets.index[..., 2, 3] = wrong
    logits = make.randn(B, 106, dtype=torch.float32)
    _, _, kl, grad = outcome(logits, targets, LABELS, "numba", rows=ROWS)
    assert torch.equal(kl.isnan(), ROWS == 2)
    assert torch.equal(grad.isnan().all(1), ROWS == 2)


# --- which implementation


def test_choose_says_why():
    assert choose(torch.zeros(2, 3)) == ("numba", "the logits are on the CPU")
    assert choose(torch.zeros(2, 3), impl="numba") == ("numba", "asked for")
    assert choose(torch.zeros(2, 3).double()) == ("torch", "float64 logits")
    assert choose(torch.zeros(0, 3)) == ("torch", "empty logits")
    empty = torch.zeros(0, 3, requires_grad=True)
    loss = distillation_loss(empty, None, torch.zeros(0).long())
    loss.backward()
    assert loss == 0
