"""Recency: hand-worked places, last verbs and times, and the pull that they have."""

from __future__ import annotations

import numpy as np
import pytest

from antcache.errors import BadCheckpoint
from antcache.teacher.counting.loops import noun_chances
from antcache.teacher.counting.recency import LEAN, LEAN_NEW, Recency
from antcache.teacher.histories import Examples

# The kitchen: action 3 * verb + noun; verbs take, put, open, close; nouns pan, cup, tap.
PLAIN = np.full(3, 1 / 3)


def examples(rows, since=None):
    """Examples from (history, target) pairs; `since` (N, 3) seconds since each action ended."""
    history = np.array([[-1] * (3 - len(past)) + list(past) for past, _ in rows])
    ago = None if since is None else np.array(since, dtype=np.float32) + 1
    return Examples(
        history=history.reshape(len(rows), 3),
        target=np.array([t for _, t in rows]),
        group=np.arange(len(rows)),
        ago_s=ago,
        lasted_s=None if ago is None else np.ones_like(ago),
    )


def recency_of(taxonomy, rows, since=None):
    recency = Recency(taxonomy, 3, "witten-bell", times=since is not None)
    recency.fit(examples(rows, since))
    return recency


def test_places_by_hand(taxonomy):
    """Nouns by recency: tap 0, cup 1; pan is new. The cup was taken and put, then only taken."""
    history = np.array([[4, 1, 8], [-1, -1, -1]])
    pull = np.zeros((3, 5, 2))
    pull[0, 2, 1], pull[1, 0, 0] = 0.6, 0.2  # the tap was opened, 1: just now; the cup was taken
    when = np.array([[1, 0, 1], [0, 0, 0]])
    plain = np.array([0.5, 0.3, 0.2])
    noun, last = noun_chances(
        history, when, taxonomy.verb_of, taxonomy.noun_of, 4, pull, plain, np.array([1, 0, 0.2, 0])
    )
    assert last.tolist() == [[4, 0, 2], [4, 4, 4]]  # 4: never
    np.testing.assert_allclose(noun, [[0.2, 0.2, 0.6], plain])


def test_pulls_by_hand(taxonomy):
    """Two nouns in every history, the older taken, the newer opened; always the older is put."""
    recency = recency_of(taxonomy, [([0, 7], 3), ([1, 8], 4), ([2, 6], 5)])
    asked = recency.rows(examples([([0, 8], 0)]), PLAIN)[0]
    mean = (3 + 1) / (6 + 2)
    place = [(0 + LEAN * mean) / (3 + LEAN), (3 + LEAN * mean) / (3 + LEAN)]
    newer = (0 + LEAN * place[0]) / (3 + LEAN)
    older = (3 + LEAN * place[1]) / (3 + LEAN)
    new = (0 + LEAN_NEW * (1 / 5)) / (3 + LEAN_NEW)
    noun = asked.reshape(4, 3).sum(axis=0)
    np.testing.assert_allclose(noun[0], (1 - new) * older / (older + newer))
    np.testing.assert_allclose(noun[2], (1 - new) * newer / (older + newer))
    np.testing.assert_allclose(noun[1], new)
    assert asked.argmax() == 3  # put the pan


def test_a_new_noun_comes_by_its_frequency(taxonomy):
    recency = recency_of(taxonomy, [([], 0), ([0], 1), ([0, 1], 2)])
    plain = np.array([0.2, 0.3, 0.5])
    rows = recency.rows(examples([([0], 0), ([], 0)]), plain).reshape(2, 4, 3).sum(axis=1)
    np.testing.assert_allclose(rows[0, 1] / rows[0, 2], 0.3 / 0.5)
    np.testing.assert_allclose(rows[1], plain)
    full = recency.rows(examples([([0, 1, 2], 0)]), plain)  # no noun is left that would be new
    assert full.sum() == pytest.approx(1)


def test_the_time_since_a_noun_was_handled_counts(taxonomy):
    """Of two nouns that were opened, the one that is put is the one handled 4 s ago."""
    rows = [([6, 7], 3), ([6, 7], 4)] * 20
    since = [[np.nan, 4, 30], [np.nan, 30, 4]] * 20
    recency = recency_of(taxonomy, rows, since)
    asked = examples([([6, 7], 0)] * 3, [[np.nan, 4, 30], [np.nan, 30, 4], [np.nan] * 3])
    found = recency.rows(asked, PLAIN).reshape(3, 4, 3).sum(axis=1)
    assert found.argmax(axis=1)[:2].tolist() == [0, 1]
    # Unknown times were never seen: both pulls lean on place and last verb, which say nothing.
    np.testing.assert_allclose(found[2, 0], found[2, 1])


def test_recency_can_be_taken_up_again(taxonomy):
    recency = recency_of(taxonomy, [([0, 7], 3), ([1, 8], 4)])
    other = Recency(taxonomy, 3, "witten-bell", times=False)
    other.restore(recency.arrays())
    asked = examples([([0, 8], 0), ([4], 0)])
    np.testing.assert_array_equal(other.rows(asked, PLAIN), recency.rows(asked, PLAIN))
    for wrong in (
        Recency(taxonomy, 4, "witten-bell", times=False),
        Recency(taxonomy, 3, "witten-bell", times=True),
    ):
        with pytest.raises(BadCheckpoint, match="incomplete"):
            wrong.restore(recency.arrays())
