"""Rows of scores padded for a GPU: the same student, whatever the width of its rows.

On the CPU, where nothing is padded, the heads are told to do it all the same.
"""

from __future__ import annotations

import pytest
import torch

from antcache.kernels import DenseTargets
from antcache.student.config import StudentConfig
from antcache.student.heads import head as heads
from antcache.student.heads.head import HeadOutput, ModelShape
from antcache.student.heads.table import HEADS, sizes_of
from antcache.student.model import Student, build_student
from antcache.student.training.objective import losses
from antcache.windows.dataset import Batch
from antcache.windows.teacher_targets import TeacherTargets, aligned

B, T, D, C, M = 3, 5, 12, 21, 2
SHAPE = ModelShape(dims=(8, 4), num_classes=C, num_frames=T, num_teachers=M)


def student(name: str, fusion: str, **settings: object) -> Student:
    own = {"layers": 1, "heads": 2, "width": 16}
    streams = ("a", "b") if fusion != "concat" else ()
    config = StudentConfig.of(head=name, fusion=fusion, stream=streams, **settings)
    config = config.replace(**{k: v for k, v in own.items() if k in sizes_of(HEADS[name])})
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(0)
        return build_student(config, SHAPE).eval()


def randn(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def step(
    model: Student, config: StudentConfig, targets: DenseTargets
) -> tuple[HeadOutput, list[torch.Tensor]]:
    """Output, the loss's terms and the parameters' gradients of one batch."""
    batch = Batch(
        features=randn(B, T, D, seed=1),
        padded=torch.zeros(B, T, dtype=torch.bool),
        action=torch.tensor([1, 3, 20]),
        verb=torch.zeros(B).long(),
        noun=torch.zeros(B).long(),
        frame_action=torch.arange(B * T).view(B, T) % C,
        target_rows=torch.tensor([2, -1, 0]),
    )
    teachers = TeacherTargets(targets=targets, row=torch.arange(3))
    output = model(batch.features, **config.losses.frame_outputs)
    terms = losses(output, batch, teachers, config)
    used = [p for p in model.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(terms.loss, used, allow_unused=True)
    return output, [*terms, *(g for g in gradients if g is not None)]


@pytest.mark.parametrize("weights", ["equal", "attention"])
@pytest.mark.parametrize("fusion", ["concat", "late", "attention"])
@pytest.mark.parametrize("name", list(HEADS))
def test_padding_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, name: str, fusion: str, weights: str
) -> None:
    given: dict[str, object] = {"label_smoothing": 0.1}
    if HEADS[name].per_frame:
        given["past_weight"] = 0.5
    if weights == "attention":
        given |= {"targets": ("x", "y"), "target_weights": "attention"}
    model, config = student(name, fusion, **given), StudentConfig.of(head=name, **given)
    targets = DenseTargets(randn(M, 3, C, seed=2))
    plain, right = step(model, config, targets)
    assert plain.scores.shape == (B, C)
    monkeypatch.setattr(heads.Classifier, "pads", staticmethod(lambda state: True))
    wide, found = step(model, config, DenseTargets(aligned(targets.logits)))
    assert wide.scores.shape == (B, 32)
    torch.testing.assert_close(wide.logits, plain.logits)
    for mine, theirs in zip(found, right, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


def test_aligned_rows_hold_the_same_numbers() -> None:
    logits = randn(M, 3, C, seed=2)
    wide = aligned(logits)
    assert torch.equal(wide, logits)
    assert wide.stride() == (3 * 32, 32, 1)
    assert aligned(wide[..., :16]).stride() == (3 * 32, 32, 1)  # nothing to be done


def test_predictions_know_nothing_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    model = student("mean", "concat", logit_adjustment=1.0)
    model.adjust_to(torch.tensor([0, 0, 3]))
    plain = model(randn(B, T, D, seed=1)).logits
    monkeypatch.setattr(heads.Classifier, "pads", staticmethod(lambda state: True))
    output = model(randn(B, T, D, seed=1))
    torch.testing.assert_close(output.logits, plain)
    assert output.scores is output.logits  # adjusted, as they are outside of training
