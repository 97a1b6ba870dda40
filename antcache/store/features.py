"""Feature streams, and the rows of one video, read where they are asked for.

Promise: everything that determines a stream's values is in its settings, and their hash is its
fingerprint; rows are found by the time at which they were seen, never a later one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from antcache.errors import BadConfig
from antcache.store.format import LazyArray, check_name, fingerprint
from antcache.store.pooling import check_pooling
from antcache.store.quantise import dequantise
from antcache.store.reading.mapped import Bytes, MappedArray, as_bytes, copy_runs
from antcache.store.tokens import (
    AFTER,
    SAME_S,
    Grid,
    as_grid,
    as_numbers,
    as_windows,
    check_row,
    count_tokens,
)
from antcache.timebase import ANNOTATION_FPS, BOUNDARY, rows_at, rows_at_times

BLOCK_BYTES = 8 << 20
"""How much of a compressed or remote array is held at once while rows are picked from it."""


DTYPES = ("float16", "float32")
TOKEN_DTYPES = (*DTYPES, "int8")
TOKEN_FIELDS = ("grid", "future", "at", "pooled_from")
"""Fields of a stream whose rows are tokens; other streams have none of them."""


@dataclass(frozen=True, kw_only=True)
class Stream:
    """One kind of features, the same for all videos.

    Attributes:
        name: rgb, flow, obj, ...
        dim: width D of a row, or of each token of a row.
        dtype: float16 or float32; of tokens also int8, with a scale for each token.
        fps: rows per second; where rows are kept `at` listed times, frames per second of the clip
            that each was made of.
        source: where the rows come from, for people.
        config: everything that determines their values: backbone, weights, preprocessing, rate.
        compressed: whether the rows lie compressed in the store; the values are the same.
        step_s: how long after a row with a listed time the next one is due, in seconds; None: two
            row periods. A wider spacing is a gap.
        max_age_s: how old a row may be, in seconds, that stands in where none is at hand; None:
            none stands in. Like `step_s`, a rule for readers, and no setting of the values.
        grid: tokens of a row in time, height and width; None: a row is one vector.
        future: gaps in seconds of predicted futures, each height x width tokens after the grid's,
            in this order.
        at: `anchors` (shares of a segment, 0 its start, 1 its end) and `gaps` (seconds): there are
            rows at `anchor - gap` of the labelled segments and nowhere else. None: rows at a rate.
        pooled_from: the backbone's own grid, where its tokens were pooled.
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
    grid: Grid | None = None
    future: tuple[float, ...] = ()
    at: Mapping[str, list[float]] | None = None
    pooled_from: Grid | None = None

    def __post_init__(self) -> None:
        check_name(self.name, "stream")
        dtypes = DTYPES if self.grid is None else TOKEN_DTYPES
        if self.dim < 1 or self.dtype not in dtypes or not (0 < self.fps < math.inf):
            raise BadConfig(
                "impossible stream",
                expected=f"dim >= 1, dtype {' or '.join(dtypes)}, fps > 0 and finite",
                found=f"dim {self.dim}, dtype {self.dtype}, fps {self.fps}",
            )
        self._check_tokens()
        for name in ("step_s", "max_age_s"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise BadConfig("seconds", where=name, expected="> 0", found=value)

    def _check_tokens(self) -> None:
        """Check the fields of token streams, and bring each into its one form."""
        given = [name for name in TOKEN_FIELDS if getattr(self, name)]
        if self.grid is None:
            if given:
                raise BadConfig(
                    "a stream of vectors has no tokens", expected="a grid", found=", ".join(given)
                )
            return

        def put(name: str, value: object) -> None:
            object.__setattr__(self, name, value)  # as frozen dataclasses set their fields

        put("grid", as_grid("grid", self.grid))
        put("future", as_numbers("future", self.future, AFTER))
        check_row(self.num_tokens, self.dim, np.dtype(self.dtype).itemsize)
        if self.at is not None:
            put("at", as_windows(self.at))
            if self.step_s is not None or self.max_age_s is not None:
                raise BadConfig("rows at the times of windows have no rule for gaps")
        if self.pooled_from is not None:
            put("pooled_from", as_grid("pooled_from", self.pooled_from))
            check_pooling(self.pooled_from, self.grid)
            if self.pooled_from == self.grid:
                raise BadConfig("pooled_from is the grid itself", expected="a larger one, or none")

    @property
    def num_tokens(self) -> int:
        """K; 1 where a row is one vector."""
        return 1 if self.grid is None else count_tokens(self.grid, len(self.future))

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of a row: (D,), or (K, D) of tokens."""
        return (self.dim,) if self.grid is None else (self.num_tokens, self.dim)

    def keeps(self, *, anchor: float, gap_s: float) -> bool:
        """Whether there are rows for windows that end `gap_s` before this anchor: for all but where
        rows are kept `at` some times only."""
        asked = {"anchors": anchor, "gaps": gap_s}
        return self.at is None or all(
            any(abs(one - asked[name]) < SAME_S for one in kept) for name, kept in self.at.items()
        )

    @property
    def token_fields(self) -> dict[str, Any]:
        """What is stored of tokens, JSON-ready; empty where a row is one vector."""
        if self.grid is None:
            return {}
        return {
            "grid": list(self.grid),
            "future": list(self.future),
            "at": None if self.at is None else dict(self.at),
            "pooled_from": None if self.pooled_from is None else list(self.pooled_from),
        }

    @property
    def settings(self) -> dict[str, Any]:
        """What must agree between everything that is written into the stream."""
        own = {"dim": self.dim, "dtype": self.dtype, "fps": self.fps}
        return {**own, **self.config, **self.token_fields}

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
        rows: (R, D) lazily read array, float16 or float32; (R, K, D) of tokens, or int8.
        fps: rows per second; see `Stream`.
        start_s: time of row 0 in seconds.
        times: (R,) time of each row in seconds where the rate varies, else None.
        step_s: see `Stream`.
        max_age_s: see `Stream`.
        scale: (R, K) lazily read array, float16, of int8 tokens.
        listed: whether only the very times in `times` have a row; see `Stream.at`.
        checksums: of each array, as the store keeps them: what the rows are, without reading one.
    """

    rows: LazyArray
    fps: float
    start_s: float
    times: NDArray[np.float64] | None = None
    step_s: float | None = None
    max_age_s: float | None = None
    scale: LazyArray | None = None
    listed: bool = False
    checksums: Mapping[str, str] = field(default_factory=dict)

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
        """All rows (R, D), or those at `rows` (any shape) as (..., D); of tokens (..., K, D).

        They come in the dtype in which they lie, int8 tokens as float32.

        Args:
            rows: which rows, in any order.
            out: where they go, of the result's shape and dtype, contiguous; the result is then
                `out`.

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
        dtype = self.rows.dtype if self.scale is None else np.dtype(np.float32)
        if out is None:
            out = np.empty(shape, dtype)
        elif out.shape != shape or out.dtype != dtype or not out.flags.c_contiguous:
            raise ValueError(
                f"the output is {out.dtype} {out.shape}, not {dtype} {shape} in one piece"
            )
        if self.scale is None:
            self.place(rows.reshape(-1), as_bytes(out, self._row_bytes))
            return out
        values = np.empty(shape, self.rows.dtype)
        self.place(rows.reshape(-1), as_bytes(values, self._row_bytes))
        return dequantise(values, self.scales().read(rows), out)

    def scales(self) -> Features:
        """The scales of int8 tokens, as rows (R, K) of their own.

        Raises:
            ValueError: the rows have none.
        """
        if self.scale is None:
            raise ValueError(f"{self.rows.dtype} rows have no scales")
        return replace(self, rows=self.scale, scale=None)

    @property
    def _row_bytes(self) -> int:
        return math.prod(self.rows.shape[1:]) * self.rows.dtype.itemsize

    def place(
        self, rows: NDArray[np.int64], out: Bytes, at: NDArray[np.int64] | None = None
    ) -> None:
        """Copy the rows at `rows` (n,), which are known to exist, to `at` (n,) in `out` (m, B), as
        they lie.

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
        for array in (self.rows, self.scale):
            if isinstance(array, MappedArray):
                array.release()

    def rows_at(self, seconds: ArrayLike) -> NDArray[np.int64]:
        """Last row seen at or before each time; negative before the first row.

        A time after the video gives a row past the last one, or the last one where `times` is
        kept; `too_old` says where such a row may not stand for what was seen then. Where only
        `listed` times have rows, none is negative, and `too_old` says which are those of their
        times.
        """
        if self.listed:
            return np.maximum(rows_at_times(seconds, self.seconds), 0)
        if self.times is not None:
            return rows_at_times(seconds, self.times)
        return rows_at(seconds, self.fps, self.start_s)

    def too_old(self, rows: NDArray[np.int64], seconds: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Where a row from `rows_at` is too old to stand for its time in `seconds` (any shape).

        A row stands for the time until the next one is due, and from then on until it is
        `max_age_s` old. A time before the first row has no row that could be too old. A row of a
        `listed` time stands for that time and no other.
        """
        last = np.clip(rows, 0, self.num_rows - 1)
        tolerance = BOUNDARY / ANNOTATION_FPS
        if self.listed:
            return np.asarray(np.abs(seconds - self.seconds[last]) > tolerance)
        if self.times is None:
            age = seconds - (self.start_s + last / self.fps)
            old = rows >= self.num_rows
        else:
            age = seconds - self.times[last]
            old = age >= (self.step_s or 2 / self.fps) - tolerance
        if self.max_age_s is not None:
            old &= age > self.max_age_s + tolerance
        return np.asarray(old)
