"""The top-k kernel against float64 truth, with everything that it takes drawn together.

As `test_kernel.py`, which holds what all forms have in common.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from antcache.kernels import TopKTargets, distillation_loss

pytest.importorskip("triton")
from kernel_cases import pairwise

from antcache.kernels.gpu import launch
from antcache.kernels.gpu.long import launch as launch_long

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
BETAS = (0.0, 0.1, 0.5, 0.9, 1.0)


@pytest.fixture(params=["short", "long"])
def rows(request: pytest.FixtureRequest) -> Iterator[None]:
    """Rows in registers; and in blocks of two chunks, so small that there are several of them."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "long":
            patch.setattr(launch, "THREADS", 0)
            patch.setattr(launch, "_aligned", lambda *_rows: True)
            patch.setattr(launch_long, "LANES", 16)
            patch.setattr(launch_long, "CHUNKS", 2)
            patch.setattr(launch_long, "WARPS", 1)
        yield


def gaussian(*shape: int, seed: int) -> Tensor:
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def top_k(
    teachers: int, rows: int, classes: int, k: int, *, tail: bool, seed: int = 1
) -> TopKTargets:
    """The k of random teachers, each with its own classes, and the true mass of all others."""
    dense = gaussian(teachers, rows, classes, seed=seed)
    logit, index = dense.topk(k, dim=-1)
    outside = dense.scatter(-1, index, -math.inf).logsumexp(-1) - dense.logsumexp(-1)
    return TopKTargets(index=index, logit=logit, tail=outside if tail else None)


class Case(NamedTuple):
    """A call: its tensors, its other arguments, and the upstream factor."""

    x: Tensor
    targets: TopKTargets
    labels: Tensor | None
    given: dict[str, Any]
    factor: float = 1.0

    def evaluate(self, x: Tensor, impl: str, **how: bool) -> dict[str, Tensor]:
        """Loss, parts and gradient in float64, on the CPU."""
        x = x.detach().clone().to(DEVICE).requires_grad_()
        given = {name: _to(value) for name, value in self.given.items()}
        targets, labels = self.targets.to(DEVICE), _to(self.labels)
        parts = distillation_loss(
            x * 1, targets, labels, return_parts=True, impl=impl, **given, **how
        )
        (parts.loss * self.factor).sum().backward()
        found = {"loss": parts.loss, "ce": parts.ce, "kl": parts.kl, "gradient": x.grad}
        return {name: value.detach().double().cpu() for name, value in found.items()}

    def check(self, **how: bool) -> dict[str, Tensor]:
        """Triton is off by what PyTorch's composition is, or 1e-6 of the largest value more."""
        truth = self.evaluate(self.x.double(), "torch")
        plain, fused = self.evaluate(self.x, "torch"), self.evaluate(self.x, "triton", **how)
        for name, right in truth.items():
            size = right.abs().max().clamp(min=1e-9)
            allowed = (plain[name] - right).abs().max() / size + 1e-6
            if name == "gradient" and self.x.dtype == torch.bfloat16 and DEVICE == "cpu":
                allowed += torch.finfo(self.x.dtype).eps  # the interpreter cuts where a GPU rounds
            found = (fused[name] - right).abs().max() / size
            assert found <= allowed, f"{name}: {found:.2e}, the composition has {allowed:.2e}"
        return fused


def _to(value: Any) -> Any:
    return value.to(DEVICE) if isinstance(value, Tensor) else value


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Forms, sizes, values and settings, all of them independent of each other."""

    def some(share: int = 3) -> bool:
        return draw(st.integers(1, share)) == 1

    batch, classes = draw(st.integers(1, 9)), draw(st.integers(2, 150))
    teachers = draw(st.integers(1, 3))
    k = draw(st.integers(1, min(9, classes)))
    tail = draw(st.booleans())
    assume(not tail or k < classes)
    targets = top_k(teachers, batch + 2, classes, k, tail=tail, seed=draw(st.integers(1, 999)))
    dtype = draw(st.sampled_from(DTYPES))
    offset = draw(st.sampled_from([0.0, 1e4, -1e4])) / (1 if dtype == torch.float32 else 100)
    spread = draw(st.sampled_from([0.0, 0.1, 1.0, 5.0, 15.0]))
    x = (gaussian(batch, classes, seed=draw(st.integers(1000, 1999))) * spread + offset).to(dtype)
    each = torch.arange(batch)
    given: dict[str, Any] = {
        "beta": draw(st.sampled_from(BETAS)),
        "temperature": draw(st.sampled_from([0.5, 1.0, 2.0, 3.3, 10.0])),
        "reduction": draw(st.sampled_from(["mean", "sum", "none"])),
        "rows": (each * 5 + 1) % (batch + 2),
    }
    if some():
        given["rows"][1::2] = -1
    if some():
        given["temperature"] = torch.linspace(0.5, 3, batch)
    if some():
        given["weight"] = torch.linspace(0, 2, batch)
    if given["reduction"] == "mean" and some():
        given["normaliser"] = torch.tensor([3.0, float(batch)])
    if teachers > 1 and some(2):
        given["teacher_weight"] = torch.tensor([1, 2, 0.5])[:teachers] + each[:, None] % 2
    labels = None
    if not some():
        labels = each * 7 % classes
        if some():
            labels[::3] = -100
        given["label_smoothing"] = draw(st.sampled_from([0.0, 0.1]))
        if some(2):
            given["class_weight"] = 0.5 + torch.arange(classes) % 3
    if some():
        x = F.pad(x, (0, -classes % 16), value=math.nan)
        given["num_classes"] = classes
    return Case(x, targets, labels, given, draw(st.sampled_from([1.0, -0.3, 3.7])))


@pytest.mark.slow
@pytest.mark.usefixtures("rows")
@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(case=cases(), overwrite=st.booleans())
def test_everything_together(case: Case, overwrite: bool) -> None:
    if case.x.dtype != torch.float32 and case.factor != 1:
        overwrite = False  # would be rounded twice
    fused = case.check(overwrite_logits=overwrite)
    assert fused["kl"].min() >= -1e-6
    classes = case.given.get("num_classes", case.x.shape[1])
    assert not fused["gradient"][:, classes:].any()


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("teachers", [1, 2])
@pytest.mark.parametrize("tail", [False, True])
def test_rows_of_several_warps(beta: float, teachers: int, tail: bool) -> None:
    """2513 classes in chunks, the last of them not full, and in padded rows."""
    targets = top_k(teachers, 3, 2513, 50, tail=tail)
    x = gaussian(3, 2513, seed=2)
    labels = torch.tensor([5, 2512, int(targets.index[0, 2, 0])])
    given = {"beta": beta, "temperature": 2.0, "label_smoothing": 0.1}
    Case(x, targets, labels, given).check()
    padded = F.pad(x, (0, 15), value=math.inf)
    Case(padded, targets, labels, given | {"num_classes": 2513}).check()


@pytest.mark.usefixtures("rows")
@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_next_to_nothing_outside(beta: float) -> None:
    """What is outside the k has 1e-10 to 1e-40 of the student's mass, and is as exact as ever."""
    classes, k = 40, 5
    targets = top_k(1, 4, classes, k, tail=True)
    x = gaussian(4, classes, seed=3)
    far = torch.tensor([10.0, 23.0, 60.0, 92.0])[:, None]
    x = torch.where(torch.zeros(4, classes).scatter(1, targets.index[0], 1.0) > 0, x + far, x)
    Case(x, targets, torch.arange(4), {"beta": beta}).check()


@pytest.mark.usefixtures("rows")
@pytest.mark.parametrize("beta", BETAS)
def test_one_class_has_nearly_all(beta: float) -> None:
    """In the k, or outside it: the gradient of its logit is minus the sum of all others'."""
    targets = top_k(1, 4, 30, 6, tail=True)
    x = gaussian(4, 30, seed=4)
    best = targets.index[0, :, :1]
    few = TopKTargets(index=targets.index, logit=targets.logit)
    for column in (best, (targets.index[0].max(1, keepdim=True).values + 1) % 30):
        high = x.scatter(1, column, 14.0)
        for form in (targets, few):
            Case(high, form, None, {"beta": beta, "reduction": "sum"}).check()


@pytest.mark.usefixtures("rows")
@pytest.mark.parametrize(
    ("rows", "beta", "form"),
    pairwise(
        ("short", "long"),
        (0.0, 0.5, 1.0),
        ((3, False, None), (1, True, None), (3, True, None), (3, True, [0.0, 1.0, 2.0])),
    ),
    indirect=["rows"],
)
def test_outcomes_that_no_teacher_thinks_likely(
    beta: float, form: tuple[int, bool, list[float] | None]
) -> None:
    """Probabilities far below what float32 holds, whose logarithms count: in the k, and outside."""
    teachers, tail, share = form
    targets = top_k(teachers, 4, 30, 6, tail=False)
    outside = torch.tensor([-1.0, -80.0, -100.0, -300.0]).expand(teachers, 4)
    targets = TopKTargets(targets.index, targets.logit * 60, tail=outside if tail else None)
    given: dict[str, Any] = {"beta": beta, "temperature": 0.7}
    if share:
        given["teacher_weight"] = torch.tensor(share)
    Case(gaussian(4, 30, seed=3), targets, torch.arange(4), given).check()


@pytest.mark.usefixtures("rows")
@pytest.mark.parametrize(
    ("rows", "labelled", "beta", "tail", "named"),
    pairwise(("short", "long"), (False, True), BETAS, (False, True), (False, True)),
    indirect=["rows"],
)
def test_a_class_that_all_exclude_takes_no_part(
    labelled: bool, beta: float, tail: bool, named: bool
) -> None:
    targets = top_k(2, 3, 9, 4, tail=tail)
    x = F.pad(gaussian(3, 9, seed=5), (0, 1), value=-math.inf)
    if named:
        targets = TopKTargets(
            index=F.pad(targets.index, (0, 1), value=9),
            logit=F.pad(targets.logit, (0, 1), value=-math.inf),
            tail=targets.tail,
        )
    labels = torch.arange(3) if labelled else None
    fused = Case(x, targets, labels, {"beta": beta, "temperature": 2.0}).check()
    assert fused["loss"].isfinite().all()
    assert not fused["gradient"][:, 9].any()


@pytest.mark.usefixtures("rows")
@pytest.mark.parametrize("beta", BETAS)
def test_nothing_outside_for_student_nor_teacher(beta: float) -> None:
    """All other classes excluded by both: as if no tail was given."""
    targets = top_k(1, 3, 9, 4, tail=False)
    inside = torch.zeros(3, 9).scatter(1, targets.index[0], 1.0) > 0
    x = gaussian(3, 9, seed=6).masked_fill(~inside, -math.inf)
    labels, given = targets.index[0, :, 0], {"beta": beta}
    right = Case(x, targets, labels, given).check()
    nothing = TopKTargets(
        index=targets.index, logit=targets.logit, tail=torch.full((1, 3), -math.inf)
    )
    found = Case(x, nothing, labels, given).evaluate(x, "triton")
    for name, value in right.items():
        torch.testing.assert_close(found[name], value, rtol=1e-6, atol=1e-7)


@pytest.mark.usefixtures("rows")
@pytest.mark.parametrize("teachers", [1, 3])
@pytest.mark.parametrize("tail", [False, True])
def test_without_a_gradient_nothing_is_written(teachers: int, tail: bool) -> None:
    """Rows are then marked elsewhere: neither logits nor results change."""
    x, targets = gaussian(5, 40, seed=7).to(DEVICE), top_k(teachers, 5, 40, 4, tail=tail)
    before = x.clone()
    given: dict[str, Any] = {"impl": "triton", "temperature": 2.0}
    with torch.no_grad():
        alone = distillation_loss(x, targets.to(DEVICE), **given)
    assert torch.equal(x, before)
    x.requires_grad_()
    assert torch.equal(alone, distillation_loss(x, targets.to(DEVICE), **given).detach())


@pytest.mark.usefixtures("rows")
@pytest.mark.parametrize("teachers", [1, 3])
@pytest.mark.parametrize("tail", [False, True])
def test_nothing_but_the_gradient_is_as_large_as_the_logits(
    monkeypatch: pytest.MonkeyPatch, teachers: int, tail: bool
) -> None:
    x, targets = gaussian(16, 40, seed=7).to(DEVICE), top_k(teachers, 16, 40, 4, tail=tail)
    made: list[Tensor] = []
    original = torch.empty

    def empty(*shape: Any, **how: Any) -> Tensor:
        made.append(original(*shape, **how))
        return made[-1]

    monkeypatch.setattr(torch, "empty", empty)
    distillation_loss(x.requires_grad_(), targets.to(DEVICE), impl="triton")
    assert [t.shape for t in made if t.numel() >= x.numel()] == [x.shape]


@pytest.mark.parametrize("teachers", [1, 2])
@pytest.mark.parametrize("tail", [False, True])
def test_a_class_named_twice_writes_nothing_elsewhere(teachers: int, tail: bool) -> None:
    """What its own row gets is not defined; every other one is as it was."""
    targets, x = top_k(teachers, 4, 20, 5, tail=tail), gaussian(4, 20, seed=8)
    labels, given = torch.arange(4), {"reduction": "none"}
    right = Case(x, targets, labels, given).evaluate(x, "triton")
    targets.index[0, 2] = targets.index[0, 2, 0]
    found = Case(x, targets, labels, given).evaluate(x, "triton")
    others = torch.tensor([0, 1, 3])
    for name, value in right.items():
        assert torch.equal(found[name][others], value[others]), name


def test_many_entries_of_many_teachers() -> None:
    targets = top_k(5, 2, 700, 50, tail=True)
    given = {"teacher_weight": torch.rand(2, 5) + 0.1, "temperature": 3.0}
    Case(gaussian(2, 700, seed=9), targets, torch.arange(2), given).check()
