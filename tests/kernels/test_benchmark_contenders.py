"""Who is measured beside ours: all compute one loss, and other packages get what they take.

Other packages are imitated with their own signatures; where the package itself is installed, its
signature is compared with the imitation's.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from antcache.kernels.benchmark.contenders import (
    TEMPERATURE,
    Loss,
    Skip,
    contender,
    fused,
    liger,
    load,
    make_inputs,
    plain,
)
from antcache.kernels.benchmark.hidden import Hidden, hidden_contender, make_hidden
from antcache.kernels.benchmark.rows import (
    EAGER,
    FLA,
    FORMS,
    LIGER,
    LINEAR,
    ORDA,
    OURS,
    PLAIN,
    WHOLE,
    Case,
)

CASE = Case(dtype="float32", form="dense", batch=7, classes=125)


def inputs(**values: Any) -> Any:
    return make_inputs(replace(CASE, **values), "cpu", torch.Generator().manual_seed(1))


@pytest.fixture
def hidden() -> Hidden:
    return make_hidden(replace(CASE, form=LINEAR), "cpu", torch.Generator().manual_seed(1))


def agree(one: Callable[[Any], Tensor], other: Callable[[Any], Tensor], item: Any) -> None:
    losses = one(item), other(item)
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-5)
    grads = [torch.autograd.grad(loss, item.leaves) for loss in losses]
    for mine, theirs in zip(*grads, strict=True):
        assert torch.allclose(mine, theirs, atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_contenders_agree(form: str) -> None:
    """A benchmark of losses that differ would compare nothing."""
    item = inputs(form=form)
    agree(fused("torch"), plain, item)
    moved = item.num_bytes(gradient=True)
    teacher = {"dense": 4 * 125, "top-50": 12 * 50, "5 teachers": 5 * 4 * 125}[form]
    assert moved == 7 * (2 * 4 * 125 + teacher)


def test_ours_writes_over_the_logits_it_is_given() -> None:
    pytest.importorskip("numba")
    item, other = inputs(), inputs()
    (grad,) = torch.autograd.grad(fused("numba", overwrite=True)(item), item.leaves)
    (expected,) = torch.autograd.grad(plain(other), other.leaves)
    assert torch.allclose(grad, expected, atol=1e-6)
    assert torch.equal(item.logits, grad)


def test_padding_takes_no_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """By whomever: the loss is that of the rows without it, and its gradient is 0."""
    imitate(monkeypatch)
    item = inputs(padded=128)
    with torch.no_grad():
        item.logits[:, 125:] = 1e4
    bare = replace(
        item,
        logits=item.logits[:, :125].detach().clone().requires_grad_(),
        teacher=item.teacher[..., :125].clone(),
    )
    for loss in (fused("torch"), plain, liger()):
        value, expected = loss(item), loss(bare)
        assert value.item() == pytest.approx(expected.item(), rel=1e-6)
        (grad,) = torch.autograd.grad(value, item.leaves)
        (of_bare,) = torch.autograd.grad(expected, bare.leaves)
        assert torch.allclose(grad[:, :125], of_bare, atol=1e-7)
        assert not grad[:, 125:].any()


def test_an_unpadded_row_is_not_sliced() -> None:
    """The gradient of a slice is a copy, which no one would pay for."""
    node = plain(inputs()).grad_fn
    seen, names = [node], set()
    while seen:
        node = seen.pop()
        names.add(type(node).__name__)
        seen += [following for following, _ in node.next_functions if following is not None]
    assert not any("Slice" in name for name in names)
    assert any("LogSoftmax" in name for name in names)


def test_from_hidden_states_all_compute_one_loss(hidden: Hidden) -> None:
    agree(hidden_contender(EAGER, "torch"), hidden_contender(PLAIN, "torch"), hidden)
    agree(hidden_contender(WHOLE, "torch"), hidden_contender(PLAIN, "torch"), hidden)


def test_ours_from_hidden_states_agrees_where_it_is(hidden: Hidden) -> None:
    import antcache.kernels

    if not hasattr(antcache.kernels, "distillation_loss_linear"):
        with pytest.raises(Skip, match="no distillation_loss_linear"):
            hidden_contender(OURS, "torch")
        return
    agree(hidden_contender(OURS, "torch"), hidden_contender(PLAIN, "torch"), hidden)


def test_ours_from_hidden_states_gets_the_classifier_and_the_teacher(
    monkeypatch: pytest.MonkeyPatch, hidden: Hidden
) -> None:
    import antcache.kernels

    def linear(
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        labels: Tensor | None = None,
        *,
        temperature: float = 1.0,
        impl: str = "auto",
    ) -> Tensor:
        logits = F.linear(hidden, weight, bias)
        return antcache.kernels.distillation_loss(
            logits, targets, labels, temperature=temperature, impl=impl
        )

    monkeypatch.setattr(antcache.kernels, "distillation_loss_linear", linear, raising=False)
    agree(hidden_contender(OURS, "torch"), hidden_contender(PLAIN, "torch"), hidden)


# What other packages offer, with the signatures of orda-kernel 0.1.0, flash-linear-attention 0.6.0
# and liger-kernel 0.8.5, in plain PyTorch.


class LigerKLDivLossFunction:
    @staticmethod
    def forward(
        ctx: Any,
        y_pred: Tensor,
        y_true: Tensor,
        reduction: str = "batchmean",
        log_target: bool = False,
        eps: float = 1e-10,
    ) -> Tensor:
        return F.kl_div(y_pred, y_true, reduction=reduction, log_target=log_target)

    @classmethod
    def apply(cls, *given: Any) -> Tensor:
        return cls.forward(None, *given)


class LigerFusedLinearKLDivFunction(LigerKLDivLossFunction):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        student_input: Tensor,
        student_weight: Tensor,
        target: Tensor,
        shift_labels: Tensor | None = None,
        reduction: str = "batchmean",
        ignore_index: int = -100,
        temperature: float = 1.0,
        eps: float = 1e-10,
        accum_dtype: torch.dtype | None = None,
    ) -> Tensor:
        assert shift_labels is None
        log_p = F.log_softmax(student_input @ student_weight.T / temperature, -1)
        return F.kl_div(log_p, target, reduction=reduction)


class LigerFusedLinearCrossEntropyFunction(LigerKLDivLossFunction):
    @staticmethod
    def forward(  # type: ignore[override]
        ctx: Any,
        _input: Tensor,
        weight: Tensor,
        target: Tensor,
        bias: Tensor | None = None,
        ce_weight: Tensor | None = None,
        ignore_index: int = -100,
        lse_square_scale: float = 0.0,
        label_smoothing: float = 0.0,
        reduction: str = "mean",
        softcap: float | None = None,
        return_z_loss: bool = False,
        accum_dtype: torch.dtype | None = None,
        use_token_scaling: bool = False,
        return_token_accuracy: bool = False,
        return_predicted_tokens: bool = False,
        ce_impl: Any = None,
        ce_mode: Any = None,
        chunk_mem_const: int = 1,
    ) -> tuple[Tensor, None, None, None]:
        return F.cross_entropy(_input @ weight.T, target), None, None, None


def fused_kl_div_loss(
    x: Tensor,
    target_x: Tensor,
    weight: Tensor,
    target_weight: Tensor,
    reduction: str = "batchmean",
    accumulate_grad_in_fp32: bool = True,
) -> Tensor:
    assert not target_x.requires_grad
    assert not target_weight.requires_grad
    log_p = F.log_softmax(x @ weight.T, -1)
    log_q = F.log_softmax(target_x @ target_weight.T, -1)
    return F.kl_div(log_p, log_q, reduction=reduction, log_target=True)


def fused_linear_cross_entropy_loss(
    x: Tensor,
    target: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    logit_scale: float = 1.0,
    logit_softcapping: float | None = None,
    num_chunks: int = 8,
    reduction: str = "mean",
    use_l2warp: bool = False,
    l2_penalty_factor: float = 1e-4,
    accumulate_grad_in_fp32: bool = True,
    process_group: Any = None,
) -> Tensor:
    return F.cross_entropy(x @ weight.T, target)


@dataclass(frozen=True)
class PrecomputedTeacher:
    logits: Tensor | None = None
    teacher_hidden: Tensor | None = None
    teacher_weight: Tensor | None = None
    trust_cache_immutability: bool = False
    logits_temperature: float | None = None


@dataclass(frozen=True)
class KernelConfig:
    grad_weight_accumulation: Any = None
    chunk_size: Any = None
    num_chunks: int | None = None
    max_chunks: int | None = None
    max_fused_size: int | None = None
    kl_weight: float | None = None
    kl_temperature: float | None = None
    autotune: Any = None
    refresh_autotune: bool | None = None
    kl_divergence: str | None = None
    assume_valid_labels: bool | None = None
    kl_alpha: float | None = None
    kl_beta: float | None = None
    entropy_gate: Any = None
    kl_teacher_temperature: float | None = None


def distillation_loss(
    student_hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    teacher: PrecomputedTeacher,
    *,
    student_ce_weight: float = 1.0,
    teacher_ce_weight: float | None = None,
    kl_weight: float = 0.0,
    kl_temperature: float = 1.0,
    kl_teacher_temperature: float | None = None,
    kl_divergence: str = "forward",
    kl_alpha: float | None = None,
    kl_beta: float | None = None,
    entropy_gate: Any = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    profile: str = "balanced",
    backend: str = "auto",
    config: KernelConfig | None = None,
    gradient_materialization_scale: Tensor | None = None,
    grad_scaler: Any = None,
) -> SimpleNamespace:
    assert profile in ("balanced", "fast", "debug")
    assert backend == "triton"
    assert teacher.logits is not None
    logits, scale = student_hidden @ weight.T, kl_temperature**2
    log_p, log_q = (F.log_softmax(t / kl_temperature, -1) for t in (logits, teacher.logits))
    kl = F.kl_div(log_p, log_q, reduction="batchmean", log_target=True)
    ce = F.cross_entropy(logits, labels)
    return SimpleNamespace(loss=student_ce_weight * ce + kl_weight * scale * kl)


IMITATED: dict[str, tuple[Any, ...]] = {
    "liger_kernel.ops.kl_div": (LigerKLDivLossFunction,),
    "liger_kernel.ops.fused_linear_kl_div": (LigerFusedLinearKLDivFunction,),
    "liger_kernel.ops.fused_linear_cross_entropy": (LigerFusedLinearCrossEntropyFunction,),
    "fla.modules.fused_kl_div": (fused_kl_div_loss,),
    "fla.modules.fused_linear_cross_entropy": (fused_linear_cross_entropy_loss,),
    "orda_kernel": (distillation_loss, PrecomputedTeacher, KernelConfig),
}


def imitate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules with these names, and those above them."""
    for name, things in IMITATED.items():
        parts = name.split(".")
        for i in range(1, len(parts) + 1):
            above = ".".join(parts[:i])
            module = ModuleType(above)
            module.__spec__ = ModuleSpec(above, None)
            module.__path__ = []
            if i < len(parts):
                monkeypatch.setitem(sys.modules, above, module)
        for thing in things:
            setattr(module, thing.__name__, thing)
        monkeypatch.setitem(sys.modules, name, module)


@pytest.mark.parametrize("name", [LIGER, ORDA, FLA])
def test_from_hidden_states_a_package_gets_what_it_takes(
    monkeypatch: pytest.MonkeyPatch, hidden: Hidden, name: str
) -> None:
    imitate(monkeypatch)
    agree(hidden_contender(name, "torch"), hidden_contender(PLAIN, "torch"), hidden)


@pytest.mark.parametrize("form", FORMS)
def test_liger_gets_what_it_takes(monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    imitate(monkeypatch)
    agree(contender(LIGER, "torch"), plain, inputs(form=form))


def parameters(thing: Any) -> list[tuple[str, Any, Any]]:
    """Names, kinds and defaults of what it takes."""
    found = inspect.signature(getattr(thing, "forward", thing)).parameters.values()
    return [(p.name, p.kind, p.default) for p in found]


@pytest.mark.parametrize("module", IMITATED)
def test_what_is_imitated_is_what_the_package_takes(module: str) -> None:
    """A later version may take more, after what is given or by keyword."""
    real = pytest.importorskip(module, exc_type=ImportError)
    for imitation in IMITATED[module]:
        theirs, ours = parameters(getattr(real, imitation.__name__)), parameters(imitation)
        assert theirs[: len(ours)] == ours


def test_a_package_that_is_not_there_is_skipped() -> None:
    with pytest.raises(Skip, match="the package nothing-of-it is not installed"):
        load("nothing-of-it", "nothing_of_it.inside")


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import nothing_of_it", "No module named 'nothing_of_it'"),
        ("raise RuntimeError('needs a\\n GPU')", "needs a GPU"),
        ("raise OSError", "OSError"),
    ],
)
def test_a_package_that_fails_to_import_is_skipped_with_its_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, source: str, reason: str
) -> None:
    (tmp_path / "fails_to_import.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(Skip, match=rf"^some-package can't be imported: {reason}$"):
        load("some-package", "fails_to_import")


def test_a_package_without_the_function_is_skipped(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An older or newer version may have it elsewhere."""
    (tmp_path / "orda_kernel.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "orda_kernel", raising=False)
    with pytest.raises(Skip, match=r"^this orda-kernel has no orda_kernel.distillation_loss$"):
        hidden_contender(ORDA, "torch")
    monkeypatch.delitem(sys.modules, "orda_kernel")


@pytest.mark.parametrize("name", [ORDA, FLA])
def test_what_takes_no_logits_is_skipped_where_they_are_given(name: str) -> None:
    with pytest.raises(Skip, match="takes hidden states"):
        contender(name, "torch")


def test_a_cpu_without_a_cpp_compiler_skips_torch_compile() -> None:
    from torch._inductor import config

    loss: Loss = contender("torch.compile", "torch")
    reason = r"^torch.compile needs a C\+\+ compiler on a CPU"
    with (
        config.patch({"cpp.cxx": (None, "no-such-compiler")}),
        pytest.raises(Skip, match=reason),
    ):
        loss(inputs(classes=11))


def test_another_fault_of_a_compiled_loss_is_no_skip(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> Tensor:
        raise RuntimeError("something else")

    monkeypatch.setattr(torch, "compile", lambda *_, **_named: fails)
    with pytest.raises(RuntimeError, match="something else"):
        contender("torch.compile", "torch")(inputs())


def test_temperature_is_one_that_shows() -> None:
    """At T = 1 a package that forgot it would agree as well."""
    assert TEMPERATURE != 1
