"""Soft targets: look-up by uid and the top-k form, against hand-worked values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antcache.errors import BadConfig
from antcache.store import SoftTargets, soft_targets


def dense(logits: np.ndarray, valid: list[bool] | None = None) -> SoftTargets:
    n = len(logits)
    return SoftTargets(
        uid=np.array([f"u{i}" for i in range(n)], dtype=np.str_),
        valid=np.array(valid if valid is not None else [True] * n, dtype=bool),
        logits=logits.astype(np.float32),
    )


def test_rows_are_found_by_uid_and_invalid_ones_are_not() -> None:
    targets = dense(np.zeros((3, 2)), valid=[True, False, True])
    rows = targets.rows_for(np.array(["u2", "u1", "zzz", "u0", "", "u2"]))
    np.testing.assert_array_equal(rows, [2, -1, -1, 0, -1, 2])
    none = dense(np.zeros((0, 2)))
    np.testing.assert_array_equal(none.rows_for(np.array(["u1"])), [-1])


def test_top_k_keeps_the_best_first_and_the_mass_of_the_others() -> None:
    logits = np.log(np.array([[0.1, 0.4, 0.2, 0.3]])) + 5  # shift must not matter
    best = dense(logits).top_k(2)
    np.testing.assert_array_equal(best.index, [[1, 3]])
    np.testing.assert_allclose(best.logit, logits[:, [1, 3]], rtol=1e-6)
    np.testing.assert_allclose(best.tail, np.log([0.3]), rtol=1e-6)
    assert dense(logits).top_k(4).tail == -np.inf


@settings(deadline=None, derandomize=True, max_examples=50)
@given(st.integers(0, 10_000), st.integers(1, 7))
def test_mass_of_the_best_and_the_others_is_one(seed: int, k: int) -> None:
    logits = np.random.default_rng(seed).normal(scale=5, size=(4, 7))
    best = dense(logits).top_k(k)
    assert best.logit is not None
    assert best.tail is not None
    total = np.logaddexp.reduce(logits.astype(np.float32), axis=1, keepdims=True)
    mass = np.exp(best.logit - total).sum(1) + np.exp(best.tail)
    np.testing.assert_allclose(mass, 1, rtol=1e-5)
    assert (np.diff(best.logit, axis=1) <= 0).all()


@pytest.mark.parametrize("k", [1, 3, 8, 9])
def test_the_best_are_the_first_of_all_in_order(k: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ties, also those of the k-th place, go to the lower class; block by block, as at once."""
    monkeypatch.setattr(soft_targets, "BLOCK", 40)
    rng = np.random.default_rng(k)
    logits = np.concatenate([rng.integers(0, 4, (50, 9)), rng.normal(size=(51, 9))])
    logits[7, 3] = np.nan
    order = np.argsort(-logits, axis=1, kind="stable")
    np.testing.assert_array_equal(dense(logits).top_k(k).index, order[:, :k])


@pytest.mark.parametrize("k", [0, 3])
def test_impossible_k(k: int) -> None:
    with pytest.raises(BadConfig, match="expected 1 to 2"):
        dense(np.zeros((1, 2))).top_k(k)


def test_one_form_only() -> None:
    with pytest.raises(BadConfig, match="either logits, or index, logit and tail"):
        SoftTargets(uid=np.array(["a"]), valid=np.array([True]))
    with pytest.raises(BadConfig, match="only dense soft targets"):
        dense(np.zeros((2, 2))).top_k(1).top_k(1)
