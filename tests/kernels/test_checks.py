"""Every wrong argument is refused in words that name it."""

from __future__ import annotations

import math

import pytest
import torch

from antcache.errors import BadConfig
from antcache.kernels import DenseTargets, TopKTargets, distillation_loss

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
        ({"temperature": torch.tensor(2.0)}, "impossible temperature"),
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
        ({"targets": torch.zeros(M, B, C)}, r"expected \(teachers, rows, classes\)"),
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
