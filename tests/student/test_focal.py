"""The focal loss: its published formula, and what it may stand beside."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from antcache.errors import BadConfig
from antcache.student.config import StudentConfig
from antcache.student.training.focal import focal_losses


def published(logits: torch.Tensor, hot: torch.Tensor) -> torch.Tensor:
    """As Lin et al. and torchvision write it, in float64, element by element."""
    p = logits.double().sigmoid()
    p_t = p * hot + (1 - p) * (1 - hot)
    alpha_t = 0.25 * hot + 0.75 * (1 - hot)
    return alpha_t * (1 - p_t) ** 2 * -p_t.log()


def test_the_published_formula_and_its_gradient() -> None:
    logits = 3 * torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    logits.requires_grad_()
    label = torch.tensor([0, 6, 3, 3, 1])
    mine = focal_losses(logits, label)
    theirs = published(logits, F.one_hot(label, 7).double()).sum(1)
    assert mine.dtype == torch.float32
    torch.testing.assert_close(mine, theirs.float(), rtol=1e-5, atol=1e-6)
    weight = torch.arange(1.0, 6.0)
    got = torch.autograd.grad((weight * mine).sum(), logits)[0]
    expected = torch.autograd.grad((weight * theirs.float()).sum(), logits)[0]
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-6)


def test_by_hand() -> None:
    """Every class at even odds: half squared, times log 2, the label a quarter, others three."""
    (loss,) = focal_losses(torch.zeros(1, 4), torch.tensor([2])).tolist()
    assert loss == pytest.approx((0.25 + 3 * 0.75) * 0.25 * math.log(2))


def test_the_surest_logits_have_finite_losses_and_gradients() -> None:
    """Where the logarithm of a rounded probability would be that of 0."""
    logits = torch.tensor([[200.0, -200.0], [-200.0, 200.0]], requires_grad=True)
    loss = focal_losses(logits, torch.tensor([0, 0]))
    assert loss.tolist() == pytest.approx([0, 0.25 * 200 + 0.75 * 200])
    loss.sum().backward()
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, torch.tensor([[0.0, 0.0], [-0.25, 0.75]]))


def test_without_a_label_there_is_no_loss() -> None:
    logits = torch.ones(2, 3, requires_grad=True)
    loss = focal_losses(logits, torch.tensor([-100, 1]))
    assert loss[0] == 0
    loss.sum().backward()
    assert logits.grad is not None
    assert not logits.grad[0].any()
    assert logits.grad[1].all()


def test_bfloat16_is_summed_in_float32() -> None:
    logits = torch.randn(2, 4000, generator=torch.Generator().manual_seed(0)).bfloat16()
    label = torch.tensor([5, 3999])
    expected = published(logits, F.one_hot(label, 4000).double()).sum(1)
    torch.testing.assert_close(focal_losses(logits, label), expected.float(), rtol=1e-5, atol=0)


def test_smoothing_is_refused_beside_it() -> None:
    with pytest.raises(BadConfig, match="`label_smoothing` has no effect on the focal loss"):
        StudentConfig.of(loss="focal", label_smoothing=0.1)
    with pytest.raises(BadConfig, match=r"loss: .*cross-entropy or focal, found hinge"):
        StudentConfig.of(loss="hinge")
