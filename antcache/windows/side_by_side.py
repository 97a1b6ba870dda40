"""Several streams of the same windows as one: their features side by side.

Promise: what is stored in different types comes out in the widest.
Letters: N windows, B windows of a batch, T time, D feature.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def side_by_side(parts: Sequence[Tensor]) -> Tensor:
    """Features (B, T, D) of each stream in one tensor; those of a single one as they are."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), dim=-1)


def shape_of(shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The shape (N, T, sum of D) of streams whose shapes are (N, T, D) side by side."""
    return (*shapes[0][:-1], sum(shape[-1] for shape in shapes))
