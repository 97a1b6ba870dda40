"""Tokens of a video pooled to a smaller grid, or in another type.

Promise: values are those that reading gives, pooled in float32 and rounded once. The rows of the
source are read a few at a time, and compared with their hashes; what is held is the result.
Letters: R rows, K tokens of a row, D width of a token.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antcache.store.features import BLOCK_BYTES, Features, Stream
from antcache.store.format import CONVERTED_FROM
from antcache.store.integrity.rounding import Rounding, to_float16
from antcache.store.pooling import check_pooling, pool
from antcache.store.quantise import dequantise, quantise
from antcache.store.tokens import Grid


def token_stream(old: Stream, grid: Grid | None, dtype: str | None) -> Stream:
    """A stream of tokens as it will be with this grid and type; itself if nothing changes.

    Its config says what it was made from, so that both fingerprints are known.

    Raises:
        BadConfig: the grid can't be pooled to this one.
    """
    assert old.grid is not None
    grid, dtype = grid or old.grid, dtype or old.dtype
    if (grid, dtype) == (old.grid, old.dtype):
        return old
    check_pooling(old.grid, grid, where=old.name)
    made_of: dict[str, Any] = {"fingerprint": old.fingerprint, "dtype": old.dtype}
    made_of["grid"] = list(old.grid)
    if CONVERTED_FROM in old.config:
        made_of[CONVERTED_FROM] = old.config[CONVERTED_FROM]
    return Stream(
        **{
            **vars(old),
            "grid": grid,
            "dtype": dtype,
            "pooled_from": old.pooled_from if grid == old.grid else old.pooled_from or old.grid,
            "config": {**old.config, CONVERTED_FROM: made_of},
        }
    )


def convert_tokens(
    features: Features, old: Stream, new: Stream, where: str
) -> tuple[dict[str, NDArray[Any]], Rounding]:
    """Arrays of a video of the stream `old` as `new` has them, and what rounding changed.

    Raises:
        DamagedStore: the video is not as it was written.
        BadConfig: its values don't fit the new type.
    """
    assert old.grid is not None
    assert new.grid is not None
    rows = np.empty((features.num_rows, *new.row_shape), new.dtype)
    scale = np.empty(rows.shape[:2], np.float16)
    rounding = Rounding()
    step = max(1, BLOCK_BYTES // (4 * math.prod(old.row_shape)))
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        values = features.read(np.arange(*part.indices(len(rows))))
        if new.grid != old.grid:
            values = pool(values, old.grid, new.grid)
        if new.dtype == "int8":
            rows[part], scale[part] = quantise(values, where=where)
            rounding |= _rounding(values, dequantise(rows[part], scale[part]))
        elif new.dtype == "float16":
            rows[part], changed = to_float16(values, where)
            rounding |= changed
        else:
            rows[part] = values
    arrays = {"rows": rows}
    if new.dtype == "int8":
        arrays["scale"] = scale
    if features.times is not None:
        arrays["times"] = features.times
    return arrays, rounding


def _rounding(values: NDArray[Any], became: NDArray[np.float32]) -> Rounding:
    """What became of tokens (R, K, D) in int8."""
    wide = values.astype(np.float32)
    error = np.abs(wide - became).max(axis=-1, initial=0.0)
    peak = np.abs(wide).max(axis=-1, initial=0.0)
    there = peak > 0
    return Rounding(
        largest_absolute=float(error.max(initial=0.0)),
        largest_relative=float((error[there] / peak[there]).max(initial=0.0)),
        became_zero=int(((became == 0) & (wide != 0)).sum()),
    )
