"""Tokens in int8: nothing is clipped, and what comes back is within half a scale."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from antcache.errors import BadConfig
from antcache.store import quantise as module
from antcache.store.quantise import LARGEST, dequantise, quantise

FLOAT16_MAX = float(np.finfo(np.float16).max)


def token_rows() -> st.SearchStrategy[np.ndarray[Any, Any]]:
    """Rows (R, K, D) of every magnitude that a scale in float16 can stand for."""
    shapes = st.tuples(st.integers(0, 4), st.integers(1, 3), st.integers(1, 9))
    most = float(np.float32(LARGEST * FLOAT16_MAX))
    wide = hnp.arrays(np.float32, shapes, elements=st.floats(-most, most, width=32))
    narrow = hnp.arrays(np.float16, shapes, elements=st.floats(-8, 8, width=16))
    return st.one_of(wide, narrow)


@given(token_rows())
def test_what_comes_back_is_within_half_a_scale(rows: np.ndarray[Any, Any]) -> None:
    values, scale = quantise(rows)
    assert (values.dtype, values.shape) == (np.int8, rows.shape)
    assert (scale.dtype, scale.shape) == (np.float16, rows.shape[:-1])
    exact, wide = rows.astype(np.float64), scale.astype(np.float64)[..., None]
    assert (np.abs(exact) <= wide * LARGEST).all(), "nothing is clipped"
    assert (np.abs(values.astype(int)) <= LARGEST).all()
    back = dequantise(values, scale)
    assert back.dtype == np.float32
    np.testing.assert_array_equal(back, values.astype(np.float64) * wide)  # exactly
    assert (np.abs(exact - back.astype(np.float64)) <= wide / 2).all()
    zeros = ~rows.any(axis=-1)
    assert not scale[zeros].any()
    assert not values[zeros].any()


@given(token_rows())
def test_the_scale_is_the_smallest_that_clips_nothing(rows: np.ndarray[Any, Any]) -> None:
    _, scale = quantise(rows)
    peak = np.abs(rows.astype(np.float64)).max(axis=-1)
    lower = np.nextafter(scale, np.float16(-1)).astype(np.float64)
    assert (LARGEST * lower[peak > 0] < peak[peak > 0]).all()


@pytest.mark.parametrize("block", [1, 7, 64])
def test_it_is_the_same_in_blocks(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(0).normal(size=(5, 6, 4)).astype(np.float32)
    whole = quantise(rows)
    monkeypatch.setattr(module, "BLOCK", block)
    for found, wanted in zip(quantise(rows), whole, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_tokens_that_are_apart_in_memory_are_as_those_in_one_piece() -> None:
    rows = np.random.default_rng(0).normal(size=(6, 4, 5)).astype(np.float32)
    for view in (rows[::2], rows.transpose(1, 0, 2), rows[:, 1:3]):
        for found, wanted in zip(quantise(view), quantise(view.copy()), strict=True):
            np.testing.assert_array_equal(found, wanted)


def test_dequantised_values_go_where_they_shall() -> None:
    values, scale = quantise(np.ones((2, 3, 4), np.float32))
    out = np.empty((2, 3, 4), np.float32)
    assert dequantise(values, scale, out) is out
    np.testing.assert_array_equal(out, dequantise(values, scale))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(bad: float) -> None:
    rows = np.zeros((2, 3, 4), np.float32)
    rows[1, 2, 3] = bad
    with pytest.raises(BadConfig, match="not finite"):
        quantise(rows)


@pytest.mark.parametrize("value", [LARGEST * FLOAT16_MAX * 1.0001, 3e38])
def test_values_that_no_scale_reaches_are_refused(value: float) -> None:
    with pytest.raises(BadConfig, match=r"too large for int8.*at most 8319008, found"):
        quantise(np.full((1, 1, 2), -value, np.float32))
    with pytest.raises(BadConfig, match="not finite"):
        quantise(np.full((1, 1, 2), 1e300))  # float32 has no such number
