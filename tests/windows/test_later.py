"""What comes after an action, by the labels: in order, and nothing after the end of a video."""

from __future__ import annotations

import numpy as np
import pytest

from antcache.annotations import Segments
from antcache.windows.later import later_actions


@pytest.fixture
def segments():
    """Five of a video out of order, of which two start together, and one of another."""
    return Segments.of(
        uid=["a6", "a0", "a2", "a2 long", "a8", "b0"],
        video=["a"] * 5 + ["b"],
        start_s=[6, 0, 2, 2, 8, 0],
        stop_s=[8, 2, 4, 7, 10, 2],
        verb=[-1] * 6,
        noun=[-1] * 6,
        action=[4, 2, 1, 9, 5, 7],
    )


def test_actions_that_follow_and_none_after_the_end(segments):
    found = later_actions(segments, np.array(["a0", "b0", "a2 long", "a0", "a8"]), 3)
    # In order: 2, 1, 9, 4, 5; of those that start together 1 stops first.
    none = -100
    expected = [[1, 9, 4], [none] * 3, [4, 5, none], [1, 9, 4], [none] * 3]
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.int64


def test_more_than_a_video_has(segments):
    found = later_actions(segments, segments.uid, 40)
    assert found.shape == (6, 40)
    assert (found >= 0).sum(axis=1).tolist() == [1, 4, 3, 2, 0, 0]


def test_order_of_an_empty_split(segments):
    assert segments[:0].in_order() == {}
    assert {k: v.tolist() for k, v in segments.in_order().items()} == {
        "a": [1, 2, 3, 0, 4],
        "b": [5],
    }
