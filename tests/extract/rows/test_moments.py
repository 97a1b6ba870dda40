from __future__ import annotations

import numpy as np

from antcache.annotations import Segments
from antcache.extract.rows.collected import Collected
from antcache.extract.rows.moments import lacking, window_times, within


def segments(*rows):
    videos, starts, stops = zip(*rows, strict=True)
    ids = dict.fromkeys(("verb", "noun", "action"), np.zeros(len(rows)))
    uid = np.arange(len(rows)).astype(str)
    return Segments.of(uid=uid, video=videos, start_s=starts, stop_s=stops, **ids)


def test_times_by_hand():
    splits = [segments(("b", 3.0, 5.0), ("a", 2.0, 4.0)), segments(("b", 0.5, 1.0))]
    times = window_times(splits, anchors=[0.0, 1.0], gaps=[1.0, 2.0])
    assert list(times) == ["a", "b"]
    assert times["a"].tolist() == [0.0, 1.0, 2.0, 3.0]
    # 3 - 1, 3 - 2, 5 - 1, 5 - 2; 0.5 - 1, 0.5 - 2, 1 - 1, 1 - 2
    assert times["b"].tolist() == [-1.5, -1.0, -0.5, 0.0, 1.0, 2.0, 3.0, 4.0]


def test_equal_times_are_one():
    """Also where floats differ: 2.3 - 2 is not 1.3 - 1."""
    assert len({1.3 - 1.0, 2.3 - 2.0}) == 2
    both = segments(("a", 1.3, 2.0), ("a", 2.3, 3.0), ("a", 1.55, 2.0), ("a", 1.3001, 2.0))
    times = window_times([both], anchors=[0.0], gaps=[1.0, 2.0])["a"]
    np.testing.assert_allclose(times, [-0.7, -0.6999, -0.45, 0.3, 0.3001, 0.55, 1.3])


def test_times_within_a_video():
    times = np.array([-1.0, 0.5 - 1e-9, 0.5, 1.0, 2.0 + 1e-9, 2.001])
    kept, early, late = within(times, 0.5, 2.0)
    assert kept.tolist() == times[1:5].tolist()
    assert (early, late) == (1, 1)


def test_times_without_a_row():
    there = np.array([0.5, 1.0, 2.0])
    asked = np.array([0.4, 0.5, 1.0 + 1e-9, 1.5, 2.0 - 1e-9, 3.0])
    assert lacking(asked, there).tolist() == [0.4, 1.5, 3.0]
    assert lacking(asked, there[:0]).tolist() == asked.tolist()
    assert lacking(asked[:0], there).tolist() == []


def test_rows_are_collected_in_one_array():
    """More may come than were expected."""
    for expected in (0, 3, 100):
        rows = Collected(expected)
        assert rows.all((2,), "float16").shape == (0, 2)
        for batch in np.split(np.arange(20.0).reshape(10, 2), [4, 5, 9]):
            rows.add(batch)
        assert rows.all((2,), "float16").tolist() == np.arange(20.0).reshape(10, 2).tolist()
