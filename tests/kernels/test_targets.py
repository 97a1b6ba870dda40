"""Teacher forms: what they refuse, and that moving them keeps them."""

from __future__ import annotations

import math
from contextlib import nullcontext

import numpy as np
import pytest
import torch

from antcache.errors import BadConfig
from antcache.kernels import DenseTargets, TopKTargets


def index(*shape):
    return torch.zeros(*shape, dtype=torch.int32)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"logits": torch.zeros(3)}, "logits of a wrong shape"),
        ({"logits": torch.zeros(3, 4)}, r"expected \(teachers, rows, classes\).*value\[None\]"),
        ({"logits": torch.zeros(1, 3, 0)}, "logits of a wrong shape"),
        ({"logits": torch.zeros(0, 3, 4)}, "at least one teacher"),
        ({"logits": torch.zeros(1, 3, 4).int()}, "logits must be floating"),
        ({"logits": torch.zeros(1, 3, 4), "valid": torch.ones(3)}, "valid must be one bool"),
        ({"logits": torch.zeros(1, 3, 4), "valid": torch.ones(4) > 0}, "valid must be one bool"),
    ],
)
def test_bad_dense_targets(fields, words):
    with pytest.raises(BadConfig, match=words):
        DenseTargets(**fields)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"index": index(1, 3, 4), "logit": torch.zeros(1, 3, 5)}, "need one shape"),
        ({"index": torch.zeros(1, 3, 4), "logit": torch.zeros(1, 3, 4)}, "index must be integers"),
        (
            {"index": index(1, 3, 4), "logit": torch.zeros(1, 3, 4), "tail": torch.zeros(3)},
            "one number per teacher and row",
        ),
        (
            {"index": index(1, 3, 4), "logit": torch.zeros(1, 3, 4), "tail": index(1, 3)},
            "tail must be floating",
        ),
    ],
)
def test_bad_top_k_targets(fields, words):
    with pytest.raises(BadConfig, match=words):
        TopKTargets(**fields)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: DenseTargets([[[0.0]]]), "logits must be a tensor: found list"),
        (lambda: DenseTargets(np.zeros((1, 3, 4), np.float32)), "logits must be a tensor"),
        (lambda: TopKTargets(torch.zeros(1, 3, 4), index(1, 3, 4)), "logit must be floating"),
        (lambda: TopKTargets([[[0]]], torch.zeros(1, 1, 1)), "index must be a tensor"),
        (lambda: TopKTargets(index(1, 3, 4), torch.zeros(1, 3, 4), tail=[0.0]), "tail must be a"),
        (lambda: DenseTargets(torch.zeros(1, 3, 4), valid=[True] * 3), "valid must be a tensor"),
        (
            lambda: TopKTargets(index(1, 3, 4).to("meta"), torch.zeros(1, 3, 4)),
            "index on another device.*expected cpu, found meta.*to.device. moves all",
        ),
        (
            lambda: TopKTargets(
                index(1, 3, 4), torch.zeros(1, 3, 4), tail=torch.zeros(1, 3, device="meta")
            ),
            "tail on another device",
        ),
        (
            lambda: DenseTargets(torch.zeros(1, 3, 4), valid=torch.ones(3, device="meta") > 0),
            "valid on another device",
        ),
    ],
)
def test_wrong_types_and_devices(make, words):
    with pytest.raises(BadConfig, match=words):
        make()


ROWS = torch.tensor([[[0, 1], [2, 2], [1, 5]]])
"""Classes of a valid row, one that is named twice, one that there is not."""


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({}, "no such class.*expected 0 to 4, found 0 to 5"),
        ({"valid": [1, 1, 0]}, "a class is named twice.*valid row 1 of teacher 0"),
        ({"valid": [0, 1, 0]}, "a class is named twice.*valid row 0 of teacher 0"),
        ({"valid": [1, 0, 0]}, ""),
        ({"valid": [0, 0, 0]}, ""),
        ({"valid": [1, 0, 0], "logit": math.nan}, "logit: NaN or infinity"),
        ({"valid": [1, 0, 0], "logit": -math.inf}, "logit: no finite logit"),
        ({"valid": [1, 0, 0], "tail": 0.5}, "tail: tail above 0, or NaN"),
        ({"valid": [1, 0, 0], "tail": -0.5}, ""),
    ],
)
def test_values_are_looked_at_on_request(change, words):
    fields = {"logit": torch.zeros(1, 3, 2)}
    if "valid" in change:
        fields["valid"] = torch.tensor(change["valid"]) > 0
    if "logit" in change:
        fields["logit"][:, 0] = change["logit"]
    if "tail" in change:
        fields["tail"] = torch.full((1, 3), change["tail"])
    targets = TopKTargets(ROWS, **fields)
    with pytest.raises(BadConfig, match=words) if words else nullcontext():
        targets.check(5)


def test_values_of_dense_targets():
    logits = torch.zeros(2, 3, 4)
    logits[1, 2] = -math.inf
    DenseTargets(logits, valid=torch.tensor([True, True, False])).check()
    with pytest.raises(BadConfig, match="logits: no finite logit: found valid row 2 of teacher 1"):
        DenseTargets(logits).check()


def test_sizes_and_moving():
    dense = DenseTargets(logits=torch.zeros(2, 3, 4), valid=torch.ones(3) > 0)
    assert (dense.num_teachers, dense.num_rows) == (2, 3)
    for way in (True, False):
        assert dense.to("meta", non_blocking=way).valid.device.type == "meta"
    top_k = TopKTargets(index=index(1, 3, 2), logit=torch.zeros(1, 3, 2), tail=torch.zeros(1, 3))
    assert (top_k.num_teachers, top_k.num_rows) == (1, 3)
    moved = top_k.to("meta")
    assert {moved.index.device.type, moved.logit.device.type, moved.tail.device.type} == {"meta"}
