"""The loss from hidden states: as exact as the composition, whatever is asked of it.

Truth is the composition in float64: `F.linear`, then the reference. The error may be as large as
that of the same calls in the same precision, plus 1e-6 relative.
"""

from __future__ import annotations

import importlib.util
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_cases import pairwise
from torch.nn import functional as F

from antcache.errors import BadConfig
from antcache.kernels import (
    DenseTargets,
    TopKTargets,
    distillation_loss,
    distillation_loss_linear,
    linear_op,
    linear_rows,
)
from antcache.kernels.record import LossInputs, LossOutputs, empty_outputs, teacher_tensors

B, D, C, K, M = 11, 5, 13, 3, 2
FORMS = ("none", "dense", "dense_mix", "topk", "topk_mix", "tail", "tail_mix")
FUSED = [name for name in ("triton", "numba") if importlib.util.find_spec(name)]
IMPLS = [*FUSED, "torch"]
HALF = (torch.float16, torch.bfloat16)


def layer(make, *, batch=B, features=D, classes=C, dtype=torch.float32, offset=0.0, seed=0):
    """Hidden rows, classifier and bias, leaves; the offset is that of all logits.

    With one, numbers have so few bits that the logits are exact, else their rounding hides all.
    """
    sizes = ((batch, features), (classes, features), (classes,))
    found = [make.randn(*size, seed=seed + i) for i, size in enumerate(sizes)]
    if offset:
        found = [(8 * tensor).round() / 8 for tensor in found]
        found[2] += offset
    return [tensor.to(dtype).requires_grad_() for tensor in found]


def teacher(make, form, *, rows=B, classes=C, valid=None, seed=3):
    if form == "none":
        return None
    shape = (M if form.endswith("mix") else 1, rows, classes)
    dense = 2 * make.randn(*shape, seed=seed, dtype=torch.float32)
    if form.startswith("dense"):
        return DenseTargets(dense, valid=valid)
    found = make.top_k(dense, K, tail=form.startswith("tail"))
    return TopKTargets(found.index, found.logit, tail=found.tail, valid=valid)


def composed(hidden, classifier, bias, *rest, chunk_rows=None, **given):
    """What the function is to equal; it has no chunks."""
    del chunk_rows
    return distillation_loss(F.linear(hidden, classifier, bias), *rest, **given)


def outcome(loss, tensors, *rest, factor=1.0, **given):
    """Loss, parts and gradients, as float64."""
    tensors = [None if t is None else t.detach().clone().requires_grad_() for t in tensors]
    parts = loss(*tensors, *rest, return_parts=True, **given)
    factor = torch.as_tensor(factor).to(parts.loss.dtype)
    (parts.loss * factor).sum().backward()
    found = {"loss": parts.loss, "ce": parts.ce, "kl": parts.kl}
    for name, tensor in zip(("hidden", "classifier", "bias"), tensors, strict=True):
        if tensor is not None:
            found[name] = tensor.grad
    return {name: value.detach().double() for name, value in found.items()}


def assert_as_exact(tensors, *rest, impl="auto", **given):
    """Hold it against truth and composition; relative to the largest value, or 1e-9."""
    doubles = [None if t is None else t.double() for t in tensors]
    truth = outcome(composed, doubles, *rest, impl="torch", **given)
    plain = outcome(composed, tensors, *rest, impl="torch", **given)
    found = outcome(distillation_loss_linear, tensors, *rest, impl=impl, **given)
    for name, right in truth.items():
        size = right.abs().max().clamp(min=1e-9)
        allowed = (plain[name] - right).abs().max() / size + 1e-6
        error = (found[name] - right).abs().max() / size
        assert error <= allowed, f"{name}: {error:.2e}, the composition has {allowed:.2e}"


# --- equal to the composition


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_any_setting_together(make, data):
    def one_of(*choices):
        return data.draw(st.sampled_from(choices))

    batch, classes = data.draw(st.integers(1, 12)), data.draw(st.integers(4, 40))
    padding, seed = one_of(0, 0, 3), data.draw(st.integers(0, 99))
    dtype = one_of(torch.float32, torch.float32, torch.float64, *HALF)
    form, reduction = one_of(*FORMS), one_of("mean", "sum", "none")
    tensors = layer(
        make,
        batch=batch,
        classes=classes + padding,
        dtype=dtype,
        offset=one_of(0.0, 1e4, -1e4) if dtype not in HALF else 0.0,
        seed=seed,
    )
    if one_of(True, False, False):
        tensors[2] = None
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes, (batch,), generator=generator)
    labels[seed % batch] = -100
    rest = {"reduction": reduction, "label_weight": 0.7, "num_classes": classes}
    if form == "none" or one_of(True, True, False):
        rest["label_smoothing"] = one_of(0.0, 0.1)
        if one_of(True, False):
            rest["class_weight"] = 0.5 + torch.arange(classes) % 3
    else:
        labels = None
    targets = None
    if form != "none":
        many = one_of(True, False)
        valid = torch.arange(batch + 2 * many) % 4 != 1 if one_of(True, False) else None
        rows = torch.randint(-1, batch + 2, (batch,), generator=generator)
        targets = teacher(make, form, rows=batch + 2 * many, classes=classes, valid=valid)
        rest |= {
            "rows": rows if many else None,
            "beta": one_of(0.0, 0.0, 0.5, 1.0),
            "temperature": one_of(1.0, 2.0, torch.linspace(0.5, 3, batch)),
            "weight": one_of(1.0, 0.3, torch.linspace(0, 2, batch)),
        }
        if form.endswith("mix"):
            share = torch.rand(batch, M, generator=generator) + 0.1
            rest["teacher_weight"] = one_of(None, share, share[0])
    if reduction == "mean":
        rest["normaliser"] = one_of(None, None, torch.tensor(7.0), torch.tensor([3.0, 5.0]))
    factor = one_of(1.0, -1.7)
    if reduction == "none" and one_of(True, False):
        factor = torch.linspace(-1, 2, batch)
    rest["chunk_rows"] = one_of(None, 1, 3, 5)
    assert_as_exact(tensors, targets, labels, factor=factor, **rest)


@pytest.mark.parametrize(
    ("impl", "form", "reduction"), pairwise(IMPLS, FORMS, ("mean", "sum", "none"))
)
def test_every_form_by_every_implementation(make, impl, form, reduction):
    labels = torch.arange(B) % C
    labels[2] = -100
    share = torch.rand(B, M) + 0.1 if form.endswith("mix") else None
    given = {} if form == "none" else {"temperature": 2.0, "teacher_weight": share}
    factor = torch.linspace(-1, 2, B) if reduction == "none" else 0.37
    assert_as_exact(
        layer(make),
        teacher(make, form),
        labels,
        impl=impl,
        factor=factor,
        reduction=reduction,
        label_smoothing=0.1,
        chunk_rows=4,
        **given,
    )


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_chunks_change_nothing(make, impl, reduction):
    tensors, targets, labels = layer(make), teacher(make, "dense"), torch.arange(B) % C
    labels[2] = -100
    rows = torch.arange(B).where(torch.arange(B) != 5, -1)
    whole, *others = (
        outcome(
            distillation_loss_linear,
            *(tensors, targets, labels),
            rows=rows,
            impl=impl,
            reduction=reduction,
            chunk_rows=size,
        )
        for size in (B, 1, 2, 4, 100, None)
    )
    for other in others:
        for name, value in whole.items():
            bound = 1e-6 * value.abs().max().item()
            torch.testing.assert_close(other[name], value, rtol=0, atol=bound)


@pytest.mark.parametrize("impl", IMPLS)
def test_leading_axes(make, impl):
    hidden, classifier, bias = layer(make, batch=12)
    targets, labels = teacher(make, "dense", rows=12).logits[0], torch.arange(12) % C
    shape = (3, 2, 2)
    given = {"temperature": torch.linspace(1, 2, 12), "impl": "torch", "reduction": "none"}
    flat = distillation_loss_linear(
        hidden, classifier, bias, targets, labels, return_parts=True, **given
    )
    given["temperature"] = given["temperature"].view(shape)
    parts = distillation_loss_linear(
        hidden.view(*shape, D),
        classifier,
        bias,
        targets.view(*shape, C),
        labels.view(shape),
        return_parts=True,
        chunk_rows=5,
        **given,
    )
    for one, other in zip(parts, flat, strict=True):
        assert one.shape == shape
        torch.testing.assert_close(one.flatten(), other)
    loss = distillation_loss_linear(
        hidden.view(*shape, D), classifier, bias, targets.view(*shape, C), impl=impl
    )
    (found,) = torch.autograd.grad(loss, hidden)
    expected = distillation_loss(F.linear(hidden, classifier, bias), targets, impl="torch")
    torch.testing.assert_close(found, torch.autograd.grad(expected, hidden)[0])


@pytest.mark.parametrize("impl", IMPLS)
def test_an_empty_batch(make, impl):
    tensors = layer(make, batch=0)
    none = torch.zeros(0, dtype=torch.long)
    found = outcome(
        distillation_loss_linear, tensors, teacher(make, "dense"), none, rows=none, impl=impl
    )
    assert found["loss"] == 0
    assert not found["classifier"].any()
    assert not found["bias"].any()


# --- gradients


@pytest.mark.parametrize(
    ("impl", "reduction", "learned"),
    pairwise(IMPLS, ("mean", "none"), ((0,), (1,), (2,), (0, 2), (1, 2), ())),
)
def test_gradients_for_what_requires_one(make, impl, reduction, learned):
    tensors, targets = layer(make), teacher(make, "topk")
    given = {"reduction": reduction, "impl": impl, "chunk_rows": 4}
    whole = distillation_loss_linear(*tensors, targets, **given)
    everything = torch.autograd.grad(whole.sum(), tensors)
    some = [t.detach().requires_grad_(i in learned) for i, t in enumerate(tensors)]
    loss = distillation_loss_linear(*some, targets, **given)
    assert loss.requires_grad == bool(learned)
    if learned:
        loss.sum().backward()
    for number, (tensor, right) in enumerate(zip(some, everything, strict=True)):
        if number in learned:
            torch.testing.assert_close(tensor.grad, right)
        else:
            assert tensor.grad is None
    with torch.no_grad():
        assert not distillation_loss_linear(*tensors, targets, **given).requires_grad


@pytest.mark.parametrize("form", ["dense", "tail_mix"])
def test_torch_differentiates_twice(make, form):
    # Each number in them is moved a little by itself: as few as leave classes outside the k.
    tensors = layer(make, batch=4, features=2, classes=8, dtype=torch.float64)
    targets, labels = teacher(make, form, rows=4, classes=8), torch.arange(4)

    def loss(*tensors):
        return distillation_loss_linear(*tensors, targets, labels, temperature=2.0, chunk_rows=3)

    assert torch.autograd.gradcheck(loss, tensors)
    assert torch.autograd.gradgradcheck(loss, tensors)


@pytest.mark.parametrize("impl", FUSED)
def test_a_second_backward_and_a_double_one_are_refused(make, impl):
    tensors, targets = layer(make), teacher(make, "dense")
    for reduction in ("mean", "none"):
        loss = distillation_loss_linear(*tensors, targets, impl=impl, reduction=reduction).sum()
        with pytest.raises(BadConfig, match=r"double backward.*impl='torch'"):
            torch.autograd.grad(loss, tensors, create_graph=True)
    loss = distillation_loss_linear(*tensors, targets, impl=impl)
    loss.backward(retain_graph=True)
    with pytest.raises(BadConfig, match=r"a second time.*impl='torch'"):
        loss.backward()


def transforms():
    from torch import func

    return {
        "grad": lambda f, x: func.grad(f)(x),
        "jvp": lambda f, x: func.jvp(f, (x,), (x.cos(),))[1],
        "vmap": lambda f, x: func.vmap(f)(x.expand(3, B, D)),
    }


@pytest.mark.parametrize("impl", FUSED)
@pytest.mark.parametrize("name", ["grad", "jvp", "vmap"])
def test_transforms_are_for_torch(make, impl, name):
    (hidden, *rest), targets = layer(make), teacher(make, "dense")
    hidden, transform = hidden.detach(), transforms()[name]
    right = transform(
        lambda x: distillation_loss(F.linear(x, *rest), targets, impl="torch"), hidden
    )
    found = transform(lambda x: distillation_loss_linear(x, *rest, targets, chunk_rows=4), hidden)
    torch.testing.assert_close(found, right)
    with pytest.raises(BadConfig, match=r"impl='torch'"):
        transform(lambda x: distillation_loss_linear(x, *rest, targets, impl=impl), hidden)


@pytest.mark.parametrize("impl", FUSED)
@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_tangent_is_never_taken_for_0(make, impl, number):
    from torch.autograd import forward_ad

    tensors = [tensor.detach() for tensor in layer(make)]
    targets = teacher(make, "dense")
    with forward_ad.dual_level():
        dual = [
            forward_ad.make_dual(t, t.cos()) if i == number else t for i, t in enumerate(tensors)
        ]
        loss = distillation_loss_linear(*dual, targets, chunk_rows=4)
        tangent = forward_ad.unpack_dual(loss).tangent
        with pytest.raises(BadConfig, match=r"forward-mode AD.*impl='torch'"):
            distillation_loss_linear(*dual, targets, impl=impl)
    tensors[number].requires_grad_()
    (right,) = torch.autograd.grad(composed(*tensors, targets), tensors[number])
    torch.testing.assert_close(tangent, (right * tensors[number].cos()).sum())


# --- half precision


@pytest.mark.parametrize("impl", IMPLS)
def test_autocast(make, impl):
    """What was float32 gets float32 gradients; what comes out of autocast is half."""
    tensors, targets = layer(make), teacher(make, "dense")
    found = {}
    for loss in (distillation_loss_linear, composed):
        for tensor in tensors:
            tensor.grad = None
        with torch.autocast("cpu", torch.bfloat16):
            hidden = F.linear(tensors[0], torch.eye(D))
            assert hidden.dtype == torch.bfloat16
            value = loss(hidden, *tensors[1:], targets, temperature=2.0, impl=impl)
        value.backward()
        assert {tensor.grad.dtype for tensor in tensors} == {torch.float32}
        found[loss] = [value.detach(), *(tensor.grad for tensor in tensors)]
    for one, other in zip(*found.values(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=2e-2 * other.abs().max().item())


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """Logits and the gradient's factors in half precision on the CPU as well."""
    monkeypatch.setattr("antcache.kernels.linear.ROUNDED", ("cuda", "cpu"))
    monkeypatch.setattr("antcache.kernels.linear_rows.BLOCK", 5)


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize(
    ("impl", "dtype", "reduction"), pairwise(IMPLS, HALF, ("mean", "sum", "none"))
)
def test_the_rounded_way_rounds_as_the_composition_does(make, impl, dtype, reduction):
    tensors, targets, labels = layer(make, dtype=dtype), teacher(make, "dense"), torch.arange(B)
    given = {"reduction": reduction, "temperature": 2.0}
    right, found = (
        outcome(loss, tensors, targets, labels, factor=3.7, impl=how, **given)
        for loss, how in ((composed, "torch"), (distillation_loss_linear, impl))
    )
    for name, value in right.items():
        bound = 2 * torch.finfo(dtype).eps * value.abs().max()
        assert (found[name] - value).abs().max() <= bound, name


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize("impl", FUSED)
@pytest.mark.parametrize("form", ["none", "dense"])
@pytest.mark.parametrize("size", [1e-6, 1e6])
def test_float16_loses_no_small_gradient_and_no_large_one(make, impl, form, size):
    """As of a row of a mean over a million: that of a logit would be 0, or infinite.

    The upstream factor, a loss scaler's, brings the results back to where float16 has numbers.
    """
    tensors, targets = layer(make, dtype=torch.float16), teacher(make, form)
    labels = torch.arange(B) % C if form == "none" else None
    given = {"weight": size} if targets else {"label_weight": size}
    doubles = [tensor.double() for tensor in tensors]
    right = outcome(composed, doubles, targets, labels, factor=1 / size, impl="torch", **given)
    loss = distillation_loss_linear(*tensors, targets, labels, impl=impl, **given)
    found = torch.autograd.grad(loss, tensors, torch.tensor(1 / size))
    for name, value in zip(("hidden", "classifier", "bias"), found, strict=True):
        bound = 5e-3 * right[name].abs().max().item()
        torch.testing.assert_close(value.double(), right[name], rtol=0, atol=bound)


# --- an operator of PyTorch


@pytest.mark.parametrize("impl", FUSED)
@pytest.mark.parametrize("form", ["none", "dense", "tail_mix"])
def test_opcheck(make, impl, form):
    tensors, targets = layer(make, batch=5), teacher(make, form, rows=5)
    tensors[1].requires_grad_(False)
    logits, reduction = torch.empty(()).expand(5, C), "mean" if form == "dense" else "none"
    inputs = LossInputs(logits, *teacher_tensors(targets), torch.arange(5), reduction=reduction)
    given = linear_rows.Layer(*tensors, torch.float32)
    call = linear_op.LinearCall(given, inputs, 2, (True, False, True), impl)
    torch.library.opcheck(linear_op.fused, call.arguments())
    detached = linear_rows.Layer(*(t.detach() for t in tensors), torch.float32)
    given = (torch.linspace(-1, 1, 5), *call._replace(layer=detached).arguments())
    torch.library.opcheck(linear_op.gradient, given)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_compiles_into_one_graph_for_any_batch(make, impl, reduction):
    from torch._dynamo.testing import CompileCounterWithBackend

    counter = CompileCounterWithBackend("aot_eager")

    def step(hidden, classifier, bias, targets):
        return distillation_loss_linear(
            hidden * 2, classifier, bias, targets, impl=impl, chunk_rows=4, reduction=reduction
        ).sum()

    torch.compiler.reset()
    fast = torch.compile(step, fullgraph=True, dynamic=impl != "torch", backend=counter)
    counts = []
    for size in (B, B - 2, B - 3) if impl != "torch" else (B,):
        tensors, targets = layer(make, batch=size), teacher(make, "dense", rows=size).logits[0]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = torch.autograd.grad(fast(*tensors, targets) * 3, tensors)
        right = torch.autograd.grad(step(*tensors, targets) * 3, tensors)
        torch.testing.assert_close(found, right)
        counts.append(counter.frame_count)
    assert len(set(counts)) == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_nothing_waits_for_the_device(make, dtype):
    """Fake tensors have no values: reading one (a host synchronisation on a GPU) raises."""
    from torch._subclasses import FakeTensorMode

    made = []

    def compute(inputs: LossInputs, grad: torch.Tensor | None) -> LossOutputs:
        made.append(inputs.logits.shape)
        return empty_outputs(inputs, grad)

    with FakeTensorMode() as mode:
        hidden, classifier, bias = (mode.from_tensor(t.detach()) for t in layer(make, dtype=dtype))
        dense = torch.empty(M, B + 2, C)
        inputs = LossInputs(
            torch.empty((), dtype=dtype).expand(B, C),
            *teacher_tensors(DenseTargets(dense, valid=torch.ones(B + 2, dtype=torch.bool))),
            labels=torch.zeros(B, dtype=torch.long),
            rows=torch.zeros(B, dtype=torch.long),
            class_weight=torch.ones(C),
            row_temperature=torch.ones(B),
            row_weight=torch.ones(()),
        )
        given = linear_rows.Layer(hidden, classifier, bias, dtype)
        for factor in (None, torch.ones(B)):
            parts, gradients = linear_rows.run(given, inputs, compute, 4, (True,) * 3, factor)
            assert parts[0].shape == ()
            assert [g.shape for g in gradients] == [t.shape for t in (hidden, classifier, bias)]
    assert made == 2 * [(4, C), (4, C), (3, C)]


# --- what is refused


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"hidden": [[0.0]]}, "hidden must be a tensor: found list"),
        ({"hidden": torch.zeros(D)}, r"hidden of a wrong shape.*\(batch, features\).*\(5,\)"),
        ({"hidden": torch.zeros(B, D).long()}, "hidden of a wrong shape or dtype"),
        ({"classifier": None}, "classifier must be a tensor: found NoneType"),
        ({"classifier": torch.zeros(D, C)}, r"classifier of a wrong shape.*\(5, 5\).*\(5, 13\)"),
        ({"classifier": torch.zeros(C)}, "classifier of a wrong shape"),
        ({"classifier": torch.zeros(C, D).half()}, "expected torch.float32.*found torch.float16"),
        ({"classifier": torch.zeros(C, D, device="meta")}, "on cpu, as hidden is.*on meta"),
        ({"classifier": torch.zeros(0, D), "bias": None}, "logits of a wrong shape"),
        ({"bias": torch.zeros(C + 1)}, r"bias of a wrong shape.*\(13,\).*\(14,\)"),
        ({"bias": torch.zeros(C).double()}, "bias of a wrong shape, dtype or device"),
        ({"bias": 0.0}, "bias must be a tensor: found float"),
        ({"targets": torch.zeros(B, C + 1)}, "differ in classes: expected 13, found 14"),
        ({"targets": torch.zeros(B - 1, C)}, "one teacher row per batch row"),
        ({"targets": None, "labels": None}, "nothing to learn from"),
        ({"labels": torch.zeros(B + 1).long()}, "labels of a wrong shape"),
        ({"temperature": 0.0}, "impossible temperature"),
        ({"reduction": "batchmean"}, "reduction"),
        ({"num_classes": C + 1}, "impossible num_classes"),
        ({"normaliser": 2.0}, "normaliser must be a tensor"),
        ({"normaliser": torch.ones(()), "reduction": "sum"}, "no effect but for the mean"),
        ({"chunk_rows": 0}, "impossible chunk_rows: expected 1 or more, found 0"),
        ({"chunk_rows": 2.0}, "chunk_rows must be a whole number"),
        ({"chunk_rows": True}, "chunk_rows must be a whole number"),
        ({"impl": "cuda"}, "impl"),
    ],
)
def test_bad_arguments_are_named(make, change, words):
    hidden, classifier, bias = layer(make)
    arguments = {
        "hidden": hidden,
        "classifier": classifier,
        "bias": bias,
        "targets": torch.zeros(B, C),
        "labels": torch.zeros(B).long(),
    }
    with pytest.raises(BadConfig, match=words) as found:
        distillation_loss_linear(**{**arguments, **change})
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("impl", FUSED)
def test_what_an_implementation_cannot_do_is_for_torch(make, impl):
    tensors, targets = layer(make, dtype=torch.float64), teacher(make, "dense")
    with pytest.raises(BadConfig, match=r"float64.*impl='torch'"):
        distillation_loss_linear(*tensors, targets, impl=impl)
    tensors = layer(make)
    temperature = torch.ones((), requires_grad=True)
    with pytest.raises(BadConfig, match=r"gradient is wanted for the temperature"):
        distillation_loss_linear(*tensors, targets, impl=impl, temperature=temperature)
    found, right = (
        torch.autograd.grad(loss(*tensors, targets, temperature=temperature), temperature)
        for loss in (distillation_loss_linear, composed)
    )
    torch.testing.assert_close(found, right)


def test_tensors_without_memory():
    """On the device `meta`, which no autocast knows."""
    hidden, classifier = (torch.zeros(n, 3, device="meta", requires_grad=True) for n in (4, 5))
    labels = torch.zeros(4, dtype=torch.long, device="meta")
    loss = distillation_loss_linear(hidden, classifier, labels=labels, chunk_rows=2)
    loss.backward()
    assert loss.shape == ()
    assert hidden.grad.shape == (4, 3)
