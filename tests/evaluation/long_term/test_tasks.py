"""What was observed and what came; nothing of the latter is in the former."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from antcache.errors import BadConfig
from antcache.evaluation.long_term.tasks import frame_track, next_actions, rest_of_video


@pytest.fixture
def segments(make_segments, join):
    """Five segments of one video, out of order; 9 goes on while 1 is done. Two of another."""
    one = make_segments("a", [6, 0, 2, 3, 8], [4, 2, 9, 1, 5], [8, 2, 7, 4, 10])
    return join([one, make_segments("b", [0, 2], [7, 8])])


def same(one, other):
    for field in fields(one):
        np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name))


def test_the_next_actions_of_every_segment_that_has_so_many(segments):
    task = next_actions(segments, steps=3, length=3)
    # In order: 2, 9, 1, 4, 5. Behind 2 come 9, 1, 4; behind 9 come 1, 4, 5.
    np.testing.assert_array_equal(task.truth, [[9, 1, 4], [1, 4, 5]])
    np.testing.assert_array_equal(task.past.action, [[-1, -1, 2], [-1, 2, 9]])
    np.testing.assert_array_equal(task.past.start_s, [[np.nan, np.nan, 0], [np.nan, 0, 2]])
    np.testing.assert_array_equal(task.past.stop_s, [[np.nan, np.nan, 2], [np.nan, 2, 7]])
    np.testing.assert_array_equal(task.past.now_s, [2, 7])
    assert task.left_out == 5


def test_what_goes_on_is_known_up_to_the_moment(segments):
    task = next_actions(segments, steps=2, length=2)
    np.testing.assert_array_equal(task.past.action[2], [9, 1])
    np.testing.assert_array_equal(task.past.stop_s[2], [4, 4])  # 9 stops at 7 s: not known at 4 s


def test_videos_that_are_too_short_are_refused(segments):
    with pytest.raises(BadConfig, match=r"no segment has 5 others after it .* 7 segments of 2"):
        next_actions(segments, steps=5, length=3)


def test_frames_of_the_whole_video(make_segments):
    segments = make_segments("a", [0.1, 0.3], [4, 5], [0.5, 0.4])
    assert frame_track(segments).tolist() == [-1] * 3 + [4] * 6 + [5] * 3 + [4] * 3


def test_the_rest_of_a_video(segments):
    task = rest_of_video(segments, "a", observed=0.35, length=4)
    assert len(task.truth) == 300
    np.testing.assert_array_equal(task.past.now_s, [3.5])
    np.testing.assert_array_equal(task.past.action, [[-1, 2, 9, 1]])
    np.testing.assert_array_equal(task.past.stop_s, [[np.nan, 2, 3.5, 3.5]])
    assert task.under_way == 3  # of 9 and 1 the one begun last
    assert rest_of_video(segments, "a", observed=0.5, length=4).under_way == 2


def test_an_end_at_the_moment_is_not_seen_and_one_before_it_is(make_segments):
    def under_way(stop):
        segments = make_segments("a", [0, 8], [1, 2], [stop, 10])
        return rest_of_video(segments, "a", observed=0.3, length=1).under_way

    assert under_way(3.0) == under_way(4.0) == 0
    assert under_way(2.9) is None


@pytest.mark.parametrize("observed", [0.2, 0.3, 0.5])
def test_nothing_later_is_observed(segments, taxonomy, observed):
    """What stops or starts later is another action, at another time: the past is the same."""
    moment = 10 * observed
    later = (segments.start_s >= moment) & (segments.video == "a")
    goes_on = (segments.stop_s >= moment) & ~later & (segments.video == "a")
    action = np.where(later, (segments.action + 3) % 12, segments.action)
    other = replace(
        segments,
        action=action,
        verb=taxonomy.verb_of[action],
        noun=taxonomy.noun_of[action],
        start_s=segments.start_s + np.where(later & (segments.start_s < 8), 0.25, 0),
        stop_s=segments.stop_s + np.where(goes_on, 0.5, 0),
    )
    one, two = (rest_of_video(s, "a", observed=observed, length=4) for s in (segments, other))
    same(one.past, two.past)
    assert one.under_way == two.under_way
    assert (one.truth != two.truth).any()


def test_nothing_later_is_in_the_past_of_the_next_actions(segments):
    later = (segments.start_s > 3) & (segments.video == "a")
    other = replace(
        segments,
        action=np.where(later, 11, segments.action),
        stop_s=segments.stop_s + np.where(later, 1.5, 0),
    )
    one, two = (next_actions(s, steps=2, length=4) for s in (segments, other))
    same(one.past[slice(0, 3)], two.past[slice(0, 3)])
    assert (one.truth != two.truth).any()
