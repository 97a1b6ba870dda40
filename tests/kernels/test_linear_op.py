"""The loss from hidden states in PyTorch: gradients, transforms, compile, what is refused."""

from __future__ import annotations

import warnings
from dataclasses import replace

import pytest
import torch
from kernel_cases import pairwise
from linear_cases import FUSED, IMPLS, B, C, D, M, composed, layer, teacher
from torch.nn import functional as F

from antcache.errors import BadConfig
from antcache.kernels import (
    DenseTargets,
    distillation_loss,
    distillation_loss_linear,
    distillation_loss_sharded,
    linear_op,
    linear_rows,
)
from antcache.kernels.record import LossInputs, LossOutputs, empty_outputs, teacher_tensors

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


@pytest.mark.parametrize("impl", IMPLS)
def test_targets_are_constants(make, impl):
    """Also where they want gradients, as when student and teacher are exchanged."""
    tensors, targets = (tensor.detach() for tensor in layer(make)), torch.zeros(B, C)
    loss = distillation_loss_linear(*tensors, targets.requires_grad_(), impl=impl)
    with pytest.raises(RuntimeError, match="does not require grad"):
        loss.backward()


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
    for factor in (1.0, 0.5):
        loss = distillation_loss_linear(*tensors, targets, impl=impl) * factor
        loss.backward(retain_graph=True)
        with pytest.raises(BadConfig, match=r"a second time.*impl='torch'"):
            loss.backward()


@pytest.mark.parametrize("impl", FUSED)
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_a_teacher_of_inference_mode_is_a_constant_as_any(make, impl, reduction):
    tensors, targets = layer(make), teacher(make, "dense")
    with torch.inference_mode():
        inferred = targets.logits.clone()
    found, right = (
        distillation_loss_linear(
            *tensors, replace(targets, logits=t), impl=impl, reduction=reduction
        )
        for t in (inferred, targets.logits)
    )
    both = [torch.autograd.grad(loss.sum() * 0.5, tensors) for loss in (found, right)]
    for one, other in zip(*both, strict=True):
        assert torch.equal(one, other)


def test_a_keyword_that_there_is_not_is_named_as_python_does(make):
    tensors, targets = layer(make), teacher(make, "dense")
    with pytest.raises(TypeError, match=r"distillation_loss_linear\(\) got an .* 'temprature'"):
        distillation_loss_linear(*tensors, targets, temprature=2.0)
    with pytest.raises(TypeError, match=r"distillation_loss_sharded\(\) got an .* 'impl'"):
        distillation_loss_sharded(tensors[0], targets, impl="torch")


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
