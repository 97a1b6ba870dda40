"""The loss as an operator of PyTorch: registration, compile, refusals, what backward does."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import warnings
from dataclasses import replace

import pytest
import torch
from kernel_cases import pairwise

from antcache.errors import BadConfig, MissingExtra
from antcache.kernels import DenseTargets, TopKTargets, choose, distillation_loss, op
from antcache.kernels.record import teacher_tensors

B, C, K, M = 4, 11, 3, 2
FORMS = ("none", "dense", "dense_mix", "topk", "topk_mix", "tail", "tail_mix")
IMPLS = [name for name in ("triton", "numba") if importlib.util.find_spec(name)]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@pytest.fixture(params=IMPLS)
def impl(request):
    return request.param


def device(impl):
    return "cpu" if impl == "numba" else DEVICE


def inputs(make, impl, form="dense"):
    """Logits that require a gradient, targets and labels."""
    x = make.randn(B, C, dtype=torch.float32).to(device(impl)).requires_grad_()
    shape = (M if form.endswith("mix") else 1, B, C)
    dense = make.randn(*shape, seed=1, dtype=torch.float32).to(device(impl))
    targets = None
    if form.startswith("dense"):
        targets = DenseTargets(logits=dense)
    elif form != "none":
        targets = make.top_k(dense, K, tail=form.startswith("tail"))
    return x, targets, torch.arange(B, device=device(impl))


def gradient(loss, x, factor=1.0):
    return torch.autograd.grad((loss * factor).sum(), x)[0]


@pytest.mark.parametrize("form", FORMS)
def test_opcheck(make, impl, form):
    x, targets, labels = inputs(make, impl, form)
    given = (*teacher_tensors(targets), labels, *[None] * 6)
    reduction = ("mean", "none")[FORMS.index(form) % 2]
    numbers = (2.0, 1.0, 1.0, 0.1, 0.0, -100, 0, reduction, True)
    torch.library.opcheck(op.fused, (x, *given, *numbers, impl))


@pytest.mark.parametrize("impl", [*IMPLS, "torch"], indirect=True)
@pytest.mark.parametrize("form", ["dense", "tail_mix"])
@pytest.mark.parametrize("learned", [True, False])
def test_targets_are_constants(make, impl, form, learned):
    """Also where they want gradients, as when student and teacher are exchanged: they get none, and
    without a student who learns there is nothing to go back to."""
    x, targets, labels = inputs(make, impl, form)
    given = {"impl": impl, "temperature": 2.0}
    right = gradient(distillation_loss(x, targets, labels, **given), x)
    fields = {name: getattr(targets, name, None) for name in ("logits", "logit", "tail")}
    wanting = {n: v.detach().requires_grad_() for n, v in fields.items() if v is not None}
    targets, x = replace(targets, **wanting), x.detach().requires_grad_(learned)
    parts = distillation_loss(x, targets, labels, return_parts=True, **given)
    assert parts.loss.requires_grad == learned
    if not learned:
        with pytest.raises(RuntimeError, match="does not require grad"):
            parts.loss.backward()
        return
    parts.loss.backward()
    torch.testing.assert_close(x.grad, right)
    assert all(value.grad is None for value in wanting.values())


@pytest.mark.parametrize(
    ("backend", "form"),
    [("aot_eager", "dense"), ("aot_eager", "tail_mix"), ("inductor", "tail_mix")],
)
def test_compiles_into_one_graph(make, impl, backend, form):
    """The inductor sees one operator, whatever its arguments are."""
    if backend == "inductor" and not (shutil.which("g++") or shutil.which("clang++")):
        pytest.skip("no C++ compiler")
    x, targets, labels = inputs(make, impl, form)

    def step(x):
        return distillation_loss(x * 2, targets, labels, temperature=2.0, impl=impl) * 3

    torch.compiler.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loss = torch.compile(step, fullgraph=True, backend=backend)(x)
        found = gradient(loss, x)
    torch.testing.assert_close(loss, step(x))
    torch.testing.assert_close(found, gradient(step(x), x))


def test_compiles_by_default(make):
    """`auto` is chosen while the graph is traced."""
    x, targets, labels = inputs(make, "torch")
    step = torch.compile(distillation_loss, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(step(x, targets, labels), distillation_loss(x, targets, labels))


def test_fake_and_meta_tensors_have_the_shapes(make, impl):
    from torch._subclasses.fake_tensor import FakeTensorMode

    for reduction, shape in (("mean", ()), ("none", (B,))):
        with FakeTensorMode() as mode:
            x, t = (torch.empty(B, C, dtype=torch.bfloat16, device=device(impl)) for _ in range(2))
            x.requires_grad_()
            parts = distillation_loss(x, t, reduction=reduction, return_parts=True, impl=impl)
            assert parts.loss.shape == shape
            assert parts.loss.dtype == torch.float32
            assert parts.kl.shape == parts.has_target.shape == (B,)
            assert gradient(parts.loss, x).dtype == torch.bfloat16
            assert mode is not None
    x = torch.empty(B, C, device="meta")
    assert distillation_loss(x, x, reduction="none").shape == (B,)
    with pytest.raises(BadConfig, match="logits on meta"):
        distillation_loss(x, x, impl=impl)


def test_autocast(make, impl):
    x, targets, labels = inputs(make, impl)
    layer = torch.nn.Linear(C, C).to(x.device)
    with torch.autocast(x.device.type, torch.bfloat16):
        logits = layer(x)
        assert logits.dtype == torch.bfloat16
        loss = distillation_loss(logits, targets, labels, impl=impl)
    assert loss.dtype == torch.float32
    loss.backward()
    right = distillation_loss(logits.detach().double(), targets, labels, impl="torch")
    torch.testing.assert_close(loss.double(), right, rtol=1e-5, atol=1e-6)
    assert layer.weight.grad.any()


# --- backward


@pytest.mark.parametrize("form", FORMS)
def test_upstream_factors(make, impl, form):
    x, targets, labels = inputs(make, impl, form)
    vector = torch.linspace(-1, 2, B, device=x.device)
    for reduction, factor in (("mean", 3), ("sum", -0.5), ("none", vector), ("none", 1)):
        losses = [
            distillation_loss(x, targets, labels, reduction=reduction, impl=which)
            for which in ("torch", impl)
        ]
        torch.testing.assert_close(losses[1], losses[0])
        right, found = (gradient(loss, x, factor) for loss in losses)
        torch.testing.assert_close(found, right, rtol=1e-5, atol=1e-6)


def test_the_factor_is_not_rounded_to_the_dtype_of_the_logits(make, impl):
    x, targets, labels = inputs(make, impl)
    x = x.detach().bfloat16().requires_grad_()
    factor = 1 + 2**-9  # 1 in bfloat16
    found = gradient(distillation_loss(x, targets, labels, impl=impl), x, factor)
    same = distillation_loss(x, targets, labels, impl=impl, weight=factor, label_weight=factor)
    torch.testing.assert_close(found, gradient(same, x), rtol=0, atol=0)
    assert not torch.equal(found, gradient(distillation_loss(x, targets, labels, impl=impl), x))


@pytest.mark.parametrize(
    ("impl", "dtype", "factor"),
    pairwise(IMPLS, (torch.float16, torch.bfloat16), (1.0, 3.7)),
    indirect=["impl"],
)
def test_a_compiled_half_precision_gradient_is_rounded_once(make, impl, dtype, factor):
    x, targets, labels = inputs(make, impl)
    x = x.detach().to(dtype).requires_grad_()

    def step(x):
        return distillation_loss(x, targets, labels, temperature=2.0, impl=impl) * factor

    torch.compiler.reset()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiled = torch.compile(step, fullgraph=True, backend="aot_eager")(x)
    torch.testing.assert_close(gradient(compiled, x), gradient(step(x), x), rtol=0, atol=0)


@pytest.mark.parametrize("form", FORMS)
def test_opcheck_of_the_gradient(make, impl, form):
    x, targets, labels = inputs(make, impl, form)
    x = x.detach().half()
    given = (*teacher_tensors(targets), labels, *[None] * 6)
    numbers = (2.0, 1.0, 1.0, 0.1, 0.0, -100, 0, "mean", True)
    *_, grad, counts = op.fused(x, *given, *numbers, impl)
    factor = torch.tensor(3.7, device=x.device)
    torch.library.opcheck(op.scaled_gradient, (grad, counts, factor, x, *given, *numbers, impl))


def test_a_scaled_loss_keeps_small_float16_gradients(make, impl):
    """A loss scaler's factor comes before the rounding to float16, as in PyTorch."""
    x, targets, _ = inputs(make, impl)
    x = x.detach().half().requires_grad_()
    gradients = []
    for which in ("torch", impl):
        loss = distillation_loss(x, targets, impl=which, weight=1e-8)
        gradients.append(gradient(loss, x, 65536.0))
    assert not gradient(distillation_loss(x, targets, impl=impl, weight=1e-8), x).any()
    assert gradients[0].any()
    torch.testing.assert_close(gradients[1], gradients[0], rtol=2e-3, atol=1e-7)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_second_backward_and_a_double_one_are_refused(make, impl, overwrite):
    x, targets, labels = inputs(make, impl)
    loss = distillation_loss(x * 1, targets, labels, impl=impl, overwrite_logits=overwrite)
    factor = torch.nn.Parameter(torch.ones((), device=x.device))
    torch.autograd.grad(loss, x, factor, retain_graph=True)
    with pytest.raises(BadConfig, match=r"a second time.*impl='torch'"):
        torch.autograd.grad(loss, x, factor)
    for factor in (1.0, 0.5):  # the gradient is scaled in place, which autograd would blame
        loss = distillation_loss(x * 1, targets, labels, impl=impl, overwrite_logits=overwrite)
        (loss * factor).backward(retain_graph=True)
        with pytest.raises(BadConfig, match=r"a second time.*impl='torch'"):
            (loss * factor).backward()
    rows = distillation_loss(
        x * 1, targets, labels, impl=impl, overwrite_logits=overwrite, reduction="none"
    )
    with pytest.raises(BadConfig, match=r"a batch of backward passes.*impl='torch'"):
        torch.autograd.grad(rows, x, torch.eye(B, device=x.device), is_grads_batched=True)
    loss = distillation_loss(x * 1, targets, labels, impl=impl, overwrite_logits=overwrite)
    with pytest.raises(BadConfig, match=r"double backward.*impl='torch'"):
        torch.autograd.grad(loss, x, create_graph=True)


@pytest.mark.parametrize("half", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("form", ["dense", "tail_mix"])
def test_a_teacher_of_inference_mode_is_a_constant_as_any(make, impl, form, half):
    x, targets, labels = inputs(make, impl, form)
    x = x.detach().to(half).requires_grad_()
    fields = {name: getattr(targets, name, None) for name in ("logits", "index", "logit", "tail")}
    with torch.inference_mode():
        inferred = {n: v.clone() for n, v in fields.items() if v is not None}
        given = labels.clone()
    losses = [
        distillation_loss(x, t, y, impl=impl, temperature=2.0)
        for t, y in ((replace(targets, **inferred), given), (targets, labels))
    ]
    with torch.inference_mode():  # a buffer that the teacher writes its next answer to
        for value in inferred.values():
            value.zero_()
    found, right = (gradient(loss, x, 0.5) for loss in losses)
    assert torch.equal(found, right)
    assert right.any()


def test_logits_that_share_memory_with_their_teacher_are_not_written_over(make, impl):
    """The gradient of a row would be read as the teacher of another."""
    x, _, labels = inputs(make, impl)
    given = {"impl": impl, "overwrite_logits": True}
    rows = torch.arange(B - 1, -1, -1, device=x.device)
    whole = torch.cat([x, x]) * 1
    student = whole[:B]
    for teacher in (student.detach(), whole.detach()[1 : B + 1]):
        with pytest.raises(BadConfig, match="share memory with the teacher can't be written over"):
            distillation_loss(student, teacher, labels, rows=rows, **given)
    wide = torch.cat([x, x])
    near, far = wide[:B], wide[B:].detach()  # side by side is not shared
    loss = distillation_loss(near, far, labels, rows=rows, **given)
    right = gradient(distillation_loss(x, x.detach(), labels, rows=rows, impl=impl), x)
    assert torch.equal(gradient(loss, x), right)
    columns = torch.cat([x, x], 1)
    loss = distillation_loss(columns[:, :C], columns[:, C:].detach(), labels, rows=rows, **given)
    assert torch.equal(gradient(loss, x), right)
    row = x[:1].repeat(1, 2)[:, :C]
    alone = torch.as_strided(row, (1, C), (0, 1))  # a batch of one may have any stride
    with pytest.raises(BadConfig, match="share memory with the teacher"):
        distillation_loss(alone, row.detach(), labels[:1], **given)
    near = columns[:, C - 1 : 2 * C - 1].detach()
    with pytest.raises(BadConfig, match="share memory with the teacher"):
        distillation_loss(columns[:, :C], near, labels, **given)


def transforms():
    """Derivatives of a function of the logits, by their names."""
    from torch import func

    return {
        "grad": lambda f, x: func.grad(f)(x),
        "jvp": lambda f, x: func.jvp(f, (x,), (x.cos(),))[1],
        "hessian": lambda f, x: func.hessian(f)(x),
        "vmap": lambda f, x: func.vmap(f)(x.expand(3, B, C)),
    }


@pytest.mark.parametrize("form", ["topk_mix", "tail"])
def test_gradients_of_each_sample_with_targets_of_its_own(make, form):
    x, targets, _ = inputs(make, "numba", form)
    parts = {n: v.movedim(1, 0) for n, v in vars(targets).items() if v is not None}

    def one(logits, own):
        return distillation_loss(
            logits[None], TopKTargets(**{n: v[:, None] for n, v in own.items()})
        )

    found = torch.func.vmap(torch.func.grad(one))(x.detach(), parts)
    right = [
        torch.func.grad(one)(row, {n: v[i] for n, v in parts.items()})
        for i, row in enumerate(x.detach())
    ]
    torch.testing.assert_close(found, torch.stack(right))
    picked = torch.func.vmap(lambda z, i: distillation_loss(z[None], targets, rows=i[None]))
    alone = picked(x.detach(), torch.arange(B))
    torch.testing.assert_close(alone, distillation_loss(x.detach(), targets, reduction="none"))


@pytest.mark.parametrize("name", ["grad", "jvp", "hessian", "vmap"])
def test_transforms_are_for_torch(make, impl, name):
    x, targets, labels = inputs(make, impl)
    x, transform = x.detach(), transforms()[name]
    right, found = (
        transform(lambda x, how=how: distillation_loss(x, targets, labels, impl=how), x)
        for how in ("torch", "auto")
    )
    torch.testing.assert_close(found, right)
    assert right.any()
    with pytest.raises(BadConfig, match=r"a transform of torch.func .*impl='torch'"):
        transform(lambda x: distillation_loss(x, targets, labels, impl=impl), x)


def test_a_tangent_is_never_taken_for_0(make, impl):
    from torch.autograd import forward_ad

    x, targets, labels = inputs(make, impl)
    x = x.detach()
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(x, x.cos())
        tangent = forward_ad.unpack_dual(distillation_loss(dual, targets, labels)).tangent
        with pytest.raises(BadConfig, match=r"forward-mode AD.*impl='torch'"):
            distillation_loss(dual, targets, labels, impl=impl)
        distillation_loss(x, targets, labels, impl=impl)  # which has no tangent
    x.requires_grad_()
    right = gradient(distillation_loss(x, targets, labels, impl=impl), x)
    torch.testing.assert_close(tangent, (right * x.cos()).sum())


@pytest.mark.parametrize("impl", [*IMPLS, "torch"], indirect=True)
def test_a_graph_holds_for_any_batch(make, impl):
    from torch._dynamo.testing import CompileCounterWithBackend

    x, targets, labels = inputs(make, impl)
    counter = CompileCounterWithBackend("aot_eager")
    torch.compiler.reset()

    def step(x, t, labels):
        return distillation_loss(x, t, labels, impl=impl)

    fast = torch.compile(step, fullgraph=True, dynamic=True, backend=counter)
    counts = []
    for size in (4, 3, 2, 4):
        given = tuple(value[:size].clone() for value in (x.detach(), targets.logits[0], labels))
        given[0].requires_grad_()
        torch.testing.assert_close(fast(*given), step(*given))
        counts.append(counter.frame_count)
    assert counts == counts[:1] * 4


@pytest.mark.parametrize("impl", [*IMPLS, "torch"], indirect=True)
def test_a_graph_holds_for_any_temperature_and_weight(make, impl):
    from torch._dynamo.testing import CompileCounterWithBackend

    x, targets, labels = inputs(make, impl)
    counter = CompileCounterWithBackend("aot_eager")
    torch.compiler.reset()

    def step(temperature, weight):
        return distillation_loss(
            x, targets, labels, temperature=temperature, weight=weight, impl=impl
        )

    fast = torch.compile(step, fullgraph=True, backend=counter)
    counts = []
    for values in ((2.0, 0.5), (3.0, 0.25), (4.0, 0.125), (2.5, 0.75), (5.0, 2.0)):
        torch.testing.assert_close(fast(*values), step(*values))
        counts.append(counter.frame_count)
    assert len(set(counts[1:])) == 1  # the second value tells that there will be others


@pytest.mark.parametrize("impl", [*IMPLS, "torch"], indirect=True)
def test_an_exported_graph_holds_for_any_batch(make, impl):
    x, targets, labels = inputs(make, impl)

    class Loss(torch.nn.Module):
        def forward(self, x, t, labels):
            return distillation_loss(x, t, labels, impl=impl)

    batch = torch.export.Dim("batch", min=2, max=100)
    given = (x.detach(), targets.logits[0], labels)
    shapes = ({0: batch},) * 3
    exported = torch.export.export(Loss(), given, dynamic_shapes=shapes).module()
    fewer = tuple(value[:3] for value in given)
    torch.testing.assert_close(exported(*fewer), Loss()(*fewer))


@pytest.mark.parametrize("view", [False, True])
def test_a_parameter_is_never_written_over(make, impl, view):
    x, targets, labels = inputs(make, impl)
    before = x.detach().clone()
    given = x.view(B, C) if view else x
    with pytest.raises(BadConfig, match="a leaf of autograd"):
        distillation_loss(given, targets, labels, impl=impl, overwrite_logits=True)
    assert torch.equal(x.detach(), before)


@pytest.mark.parametrize("form", FORMS)
def test_the_gradient_goes_over_the_logits(make, impl, form):
    x, targets, labels = inputs(make, impl, form)
    right = gradient(distillation_loss(x, targets, labels, impl="torch"), x)
    logits = x * 1
    logits.retain_grad()
    loss = distillation_loss(logits, targets, labels, impl=impl, overwrite_logits=True)
    torch.testing.assert_close(logits.detach(), right)
    loss.backward()
    torch.testing.assert_close(x.grad, right)


def test_a_graph_overwrites_nothing_and_does_not_break_for_it(make, impl):
    x, targets, labels = inputs(make, impl)

    def step(x):
        return distillation_loss(x * 1, targets, labels, impl=impl, overwrite_logits=True)

    loss = torch.compile(step, fullgraph=True, backend="aot_eager")(x)
    right = distillation_loss(x, targets, labels, impl=impl)
    torch.testing.assert_close(gradient(loss, x), gradient(right, x))


def test_a_single_logit_shares_memory_with_none(make, impl):
    x = make.randn(1, 1, dtype=torch.float32).requires_grad_()
    loss = distillation_loss(x * 1, x.detach(), impl=impl, overwrite_logits=True)
    assert gradient(loss, x) == 0


def test_who_saved_the_logits_gets_an_error_not_wrong_numbers(make, impl):
    x, targets, labels = inputs(make, impl)
    loss = distillation_loss(x.exp(), targets, labels, impl=impl, overwrite_logits=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_without_a_gradient_wanted_there_is_none(make, impl, monkeypatch):
    x, targets, labels = inputs(make, impl)
    seen = []
    compute = op.compute
    monkeypatch.setattr(op, "compute", lambda *a: seen.append(compute(*a)) or seen[-1])
    expected = distillation_loss(x, targets, labels, impl=impl)
    before = x.detach().clone()
    with torch.no_grad():
        loss = distillation_loss(x, targets, labels, impl=impl, overwrite_logits=True)
    assert [tuple(out.grad.shape) for out in seen] == [(B, C), (0, C)]
    assert torch.equal(x.detach(), before)
    torch.testing.assert_close(loss, expected.detach())
    assert not loss.requires_grad


# --- the choice


def hide(monkeypatch, *packages):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name in packages else find(name, *a)
    )


def test_choice_and_its_reason(make, monkeypatch):
    x = make.randn(B, C, dtype=torch.float32)
    if importlib.util.find_spec("numba"):
        assert choose(x) == ("numba", "the logits are on the CPU")  # never Triton's interpreter
    assert choose(x.double()) == ("torch", "float64 logits")
    assert choose(x[:0]) == ("torch", "empty logits")
    assert choose(x, impl="torch") == ("torch", "asked for")
    with pytest.raises(BadConfig, match=r"impl='triton'.*float64 logits.*impl='torch'"):
        choose(x.double(), impl="triton")
    with pytest.raises(BadConfig, match="unknown impl"):
        choose(x, impl="cuda")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(BadConfig, match="logits on cpu"):
        choose(x, impl="triton")
    hide(monkeypatch, "numba", "triton")
    assert choose(x) == ("torch", "numba is not installed")
    for name, extra in (("triton", "gpu"), ("numba", "cpu")):
        with pytest.raises(MissingExtra, match=extra):
            choose(x, impl=name)


def test_torch_does_what_the_others_do_not(make):
    x = make.randn(B, C).requires_grad_()
    loss = distillation_loss(x, make.randn(B, C, seed=1))
    assert loss.dtype == torch.float64
    (first,) = torch.autograd.grad(loss, x, create_graph=True)
    assert gradient(first**2, x).any()
    with pytest.raises(BadConfig, match=r"write over the logits.*float64"):
        distillation_loss(x, make.randn(B, C, seed=1), overwrite_logits=True)


def test_torch_is_all_it_takes():
    """With numba and Triton absent, and nothing of theirs imported."""
    code = (
        "import sys\n"
        "sys.modules['numba'] = sys.modules['triton'] = None\n"
        "import torch\n"
        "from antcache.kernels import choose, distillation_loss\n"
        "x = torch.ones(2, 3, requires_grad=True)\n"
        "loss = distillation_loss(x, torch.zeros(2, 3), torch.tensor([0, 1]))\n"
        "loss.backward()\n"
        "assert abs(loss.item() - 1.0986123) < 1e-6 and x.grad.any()\n"
        "print(*choose(x), sep='|')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "torch|numba is not installed"


def test_importing_loads_neither_triton_nor_numba():
    code = "import sys, antcache.kernels; print({'triton', 'numba'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
