"""The memory of gradients on a CPU, taken again once nobody has it any more.

Promise: a gradient's memory is nobody else's while any tensor, view or array shares it. Of those
that nobody has any more the last one's is kept, for the next of the same size. The system clears
the pages of new memory when they are first written to, which takes as long as all of the loss, and
gets memory of this size back as soon as it is freed.
"""

from __future__ import annotations

import weakref
from collections import deque

import torch
from torch import Tensor

LEAST = 1 << 20
"""Bytes of a gradient from which on its memory is kept."""

_kept: deque[Tensor] = deque(maxlen=1)


def room_for(logits: Tensor) -> Tensor:
    """A tensor of that shape (B, W) and type, rows side by side, that holds anything."""
    size = logits.numel() * logits.element_size()
    if size < LEAST:
        return torch.empty(logits.shape, dtype=logits.dtype, device="cpu")
    memory = _take(size)
    # The storage below owns this array, and the array's end is that of all who share the storage.
    lease = memory.numpy()
    weakref.finalize(lease, _kept.append, memory).atexit = False
    room = torch.empty(0, dtype=logits.dtype, device="cpu")
    storage = torch.from_numpy(lease).untyped_storage()
    room.set_(storage, 0, logits.shape, (logits.shape[1], 1))
    return room


def _take(size: int) -> Tensor:
    """So many bytes: those that are kept, or new ones, and then nothing is kept."""
    try:
        memory = _kept.pop()
    except IndexError:
        return torch.empty(size, dtype=torch.uint8, device="cpu")
    if len(memory) == size:
        return memory
    del memory  # before as much again is asked for
    return torch.empty(size, dtype=torch.uint8, device="cpu")
