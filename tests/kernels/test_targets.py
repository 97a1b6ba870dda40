"""Teacher forms: what they refuse, and that moving them keeps them."""

from __future__ import annotations

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


def test_sizes_and_moving():
    dense = DenseTargets(logits=torch.zeros(2, 3, 4), valid=torch.ones(3) > 0)
    assert (dense.num_teachers, dense.num_rows) == (2, 3)
    assert dense.to("meta").valid.device.type == "meta"
    top_k = TopKTargets(index=index(1, 3, 2), logit=torch.zeros(1, 3, 2), tail=torch.zeros(1, 3))
    assert (top_k.num_teachers, top_k.num_rows) == (1, 3)
    moved = top_k.to("meta")
    assert {moved.index.device.type, moved.logit.device.type, moved.tail.device.type} == {"meta"}
