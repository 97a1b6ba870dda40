"""Tokens in int8, with one scale for each.

Promise: no value is clipped, and what comes back is within half a scale of what went in:
|x - x'| <= scale / 2, where scale is the token's max |x| / 127, rounded up to float16. Values are
taken as float32; what float16 can't scale, or is not finite, is refused.
Letters: K tokens of a row, D width of a token.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from antcache.errors import BadConfig

LARGEST = 127
"""Largest int8 value in use; -128 is not, so that signs are alike."""

BLOCK = 1 << 18
"""Values that are worked on at once, so that they stay in the processor's cache."""


def quantise(
    rows: NDArray[Any], *, where: object = ""
) -> tuple[NDArray[np.int8], NDArray[np.float16]]:
    """Values (..., K, D) int8 and scales (..., K) float16 of rows (..., K, D).

    A token of zeros has the scale 0. `where` they are goes into the error.

    Raises:
        BadConfig: a value is not finite, or a token is too large for a scale in float16.
    """
    tokens = rows.reshape(-1, rows.shape[-1])
    values = np.empty(tokens.shape, np.int8)
    scale = np.empty(len(tokens), np.float16)
    step = max(1, BLOCK // tokens.shape[1])
    for start in range(0, len(tokens), step):
        block = slice(start, start + step)
        scale[block] = _quantise(tokens[block], values[block], where)
    return values.reshape(rows.shape), scale.reshape(rows.shape[:-1])


def _quantise(tokens: NDArray[Any], out: NDArray[np.int8], where: object) -> NDArray[np.float16]:
    """Put the values of tokens (n, D) into `out`, and give their scales (n,)."""
    with np.errstate(over="ignore"):  # becomes infinite, and is refused
        # Quotients of float32 by float16 in float64 fall on the right side of every half.
        exact = tokens.astype(np.float32).astype(np.float64)
    peak = np.abs(exact).max(axis=1)
    if not np.isfinite(peak).all():
        raise BadConfig("values that are not finite can't be kept in int8", where=where)
    with np.errstate(over="ignore"):
        scale: NDArray[np.float16] = (peak / LARGEST).astype(np.float16)
        low = scale.astype(np.float64) * LARGEST < peak
        scale[low] = np.nextafter(scale[low], np.float16(np.inf))
    if not np.isfinite(scale).all():
        raise BadConfig(
            "values too large for int8 with a scale in float16",
            where=where,
            expected=f"at most {LARGEST * float(np.finfo(np.float16).max):.0f}",
            found=f"{peak.max():.0f}",
        )
    divisor = np.where(scale > 0, scale, 1).astype(np.float64)
    np.rint(exact / divisor[:, None], out=exact)
    out[...] = exact
    return scale


def dequantise(
    values: NDArray[np.int8],
    scale: NDArray[np.float16],
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Values (..., K, D) times their scales (..., K): float32, which holds the product exactly."""
    if out is None:
        out = np.empty(values.shape, np.float32)
    out[...] = values  # first alone: a product of two types is four times as slow
    out *= scale[..., None].astype(np.float32)
    return out
