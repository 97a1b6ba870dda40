"""A teacher goes on: what it hears of itself, when, and how chance decides."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from next_in_order import NextInOrder

from antcache.errors import BadCheckpoint, BadConfig
from antcache.evaluation.long_term.saying import ActionDurations
from antcache.evaluation.long_term.tasks import ObservedPast
from antcache.teacher.base import TeacherOutput
from antcache.teacher.histories import HistoryConfig
from antcache.teacher.long_term.rolling_out import Rollout, say_sequences

NAN = np.nan


@pytest.fixture
def past():
    """Action 3 from 1 to 3 s, and action 7 from 4 to 9 s."""
    return ObservedPast(
        action=np.array([[-1, -1, -1, 3], [-1, -1, -1, 7]]),
        start_s=np.array([[NAN, NAN, NAN, 1.0], [NAN, NAN, NAN, 4.0]]),
        stop_s=np.array([[NAN, NAN, NAN, 3.0], [NAN, NAN, NAN, 9.0]]),
        now_s=np.array([3.0, 9.0]),
    )


def test_each_action_becomes_history(taxonomy, past):
    teacher = NextInOrder(taxonomy, times=True)
    median = np.arange(12.0) + 1  # action a lasts a + 1 seconds
    rollout = Rollout(teacher, HistoryConfig(gap_s=0.5), past, median)
    assert [rollout.step().tolist() for _ in range(3)] == [[4, 8], [5, 9], [6, 10]]
    first, second, third = teacher.asked
    np.testing.assert_array_equal(first.history, past.action)
    np.testing.assert_array_equal(third.history, [[-1, 3, 4, 5], [-1, 7, 8, 9]])
    # Half a second before 3 s: begun 1.5 s ago, and not over.
    np.testing.assert_allclose(first.ago_s, [[NAN, NAN, NAN, 1.5], [NAN, NAN, NAN, 4.5]])
    np.testing.assert_allclose(first.lasted_s, [[NAN, NAN, NAN, 1.5], [NAN, NAN, NAN, 4.5]])
    # Action 4 lasts 5 s, from 3 to 8 s; action 8 lasts 9 s, from 9 to 18 s.
    np.testing.assert_allclose(second.ago_s, [[NAN, NAN, 6.5, 4.5], [NAN, NAN, 13.5, 8.5]])
    np.testing.assert_allclose(second.lasted_s, [[NAN, NAN, 2, 4.5], [NAN, NAN, 5, 8.5]])
    np.testing.assert_allclose(rollout.now_s, [3 + 5 + 6 + 7, 9 + 9 + 10 + 11])


def test_without_times_none_are_made_up(taxonomy, past):
    teacher = NextInOrder(taxonomy)
    Rollout(teacher, HistoryConfig(anchor=1.0), past, np.ones(12)).step()
    assert teacher.asked[0].ago_s is None
    assert teacher.asked[0].lasted_s is None


def test_what_is_drawn_falls_on_its_share(taxonomy, past):
    teacher = NextInOrder(taxonomy, doubt=0.25)
    for drawn, said in ((0.0, 4), (0.7499, 4), (0.7501, 5), (0.9999, 5)):
        rollout = Rollout(teacher, HistoryConfig(), past, np.ones(12))
        assert rollout.step(np.array([drawn, 0.5])).tolist() == [said, 8]


def test_samples_follow_the_seed_and_the_shares(taxonomy, past):
    teacher = NextInOrder(taxonomy, doubt=0.25)
    say = partial(
        say_sequences,
        partial(Rollout, teacher, HistoryConfig(), median_s=np.ones(12)),
        past,
        steps=10,
    )
    said = say(samples=100, seed=1)
    assert said.shape == (2, 100, 10)
    np.testing.assert_array_equal(said, say(samples=100, seed=1))
    assert (said != say(samples=100, seed=2)).any()
    before = np.concatenate([np.broadcast_to([[[3]], [[7]]], (2, 100, 1)), said[..., :-1]], axis=2)
    skipped = (said - before) % 12 - 1
    assert set(np.unique(skipped)) == {0, 1}
    assert skipped.mean() == pytest.approx(0.25, abs=4 * (0.25 * 0.75 / skipped.size) ** 0.5)
    np.testing.assert_array_equal(say(), [[np.arange(4, 14) % 12], [np.arange(8, 18) % 12]])


def test_median_durations_are_those_of_the_class(make_segments):
    segments = make_segments("a", [0, 10, 20, 30], [2, 2, 2, 5], [1, 12, 27, 34])
    durations = ActionDurations.of(segments, 6)
    of_all_four = 3
    expected = [3, of_all_four, 2, of_all_four, of_all_four, 4]
    np.testing.assert_allclose(durations.median_s, expected)
    with pytest.raises(BadConfig, match="durations can't be learned"):
        ActionDurations.of(segments[:0], 6)


def test_what_no_rollout_can_be_made_of_is_refused(taxonomy, past):
    teacher = NextInOrder(taxonomy, times=True)
    with pytest.raises(BadConfig, match="goes on from starts alone"):
        Rollout(teacher, HistoryConfig(anchor=0.5), past, np.ones(12))
    teacher.predict = lambda examples: TeacherOutput(  # type: ignore[method-assign]
        logits=np.full((len(examples), 12), np.nan, dtype=np.float32)
    )
    rollout = Rollout(teacher, HistoryConfig(), past, np.ones(12))
    with pytest.raises(BadCheckpoint, match="scores are no numbers"):
        rollout.step()
