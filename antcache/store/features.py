"""Feature streams, and the rows of one video, read where they are asked for.

Promise: everything that determines a stream's values is in its settings, and their hash is its
fingerprint; rows are found by the time at which they were seen, never a later one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from antcache.errors import BadConfig
from antcache.store.backend import LazyArray
from antcache.store.format import check_name, fingerprint
from antcache.store.reading.mapped import Bytes, MappedArray, as_bytes, copy_runs
from antcache.timebase import ANNOTATION_FPS, BOUNDARY, rows_at, rows_at_times

BLOCK_BYTES = 8 << 20
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
        step_s: how long after a row with a listed time the next one is due, in seconds; None: two
            row periods. A wider spacing is a gap.
        max_age_s: how old a row may be, in seconds, that stands in where none is at hand; None:
            none stands in. Like `step_s`, a rule for readers, and no setting of the values.
    """

    name: str
    dim: int
    dtype: str
    fps: float
    source: str
    config: dict[str, Any]
    compressed: bool = False
    step_s: float | None = None
    max_age_s: float | None = None

    def __post_init__(self) -> None:
        check_name(self.name, "stream")
        if (
            self.dim < 1
            or self.dtype not in ("float16", "float32")
            or not (0 < self.fps < math.inf)
        ):
            raise BadConfig(
                "impossible stream",
                expected="dim >= 1, dtype float16 or float32, fps > 0 and finite",
                found=f"dim {self.dim}, dtype {self.dtype}, fps {self.fps}",
            )
        for name in ("step_s", "max_age_s"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise BadConfig("seconds", where=name, expected="> 0", found=value)

    @property
    def settings(self) -> dict[str, Any]:
        """What must agree between everything that is written into the stream."""
        return {"dim": self.dim, "dtype": self.dtype, "fps": self.fps, **self.config}

    @property
    def fingerprint(self) -> str:
        """Hash of `settings`."""
        return fingerprint(self.settings)

    @property
    def sees_ahead_s(self) -> float:
        """How long after its own time a row has seen, in seconds: 0 but for features of others.

        What `config` has in place of a number of seconds counts as without end.
        """
        value = self.config.get("sees_ahead_s", 0.0)
        return float(value) if type(value) in (int, float) and value >= 0 else math.inf


@dataclass(frozen=True, kw_only=True)
class Features:
    """The rows of one video, read where they are asked for.

    Attributes:
        rows: (R, D) lazily read array, float16 or float32.
        fps: rows per second.
        start_s: time of row 0 in seconds.
        times: (R,) time of each row in seconds where the rate varies, else None.
        step_s: see `Stream`.
        max_age_s: see `Stream`.
    """

    rows: LazyArray
    fps: float
    start_s: float
    times: NDArray[np.float64] | None = None
    step_s: float | None = None
    max_age_s: float | None = None

    @property
    def num_rows(self) -> int:
        """R."""
        return self.rows.shape[0]

    @property
    def seconds(self) -> NDArray[np.float64]:
        """Times (R,) in seconds at which the rows were seen."""
        if self.times is not None:
            return self.times
        return self.start_s + np.arange(self.num_rows) / self.fps

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
            ValueError: `out` has another shape or dtype, or is not contiguous.
            DamagedStore: they can't be read.
        """
        if rows is None:
            rows = np.arange(self.num_rows)
        elif rows.size and not (rows.min() >= 0 and rows.max() < self.num_rows):
            raise IndexError(f"rows {rows.min()} to {rows.max()} of {self.num_rows}")
        shape = (*rows.shape, *self.rows.shape[1:])
        if out is None:
            out = np.empty(shape, self.rows.dtype)
        elif out.shape != shape or out.dtype != self.rows.dtype or not out.flags.c_contiguous:
            raise ValueError(
                f"the output is {out.dtype} {out.shape}, not {self.rows.dtype} {shape} in one piece"
            )
        self.place(rows.reshape(-1), as_bytes(out, self._row_bytes))
        return out

    @property
    def _row_bytes(self) -> int:
        return math.prod(self.rows.shape[1:]) * self.rows.dtype.itemsize

    def place(
        self, rows: NDArray[np.int64], out: Bytes, at: NDArray[np.int64] | None = None
    ) -> None:
        """Copy the rows at `rows` (n,), which are known to exist, to `at` (n,) in `out` (m, B).

        Where they are not mapped, a few whole chunks are read at a time.
        """
        if isinstance(self.rows, MappedArray):
            self.rows.take(rows, out, at)
            return
        size = max(1, BLOCK_BYTES // self._row_bytes)
        chunk = int(getattr(self.rows, "chunk_rows", 1))
        size = max(size // chunk * chunk, min(size, chunk))
        block = rows // size
        for each in np.unique(block):
            here = np.flatnonzero(block == each)
            own = rows[here]
            low = int(own.min())
            held = np.ascontiguousarray(self.rows[low : int(own.max()) + 1])
            places = here if at is None else at[here]
            pieces = [as_bytes(held, self._row_bytes)]
            copy_runs(pieces.__getitem__, np.zeros_like(own), own - low, out, places)

    def release(self) -> None:
        """Let go of the memory that reading has mapped; reading again maps it again."""
        if isinstance(self.rows, MappedArray):
            self.rows.release()

    def rows_at(self, seconds: ArrayLike) -> NDArray[np.int64]:
        """Last row seen at or before each time; negative before the first row.

        A time after the video gives a row past the last one, or the last one where `times` is
        kept; `too_old` says where such a row may not stand for what was seen then.
        """
        if self.times is not None:
            return rows_at_times(seconds, self.times)
        return rows_at(seconds, self.fps, self.start_s)

    def too_old(self, rows: NDArray[np.int64], seconds: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Where a row from `rows_at` is too old to stand for its time in `seconds` (any shape).

        A row stands for the time until the next one is due, and from then on until it is
        `max_age_s` old. A time before the first row has no row that could be too old.
        """
        last = np.clip(rows, 0, self.num_rows - 1)
        tolerance = BOUNDARY / ANNOTATION_FPS
        if self.times is None:
            age = seconds - (self.start_s + last / self.fps)
            old = rows >= self.num_rows
        else:
            age = seconds - self.times[last]
            old = age >= (self.step_s or 2 / self.fps) - tolerance
        if self.max_age_s is not None:
            old &= age > self.max_age_s + tolerance
        return np.asarray(old)
