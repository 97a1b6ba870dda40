"""The memory of a gradient is taken again, and never while somebody has it."""

from __future__ import annotations

import pytest
import torch

from antcache.kernels import distillation_loss

pytest.importorskip("numba")
from antcache.kernels.loops import memory

ROWS, CLASSES = 64, 8192  # 2 MiB in float32


@pytest.fixture(autouse=True)
def _nothing_kept(monkeypatch):
    monkeypatch.setattr(memory, "_kept", type(memory._kept)(maxlen=1))


def room(*shape, dtype=torch.float32):
    return memory.room_for(torch.empty(shape, dtype=dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_memory_is_taken_again_once_nobody_has_it(dtype):
    first = room(ROWS, CLASSES, dtype=dtype)
    assert (first.shape, first.dtype, first.is_contiguous()) == ((ROWS, CLASSES), dtype, True)
    assert not first._is_view()
    place = first.data_ptr()
    del first
    assert room(ROWS, CLASSES, dtype=dtype).data_ptr() == place


SHARES = {
    "a view": lambda tensor: tensor[5:],
    "a tensor": torch.Tensor.detach,
    "an array": torch.Tensor.numpy,
    "the storage": lambda tensor: torch.empty(0).set_(tensor.untyped_storage()),
}


@pytest.mark.parametrize("name", SHARES)
def test_never_while_anything_shares_it(name):
    first = room(ROWS, CLASSES).fill_(1)
    shared = SHARES[name](first)
    del first
    for value in (2, 3):
        room(ROWS, CLASSES).fill_(value)
    assert (torch.as_tensor(shared) == 1).all()


def test_one_at_most_is_kept_and_none_of_another_size():
    several = [room(ROWS, CLASSES) for _ in range(3)]
    assert len({each.data_ptr() for each in several}) == 3
    several.clear()
    assert len(memory._kept) == 1
    other = room(ROWS + 1, CLASSES)
    assert not memory._kept
    del other
    assert len(memory._kept[0]) == (ROWS + 1) * CLASSES * 4


def test_small_gradients_are_left_to_pytorch():
    small = room(3, 5)
    del small
    assert not memory._kept


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_steps_of_training_take_turns_in_one_place(make, dtype):
    """Gradients that somebody keeps stay as they are; all others lie where the last one was."""
    logits = make.randn(ROWS, CLASSES).to(dtype).requires_grad_()
    teacher, labels = make.randn(ROWS, CLASSES, seed=1).float(), torch.arange(ROWS)

    def step(temperature):
        own = logits * 1
        loss = distillation_loss(own, teacher, labels, temperature=temperature, impl="numba")
        return torch.autograd.grad(loss, own)[0]

    kept, right = step(1.0), step(1.0).clone()
    place = step(2.0).data_ptr()
    assert step(2.0).data_ptr() == place != kept.data_ptr()
    assert torch.equal(kept, right)
    again = step(1.0)
    assert torch.equal(again, right)
