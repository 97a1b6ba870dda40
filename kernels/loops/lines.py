"""Rows of tensors as the loops take them: float32, neighbouring classes side by side.

Promise: such rows are read and written where they lie; all others pass through a buffer of a few
rows. Letters: B batch rows, C classes.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


class Lines:
    """float32 rows (B, C) as the loops take them: where they lie, or in a buffer of a few rows."""

    def __init__(self, tensor: Tensor, step: int) -> None:
        self.tensor, self.flat = tensor, flat(tensor)
        size = (step, tensor.shape[1]) if self.flat is None else (0,)
        self.buffer = torch.empty(size, dtype=torch.float32)

    def at(self, at: slice, *, read: bool = False) -> tuple[Floats, int]:
        """Memory from the first of these rows on, and the distance between rows."""
        if self.flat is not None:
            stride = self.tensor.stride(0)
            return self.flat.numpy()[at.start * stride :], stride
        if read:
            self.buffer[: at.stop - at.start] = self.tensor[at]
        return self.buffer.numpy().ravel(), self.tensor.shape[1]

    def write_back(self, at: slice, factor: Tensor | None) -> None:
        """Bring the buffer's rows to where they belong, times the factor (B, 1)."""
        if self.flat is None:
            made = self.buffer[: at.stop - at.start]
            self.tensor[at] = made if factor is None else made.mul_(factor[at])


def flat(tensor: Tensor) -> Tensor | None:
    """A float32 tensor's memory from its first number on, None if its last axis is spread."""
    if not tensor.numel():
        return torch.empty(0, dtype=torch.float32)
    if tensor.dtype != torch.float32 or (tensor.stride(-1) != 1 and tensor.shape[-1] > 1):
        return None
    span = sum((n - 1) * stride for n, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.detach().as_strided((span + 1,), (1,))


def as_numpy(tensor: Tensor, dtype: torch.dtype) -> NDArray[Any]:
    """The tensor's numbers, side by side; as few copies as it takes."""
    numbers: NDArray[Any] = tensor.detach().to(dtype).contiguous().numpy()
    return numbers
