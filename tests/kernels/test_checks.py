"""Every wrong argument is refused in words that name it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from antcache.errors import BadConfig
from antcache.kernels import (
    DenseTargets,
    TopKTargets,
    distillation_loss,
    distillation_loss_linear,
)

B, C, M = 5, 7, 2
TOO_MANY = TopKTargets(index=torch.arange(C + 1).expand(1, B, -1), logit=torch.zeros(1, B, C + 1))
MIX = DenseTargets(logits=torch.zeros(M, B, C))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"logits": torch.zeros(B)}, "logits of a wrong shape"),
        ({"logits": torch.zeros(B, C).long()}, "logits of a wrong shape or dtype"),
        ({"temperature": 0.0}, "impossible temperature"),
        ({"temperature": math.inf}, "impossible temperature"),
        ({"temperature": "2"}, "impossible temperature"),
        ({"temperature": torch.tensor(2)}, "temperature of a wrong shape, dtype or device"),
        ({"temperature": torch.ones(B + 1)}, r"temperature of a wrong.*\(\) or \(5,\)"),
        ({"weight": torch.ones(1, B)}, "weight of a wrong shape"),
        ({"beta": 1.5}, "impossible beta"),
        ({"beta": torch.tensor(0.5)}, "impossible beta"),
        ({"targets": None, "beta": 0.5}, "no effect without targets"),
        ({"targets": None, "temperature": torch.ones(B)}, "no effect without targets"),
        ({"ignore_index": 1.0}, "ignore_index must be a whole number"),
        ({"num_classes": C + 1}, "impossible num_classes: expected 1 to 7"),
        ({"num_classes": 0}, "impossible num_classes"),
        ({"num_classes": np.bool_(True)}, "num_classes must be a whole number"),
        ({"num_classes": torch.tensor(5)}, "num_classes must be a whole number"),
        ({"num_classes": 5.0}, "num_classes must be a whole number"),
        ({"num_classes": 5, "targets": torch.zeros(B, 6)}, "differ in classes: expected 5"),
        ({"num_classes": 5, "class_weight": torch.ones(C)}, "class_weight of a wrong shape"),
        ({"normaliser": 3.0}, "normaliser must be a tensor: found float"),
        ({"normaliser": torch.ones(3)}, r"normaliser of a wrong shape.*\(\) or \(2,\)"),
        ({"normaliser": torch.ones(()), "reduction": "sum"}, "no effect but for the mean"),
        ({"logits": [[0.0, 1.0]]}, "logits must be a tensor: found list"),
        ({"logits": np.zeros((B, C), np.float32)}, "logits must be a tensor: found ndarray"),
        ({"logits": None}, "logits must be a tensor: found NoneType"),
        ({"labels": [0] * B}, "labels must be a tensor: found list"),
        ({"labels": np.zeros(B, np.int64)}, r"ndarray \(torch.as_tensor makes one"),
        ({"rows": [0] * B}, "rows must be a tensor"),
        ({"class_weight": [1.0] * C}, "class_weight must be a tensor"),
        ({"targets": MIX, "teacher_weight": torch.tensor([1.0, -1.0])}, "teacher_weight below 0"),
        ({"targets": MIX, "teacher_weight": [1.0] * M}, "teacher_weight must be a tensor"),
        ({"targets": [[0.0] * C] * B}, "targets must be a tensor"),
        ({"targets": torch.zeros(B).long()}, "targets must be floating.*third argument"),
        ({"weight": -1.0}, "impossible weight"),
        ({"label_weight": math.nan}, "impossible label_weight"),
        ({"label_smoothing": 1.5}, "impossible label_smoothing"),
        ({"reduction": "batchmean"}, "unknown reduction"),
        ({"targets": None, "labels": None}, "neither targets nor labels"),
        ({"targets": None, "rows": torch.zeros(B).long()}, "no effect without targets"),
        ({"labels": None, "class_weight": torch.ones(C)}, "no effect without labels"),
        ({"labels": torch.zeros(B)}, "labels of a wrong shape"),
        ({"labels": torch.zeros(B + 1).long()}, "labels of a wrong shape"),
        ({"class_weight": torch.ones(C + 1)}, "class_weight of a wrong shape"),
        ({"rows": torch.zeros(B, 1).long()}, "rows of a wrong shape"),
        ({"targets": torch.zeros(B + 1, C)}, "one teacher row per batch row"),
        ({"targets": torch.zeros(B, C + 1)}, "differ in classes"),
        ({"targets": TOO_MANY}, "k of at most 7"),
        ({"targets": torch.zeros(0, C), "rows": torch.zeros(B).long()}, "hold no row"),
        ({"teacher_weight": torch.ones(2)}, "teacher_weight of a wrong shape"),
        ({"targets": MIX, "teacher_weight": torch.ones(M + 1)}, "teacher_weight of a wrong shape"),
        ({"targets": torch.zeros(M, B, C)}, r"of one teacher.*found \(2, 5, 7\) .*DenseTargets\("),
        ({"normaliser": torch.ones(3).long()}, r"expected floating or integer \(\) or \(2,\)"),
        ({"logits": torch.empty(B, C, device="meta"), "labels": None}, "another device"),
    ],
)
def test_bad_arguments_are_named(change, words):
    arguments = {
        "logits": torch.zeros(B, C),
        "targets": torch.zeros(B, C),
        "labels": torch.zeros(B).long(),
    }
    with pytest.raises(BadConfig, match=words):
        distillation_loss(**{**arguments, **change})


@pytest.mark.parametrize("kind", [np.int64, np.int32, np.uint8])
def test_whole_numbers_may_be_those_of_numpy(kind):
    logits, labels = torch.randn(B, C), torch.arange(B)
    given = {"num_classes": 6, "ignore_index": 3}
    expected = distillation_loss(logits, logits.flip(0), labels, **given)
    given = {name: kind(value) for name, value in given.items()}
    assert torch.equal(distillation_loss(logits, logits.flip(0), labels, **given), expected)
    hidden, classifier, targets = torch.randn(B, 3), torch.randn(C, 3), torch.randn(B, C)
    found, right = (
        distillation_loss_linear(hidden, classifier, None, targets, labels, chunk_rows=each)
        for each in (kind(2), 2)
    )
    assert torch.equal(found, right)


LAYOUTS = {
    "sparse_coo": torch.Tensor.to_sparse,
    "mkldnn": lambda value: value.float().to_mkldnn(),
    "nested": lambda value: torch.nested.nested_tensor(list(value)),
    "jagged": lambda value: torch.nested.nested_tensor([value], layout=torch.jagged),
}


CALLS = [
    (
        distillation_loss,
        {
            "logits": torch.zeros(B, C),
            "targets": torch.zeros(B, C),
            "labels": torch.zeros(B).long(),
            "rows": torch.zeros(B).long(),
            "class_weight": torch.ones(C),
            "teacher_weight": torch.ones(1),
            "normaliser": torch.ones(2),
            "temperature": torch.ones(B),
            "weight": torch.ones(B),
        },
    ),
    (
        distillation_loss_linear,
        {
            "hidden": torch.zeros(B, 3),
            "classifier": torch.zeros(C, 3),
            "bias": torch.zeros(C),
            "labels": torch.zeros(B).long(),
        },
    ),
    (
        TopKTargets,
        {
            "index": torch.arange(3).repeat(1, B, 1),
            "logit": torch.zeros(1, B, 3),
            "tail": torch.full((1, B), -1.0),
            "valid": torch.ones(B) > 0,
        },
    ),
]
"""Everything that is given as a tensor."""


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "name",
    list(dict.fromkeys(name for _, given in CALLS for name in given)),
)
def test_tensors_of_other_layouts_are_refused(name, layout):
    call, given = next(one for one in CALLS if name in one[1])
    odd = {**given, name: LAYOUTS[layout](given[name])}
    with pytest.raises(BadConfig, match=r"must be a dense tensor: found .* \(to_dense, or"):
        call(**odd)


@pytest.mark.parametrize("impl", ["auto", "torch", "numba", "triton"])
@pytest.mark.parametrize("targets", [None, torch.zeros(B, C), MIX])
def test_class_weights_are_constants_for_everybody(impl, targets):
    pytest.importorskip("torch" if impl == "auto" else impl)
    weight = torch.ones(C, requires_grad=True)
    given = {"class_weight": weight, "label_smoothing": 0.1, "impl": impl}
    logits, labels = torch.zeros(B, C, requires_grad=True), torch.zeros(B).long()
    words = r"a gradient is wanted for the class_weight \(`class_weight` is a constant"
    with pytest.raises(BadConfig, match=words):
        distillation_loss(logits, targets, labels, **given)
    with pytest.raises(BadConfig, match=words):
        distillation_loss_linear(
            torch.zeros(B, 3), torch.zeros(C, 3), None, targets, labels, **given
        )
    with torch.no_grad():
        assert distillation_loss(logits, targets, labels, **given).isfinite()


@pytest.mark.parametrize("shape", [(2, 3, C), (2, 1, 3, C)])
def test_what_is_given_per_row_has_the_leading_axes(shape):
    lead = shape[:-1]
    logits, labels = torch.zeros(shape), torch.zeros(lead).long()
    for change in (
        {"labels": labels.flatten()},
        {"rows": labels.flatten()},
        {"temperature": torch.ones(6)},
        {"weight": torch.ones(6)},
        {"targets": MIX, "teacher_weight": torch.ones(6, M)},
    ):
        name = next(name for name in reversed(change))
        given = {"targets": torch.zeros(shape), "labels": labels, **change}
        with pytest.raises(BadConfig, match=f"{name} of a wrong shape"):
            distillation_loss(logits, **given)
    with pytest.raises(BadConfig, match="expected 6, found 5"):
        distillation_loss(logits, torch.zeros(B, C))
