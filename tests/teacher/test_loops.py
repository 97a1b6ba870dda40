"""The compiled loops, by hand."""

from __future__ import annotations

import numpy as np

from antcache.teacher.loops import interpolate


def test_what_was_counted_is_mixed_into_what_is_known_already() -> None:
    """Of the contexts 2, 5 and 9, at the ends and between them; others leave a row as it was."""
    counted = {2: {0: 0.5, 2: 0.25}, 5: {1: 0.9}, 9: {0: 0.1, 1: 0.2, 2: 0.3}}
    left = {2: 0.25, 5: 0.1, 9: 0.4}
    query = [9, 1, 5, 2, 7, 10, 5]
    rows = np.random.default_rng(0).dirichlet(np.ones(3), size=len(query))
    expected = [
        [left.get(q, 1.0) * row[y] + counted.get(q, {}).get(y, 0.0) for y in range(3)]
        for q, row in zip(query, rows, strict=True)
    ]
    interpolate(
        rows,
        np.array(list(counted)),
        np.cumsum([0, *map(len, counted.values())]),
        np.array([y for own in counted.values() for y in own]),
        np.array([share for own in counted.values() for share in own.values()]),
        np.array(list(left.values())),
        np.array(query),
    )
    np.testing.assert_allclose(rows, expected, atol=1e-12)
    np.testing.assert_allclose(rows.sum(axis=1), 1)
