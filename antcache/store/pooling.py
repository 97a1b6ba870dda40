"""A grid of tokens made smaller: the mean over cells.

Promise: sums are in float32 at least, each token of the smaller grid is the mean of the cell of
tokens that lie where it lies, and nothing is left out: each side of the smaller grid divides that
of the larger. Predicted future tokens, which have no time to pool, are pooled in space alone.
Letters: K tokens of a row, D width of a token; K', grid and futures after pooling.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antcache.errors import BadConfig
from antcache.store.tokens import Grid


def check_pooling(grid: Grid, to: Grid, *, where: object = "") -> None:
    """Raise `BadConfig` unless each side of `to` divides that of `grid`."""
    if any(side % smaller for side, smaller in zip(grid, to, strict=True)):
        raise BadConfig(
            "a grid of tokens can't be pooled to this one",
            where=where,
            expected=f"sides that divide {shown(grid)}",
            found=shown(to),
        )


def shown(grid: Grid) -> str:
    """A grid as it is written: 16x4x4."""
    return "x".join(map(str, grid))


def pool(rows: NDArray[Any], grid: Grid, to: Grid) -> NDArray[Any]:
    """Rows (..., K, D) of a grid as rows (..., K', D) of the smaller one; float32 at least.

    Tokens after those of the grid are predicted futures, each of one point in time.

    Raises:
        BadConfig: a side does not divide, or K is no number of tokens that the grid has.
    """
    check_pooling(grid, to)
    *outer, num_tokens, dim = rows.shape
    time, height, width = grid
    present, plane = math.prod(grid), height * width
    if num_tokens < present or (num_tokens - present) % plane:
        raise BadConfig(
            "tokens of another grid",
            expected=f"{present}, or {plane} more for each predicted future",
            found=num_tokens,
        )
    kind = np.result_type(rows.dtype, np.float32)
    cells = (time // to[0], height // to[1], width // to[2])

    def pooled(part: NDArray[Any], times: int, cell_times: int) -> NDArray[Any]:
        sides = (times, cell_times, to[1], cells[1], to[2], cells[2])
        means: NDArray[Any] = part.reshape(*outer, *sides, dim).mean(axis=(-6, -4, -2), dtype=kind)
        return means.reshape(*outer, times * to[1] * to[2], dim)

    now = pooled(rows[..., :present, :], to[0], cells[0])
    if num_tokens == present:
        return now
    future = pooled(rows[..., present:, :], (num_tokens - present) // plane, 1)
    return np.concatenate([now, future], axis=-2)
