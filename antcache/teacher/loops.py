"""Loops over histories and counts, compiled by numba and kept in its cache.

Promise: each does in one pass what its callers document, on one thread, the same in every run.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from antcache.errors import needs

with needs("numba", "teacher"):
    from numba import njit

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@njit(cache=True)
def last_rows(order: Ints, group: Ints, start: Floats, limit: Floats, length: int) -> Ints:
    """Rows (N, h) of the last h = `length` members of each row's group that start by its limit.

    Args:
        order: (N,) rows sorted by group, then by start.
        group: (N,) of each row.
        start: (N,) of each row.
        limit: (N,) latest start that each row's history may hold, ascending along each group.
        length: h.
    """
    rows = np.full((len(order), length), -1, dtype=np.int64)
    first, end = 0, 0  # of the group; of its members that start by the limit
    for at in range(len(order)):
        row = order[at]
        if at == 0 or group[order[at - 1]] != group[row]:
            first, end = at, at
        while (
            end < len(order)
            and group[order[end]] == group[row]
            and (start[order[end]] <= limit[row])
        ):
            end += 1
        for back in range(1, min(length, end - first) + 1):
            rows[row, length - back] = order[end - back]
    return rows


@njit(cache=True)
def interpolate(
    rows: Floats,
    keys: Ints,
    starts: Ints,
    outcomes: Ints,
    shares: Floats,
    left: Floats,
    query: Ints,
) -> None:
    """Turn rows (Q, n) of lower-order probabilities into those given the contexts `query` (Q,).

    The other arrays are those of `ngrams.Counts` and its `shares`.
    """
    for i in range(len(query)):
        k = np.searchsorted(keys, query[i])
        if k == len(keys) or keys[k] != query[i]:
            continue
        for y in range(rows.shape[1]):
            rows[i, y] *= left[k]
        for j in range(starts[k], starts[k + 1]):
            rows[i, outcomes[j]] += shares[j]
