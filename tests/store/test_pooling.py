"""A grid of tokens made smaller: each token is the mean of its cell, and nothing is left out."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from antcache.errors import BadConfig
from antcache.store.pooling import pool


def by_hand(rows: np.ndarray[Any, Any], grid: Any, to: Any) -> np.ndarray[Any, Any]:
    """Means of cells, token by token, in float64; rows (K, D)."""
    cells = [side // smaller for side, smaller in zip(grid, to, strict=True)]
    plane = grid[1] * grid[2]
    found = []
    futures = (len(rows) - math.prod(grid)) // plane
    times = [range(t * cells[0], (t + 1) * cells[0]) for t in range(to[0])]
    times += [range(grid[0] + f, grid[0] + f + 1) for f in range(futures)]
    for cell_times, h, w in itertools.product(times, range(to[1]), range(to[2])):
        own = [
            rows[t * plane + y * grid[2] + x]
            for t in cell_times
            for y in range(h * cells[1], (h + 1) * cells[1])
            for x in range(w * cells[2], (w + 1) * cells[2])
        ]
        found.append(np.mean(own, axis=0, dtype=np.float64))
    return np.array(found)


sides = st.tuples(*[st.integers(1, 3)] * 3)


@given(to=sides, cells=sides, num_future=st.integers(0, 2), dtype=st.sampled_from(["f2", "f4"]))
def test_each_token_is_the_mean_of_its_cell(
    to: tuple[int, ...], cells: tuple[int, ...], num_future: int, dtype: str
) -> None:
    grid = tuple(a * b for a, b in zip(to, cells, strict=True))
    num_tokens = math.prod(grid) + num_future * grid[1] * grid[2]
    rows = np.random.default_rng(0).normal(size=(2, num_tokens, 3)).astype(dtype)
    found = pool(rows, grid, to)
    assert found.dtype == np.float32
    wanted = [by_hand(row, grid, to) for row in rows]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6)


def test_a_grid_pooled_to_itself_stays() -> None:
    rows = np.random.default_rng(0).normal(size=(2, 12, 3)).astype(np.float32)
    np.testing.assert_array_equal(pool(rows, (3, 2, 2), (3, 2, 2)), rows)


def test_no_rows_are_pooled_to_none() -> None:
    assert pool(np.zeros((0, 12, 3), np.float16), (3, 2, 2), (1, 1, 1)).shape == (0, 1, 3)


def test_float64_stays() -> None:
    assert pool(np.zeros((1, 12, 3)), (3, 2, 2), (1, 1, 1)).dtype == np.float64


@pytest.mark.parametrize("to", [(2, 2, 2), (3, 4, 2), (3, 2, 3), (6, 2, 2)])
def test_sides_that_do_not_divide_are_refused(to: tuple[int, int, int]) -> None:
    with pytest.raises(BadConfig, match="expected sides that divide 3x2x2, found"):
        pool(np.zeros((1, 12, 3), np.float32), (3, 2, 2), to)


@pytest.mark.parametrize("num_tokens", [0, 8, 11, 13, 15])
def test_tokens_of_another_grid_are_refused(num_tokens: int) -> None:
    with pytest.raises(BadConfig, match="expected 12, or 4 more for each"):
        pool(np.zeros((1, num_tokens, 3), np.float32), (3, 2, 2), (1, 1, 1))
