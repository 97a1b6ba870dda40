"""What `Store` promises of streams of tokens, whatever lies below it; a part of `StoreContract`.

Promise: as of `contract`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from antcache.errors import AlreadyExists, BadConfig, FingerprintMismatch
from antcache.store import Store
from antcache.store.backends import format_of
from antcache.store.integrity.info import describe
from antcache.store.integrity.verify import verify
from antcache.store.quantise import dequantise, quantise
from antcache.store.reading.gather import Gatherer

GRID, FUTURE, DIM = (2, 1, 3), (0.25, 1.0), 4
NUM_TOKENS = 2 * 1 * 3 + 2 * 1 * 3
AT = {"anchors": [0.0, 1.0], "gaps": [1.0]}


def add_tokens(store: Store, name: str = "tokens", **changed: Any) -> None:
    """Create the stream `name` of 12 tokens a row, each of 4 int8 numbers."""
    settings = {"dim": DIM, "dtype": "int8", "fps": 8.0, "source": "test", "config": {"a": None}}
    store.create_stream(name, **{**settings, "grid": GRID, "future": FUTURE, **changed})


def token_rows(num_rows: int) -> np.ndarray[Any, Any]:
    """Random rows (R, 12, 4) of tokens in float16, one token of them zero."""
    rows = np.random.default_rng(num_rows).normal(size=(num_rows, NUM_TOKENS, DIM))
    rows[:1, 1] = 0
    return rows.astype(np.float16)


class TokenContract:
    """Tests of streams of tokens; `StoreContract` has the fixture `store`."""

    def reopen(self, store: Store) -> Store:
        """The same store as another process would open it."""
        raise NotImplementedError

    @pytest.mark.parametrize("dtype", ["float16", "float32", "int8"])
    @pytest.mark.parametrize("compressed", [False, True])
    @pytest.mark.parametrize("num_rows", [0, 1, 7])
    def test_tokens_come_back(
        self, store: Store, dtype: str, compressed: bool, num_rows: int
    ) -> None:
        add_tokens(store, dtype=dtype, compressed=compressed)
        rows = token_rows(num_rows)
        store.write_features("tokens", "v1", rows, start_s=0.5)
        again = self.reopen(store)
        assert again.stream("tokens") == store.stream("tokens")
        assert (again.stream("tokens").grid, again.stream("tokens").future) == (GRID, FUTURE)
        features = again.features("tokens", "v1")
        assert features.rows.shape == rows.shape
        assert features.rows.dtype == np.dtype(dtype)
        wanted = dequantise(*quantise(rows)) if dtype == "int8" else rows
        np.testing.assert_array_equal(features.read(), wanted)
        assert verify(again).intact

    def test_int8_tokens_lie_as_they_were_given(self, store: Store) -> None:
        add_tokens(store)
        values, scale = quantise(token_rows(5))
        store.write_features("tokens", "v1", values, scale=scale)
        features = self.reopen(store).features("tokens", "v1")
        assert features.scale is not None
        np.testing.assert_array_equal(features.rows[:], values)
        np.testing.assert_array_equal(features.scale[:], scale)
        with pytest.raises(BadConfig, match="need a scale each"):
            store.write_features("tokens", "v2", values)
        with pytest.raises(AlreadyExists, match="in the store"):
            store.write_features("tokens", "v1", values, scale=scale)

    def test_tokens_are_gathered_with_their_scales(self, store: Store) -> None:
        add_tokens(store)
        for number in (5, 7):
            store.write_features("tokens", f"v{number}", token_rows(number))
        again = self.reopen(store)
        features = [again.features("tokens", video) for video in ("v5", "v7")]
        which, rows = np.array([1, 0, 1]), np.array([[0, 6], [4, 4], [2, 3]])
        out = np.empty((3, 2, NUM_TOKENS, DIM), np.int8)
        scale = np.empty(out.shape[:-1], np.float16)
        Gatherer(features).into(out, which, rows)
        Gatherer([each.scales() for each in features]).into(scale, which, rows)
        wanted = [features[v].read(own) for v, own in zip(which, rows, strict=True)]
        np.testing.assert_array_equal(dequantise(out, scale), wanted)

    def test_only_the_times_of_windows_have_rows(self, store: Store) -> None:
        add_tokens(store, at=AT)
        times = np.array([0.5, 1.25, 4.0])
        with pytest.raises(BadConfig, match="need times"):
            store.write_features("tokens", "v1", token_rows(3))
        store.write_features("tokens", "v1", token_rows(3), times=times)
        features = self.reopen(store).features("tokens", "v1")
        assert features.listed
        asked = np.array([0.0, 0.5, 0.6, 1.25, 4.0, 9.0])
        rows = features.rows_at(asked)
        there = ~features.too_old(rows, asked)
        np.testing.assert_array_equal(there, [False, True, False, True, True, False])
        np.testing.assert_array_equal(rows[there], [0, 1, 2])

    def test_the_first_tokens_make_a_store_one_of_format_2(self, store: Store) -> None:
        def said() -> Any:
            return format_of(self.reopen(store).backend.group_attributes(""))

        assert said() == 1
        with pytest.raises(FingerprintMismatch, match="grid"):
            add_tokens(store, "rgb")
        assert said() == 1
        add_tokens(store)
        assert said() == describe(self.reopen(store))["format"] == 2
        with pytest.raises(FingerprintMismatch, match="future"):
            add_tokens(store, future=())
        add_tokens(store)
        assert self.reopen(store).stream("rgb").grid is None
