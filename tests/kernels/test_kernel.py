"""The Triton kernels against float64 truth: by the interpreter, or on a GPU where there is one.

What an error may be is said in `kernel_cases.py`; odd values are those of `test_kernel_values.py`.
"""

from __future__ import annotations

from itertools import product

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from antcache.errors import BadConfig
from antcache.kernels import DenseTargets, TopKTargets, choose, distillation_loss

pytest.importorskip("triton")
from kernel_cases import (
    DTYPES,
    FORMS,
    OFFSETS,
    SETTINGS,
    arguments,
    check,
    check_together,
    evaluate,
    gaussian,
    pairwise,
    teacher,
    to,
)

TEMPERATURES = (0.5, 1.0, 2.0, 5.0, 10.0)
CLASSES = (2, 3, 106, 125, 352, 1000, 2513, 3806, 11000)
LONG = (32000, 131072)
"""More segments of the same kernel, too slow for the interpreter but for one case of each."""


def run(device, dtype, form, temperature, classes, offset, case, batch):
    labels, given = arguments(case, form, batch, classes)
    given["temperature"] = temperature if form != "none" else 1.0
    x = (gaussian(batch, classes, seed=2) + offset).to(dtype)
    factor = torch.tensor(1.0 if case in ("plain", "in_place") else 3.7)
    if case == "per_row":
        factor = torch.linspace(0.5, 2, batch)
    targets = teacher(form, batch + 2, classes)
    given = {name: to(value, device) for name, value in given.items()}
    overwrite = case == "in_place"
    check(
        *(to(v, device) for v in (x, targets, labels)),
        given,
        to(factor, device),
        overwrite_logits=overwrite,
    )


GRID = (DTYPES, FORMS, TEMPERATURES, CLASSES, OFFSETS, SETTINGS)


def name_of(value):
    return str(value).removeprefix("torch.")


@pytest.mark.slow
@pytest.mark.parametrize(("row"), pairwise(*GRID), ids=lambda r: "-".join(map(name_of, r)))
def test_no_less_exact_than_the_composition(device, row):
    """Long rows, of which a program has one or a few, are fewer: still several programs."""
    run(device, *row, batch=2 if row[3] > 4000 else 5 if row[3] > 352 else 9)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["dense", "tail"])
@pytest.mark.parametrize("classes", LONG)
def test_as_many_classes_as_a_language_model_has(device, form, classes):
    run(device, torch.float32, form, 2.0, classes, 0.0, "plain", batch=1)


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("dtype", DTYPES, ids=name_of)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("classes", CLASSES + LONG)
def test_full_grid(dtype, form, classes):
    for temperature, offset, case in product(TEMPERATURES, OFFSETS, SETTINGS):
        run("cuda", dtype, form, temperature, classes, offset, case, batch=65)


@pytest.mark.gpu
@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("transposed", [False, True])
def test_more_than_2_to_31_logits(transposed):
    batch, classes = 70_001, 32_000
    x = torch.zeros(classes, batch, dtype=torch.bfloat16, device="cuda").T if transposed else None
    x = torch.zeros(batch, classes, dtype=torch.bfloat16, device="cuda") if x is None else x
    x[-1] = gaussian(classes, seed=1).to(x)
    last = gaussian(1, classes, seed=2).cuda()
    rows = torch.full((batch,), -1, device="cuda")
    rows[-1] = 0
    given = {"rows": rows, "temperature": 2.0}
    x.requires_grad_()
    loss = distillation_loss(x, last, impl="triton", **given)
    loss.backward()
    alone = x.detach()[-1:].clone().requires_grad_()
    right = distillation_loss(alone, last, temperature=2.0, impl="torch")
    right.backward()
    torch.testing.assert_close(loss, right)
    torch.testing.assert_close(x.grad[-1:], alone.grad)
    assert not x.grad[:-1].any()


@pytest.mark.slow
@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@example(
    seed=0,
    batch=1,
    classes=2,
    form="tail",
    dtype=DTYPES[0],
    t=1.0,
    case="plain",
    spread=0.0,
    factor=1.0,
)
@example(
    seed=0,
    batch=27,
    classes=122,
    form="dense_mix",
    dtype=DTYPES[0],
    t=6.0,
    case="masks",
    spread=0.0,
    factor=1.0,
)
@given(
    seed=st.integers(0, 9999),
    batch=st.integers(1, 12),
    classes=st.integers(2, 300),
    form=st.sampled_from(FORMS),
    dtype=st.sampled_from(DTYPES),
    t=st.floats(0.5, 10),
    case=st.sampled_from(SETTINGS),
    spread=st.floats(0, 30),
    factor=st.sampled_from([1.0, -0.3, 3.7, 65536.0]),
)
def test_any_shape_and_values(device, seed, batch, classes, form, dtype, t, case, spread, factor):
    labels, given = arguments(case, form, batch, classes)
    x = (gaussian(batch, classes, seed=seed) * spread).to(dtype)
    given = {name: to(v, device) for name, v in (given | {"temperature": t}).items()}
    if form == "none":
        given["temperature"] = 1.0
    targets = teacher(form, batch + 2, classes, seed + 1)
    upstream = torch.tensor(factor, device=device)
    check(*(to(v, device) for v in (x, targets, labels)), given, upstream)


@pytest.mark.slow
@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    seed=st.integers(0, 9999),
    batch=st.integers(1, 12),
    classes=st.integers(2, 300),
    form=st.sampled_from(("none", "dense", "dense_mix")),
    dtype=st.sampled_from(DTYPES),
    spread=st.sampled_from([0.0, 0.01, 1.0, 10.0]),
    offset=st.sampled_from(OFFSETS),
    beta=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
    temperature=st.sampled_from(["one", "two", "number", "tensor", "rows"]),
    weight=st.sampled_from(["number", "tensor", "rows"]),
    padding=st.sampled_from([0, 1, 16, 40]),
    both=st.booleans(),
    normaliser=st.sampled_from([None, 3.5, (0.5, 20.0), (0.0, 2.0)]),
    labels=st.booleans(),
    case=st.sampled_from(SETTINGS),
    factor=st.sampled_from([1.0, -0.3, 65536.0]),
)
def test_any_settings_together(device, **drawn):
    check_together(device, **drawn)


# --- memory


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("classes", [13, 8193])
def test_strided_input(device, form, classes):
    """Transposed and sliced tensors, of the smallest integer types, give what copies give."""
    batch = 5 if classes < 256 else 3  # a program has one row that is so long
    labels, given = arguments("weighted", form, batch, 13)
    given["class_weight"] = torch.rand(classes).double()
    x, targets = gaussian(batch, classes, seed=3), teacher(form, batch + 2, classes)
    expected = evaluate(
        *(to(v, device) for v in (x, targets, labels)),
        torch.tensor(1.0, device=device),
        {k: to(v, device) for k, v in given.items()},
        impl="torch",
    )

    def scatter(v, dtype=None):
        """The same values, every other element of a transposed tensor."""
        v = v.to(device, dtype)
        out = v.new_zeros([2 * n for n in reversed(v.shape)]).permute(*reversed(range(v.ndim)))
        out = out[(slice(None, None, 2),) * v.ndim]
        return out.copy_(v)

    small = torch.uint8 if classes < 256 else torch.int16
    if isinstance(targets, DenseTargets):
        valid = torch.ones(batch + 2, dtype=torch.bool)
        targets = DenseTargets(logits=scatter(targets.logits), valid=scatter(valid))
    elif targets is not None:
        tail = None if targets.tail is None else scatter(targets.tail, torch.float64)
        targets = TopKTargets(
            index=scatter(targets.index, small), logit=scatter(targets.logit), tail=tail
        )
    for name in ("rows", "class_weight", "teacher_weight"):
        if name in given:
            given[name] = scatter(given[name], torch.int8 if name == "rows" else torch.float64)
    x = scatter(x).requires_grad_()
    loss = distillation_loss(x, targets, scatter(labels, torch.uint8), impl="triton", **given)
    (gradient,) = torch.autograd.grad(loss, x)
    torch.testing.assert_close(loss.double().cpu(), expected[0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradient.double().cpu(), expected[3], rtol=1e-4, atol=1e-6)

    # The gradient goes over strided logits as well.
    logits = scatter(x.detach().clone().requires_grad_() * 1)
    around = logits.detach().as_strided((1,), (1,), 1).clone()
    distillation_loss(
        logits, targets, scatter(labels), impl="triton", overwrite_logits=True, **given
    ).backward()
    torch.testing.assert_close(logits.detach().double().cpu(), expected[3], rtol=1e-4, atol=1e-6)
    assert torch.equal(logits.detach().as_strided((1,), (1,), 1), around)


def test_overlapping_logits_are_not_written_over(device):
    x = torch.zeros(1, 4, device=device, requires_grad=True).mul(1).expand(3, 4)
    with pytest.raises(BadConfig, match="share memory"):
        distillation_loss(x, torch.zeros(3, 4, device=device), impl="triton", overwrite_logits=True)


# --- counts, batches, repetition


@pytest.mark.parametrize("batch", [1, 33, 515])
def test_batches_beyond_one_block(device, batch):
    """One launch that counts for itself up to 512 rows, two beyond; rows that fill no program."""
    labels, given = arguments("masks", "dense", batch, 6)
    given["class_weight"] = torch.linspace(0.5, 2, 6)
    x, targets = gaussian(batch, 6, seed=1), teacher("dense", batch + 2, 6)
    inputs = [to(v, device) for v in (x, targets, labels)]
    given = {k: to(v, device) for k, v in given.items()}
    check(*inputs, given, torch.tensor(3.0, device=device))


def test_the_mean_over_no_row_is_zero(device):
    x = gaussian(5, 6, seed=1).to(device).requires_grad_()
    none = torch.full((5,), -1, device=device)
    loss = distillation_loss(
        *(x, gaussian(2, 6, seed=2).to(device), none), rows=none, ignore_index=-1, impl="triton"
    )
    loss.backward()
    assert loss == 0
    assert not x.grad.any()


def test_the_same_call_gives_the_same_bits(device):
    x = gaussian(70, 106, seed=1).to(device)
    given = {"labels": torch.arange(70, device=device), "temperature": 2.0, "impl": "triton"}
    first, *others = (distillation_loss(x, x.flip(0), **given) for _ in range(4))
    assert all(torch.equal(first, other) for other in others)


def test_a_captured_graph_has_a_counter_of_its_own(device):
    if device == "cpu":
        pytest.skip("graphs are captured on a GPU")
    x, t = gaussian(70, 106, seed=1).cuda(), gaussian(70, 106, seed=2).cuda()
    expected = distillation_loss(x, t, impl="triton")
    graphs = [torch.cuda.CUDAGraph() for _ in range(2)]
    losses = []
    for graph in graphs:
        with torch.cuda.graph(graph):
            losses.append(distillation_loss(x, t, impl="triton"))
    for graph in (*graphs[::-1], graphs[0]):
        graph.replay()
    torch.cuda.synchronize()
    assert all(torch.equal(loss, expected) for loss in losses)


def test_too_many_entries_are_refused_with_the_reason(device):
    index = torch.arange(2048, device=device)[None, None].repeat(1, 2, 1)
    targets = TopKTargets(index=index, logit=index.float())
    x = torch.zeros(2, 4096, device=device)
    with pytest.raises(BadConfig, match="1 x 2048 entries"):
        choose(x, targets, "triton")
    several = index[:, :, :256].repeat(5, 1, 1)
    with pytest.raises(BadConfig, match="5 x 256 entries"):
        choose(x, TopKTargets(index=several, logit=several.float()), "triton")
    several = several[:4]
    assert choose(x, TopKTargets(index=several, logit=several.float()), "triton").impl == "triton"
