"""Features out of rows as they are stored: the tokens that a window reads, of all streams.

Promise: the same operations wherever rows were gathered, so that packed and lazy windows have the
same bits. int8 tokens are multiplied with their scales on the device, in float32, which is exact. A
row of one token is one vector. Streams lie side by side, in the widest of their types.
Letters: M windows, B windows of a batch, T time, K tokens of a row as stored, k of them that are
read, D feature.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from antcache.windows.reading.stream_rows import Futures

DTYPES = {"float16": torch.float16, "float32": torch.float32, "int8": torch.int8}


@dataclass(frozen=True, kw_only=True)
class RowReader:
    """Makes features of the stored rows of M windows.

    Attributes:
        future: (M,) int64 on the windows' device, which future each reads; None: rows are read
            whole.
        present: tokens of a row's grid.
        plane: tokens of one future.
    """

    future: Tensor | None = None
    present: int = 0
    plane: int = 0

    @classmethod
    def of(cls, futures: Futures | None, device: torch.device) -> RowReader:
        """A reader on a device."""
        if futures is None:
            return cls()
        which = torch.from_numpy(futures.which).to(device)
        return cls(future=which, present=futures.present, plane=futures.plane)

    def __call__(self, positions: Tensor, values: Tensor, scale: Tensor | None = None) -> Tensor:
        """Features (B, T, k, D) of the windows at `positions` (B,), or (B, T, D) of one token.

        Args:
            positions: on the device of the others.
            values: (B, T, K, D) or (B, T, D) as stored.
            scale: (B, T, K) of int8 tokens.
        """
        if self.future is not None:
            which = self.future[positions]
            values = self._read(values, which)
            scale = None if scale is None else self._read(scale, which)
        if scale is not None:
            values = values.float().mul_(scale.float().unsqueeze(-1))
        return values.squeeze(2) if values.ndim == 4 and values.shape[2] == 1 else values

    def _read(self, rows: Tensor, which: Tensor) -> Tensor:
        """Of rows (B, T, K, ...) the grid's tokens and those of the future `which` (B,)."""
        futures = rows[:, :, self.present :]
        futures = futures.reshape(*rows.shape[:2], -1, self.plane, *rows.shape[3:])
        own = futures[torch.arange(len(rows), device=rows.device), :, which]
        return torch.cat([rows[:, :, : self.present], own], dim=2)

    def to(self, device: torch.device) -> RowReader:
        """The same on another device."""
        moved = None if self.future is None else self.future.to(device)
        return RowReader(future=moved, present=self.present, plane=self.plane)


def side_by_side(parts: Sequence[Tensor]) -> Tensor:
    """Features (B, T, ..., D) of each stream in one tensor; those of a single one as they are."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), dim=-1)


def shape_of(shapes: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """The shape (N, T, ..., sum of D) of streams whose shapes are (N, T, ..., D)."""
    return (*shapes[0][:-1], sum(shape[-1] for shape in shapes))
