from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from antcache.kernels import DenseTargets, TopKTargets
from antcache.student.config import StudentConfig
from antcache.student.heads.head import HeadOutput, ModelShape
from antcache.student.heads.table import HEADS, sizes_of
from antcache.student.model import build_student
from antcache.student.training.objective import losses
from antcache.windows.dataset import Batch
from antcache.windows.teacher_targets import TeacherTargets

B, T, D, C = 2, 3, 2, 4


def batch(target: list[int] | None = None, padded: list[list[bool]] | None = None) -> Batch:
    return Batch(
        features=torch.zeros(B, T, D),
        padded=torch.zeros(B, T, dtype=torch.bool) if padded is None else torch.tensor(padded),
        action=torch.tensor([1, 3]),
        verb=torch.tensor([0, 1]),
        noun=torch.tensor([2, 0]),
        frame_action=torch.full((B, T), -100),
        target_rows=None if target is None else torch.tensor(target),
    )


def output(logits: torch.Tensor | None = None, past: torch.Tensor | None = None) -> HeadOutput:
    frames = torch.arange(B * T * D, dtype=torch.float32).view(B, T, D)
    return HeadOutput(
        logits=torch.zeros(B, C) if logits is None else logits,
        inputs=frames,
        decoded=torch.zeros(B, T, D),
        past_logits=past,
        state=torch.zeros(B, D),
    )


def test_cross_entropy_alone_by_hand() -> None:
    terms = losses(output(), batch(), None, StudentConfig())
    assert terms.loss.item() == pytest.approx(math.log(C))
    assert terms.action_loss.item() == pytest.approx(math.log(C))
    assert not any(terms[2:])


def test_feature_regression_by_hand() -> None:
    """Inputs 0..11 against zeros: frames 1 and 2 are (2, 3), (4, 5) and (8, 9), (10, 11)."""
    config = StudentConfig.of(feature_weight=2.0)
    terms = losses(output(), batch(), None, config)
    squares = [2, 3, 4, 5, 8, 9, 10, 11]
    assert terms.feature_loss.item() == pytest.approx(2 * sum(s * s for s in squares) / 8)
    assert terms.loss.item() == pytest.approx((terms.action_loss + terms.feature_loss).item())


def test_feature_regression_passes_padding_over() -> None:
    config = StudentConfig.of(feature_weight=1.0)
    padded = [[True, True, False], [True, False, False]]
    terms = losses(output(), batch(padded=padded), None, config)
    assert terms.feature_loss.item() == pytest.approx((10**2 + 11**2) / 2)
    nothing = losses(output(), batch(padded=[[True] * T] * B), None, config)
    assert nothing.feature_loss == 0


def test_unlabelled_frames_give_no_gradient() -> None:
    past = torch.randn(B, T, C, generator=torch.Generator().manual_seed(0)).requires_grad_()
    mine = batch()
    mine.frame_action[1, 2] = 3
    config = StudentConfig.of(past_weight=0.5)
    terms = losses(output(past=past), mine, None, config)
    expected = -past.detach()[1, 2].log_softmax(0)[3]
    assert terms.past_loss.item() == pytest.approx(0.5 * expected.item())
    terms.loss.backward()
    assert past.grad is not None
    assert past.grad[1, 2].abs().sum() > 0
    past.grad[1, 2] = 0
    assert not past.grad.any()
    assert losses(output(past=past), batch(), None, config).past_loss == 0


def test_masked_targets_give_no_gradient() -> None:
    """Two rows, one with a target: the other's gradient is that of its label alone."""
    logits = torch.randn(B, C, generator=torch.Generator().manual_seed(0)).requires_grad_()
    targets = DenseTargets(logits=torch.tensor([[[5.0, 0.0, 0.0, 0.0]]]))
    teacher = TeacherTargets(targets=targets, row=torch.tensor([0, -1]))
    config = StudentConfig.of(targets=("t",), weight=2.0, temperature=3.0)
    plain = torch.autograd.grad(losses(output(logits), batch(), None, config).loss, logits)[0]
    terms = losses(output(logits), batch([0, -1]), teacher, config)
    distilled = torch.autograd.grad(terms.loss, logits)[0]
    torch.testing.assert_close(distilled[1], plain[1])
    assert not torch.allclose(distilled[0], plain[0])
    # weight * T^2 * KL, its mean over the one row that has a target
    log_q = (targets.logits[0, 0] / 3).log_softmax(0)
    kl = (log_q.exp() * (log_q - (logits.detach()[0] / 3).log_softmax(0))).sum()
    assert terms.distillation_loss.item() == pytest.approx(2 * 9 * kl.item(), rel=1e-5)
    assert terms.loss.item() == pytest.approx(
        (terms.action_loss + terms.distillation_loss).item(), rel=1e-6
    )
    none = losses(output(logits), batch([-1, -1]), teacher, config)
    assert none.distillation_loss == 0


# Gradients against plain PyTorch: one student of each head, every term at once.

N, SHAPE = 6, (6, 5, 12)
OWN = {"layers": 1, "width": 16, "heads": 2, "dropout": 0.0}
SIZES = ModelShape(
    dims=(12,),
    num_classes=7,
    num_frames=5,
    num_verbs=3,
    num_nouns=4,
    num_teachers=3,
    teacher_dims=(4, 5, 4),
)


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def a_batch() -> Batch:
    generator = torch.Generator().manual_seed(3)

    def labels(high: int, *shape: int) -> torch.Tensor:
        return torch.randint(high, shape, generator=generator)

    frames = labels(7, N, 5)
    frames[0] = -100
    padded = torch.zeros(N, 5, dtype=torch.bool)
    padded[1, :2] = True
    return Batch(
        features=drawn(*SHAPE),
        padded=padded,
        action=labels(7, N),
        verb=labels(3, N),
        noun=labels(4, N),
        frame_action=frames,
        target_rows=torch.tensor([0, 2, -1, 1, -1, 3]),
    )


def three_teachers(form: str = "dense", share: list[float] | None = None) -> TeacherTargets:
    logits = 3 * drawn(3, 4, 7, seed=5)
    has = torch.tensor([True, True, False, True])
    feature = drawn(4, 13, seed=6).where(has[:, None], 0)
    targets: DenseTargets | TopKTargets = DenseTargets(logits=logits)
    if form == "top-k":
        best = logits.topk(4, dim=-1)
        targets = TopKTargets(index=best.indices, logit=best.values)
    return TeacherTargets(
        targets=targets,
        row=torch.tensor([0, 2, -1, 1, -1, 3]),
        share=None if share is None else torch.tensor(share),
        feature=feature,
        has_feature=has,
        dims=(4, 5, 4),
    )


def kl_rows(logits: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """KL (n,) of a teacher's distribution (n, C), given as probabilities, to the student."""
    log_p = (logits / temperature).log_softmax(1)
    return (teacher * (teacher.clamp(min=1e-30).log() - log_p)).sum(1)


def focal(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """Mean over labels of the sum over classes, class by class."""
    losses = []
    for row, own in zip(logits.sigmoid(), label.tolist(), strict=True):
        if own >= 0:
            right = -0.25 * (1 - row[own]) ** 2 * row[own].log()
            others = torch.cat([row[:own], row[own + 1 :]])
            losses.append(right - (0.75 * others**2 * (1 - others).log()).sum())
    return torch.stack(losses).mean()


def plain_total(
    output: HeadOutput, batch: Batch, teachers: TeacherTargets, config: StudentConfig
) -> torch.Tensor:
    """The objective again, in the plainest PyTorch there is, in float64 and row by row."""
    logits = output.logits.double()
    labelled = focal if config.losses.loss == "focal" else F.cross_entropy
    total = labelled(logits, batch.action)
    assert output.verb_logits is not None
    assert output.noun_logits is not None
    verb = labelled(output.verb_logits.double(), batch.verb)
    noun = labelled(output.noun_logits.double(), batch.noun)
    total = total + config.losses.verb_noun_weight * (verb + noun)
    frames = [(n, t) for n in range(N) for t in range(4) if not batch.padded[n, t]]
    if output.decoded is not None:
        squares = [
            (output.decoded[n, t] - output.inputs[n, t + 1].detach()).double().square().mean()
            for n, t in frames
        ]
        total = total + config.losses.feature_weight * torch.stack(squares).mean()
    if output.past_logits is not None:
        each = output.past_logits.double().flatten(0, 1)
        past = labelled(each, batch.frame_action.flatten())
        total = total + config.losses.past_weight * past
    here = [n for n in range(N) if batch.target_rows[n] >= 0]
    rows = batch.target_rows[here]
    assert isinstance(teachers.targets, DenseTargets)
    t = config.distillation.temperature
    each = (teachers.targets.logits[:, rows].double() / t).softmax(-1)  # (M, n, C)
    if output.teacher_scores is not None:
        share = output.teacher_scores[here].double().softmax(1)
        kl = sum(share[:, m] * kl_rows(logits[here], each[m], t) for m in range(3))
    else:
        weights = torch.ones(3) if teachers.share is None else teachers.share
        mixed = (each * (weights / weights.sum()).double()[:, None, None]).sum(0)
        kl = kl_rows(logits[here], mixed, t)
    total = total + config.distillation.weight * t**2 * kl.mean()
    assert output.aligned is not None
    assert teachers.feature is not None
    aligned = []
    for n in here:
        row = int(batch.target_rows[n])
        if row == 2:
            continue  # it has no feature
        mine, theirs = output.aligned[n].double(), teachers.feature[row].double()
        for low, high in ((0, 4), (4, 9), (9, 13)):
            a, b = mine[low:high], theirs[low:high]
            cosine = 1 - (a @ b) / (a.norm() * b.norm())
            aligned.append(
                cosine if config.distillation.align == "cosine" else (a - b).square().mean()
            )
    return total + config.distillation.align_weight * torch.stack(aligned).mean()


@pytest.mark.parametrize(
    ("align", "loss"), [("cosine", "cross-entropy"), ("mse", "cross-entropy"), ("mse", "focal")]
)
@pytest.mark.parametrize(
    ("weights", "share"), [(None, None), ("1,2,5", [1.0, 2.0, 5.0]), ("attention", None)]
)
@pytest.mark.parametrize("head", HEADS)
def test_all_terms_and_their_gradients_are_those_of_the_formula(
    head: str, weights: str | None, share: list[float] | None, align: str, loss: str
) -> None:
    """2e-4 of the largest gradient of a tensor: float32 against float64 sums.

    KL is between softmaxes, also where the loss of the labels takes sigmoids.
    """
    frames = {"feature_weight": 0.6, "past_weight": 0.3} if HEADS[head].per_frame else {}
    config = StudentConfig.of(
        head=head,
        targets=("a", "b", "c"),
        target_weights=weights,
        weight=1.5,
        temperature=3.0,
        align=align,
        align_weight=0.7,
        verb_noun_weight=0.4,
        loss=loss,
        **frames,
        **{k: v for k, v in OWN.items() if k in sizes_of(HEADS[head])},
    )
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(0)
        student = build_student(config, SIZES).eval()
        if student.attention is not None:
            torch.nn.init.normal_(student.attention[1].weight)
    batch, teachers = a_batch(), three_teachers(share=share)
    asked = config.losses.frame_outputs
    terms = losses(student(batch.features, **asked), batch, teachers, config)
    plain = plain_total(student(batch.features, **asked), batch, teachers, config)
    assert terms.loss.item() == pytest.approx(plain.item(), rel=1e-5)
    assert sum(term.item() for term in terms[1:]) == pytest.approx(terms.loss.item(), rel=1e-5)
    names, parameters = zip(*student.named_parameters(), strict=True)
    mine = torch.autograd.grad(terms.loss, parameters, allow_unused=True)
    theirs = torch.autograd.grad(plain, parameters, allow_unused=True)
    for name, got, expected in zip(names, mine, theirs, strict=True):
        assert got is not None, name
        assert expected is not None, name
        scale = max(expected.abs().max().item(), 1e-3)
        torch.testing.assert_close(got, expected, atol=2e-4 * scale, rtol=0, msg=name)
        if weights == "attention" and name.startswith("attention"):
            assert got.abs().sum() > 0, name


@pytest.mark.parametrize("attention", [False, True])
def test_distillation_is_the_same_beside_either_loss(attention: bool) -> None:
    """Sigmoids are of the labels' loss alone: KL compares softmaxes, as the teacher's is one."""
    scores = torch.zeros(N, 3) if attention else None
    given = HeadOutput(drawn(N, 7), drawn(*SHAPE), None, None, drawn(N, 2), teacher_scores=scores)
    config = StudentConfig.of(targets=("a", "b", "c"), weight=2.0, temperature=4.0)
    one = losses(given, a_batch(), three_teachers(), config)
    other = losses(given, a_batch(), three_teachers(), config.replace(loss="focal"))
    assert one.distillation_loss > 0
    torch.testing.assert_close(other.distillation_loss, one.distillation_loss)
    torch.testing.assert_close(other.loss, other.action_loss + one.distillation_loss)
    moved = given._replace(logits=given.logits + 3)  # a softmax does not see it, a sigmoid does
    shifted = losses(moved, a_batch(), three_teachers(), config.replace(loss="focal"))
    torch.testing.assert_close(shifted.distillation_loss, one.distillation_loss)
    assert shifted.action_loss > 1.5 * other.action_loss


def test_attention_reads_the_state_without_shaping_it() -> None:
    config = StudentConfig.of(
        targets=("a", "b", "c"), target_weights="attention", layers=1, heads=2, width=16
    )
    with torch.random.fork_rng():
        student = build_student(config, SIZES).eval()
    output = student(a_batch().features)
    assert output.teacher_scores is not None
    assert torch.equal(output.teacher_scores, torch.zeros(N, 3))  # it begins even
    used = torch.autograd.grad(
        output.teacher_scores.sum(), student.head.parameters(), allow_unused=True
    )
    assert all(gradient is None for gradient in used)


def test_even_attention_gives_the_student_the_gradient_of_the_mixture() -> None:
    logits = drawn(N, 7).requires_grad_()
    batch, teachers = a_batch(), three_teachers()
    config = StudentConfig.of(targets=("a", "b", "c"), weight=2.0, temperature=4.0)
    given = HeadOutput(logits, drawn(*SHAPE), drawn(*SHAPE), None, drawn(N, 2))
    mixed = losses(given, batch, teachers, config)
    attended = losses(given._replace(teacher_scores=torch.zeros(N, 3)), batch, teachers, config)
    assert attended.distillation_loss > mixed.distillation_loss  # KL is convex
    one = torch.autograd.grad(mixed.loss, logits)[0]
    torch.testing.assert_close(torch.autograd.grad(attended.loss, logits)[0], one)


def test_attention_over_top_k_teachers() -> None:
    """Each teacher within its own k."""
    logits = drawn(N, 7).requires_grad_()
    batch, teachers = a_batch(), three_teachers("top-k")
    assert isinstance(teachers.targets, TopKTargets)
    config = StudentConfig.of(targets=("a", "b", "c"), weight=2.0, temperature=4.0)
    scores = drawn(N, 3, seed=9)
    given = HeadOutput(logits, drawn(*SHAPE), drawn(*SHAPE), None, drawn(N, 2))
    given = given._replace(teacher_scores=scores)
    terms = losses(given, batch, teachers, config)
    expected = 0.0
    for n in range(N):
        for m in range(3):
            row = int(batch.target_rows[n])
            if row >= 0:
                index = teachers.targets.index[m, row]
                q = (teachers.targets.logit[m, row] / 4).softmax(0)
                log_p = (logits.detach()[n, index] / 4).log_softmax(0)
                expected += scores[n].softmax(0)[m].item() * (q * (q.log() - log_p)).sum().item()
    assert terms.distillation_loss.item() == pytest.approx(2 * 16 * expected / 4, rel=1e-5)


def test_windows_without_a_target_or_feature_give_no_gradient() -> None:
    config = StudentConfig.of(targets=("a", "b", "c"), align="mse")
    aligned, scores = drawn(N, 13).requires_grad_(), drawn(N, 3).requires_grad_()
    given = HeadOutput(drawn(N, 7), drawn(*SHAPE), drawn(*SHAPE), None, drawn(N, 2))
    given = given._replace(aligned=aligned, teacher_scores=scores)
    terms = losses(given, a_batch(), three_teachers(), config)
    of_aligned, of_scores = torch.autograd.grad(terms.loss, (aligned, scores))
    assert (of_aligned.abs().sum(1) > 0).tolist() == [True, False, False, True, False, True]
    assert (of_scores.abs().sum(1) > 0).tolist() == [True, True, False, True, False, True]
    nobody = replace(a_batch(), target_rows=torch.full((N,), -1))
    none = losses(given, nobody, three_teachers(), config)
    assert none.align_loss == none.distillation_loss == 0
    assert none.loss.isfinite()
