from __future__ import annotations

import math

import pytest
import torch

from antcache.kernels import DenseTargets
from antcache.student.config import StudentConfig
from antcache.student.heads import HeadOutput
from antcache.student.objective import Batch, losses

B, T, D, C = 2, 3, 2, 4


def batch(target: list[int] | None = None, padded: list[list[bool]] | None = None) -> Batch:
    return Batch(
        features=torch.zeros(B, T, D),
        padded=torch.zeros(B, T, dtype=torch.bool) if padded is None else torch.tensor(padded),
        action=torch.tensor([1, 3]),
        frame_action=torch.full((B, T), -100),
        target=torch.tensor([-1, -1] if target is None else target),
    )


def output(logits: torch.Tensor | None = None, past: torch.Tensor | None = None) -> HeadOutput:
    frames = torch.arange(B * T * D, dtype=torch.float32).view(B, T, D)
    return HeadOutput(
        logits=torch.zeros(B, C) if logits is None else logits,
        inputs=frames,
        decoded=torch.zeros(B, T, D),
        past_logits=past,
    )


def test_cross_entropy_alone_by_hand() -> None:
    terms = losses(output(), batch(), None, StudentConfig())
    assert terms.loss.item() == pytest.approx(math.log(C))
    assert terms.action_loss.item() == pytest.approx(math.log(C))
    assert terms.feature_loss == terms.past_loss == terms.distillation_loss == 0


def test_feature_regression_by_hand() -> None:
    """Inputs 0..11 against zeros: frames 1 and 2 are (2, 3), (4, 5) and (8, 9), (10, 11)."""
    config = StudentConfig(feature_weight=2.0)
    terms = losses(output(), batch(), None, config)
    squares = [2, 3, 4, 5, 8, 9, 10, 11]
    assert terms.feature_loss.item() == pytest.approx(2 * sum(s * s for s in squares) / 8)
    assert terms.loss.item() == pytest.approx((terms.action_loss + terms.feature_loss).item())


def test_feature_regression_passes_padding_over() -> None:
    config = StudentConfig(feature_weight=1.0)
    padded = [[True, True, False], [True, False, False]]
    terms = losses(output(), batch(padded=padded), None, config)
    assert terms.feature_loss.item() == pytest.approx((10**2 + 11**2) / 2)
    nothing = losses(output(), batch(padded=[[True] * T] * B), None, config)
    assert nothing.feature_loss == 0


def test_unlabelled_frames_give_no_gradient() -> None:
    past = torch.randn(B, T, C, generator=torch.Generator().manual_seed(0)).requires_grad_()
    mine = batch()
    mine.frame_action[1, 2] = 3
    config = StudentConfig(past_weight=0.5)
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
    targets = DenseTargets(logits=torch.tensor([[5.0, 0.0, 0.0, 0.0]]))
    config = StudentConfig(targets="t", weight=2.0, temperature=3.0)
    plain = torch.autograd.grad(losses(output(logits), batch(), None, config).loss, logits)[0]
    terms = losses(output(logits), batch([0, -1]), targets, config)
    distilled = torch.autograd.grad(terms.loss, logits)[0]
    torch.testing.assert_close(distilled[1], plain[1])
    assert not torch.allclose(distilled[0], plain[0])
    # weight * T^2 * KL, its mean over the one row that has a target
    log_q = (targets.logits[0] / 3).log_softmax(0)
    kl = (log_q.exp() * (log_q - (logits.detach()[0] / 3).log_softmax(0))).sum()
    assert terms.distillation_loss.item() == pytest.approx(2 * 9 * kl.item(), rel=1e-5)
    assert terms.loss.item() == pytest.approx(
        (terms.action_loss + terms.distillation_loss).item(), rel=1e-6
    )
    none = losses(output(logits), batch([-1, -1]), targets, config)
    assert none.distillation_loss == 0
