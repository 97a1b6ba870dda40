"""The loss of classes that processes share, for what needs no second process: blocks, backward."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist

from antcache.errors import BadConfig
from antcache.kernels import distillation_loss_sharded, sharded

B, C = 6, 7
FORMS = ("none", "dense", "dense_mix", "topk", "topk_mix", "tail", "tail_mix")


def test_it_needs_processes():
    with pytest.raises(BadConfig, match="no group of processes"):
        distillation_loss_sharded(torch.zeros(2, 3), labels=torch.zeros(2).long())


@pytest.fixture
def alone() -> Iterator[None]:
    """A group of this process."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def own_call(make, name="dense"):
    call = {"labels": torch.arange(B), "temperature": 2.0}
    targets = None if name == "none" else make.form(name, rows=B)
    return make.randn(B, C).requires_grad_(), targets, call


@pytest.mark.parametrize("name", FORMS)
def test_blocks_of_rows_change_nothing(make, alone, monkeypatch, name):
    logits, targets, call = own_call(make, name)
    found = []
    for block in (sharded.BLOCK, 2 * C + 1):
        monkeypatch.setattr(sharded, "BLOCK", block)
        loss = distillation_loss_sharded(logits, targets, **call)
        found.append((loss, *torch.autograd.grad(loss, logits)))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_backward_runs_as_often_as_one_likes_but_not_through_itself(make, alone):
    logits, targets, call = own_call(make)
    parts = distillation_loss_sharded(logits, targets, return_parts=True, **call)
    assert not parts.ce.requires_grad
    assert not parts.kl.requires_grad
    first, second = (
        torch.autograd.grad(parts.loss, logits, retain_graph=True)[0] for _ in range(2)
    )
    assert torch.equal(first, second)
    with pytest.raises(BadConfig, match="double backward"):
        torch.autograd.grad(parts.loss, logits, create_graph=True)


def test_targets_are_constants(make, alone):
    """Also where they want gradients, as when student and teacher are exchanged."""
    logits, targets, call = own_call(make)
    targets.logits.requires_grad_()
    assert not distillation_loss_sharded(logits.detach(), targets, **call).requires_grad
    distillation_loss_sharded(logits, targets, **call).backward()
    assert logits.grad is not None
    assert targets.logits.grad is None


@pytest.mark.parametrize("what", ["logits", "teacher", "labels"])
def test_what_backward_reads_again_may_not_change(make, alone, what):
    logits, targets, call = own_call(make)
    given = logits * 1
    loss = distillation_loss_sharded(given, targets, **call)
    {"logits": given.detach(), "teacher": targets.logits, "labels": call["labels"]}[what].zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_without_gradient(make, alone):
    logits, targets, call = own_call(make)
    expected = distillation_loss_sharded(logits, targets, **call)
    with torch.no_grad():
        loss = distillation_loss_sharded(logits, targets, **call)
    assert not loss.requires_grad
    assert torch.equal(loss, expected)


def test_constants_are_constants_and_a_stranger_is_refused(make, alone):
    logits, targets, call = own_call(make)
    shapes = {"temperature": (), "weight": (), "normaliser": (), "teacher_weight": (1,)}
    for name, shape in {**shapes, "class_weight": logits.shape[1:]}.items():
        wanted = {"labels": call["labels"], name: torch.ones(shape, requires_grad=True)}
        with pytest.raises(BadConfig, match=f"a gradient is wanted for the {name}"):
            distillation_loss_sharded(logits, targets, **wanted)
    stranger: Any = dist.GroupMember.NON_GROUP_MEMBER
    with pytest.raises(BadConfig, match="this process is not in the group"):
        distillation_loss_sharded(logits, targets, group=stranger)


def test_whole_numbers_may_be_those_of_numpy(make, alone):
    logits, targets, call = own_call(make)
    expected = distillation_loss_sharded(logits, targets, offset=0, num_classes=C, **call)
    given = {"offset": np.int64(0), "num_classes": np.int32(C), "ignore_index": np.int8(-100)}
    assert torch.equal(distillation_loss_sharded(logits, targets, **given, **call), expected)


@pytest.mark.parametrize("name", FORMS)
def test_a_graph_that_is_compiled_ends_before_it(make, alone, name):
    """Nobody traces the communication: what is around the loss is compiled, the loss is not."""
    logits, targets, call = own_call(make, name)

    def step(logits):
        return distillation_loss_sharded(logits * 2, targets, **call) + 1

    expected = step(logits)
    (gradient,) = torch.autograd.grad(expected, logits)
    loss = torch.compile(step, backend="aot_eager")(logits)
    assert torch.equal(loss, expected)
    assert torch.equal(torch.autograd.grad(loss, logits)[0], gradient)


def test_a_graph_that_must_be_whole_says_what_it_can_not_hold(make, alone):
    logits, targets, call = own_call(make)

    def step(logits):
        return distillation_loss_sharded(logits, targets, **call)

    with pytest.raises(RuntimeError, match=r"`distillation_loss_sharded`.*should not be traced"):
        torch.compile(step, backend="aot_eager", fullgraph=True)(logits)


def test_no_classes_at_all_are_refused(make, alone):
    logits, targets, _ = own_call(make)
    for given in ({"num_classes": 0}, {"num_classes": 0, "offset": 0}):
        with pytest.raises(BadConfig, match="num_classes: expected from 1, found 0"):
            distillation_loss_sharded(logits, targets, **given)


@pytest.mark.parametrize("name", FORMS)
def test_no_value_of_a_tensor_is_looked_at(make, alone, monkeypatch, name):
    """Fake tensors have none: reading one (a host synchronisation on a GPU) raises."""
    from torch._subclasses import FakeTensorMode

    for collective in ("all_gather", "all_reduce"):
        monkeypatch.setattr(dist, collective, lambda *_given, **_options: None)
    logits, targets, call = own_call(make, name)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        if targets is not None:
            fields = {
                key: mode.from_tensor(value)
                for key, value in vars(targets).items()
                if value is not None
            }
            targets = type(targets)(**fields, valid=torch.ones(B) > 0)
            call["rows"] = torch.zeros(B).long()
        call["labels"] = mode.from_tensor(call["labels"])
        call["label_smoothing"] = 0.1
        logits = mode.from_tensor(logits.detach()).requires_grad_()
        loss = distillation_loss_sharded(logits, targets, **call)
        assert loss.shape == ()
        assert torch.autograd.grad(loss, logits)[0].shape == (B, C)
