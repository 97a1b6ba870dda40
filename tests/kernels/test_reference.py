"""The reference loss against independent compositions of PyTorch calls, and its masks."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from antcache.kernels import DenseTargets, TopKTargets, distillation_loss

B, C, N, K, M = 5, 7, 9, 3, 2
FORMS = ("dense", "dense_mix", "topk", "topk_mix", "tail", "tail_mix")
TEMPERATURES = (0.5, 1.0, 5.0)


# --- equality with other ways to write the same thing


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_dense_equals_kl_div(make, temperature):
    student, teacher = make.randn(B, C), make.randn(B, C, seed=1)
    expected = F.kl_div(
        F.log_softmax(student / temperature, 1),
        F.log_softmax(teacher / temperature, 1),
        log_target=True,
        reduction="batchmean",
    )
    loss = distillation_loss(student, teacher, temperature=temperature, weight=0.3)
    torch.testing.assert_close(loss, 0.3 * temperature**2 * expected)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_top_k_renormalises_both_inside_the_k(make, temperature):
    student, targets = make.randn(B, C), make.form("topk", rows=B)
    expected = F.kl_div(
        F.log_softmax(student.gather(1, targets.index[0]) / temperature, 1),
        F.log_softmax(targets.logit[0] / temperature, 1),
        log_target=True,
        reduction="none",
    ).sum(1)
    torch.testing.assert_close(make.kl(student, targets, temperature), expected)


def test_top_k_of_all_classes_is_the_dense_form(make):
    student, teacher = make.randn(B, C), make.randn(B, C, seed=1)
    dense = make.kl(student, DenseTargets(logits=teacher[None]), 2.0)
    torch.testing.assert_close(make.kl(student, make.top_k(teacher[None], C), 2.0), dense)
    torch.testing.assert_close(
        make.kl(student, make.top_k(teacher[None], C, tail=True), 2.0), dense
    )


def test_tail_at_temperature_one_groups_the_other_classes(make):
    student, teacher = make.randn(B, C), make.randn(B, C, seed=1)
    targets = make.top_k(teacher[None], tail=True)
    p, q = student.softmax(1), teacher.softmax(1)
    inside = torch.zeros(B, C, dtype=torch.bool).scatter(1, targets.index[0], True)
    expected = torch.zeros(B, dtype=torch.float64)
    for row in range(B):
        p_groups = torch.cat([p[row][inside[row]], p[row][~inside[row]].sum()[None]])
        q_groups = torch.cat([q[row][inside[row]], q[row][~inside[row]].sum()[None]])
        expected[row] = (q_groups * (q_groups / p_groups).log()).sum()
    torch.testing.assert_close(make.kl(student, targets), expected)


@pytest.mark.parametrize("temperature", TEMPERATURES)
def test_tail_is_spread_evenly_at_any_temperature(make, temperature):
    """A teacher whose other classes are equally likely is described by its tail completely."""
    teacher = make.randn(B, C, seed=1)
    index = teacher.topk(K).indices
    even = torch.full_like(teacher, -1.5).scatter(1, index, teacher.gather(1, index))
    targets = make.top_k(even[None], tail=True)
    torch.testing.assert_close(targets.index[0].sort(1).values, index.sort(1).values)
    zeros = torch.zeros(B, dtype=torch.float64)
    torch.testing.assert_close(make.kl(even, targets, temperature), zeros)
    student = torch.full_like(even, 0.4).scatter(
        1, index, make.randn(B, K, seed=3)
    )  # even outside too
    dense = make.kl(student, DenseTargets(logits=even[None]), temperature)
    torch.testing.assert_close(make.kl(student, targets, temperature), dense)


def test_tail_by_hand(make):
    # k = {class 0}, tail 1/5 on three classes: odds 4/5 and 1/15 each; T = 2 takes square roots.
    targets = TopKTargets(
        index=torch.tensor([[[0]]]), logit=torch.tensor([[[3.0]]]), tail=torch.tensor([[0.2]]).log()
    )
    q0, q_tail = math.sqrt(4 / 5), 3 * math.sqrt(1 / 15)
    q0, q_tail = q0 / (q0 + q_tail), q_tail / (q0 + q_tail)
    expected = q0 * math.log(q0 / 0.25) + q_tail * math.log(q_tail / 0.75)
    assert make.kl(torch.zeros(1, 4), targets, 2.0).item() == pytest.approx(expected, rel=1e-5)


def test_teacher_without_tail_mass(make):
    targets = make.top_k(make.randn(1, B, C, seed=1))
    none = TopKTargets(
        index=targets.index, logit=targets.logit, tail=torch.full((1, B), -math.inf).double()
    )
    student = make.randn(B, C)
    p_inside = student.softmax(1).gather(1, targets.index[0]).sum(1)
    # The tail outcome itself adds nothing, but the student pays for what it puts there.
    torch.testing.assert_close(make.kl(student, none), make.kl(student, targets) - p_inside.log())


@pytest.mark.parametrize("per_row", [False, True])
def test_teachers_are_mixed_as_probabilities(make, per_row):
    student, targets = make.randn(B, C), make.form("dense_mix", rows=B)
    weight = torch.rand(B, M, generator=torch.Generator().manual_seed(2)).double() + 0.1
    weight = weight if per_row else weight[0]
    share = (weight / weight.sum(-1, keepdim=True)).expand(B, M)
    q = torch.einsum("bm,mbc->bc", share, (targets.logits / 2).softmax(-1))
    expected = make.kl(student, DenseTargets(logits=2 * q.log()[None]), 2.0)
    torch.testing.assert_close(make.kl(student, targets, 2.0, teacher_weight=weight), expected)


@pytest.mark.parametrize("name", ["dense_mix", "topk_mix", "tail_mix"])
def test_all_weight_on_one_teacher_is_that_teacher(make, name):
    student, targets = make.randn(B, C), make.form(name, rows=B)
    if isinstance(targets, DenseTargets):
        one = DenseTargets(logits=targets.logits[1:])
    else:
        one = TopKTargets(
            index=targets.index[1:],
            logit=targets.logit[1:],
            tail=None if targets.tail is None else targets.tail[1:],
        )
        # A teacher without weight still widens the union of the k, so give both the same one.
        targets = TopKTargets(
            index=targets.index[1].expand(M, -1, -1),
            logit=targets.logit,
            tail=targets.tail,
        )
    weight = torch.tensor([0.0, 1.0])
    torch.testing.assert_close(
        make.kl(student, targets, 2.0, teacher_weight=weight), make.kl(student, one, 2.0)
    )
    same = torch.tensor([0.5, 0.5])
    torch.testing.assert_close(
        make.kl(student, targets, 2.0, teacher_weight=same), make.kl(student, targets, 2.0)
    )


def test_top_k_teachers_cover_the_union_of_their_k(make):
    # Two teachers, one class each (0 and 2): q = (1/2, 1/2) on the union, the student 3 to 1 there.
    targets = TopKTargets(index=torch.tensor([[[0]], [[2]]]), logit=torch.zeros(2, 1, 1))
    student = torch.tensor([[math.log(3.0), 9.0, 0.0]])
    expected = 0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25)
    assert make.kl(student, targets).item() == pytest.approx(expected, rel=1e-6)


# --- cross-entropy


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy_is_that_of_torch(make, reduction, smoothing, weighted):
    student, labels = make.randn(B, C), torch.tensor([1, -100, 6, 0, 1])
    per_class = torch.linspace(0.2, 2.0, C).double() if weighted else None
    settings_ = {"label_smoothing": smoothing, "reduction": reduction}
    expected = F.cross_entropy(student, labels, weight=per_class, **settings_)
    loss = distillation_loss(student, None, labels, class_weight=per_class, **settings_)
    torch.testing.assert_close(loss, expected)


def test_terms_add_up_and_parts_are_unweighted(make):
    student, targets, labels = (
        make.randn(B, C),
        make.form("dense", rows=B),
        torch.tensor([1, 2, -7, 0, 1]),
    )
    kwargs = {"label_weight": 0.5, "weight": 0.3, "temperature": 4.0, "ignore_index": -7}
    loss, ce, kl_rows, has_target = distillation_loss(
        student, targets, labels, return_parts=True, **kwargs
    )
    torch.testing.assert_close(
        loss, 0.5 * F.cross_entropy(student, labels, ignore_index=-7) + 0.3 * 16 * kl_rows.mean()
    )
    torch.testing.assert_close(
        ce, F.cross_entropy(student, labels, ignore_index=-7, reduction="none")
    )
    assert has_target.all()
    assert torch.equal(distillation_loss(student, targets, labels, **kwargs), loss)
    per_row = distillation_loss(student, targets, labels, reduction="none", **kwargs)
    torch.testing.assert_close(per_row, 0.5 * ce + 4.8 * kl_rows)
    total = distillation_loss(student, targets, labels, reduction="sum", **kwargs)
    torch.testing.assert_close(total, per_row.sum())


# --- rows and masks


@pytest.mark.parametrize("name", FORMS)
def test_rows_pick_and_masks_leave_out(make, name):
    targets, student = make.form(name), make.randn(B, C)
    rows = torch.tensor([4, -1, 0, 8, 3])
    valid = torch.ones(N, dtype=torch.bool)
    valid[8] = False
    fields = {k: getattr(targets, k) for k in targets.__dataclass_fields__}
    masked = type(targets)(**{**fields, "valid": valid})
    loss, _, kl_rows, has_target = distillation_loss(
        student, masked, rows=rows, temperature=2.0, return_parts=True
    )
    assert has_target.tolist() == [True, False, True, False, True]
    assert kl_rows[~has_target].tolist() == [0, 0]
    kept = torch.tensor([4, 0, 3])
    alone = distillation_loss(student[has_target], targets, rows=kept, temperature=2.0)
    torch.testing.assert_close(loss, alone)
    torch.testing.assert_close(loss, 4 * kl_rows.sum() / 3)


@pytest.mark.parametrize("name", FORMS)
def test_whatever_a_masked_row_holds_reaches_neither_value_nor_gradient(make, name):
    targets = make.form(name)
    fields = {k: getattr(targets, k) for k in targets.__dataclass_fields__}
    fields["valid"] = torch.arange(N) != 2
    clean = type(targets)(**fields)
    for key, junk in (("logits", math.nan), ("logit", math.nan), ("tail", math.nan), ("index", -1)):
        if fields.get(key) is not None:
            fields[key] = fields[key].clone()
            fields[key].select(1, 2).fill_(junk)
    dirty = type(targets)(**fields)
    rows = torch.tensor([2, 0, 2, 1, -1])
    outcomes = []
    for form_ in (clean, dirty):
        student = make.randn(B, C).requires_grad_()
        loss = distillation_loss(student, form_, rows=rows, temperature=2.0)
        loss.backward()
        outcomes.append((loss.detach(), student.grad))
    assert torch.equal(outcomes[0][0], outcomes[1][0])
    assert torch.equal(outcomes[0][1], outcomes[1][1])
    assert outcomes[1][1][[0, 2, 4]].abs().max() == 0


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("junk", [math.nan, math.inf, -math.inf])
def test_whatever_a_student_says_without_label_and_target_reaches_no_gradient(make, name, junk):
    student = make.randn(B, C)
    student[1, :K], student[3] = junk, junk
    student.requires_grad_()
    labels, rows = torch.tensor([1, -100, 6, -100, 1]), torch.tensor([0, -1, 2, -1, 4])
    loss = distillation_loss(student, make.form(name), labels, rows=rows, label_smoothing=0.1)
    loss.backward()
    assert torch.isfinite(student.grad).all()
    assert not student.grad[[1, 3]].any()


@pytest.mark.parametrize("name", FORMS)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_no_target_row_gives_exactly_zero(make, name, reduction):
    student = make.randn(B, C).requires_grad_()
    rows = torch.full((B,), -1)
    loss = distillation_loss(student, make.form(name), rows=rows, reduction=reduction)
    loss.sum().backward()
    assert loss.abs().max() == 0
    assert student.grad.abs().max() == 0


def test_no_label_gives_exactly_zero(make):
    student = make.randn(B, C).requires_grad_()
    for per_class in (None, torch.ones(C)):
        loss = distillation_loss(
            student, None, torch.full((B,), -100), class_weight=per_class, label_smoothing=0.1
        )
        loss.backward()
        assert loss == 0
        assert student.grad.abs().max() == 0


def test_empty_batch(make):
    student = torch.zeros(0, C, requires_grad=True)
    empty = torch.zeros(0, dtype=torch.long)
    loss = distillation_loss(student, make.form("topk"), empty, rows=empty)
    loss.backward()
    assert loss == 0


# --- the paper's weights


@pytest.mark.parametrize(
    ("classes", "k", "temperature", "paper_weight"), [(106, None, 10.0, 150), (2513, 50, 5.0, 20)]
)
def test_weights_convert_from_the_elementwise_mean(make, classes, k, temperature, paper_weight):
    student, teacher = make.randn(16, classes), make.randn(16, classes, seed=1)
    targets = DenseTargets(logits=teacher[None]) if k is None else make.top_k(teacher[None], k)
    s, t = (
        (student, teacher) if k is None else (student.gather(1, targets.index[0]), targets.logit[0])
    )
    elementwise = F.kl_div(
        F.log_softmax(s / temperature, 1),
        F.log_softmax(t / temperature, 1),
        log_target=True,
        reduction="none",
    )
    expected = paper_weight * (elementwise * temperature**2).mean()
    weight = paper_weight / (k or classes)
    loss = distillation_loss(student, targets, temperature=temperature, weight=weight)
    torch.testing.assert_close(loss, expected)
