"""Feature streams, and the rows of one video, read where they are asked for.

Promise: everything that determines a stream's values is in its settings, and their hash is its
fingerprint; rows are found by the time at which they were seen, never a later one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from antcache.errors import BadConfig
from antcache.store.backend import LazyArray
from antcache.store.format import check_name, fingerprint
from antcache.store.mapped import MappedArray
from antcache.timebase import rows_at, rows_at_times

BLOCK_BYTES = 32 << 20
"""How much of a compressed or remote array is held at once while rows are picked from it."""


@dataclass(frozen=True, kw_only=True)
class Stream:
    """One kind of features, the same for all videos.

    Attributes:
        name: rgb, flow, obj, ...
        dim: width D of a row.
        dtype: float16 or float32.
        fps: rows per second.
        source: where the rows come from, for people.
        config: everything that determines their values: backbone, weights, preprocessing, rate.
        compressed: whether the rows lie compressed in the store; the values are the same.
    """

    name: str
    dim: int
    dtype: str
    fps: float
    source: str
    config: dict[str, Any]
    compressed: bool = False

    def __post_init__(self) -> None:
        check_name(self.name, "stream")
        if self.dim < 1 or self.dtype not in ("float16", "float32") or self.fps <= 0:
            raise BadConfig(
                "impossible stream",
                expected="dim >= 1, dtype float16 or float32, fps > 0",
                found=f"dim {self.dim}, dtype {self.dtype}, fps {self.fps}",
            )

    @property
    def settings(self) -> dict[str, Any]:
        """What must agree between everything that is written into the stream."""
        return {"dim": self.dim, "dtype": self.dtype, "fps": self.fps, **self.config}

    @property
    def fingerprint(self) -> str:
        """Hash of `settings`."""
        return fingerprint(self.settings)


@dataclass(frozen=True, kw_only=True)
class Features:
    """The rows of one video, read where they are asked for.

    Attributes:
        rows: (R, D) lazily read array, float16 or float32.
        fps: rows per second.
        start_s: time of row 0 in seconds.
        times: (R,) time of each row in seconds where the rate varies, else None.
    """

    rows: LazyArray
    fps: float
    start_s: float
    times: NDArray[np.float64] | None = None

    @property
    def num_rows(self) -> int:
        """R."""
        return self.rows.shape[0]

    def read(
        self, rows: NDArray[np.int64] | None = None, out: NDArray[Any] | None = None
    ) -> NDArray[Any]:
        """All rows (R, D), or those at `rows` (any shape) as (..., D).

        Args:
            rows: which rows, in any order.
            out: where they go, of the result's shape, contiguous and of the rows' dtype; the result
                is then `out`.

        Raises:
            IndexError: the video has no such row.
            DamagedStore: they can't be read.
        """
        if rows is None:
            rows = np.arange(self.num_rows)
        elif rows.size and not (rows.min() >= 0 and rows.max() < self.num_rows):
            raise IndexError(f"rows {rows.min()} to {rows.max()} of {self.num_rows}")
        if out is None:
            out = np.empty((*rows.shape, *self.rows.shape[1:]), self.rows.dtype)
        assert out.flags.c_contiguous, "rows go into memory in one piece"
        flat = out.reshape(-1, *self.rows.shape[1:])
        if isinstance(self.rows, MappedArray):
            self.rows.take(rows.reshape(-1), flat)
        else:
            self._take(rows.reshape(-1), flat)
        return out

    def _take(self, rows: NDArray[np.int64], out: NDArray[Any]) -> None:
        """Copy `rows` (n,) into `out` (n, D), a few whole chunks at a time."""
        chunk = int(getattr(self.rows, "chunk_rows", self.num_rows))
        size = chunk * max(1, BLOCK_BYTES // max(1, chunk * out[:1].nbytes))
        block = rows // size
        for each in np.unique(block):
            here = block == each
            low, high = int(rows[here].min()), int(rows[here].max()) + 1
            out[here] = np.asarray(self.rows[low:high])[rows[here] - low]

    def rows_at(self, seconds: ArrayLike) -> NDArray[np.int64]:
        """Last row seen at or before each time; negative before the first row.

        A time after the video gives a row past the last one, or the last one where `times` is
        kept; it is for the caller to say how old a row may be.
        """
        if self.times is not None:
            return rows_at_times(seconds, self.times)
        return rows_at(seconds, self.fps, self.start_s)
