"""The rows of a video while it is decoded, in one array that grows.

Promise: rows are held once, in the type that they are stored in; room that was asked for and not
needed takes no memory. A video is stored in one piece, so all its rows are held until it is.
Letters: B rows that come at once, R rows of a video.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


class Collected:
    """Rows of one shape and type, one after another.

    Args:
        expected: how many rows are expected; there may be more.
    """

    def __init__(self, expected: int) -> None:
        self._room = max(1, expected)
        self._rows: NDArray[Any] | None = None
        self._count = 0

    def add(self, rows: NDArray[Any]) -> None:
        """Append rows (B, ...)."""
        if self._rows is None:  # pages of memory that are never touched are never taken
            self._rows = np.empty((self._room, *rows.shape[1:]), rows.dtype)
        needed = self._count + len(rows)
        if needed > self._room:
            self._room = max(needed, self._room * 5 // 4)
            self._rows.resize((self._room, *self._rows.shape[1:]), refcheck=False)
        self._rows[self._count : needed] = rows
        self._count = needed

    def all(self, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        """All rows (R, *shape); `shape` and `dtype` are those of the rows that there might be."""
        if self._rows is None:
            return np.empty((0, *shape), dtype)
        return self._rows[: self._count]
