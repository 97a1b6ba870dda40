"""The loss of classes that several processes share: that of one process, and what it costs them.

Each group of processes is started once, and answers all calls of its tests.
"""

from __future__ import annotations

import itertools
import math
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from antcache.kernels import DenseTargets, TopKTargets, distillation_loss

B, C, N, M = 6, 11, 9, 2
FORMS = ("none", "dense", "dense_mix", "topk", "topk_mix", "tail", "tail_mix")
BETAS = (0.0, 0.3, 1.0)
OURS = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("sharded_process.py"))))
parts_of, fields_of = OURS.parts_of, OURS.fields_of


@pytest.fixture(scope="module")
def groups(tmp_path_factory):
    """By how many they are; started together, as what they import costs more than what they do."""
    with OURS.started(tmp_path_factory.mktemp("groups"), 2, 3) as found:
        yield found


@pytest.fixture(scope="module", params=[2, 3])
def group(request, groups):
    return groups[request.param]


# --- the same call, whole and in parts


def whole(call, dtype=None):
    """(loss, ce, kl, gradient) in float64 of one process in plain PyTorch."""
    call = {**call}
    factor = call.pop("factor", torch.ones(()))
    logits = call.pop("logits").detach().to(dtype).requires_grad_()
    parts = distillation_loss(logits, impl="torch", return_parts=True, **call)
    factor = factor.to(parts.loss).expand_as(parts.loss)
    (grad,) = torch.autograd.grad(parts.loss, logits, factor)
    return [x.detach().double() for x in (parts.loss, parts.ce, parts.kl, grad)]


def together(group, call, widths, **how):
    """The same of the processes; all of them have to give one loss."""
    answers = group(parts_of(call, widths, **how))
    for answer in answers:
        assert "error" not in answer, answer["error"]
        for name in ("loss", "ce", "kl", "has_target"):
            assert torch.equal(*(x[name].nan_to_num(7.0) for x in (answer, answers[0]))), name
    grads = [x["grad"] for x in answers]
    padded = grads[-1][..., widths[-1] :]
    assert not padded.any()
    kept = [grad[..., :width] for grad, width in zip(grads, widths, strict=True)]
    first = answers[0]
    return [x.double() for x in (first["loss"], first["ce"], first["kl"], torch.cat(kept, -1))]


def assert_as_exact_as_torch(group, call, widths, **how):
    """No error larger than that of PyTorch in the same precision, plus 1e-6 relative.

    Relative to the largest value, which counts as 1e-9 at least, as for the other implementations.
    """
    truth = whole(call, torch.float64)
    plain = whole(call, call["logits"].dtype)
    found = together(group, call, widths, **how)
    names = ("loss", "ce", "kl", "grad")
    for name, exact, near, ours in zip(names, truth, plain, found, strict=True):
        finite = exact.isfinite()
        if name == "grad":  # that of an infinite loss is what it is
            finite &= (truth[1] + truth[2]).isfinite()[..., None]
        assert name == "grad" or torch.equal(ours.isfinite(), finite), name
        exact, near, ours = (x.where(finite, 0) for x in (exact, near, ours))
        allowed = (near - exact).abs().max() + 1e-6 * exact.abs().max().clamp(min=1e-9)
        assert (ours - exact).abs().max() <= allowed, (name, widths)


def targets_of(make, name, classes, rows=N, seed=1, **fields):
    """Teacher of a form, float32."""
    if name == "none":
        return None
    shape = (M if name.endswith("mix") else 1, rows, classes)
    dense = 3 * make.randn(*shape, seed=seed, dtype=torch.float32)
    if name.startswith("dense"):
        return DenseTargets(dense, **fields)
    found = make.top_k(dense, min(3, classes), tail=name.startswith("tail"))
    return TopKTargets(found.index, found.logit, tail=found.tail, **fields)


def whole_call(make, name, seed=0, **changes):
    """Labels, masks and weights together; changes of `None` leave out."""
    call = {
        "logits": 3 * make.randn(B, C, seed=seed, dtype=torch.float32),
        "labels": torch.tensor([1, C - 1, -100, 0, 5, 7]),
        "label_smoothing": 0.1,
        "class_weight": torch.linspace(0.5, 2.0, C),
        "label_weight": 0.7,
    }
    if name != "none":
        valid = torch.arange(N) != 8
        call |= {
            "targets": targets_of(make, name, C, valid=valid),
            "rows": torch.tensor([3, -1, 0, 8, 2, 2]),
            "temperature": 2.0,
            "weight": 0.3,
        }
    call |= changes
    return {key: value for key, value in call.items() if value is not None}


def uneven(group):
    """Shares of C classes; the last is the smallest."""
    return {2: [7, 4], 3: [2, 8, 1]}[group.count]


# --- equality


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("beta", BETAS)
def test_every_form_is_that_of_one_process(make, group, name, beta):
    changes = {} if name == "none" else {"beta": beta}
    if name.endswith("mix"):
        changes["teacher_weight"] = torch.linspace(0.1, 2, B * M).view(B, M)
    for case, reduction in enumerate(("mean", "sum", "none")):
        factor = torch.linspace(-1, 2, B) if reduction == "none" else torch.tensor(-1.7)
        call = whole_call(make, name, seed=case, reduction=reduction, factor=factor, **changes)
        assert_as_exact_as_torch(group, call, uneven(group), padding=case)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(data=st.data())
def test_any_shape_and_value(make, group, data):
    draw = data.draw
    classes, batch, seed = (
        draw(st.integers(3, 40)),
        draw(st.integers(1, 7)),
        draw(st.integers(0, 99)),
    )
    name = draw(st.sampled_from(FORMS))
    dtype = draw(st.sampled_from([torch.float32, torch.float16, torch.bfloat16]))
    spread = draw(st.sampled_from([0.01, 1.0, 30.0]))
    offset = draw(st.sampled_from([0.0, 1e4, -1e4]))
    logits = (spread * make.randn(batch, classes, seed=seed + 1) + offset).to(dtype)
    call = {"logits": logits, "reduction": draw(st.sampled_from(["mean", "sum", "none"]))}
    call["factor"] = torch.tensor(draw(st.sampled_from([1.0, -1.7])))
    targets = targets_of(make, name, classes, rows=batch, seed=seed)
    # Classes that nobody takes for possible, perhaps all of a process.
    excluded = torch.zeros(classes, dtype=torch.bool)
    low, high = sorted((draw(st.integers(0, classes)), draw(st.integers(0, classes))))
    if draw(st.booleans()) and high - low < classes:
        excluded[low:high] = True
        if isinstance(targets, TopKTargets):  # but for one of each row's k, or there is no target
            excluded[targets.index[..., 0].flatten()] = False
        logits[:, excluded] = -math.inf
        if isinstance(targets, DenseTargets):
            targets = DenseTargets(targets.logits.masked_fill(excluded, -math.inf))
        elif targets is not None:
            inside = targets.logit.masked_fill(excluded[targets.index], -math.inf)
            targets = TopKTargets(targets.index, inside, tail=targets.tail)
    if targets is None or draw(st.booleans()):
        possible = (~excluded).nonzero()[:, 0]
        labels = possible[torch.arange(batch).mul(seed + 3) % len(possible)]
        call["labels"] = labels.masked_fill(torch.arange(batch) == seed % (batch + 1), -100)
        call["label_smoothing"] = 0.0 if excluded.any() else draw(st.sampled_from([0.0, 0.1]))
        if draw(st.booleans()):
            call["class_weight"] = torch.linspace(0.2, 2, classes)
    if targets is not None:
        call |= {"targets": targets, "beta": draw(st.sampled_from(BETAS))}
        temperature = draw(st.sampled_from([0.5, 1.0, 3.0]))
        per_row = torch.linspace(temperature, 2, batch)
        call["temperature"] = draw(st.sampled_from([temperature, per_row, per_row[0]]))
    if call["reduction"] == "mean" and draw(st.booleans()):
        call["normaliser"] = draw(st.sampled_from([torch.tensor(7.0), torch.tensor([0.0, 2.5])]))
    number = group.count - 1
    inner = draw(st.sets(st.integers(1, classes - 1), min_size=number, max_size=number))
    widths = [stop - start for start, stop in itertools.pairwise([0, *sorted(inner), classes])]
    assert_as_exact_as_torch(group, call, widths, padding=draw(st.integers(0, 3)))


@pytest.mark.parametrize("name", FORMS)
def test_float64_stays_float64(make, group, name):
    """With an offset up to the rounding of the logits' logarithms."""
    for offset in (0.0, 1e4):
        call = whole_call(make, name, logits=3 * make.randn(B, C) + offset)
        found = together(group, call, uneven(group))
        for ours, exact in zip(found, whole(call, torch.float64), strict=True):
            torch.testing.assert_close(ours, exact, rtol=0, atol=1e-14 + 1e-15 * offset)


# --- who has what


@pytest.mark.parametrize("name", ["dense", "tail"])
@pytest.mark.parametrize("padding", [0, 1])
def test_equal_shares_are_in_the_order_of_the_ranks(make, group, name, padding):
    """Padding at the end needs `num_classes`."""
    classes = 12 - padding
    call = whole_call(
        make,
        name,
        logits=3 * make.randn(B, classes, dtype=torch.float32),
        targets=targets_of(make, name, classes),
        class_weight=torch.linspace(0.5, 2.0, classes),
    )
    width = 12 // group.count
    calls = parts_of(call, [width] * (group.count - 1) + [width - padding], padding=padding)
    told = group(calls)
    for mine in calls:
        del mine["offset"]
        if not padding:
            del mine["num_classes"]
    for mine, same in zip(group(calls), told, strict=True):
        assert mine["loss"].isfinite()
        assert torch.equal(mine["loss"], same["loss"])
        assert torch.equal(mine["grad"], same["grad"])


@pytest.mark.parametrize("name", FORMS)
def test_a_process_may_have_padding_alone(make, group, name):
    widths = {2: [C, 0], 3: [4, C - 4, 0]}[group.count]
    assert_as_exact_as_torch(group, whole_call(make, name), widths, padding=2)


@pytest.mark.parametrize("name", ["dense", "dense_mix"])
@pytest.mark.parametrize("beta", BETAS)
def test_a_process_may_have_no_class_that_is_possible(make, group, name, beta):
    """In one row, whose label is elsewhere."""
    call = whole_call(make, name, beta=beta, label_smoothing=0.0, reduction="none")
    own = uneven(group)[0]
    call["logits"][4, :own] = call["targets"].logits[:, 2, :own] = -math.inf
    call["rows"], call["labels"] = torch.tensor([3, -1, 0, 8, 2, 5]), torch.full((B,), C - 1)
    loss, _, _, grad = together(group, call, uneven(group))
    assert loss.isfinite().all()
    assert not grad[4, :own].any()
    assert_as_exact_as_torch(group, call, uneven(group))


@pytest.mark.parametrize("name", FORMS)
def test_without_a_row(make, group, name):
    empty = torch.zeros(0).long()
    changes = {"logits": torch.zeros(0, C), "labels": empty}
    if name != "none":
        changes["rows"] = empty
    loss, _, _, grad = together(group, whole_call(make, name, **changes), uneven(group))
    assert loss == 0
    assert grad.shape == (0, C)


@pytest.mark.parametrize("name", FORMS[1:])
def test_masked_rows_reach_nothing(make, group, name):
    """No label and no target, whatever teacher and student hold there."""
    targets = targets_of(make, name, C)
    fields = fields_of(targets)
    for key, junk in (("logits", math.nan), ("logit", math.nan), ("tail", math.nan), ("index", -1)):
        if key in fields:
            fields[key][:, 2] = junk
    call = whole_call(make, name, targets=type(targets)(**fields, valid=torch.arange(N) != 2))
    call["rows"] = torch.tensor([0, 2, 2, -1, 2, 5])
    call["labels"] = torch.tensor([1, -100, -100, -100, 7, 9])
    call["logits"][2] = math.nan
    loss, ce, kl, grad = together(group, call, uneven(group))
    assert loss.isfinite()
    assert (ce != 0).tolist() == [True, False, False, False, True, True]
    assert (kl != 0).tolist() == [True, False, False, False, False, True]
    assert grad.any(1).tolist() == [True, False, False, False, True, True]
    assert grad.isfinite().all()


def test_no_row_that_counts_gives_exactly_zero(make, group):
    call = whole_call(make, "dense", labels=torch.full((B,), -100), rows=torch.full((B,), -1))
    loss, _, _, grad = together(group, call, uneven(group))
    assert loss == 0
    assert not grad.any()


@pytest.mark.parametrize("beta", [0.0, 1.0])
def test_equal_logits_leave_nothing_to_learn(make, group, beta):
    """Exactly; but for the top-k, as the processes add up in another order than its teacher."""
    logits = make.randn(B, C, dtype=torch.float32)
    forms = {0.0: DenseTargets(logits[None]), 1e-15: make.top_k(logits[None])}
    for temperature in (1.0, 3.7):
        for most, targets in forms.items():
            call = {"logits": logits, "targets": targets, "temperature": temperature, "beta": beta}
            loss, _, _, grad = together(group, call, uneven(group))
            assert loss.abs() <= most * temperature**2
            assert grad.abs().max() <= most * temperature


def test_more_axes(make, group):
    lead = (2, 3)
    flat = whole_call(make, "dense_mix", reduction="none", factor=torch.linspace(-1, 2, B))
    flat["temperature"], flat["weight"] = torch.linspace(1, 3, B), torch.linspace(0, 2, B)
    flat["teacher_weight"] = torch.linspace(0.1, 2, B * M).view(B, M)
    per_row = ("logits", "labels", "rows", "temperature", "weight", "teacher_weight", "factor")
    shaped = {k: v.unflatten(0, lead) if k in per_row else v for k, v in flat.items()}
    expected = together(group, flat, uneven(group))
    for found, same in zip(together(group, shaped, uneven(group)), expected, strict=True):
        assert torch.equal(found, same.unflatten(0, lead))
    plain = {"logits": make.randn(*lead, C), "targets": make.randn(*lead, C, seed=1)}
    assert_as_exact_as_torch(group, plain, uneven(group))


# --- what can't be


@pytest.mark.parametrize("label", [-1, C, 2**40])
def test_a_label_that_is_no_class_gives_nan(make, group, label):
    call = whole_call(make, "dense", reduction="none")
    call["labels"][3] = label
    _, ce, kl, grad = together(group, call, uneven(group))
    assert ce.isnan().tolist() == [i == 3 for i in range(B)]
    assert not kl.isnan().any()
    assert torch.equal(grad.isnan().all(1), ce.isnan())
    assert torch.equal(grad.isnan().any(1), ce.isnan())


@pytest.mark.parametrize("name", FORMS[1:])
@pytest.mark.parametrize("row", [N, 2**40])
def test_a_teacher_row_that_is_none_gives_nan(make, group, name, row):
    call = whole_call(make, name, reduction="none")
    call["rows"][2] = row
    _, ce, kl, grad = together(group, call, uneven(group))
    assert kl.isnan().tolist() == [i == 2 for i in range(B)]
    assert not ce.isnan().any()
    assert torch.equal(grad.isnan().all(1), kl.isnan())
    assert torch.equal(grad.isnan().any(1), kl.isnan())


@pytest.mark.parametrize("name", ["topk", "topk_mix", "tail", "tail_mix"])
@pytest.mark.parametrize("wrong", [-1, C, 2**40])
def test_a_top_k_class_that_is_none_gives_nan(make, group, name, wrong):
    call = whole_call(make, name, reduction="none")
    call["targets"].index[..., 2, 1] = wrong
    _, _, kl, grad = together(group, call, uneven(group))
    assert torch.equal(kl.isnan(), call["rows"] == 2)
    assert torch.equal(grad.isnan().all(1), kl.isnan())


@pytest.mark.parametrize("change", [{"num_classes": C + 1}, {"offset": 0}])
def test_processes_that_do_not_have_all_classes_give_nan(make, group, change):
    calls = parts_of(whole_call(make, "dense", class_weight=None), uneven(group))
    calls[-1] |= change
    for answer in group(calls):
        assert answer["loss"].isnan()
        assert answer["grad"].isnan().all()


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("name", FORMS)
def test_non_finite_logits_stay_visible(make, group, name, value):
    call = whole_call(make, name, reduction="none", labels=torch.arange(B))
    call["logits"][4, 1] = value
    loss = together(group, call, uneven(group))[0]
    assert loss.isfinite().tolist() == [i != 4 for i in range(B)]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"offset": 0, "num_classes": None}, "offset needs num_classes"),
        ({"offset": -1}, "impossible offset"),
        ({"offset": 1.0}, "offset must be a whole number"),
        ({"num_classes": 0}, "impossible num_classes"),
        ({"num_classes": True}, "num_classes must be a whole number"),
        ({"reduction": "batchmean"}, "unknown reduction"),
        ({"temperature": 0.0}, "impossible temperature"),
        ({"beta": 2.0}, "impossible beta"),
        ({"labels": torch.zeros(B + 1).long()}, "labels of a wrong shape"),
        ({"class_weight": torch.ones(C + 1)}, "class_weight of a wrong shape"),
        ({"targets": torch.zeros(N, C + 1)}, "differ in classes"),
        ({"targets": None, "labels": None}, "neither targets nor labels"),
        ({"normaliser": 3.0}, "normaliser must be a tensor"),
    ],
)
def test_bad_arguments_are_named(make, group, change, words):
    calls = parts_of(whole_call(make, "dense"), uneven(group))
    for answer in group([{**mine, **change} for mine in calls]):
        assert words in answer["error"]


def test_a_k_above_all_classes_is_refused_and_one_above_a_shares_is_not(make, group):
    call = whole_call(make, "topk", targets=make.top_k(make.randn(1, N, C, seed=1), C - 1))
    assert_as_exact_as_torch(group, call, uneven(group))
    many = {"index": torch.arange(C + 1).expand(1, N, -1), "logit": torch.zeros(1, N, C + 1)}
    for answer in group([{**mine, "targets": many} for mine in parts_of(call, uneven(group))]):
        assert f"k of at most {C}" in answer["error"]


# --- what it costs


@pytest.mark.parametrize("name", FORMS)
def test_a_few_numbers_a_row_are_communicated_forward_and_none_back(make, group, name):
    for classes in (C, 8 * C):
        logits = make.randn(B, classes, dtype=torch.float32)
        call = whole_call(make, name, logits=logits, class_weight=None)
        if name != "none":
            call["targets"] = targets_of(make, name, classes)
        widths = [classes - 2 * (group.count - 1)] + [2] * (group.count - 1)
        for answer in group(parts_of(call, widths)):
            teachers = (M if name.endswith("mix") else 1) if name.startswith("dense") else 0
            assert answer["forward"] == [B * (3 + teachers), B * 6]
            assert answer["backward"] == []
