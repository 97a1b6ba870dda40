"""Rows in a smaller type, and what rounding changed.

Promise: a value is rounded once, to the nearest; a finite value never becomes infinite. A few
megabytes are held beside the result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antcache.errors import BadConfig
from antcache.store.features import BLOCK_BYTES

SMALLEST_NORMAL = 2.0**-14
"""Below this, float16 has fewer and fewer digits, down to none."""


@dataclass(frozen=True, kw_only=True)
class Rounding:
    """What became of the values of a stream that were rounded to float16 or int8.

    Attributes:
        largest_absolute: largest difference between a value and what it became.
        largest_relative: largest difference as a share of the value, among values of at least
            `SMALLEST_NORMAL`; in int8, as a share of the largest value of the token.
        became_zero: how many values other than 0 became 0.
    """

    largest_absolute: float = 0.0
    largest_relative: float = 0.0
    became_zero: int = 0

    def __or__(self, other: Rounding) -> Rounding:
        return Rounding(
            largest_absolute=max(self.largest_absolute, other.largest_absolute),
            largest_relative=max(self.largest_relative, other.largest_relative),
            became_zero=self.became_zero + other.became_zero,
        )


def to_float16(rows: NDArray[Any], where: str) -> tuple[NDArray[np.float16], Rounding]:
    """Float32 rows (R, ...) as float16, and what rounding changed.

    Raises:
        BadConfig: a finite value would become infinite.
    """
    out = np.empty(rows.shape, np.float16)
    rounding, too_large, largest = Rounding(), 0, 0.0
    size = max(1, BLOCK_BYTES // max(1, rows[:1].nbytes))
    for start in range(0, len(rows), size):
        part, half = rows[start : start + size], out[start : start + size]
        with np.errstate(over="ignore", invalid="ignore"):
            half[...] = part
            finite = np.isfinite(part)
            size_of = np.abs(np.where(finite, part, 0))
            error = np.where(finite, np.abs(half.astype(np.float32) - part), 0)
        over = np.isinf(half) & finite
        if over.any():
            too_large += int(over.sum())
            largest = max(largest, float(size_of.max()))
            continue
        normal = size_of >= SMALLEST_NORMAL
        rounding |= Rounding(
            largest_absolute=float(error.max(initial=0.0)),
            largest_relative=float((error[normal] / size_of[normal]).max(initial=0.0)),
            became_zero=int(((half == 0) & (part != 0)).sum()),
        )
    if too_large:
        raise BadConfig(
            f"{too_large} values that float16 can't hold",
            where=where,
            expected=f"at most {float(np.finfo(np.float16).max):.0f} in size",
            found=f"{largest:g}",
            hint="keep float32, or leave this stream out",
        )
    return out, rounding
