"""Long rows by the Triton kernel that splits them over programs, against float64 truth.

Its blocks are made so small that short rows have several segments, blocks and chunks. What an error
may be: as in `kernel_cases.py`.
"""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("triton")
from kernel_cases import (
    DTYPES,
    OFFSETS,
    SETTINGS,
    check,
    check_together,
    gaussian,
    pairwise,
    teacher,
    to,
)

from antcache.kernels import DenseTargets, distillation_loss
from antcache.kernels.gpu import launch
from antcache.kernels.gpu.long import launch as launch_loop

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
BETAS = (0.0, 0.3, 1.0)


@pytest.fixture(autouse=True, scope="module")
def _small_blocks():
    """Every row is a long one; a block has 64 columns, a segment one block or a few."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(launch, "THREADS", 0)
        patch.setattr(launch, "_aligned", lambda *_rows: True)
        patch.setattr(launch_loop, "NEIGHBOURS", 2)
        patch.setattr(launch_loop, "LANES", 16)
        patch.setattr(launch_loop, "WARPS", 1)
        patch.setattr(launch_loop, "SEGMENT_BYTES", 1024)
        patch.setattr(launch_loop, "PROGRAMS", 8)
        patch.setattr(launch_loop, "AHEAD", 5)
        yield


@pytest.mark.slow
@settings(max_examples=20, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 9999),
    batch=st.integers(1, 4),
    classes=st.integers(2, 150),
    form=st.sampled_from(("none", "dense", "dense_mix")),
    dtype=st.sampled_from(DTYPES),
    spread=st.sampled_from([0.0, 0.01, 1.0, 10.0]),
    offset=st.sampled_from(OFFSETS),
    beta=st.sampled_from(BETAS),
    temperature=st.sampled_from(["one", "two", "number", "tensor", "rows"]),
    weight=st.sampled_from(["number", "rows"]),
    padding=st.sampled_from([0, 1, 40]),
    both=st.booleans(),
    normaliser=st.sampled_from([None, (0.5, 20.0)]),
    labels=st.booleans(),
    case=st.sampled_from(SETTINGS),
    factor=st.sampled_from([1.0, -0.3, 65536.0]),
)
def test_any_settings_together(**drawn):
    check_together(DEVICE, **drawn)


def fused(x, targets, labels=None, **given):
    """Parts and gradient."""
    x = x.detach().clone().requires_grad_()
    parts = distillation_loss(x, targets, labels, impl="triton", return_parts=True, **given)
    (gradient,) = torch.autograd.grad(parts.loss.sum(), x)
    return parts, gradient


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_equal_logits_have_no_gradient_at_all(beta, temperature):
    x = (gaussian(2, 140, seed=5) + 1e3).to(DEVICE)
    parts, gradient = fused(x, x.clone(), temperature=temperature, beta=beta)
    assert not parts.kl.any()
    assert not gradient.any()


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("form", ["dense", "dense_mix"])
def test_a_class_that_all_exclude_takes_no_part(form, beta):
    """Neither alone nor as a whole block, and wherever the label is."""
    x, targets = gaussian(2, 140, seed=1), teacher(form, 2, 140)
    out = [0, *range(64, 128), 139]
    x[:, out] = -math.inf
    targets.logits[..., out] = -math.inf
    labels = torch.tensor([1, 138])
    given = {"temperature": 2.0, "beta": beta}
    inputs = [to(v, DEVICE) for v in (x, targets, labels)]
    *_, gradient = check(*inputs, given, torch.tensor(1.0, device=DEVICE))
    assert not gradient[:, out].any()


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("share", [None, [0.0, 1.0, 2.0]])
def test_classes_that_no_teacher_thinks_likely(beta, share):
    x, targets = gaussian(3, 140, seed=2), teacher("dense_mix", 3, 140)
    targets = DenseTargets(logits=targets.logits * 30)
    given = {"temperature": 0.7, "beta": beta}
    if share:
        given["teacher_weight"] = torch.tensor(share, device=DEVICE)
    check(*(to(v, DEVICE) for v in (x, targets, None)), given, torch.tensor(1.0, device=DEVICE))


@pytest.mark.parametrize("beta", [0.001, 0.999])
def test_a_mixture_with_little_of_one(beta):
    x, targets = gaussian(8, 100, seed=2) * 3, teacher("dense", 8, 100)
    given = {"beta": beta, "reduction": "sum"}
    check(*(to(v, DEVICE) for v in (x, targets, None)), given, torch.tensor(1.0, device=DEVICE))


@pytest.mark.parametrize(("beta", "at", "labelled"), pairwise(BETAS, (0, 77, 139), (False, True)))
def test_one_class_with_nearly_all(beta, at, labelled):
    """What is left of 1 - p and 1 - q there comes from all other classes, of other segments too."""
    x, t = (gaussian(2, 140, seed=seed) for seed in (1, 2))
    x[:, at] = t[:, at] = 21.0
    labels = torch.tensor([at, 3]) if labelled else None
    inputs = [to(v, DEVICE) for v in (x, DenseTargets(logits=t[None]), labels)]
    given = {"beta": beta, "temperature": 1.0}
    check(*inputs, given, torch.tensor(1.0, device=DEVICE))


def test_what_does_not_exist_is_not_a_number():
    x = gaussian(4, 200, seed=1).to(DEVICE)
    labels = torch.tensor([1, 200, 3, -5], device=DEVICE)
    rows = torch.tensor([0, 1, 4, -1], device=DEVICE)
    parts, gradient = fused(x, x.flip(0), labels, rows=rows, reduction="none")
    assert parts.ce.isnan().tolist() == [False, True, False, True]
    assert parts.kl.isnan().tolist() == [False, False, True, False]
    assert gradient.isnan().all(1).tolist() == [False, True, True, True]


@pytest.mark.parametrize("beta", BETAS)
def test_rows_need_not_be_side_by_side(beta):
    x, t = (gaussian(140, 2, seed=seed).to(DEVICE).T for seed in (1, 2))
    right = fused(x.contiguous(), t.contiguous(), beta=beta)
    found = fused(x, t, beta=beta)
    assert torch.equal(found[0].loss, right[0].loss)
    assert torch.equal(found[1], right[1])
