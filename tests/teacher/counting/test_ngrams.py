"""N-grams: hand-worked interpolations of both kinds, and what Kneser-Ney is for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from antcache.errors import BadCheckpoint
from antcache.teacher.counting.ngrams import SMOOTHINGS, Chain, Counts, discounts, history_contexts


def chain_of(pairs, smoothing, size=12, order=2):
    """A chain of pairs (history, outcome), and what gives its contexts."""

    def contexts(histories):
        past = [[-1] * (order - 1 - len(h)) + list(h) for h in histories]
        array = np.array(past, dtype=np.int64).reshape(len(past), order - 1)
        return list(history_contexts(array, order, size))

    chain = Chain(size, smoothing)
    outcomes = np.array([y for _, y in pairs], dtype=np.int64)
    chain.fit(contexts([h for h, _ in pairs]), outcomes, base=size + 1)
    return chain, contexts


def test_counts_by_hand():
    counts = Counts.of(np.array([7, 3, 7, 7]), np.array([1, 0, 5, 1]))
    assert counts.keys.tolist() == [3, 7]
    assert counts.starts.tolist() == [0, 1, 3]
    assert counts.outcomes.tolist() == [0, 1, 5]
    assert counts.counts.tolist() == [1, 2, 1]
    assert [a.tolist() for a in counts.pairs()] == [[3, 7, 7], [0, 1, 5]]


def test_witten_bell_by_hand():
    """12 outcomes. After 0 came 3, 3 and 4; after 1 came 4.

    Unigrams: counts 3: 2, 4: 2 of 4, 2 types -> P(3) = (2 + 2/12) / 6 = 13/36, the same for 4,
    and (2/12) / 6 = 1/36 for each of the ten others.
    After 0: 3 events, 2 types -> P(3 | 0) = (2 + 2 * 13/36) / 5 = 49/90.
    """
    chain, contexts = chain_of([([0], 3), ([0], 3), ([0], 4), ([1], 4)], "witten-bell")
    rows = chain.rows(contexts([[0], [1], [7]]))
    assert rows[0, 3] == pytest.approx(49 / 90)
    assert rows[0, 4] == pytest.approx((1 + 2 * 13 / 36) / 5)
    assert rows[0, 0] == pytest.approx((2 / 36) / 5)
    # After 1: one event, one type -> P(4 | 1) = (1 + 13/36) / 2.
    assert rows[1, 4] == pytest.approx((1 + 13 / 36) / 2)
    # A context that never occurred keeps the unigrams.
    np.testing.assert_allclose(rows[2, [3, 4, 0]], [13 / 36, 13 / 36, 1 / 36])


def test_kneser_ney_by_hand():
    """12 outcomes. After 0 came 3 (twice), 4 and 5; after 1 came 4; after 2 came 4.

    Pairs with their count: four once, one twice, none more often: y = 4 / 6,
    D1 = 1 - 2 y / 4 = 2/3, D2 = 2 - 0, held at 1.95.
    Different contexts: 3: 1, 4: 3, 5: 1, total 5. Of these numbers two are 1, none is 2, one is 3:
    y = 1, D1 = 1, held at 0.95; D3 = 3 - 0, held at 2.95.
    P(3) = 0.05 / 5 + left / 12 with left = (0.95 + 2.95 + 0.95) / 5 = 0.97.
    """
    pairs = [([0], 3), ([0], 3), ([0], 4), ([0], 5), ([1], 4), ([2], 4)]
    chain, contexts = chain_of(pairs, "kneser-ney")
    rows = chain.rows(contexts([[0], [7]]))
    single = 0.05 / 5 + 0.97 / 12
    np.testing.assert_allclose(rows[1, [3, 4, 5, 0]], [single, single, single, 0.97 / 12])
    left = (1.95 + 2 / 3 + 2 / 3) / 4
    assert rows[0, 3] == pytest.approx(0.05 / 4 + left * single)
    assert rows[0, 4] == pytest.approx((1 / 3) / 4 + left * single)
    assert rows[0, 0] == pytest.approx(left * 0.97 / 12)


def test_what_follows_one_thing_only_is_not_likely_elsewhere():
    """4 comes often, but only after 0; 5 comes half as often, after many."""
    pairs = [([0], 4)] * 20 + [([c], 5) for c in range(1, 11)]
    kneser, contexts = chain_of(pairs, "kneser-ney")
    witten, _ = chain_of(pairs, "witten-bell")
    asked = contexts([[11]])
    assert kneser.rows(asked)[0].argmax() == 5
    assert witten.rows(asked)[0].argmax() == 4


def test_discounts_are_those_of_the_counts():
    # 10 once, 4 twice, 2 thrice, 1 four times: y = 10 / 18.
    counts = np.repeat([1, 2, 3, 4], [10, 4, 2, 1])
    y = 10 / 18
    expected = [0, 1 - 2 * y * 4 / 10, 2 - 3 * y * 2 / 4, 3 - 4 * y * 1 / 2]
    np.testing.assert_allclose(discounts(counts), expected)


pairs_of = st.lists(
    st.tuples(st.lists(st.integers(0, 4), max_size=2), st.integers(0, 4)), min_size=1, max_size=40
)


@settings(deadline=None, derandomize=True, max_examples=50)
@given(pairs=pairs_of, asked=pairs_of, smoothing=st.sampled_from(SMOOTHINGS))
def test_rows_are_distributions(pairs, asked, smoothing):
    chain, contexts = chain_of(pairs, smoothing, size=5, order=3)
    rows = chain.rows(contexts([h for h, _ in asked]))
    assert (rows > 0).all()
    np.testing.assert_allclose(rows.sum(axis=1), 1)


def test_depth_is_that_of_the_longest_context_seen():
    chain, contexts = chain_of([([0, 1], 2), ([3, 4], 2)], "kneser-ney", order=3)
    assert chain.depth(contexts([[0, 1], [3, 1], [0, 3], []])).tolist() == [2, 1, 0, 0]


def test_a_chain_can_be_taken_up_again():
    chain, contexts = chain_of([([0], 3), ([0], 4)], "kneser-ney")
    other = Chain(12, "kneser-ney")
    other.restore(chain.arrays(), 2)
    asked = contexts([[0], [1]])
    np.testing.assert_array_equal(other.rows(asked), chain.rows(asked))
    arrays = chain.arrays()
    del arrays["1.starts"]
    with pytest.raises(BadCheckpoint, match=r"1\.starts"):
        other.restore(arrays, 2)
