"""How long actions last: chances that agree with the durations they were learned from."""

from __future__ import annotations

import numpy as np
import pytest

from antcache.annotations import Segments
from antcache.errors import BadConfig
from antcache.teacher.recognizing.durations import LEAST, MOST, Durations


def segments(action, lasted):
    start = np.concatenate([[0.0], np.cumsum(lasted)[:-1]])
    none = [-1] * len(action)
    return Segments.of(
        uid=[str(i) for i in range(len(action))],
        video=["v"] * len(action),
        start_s=start,
        stop_s=start + lasted,
        verb=none,
        noun=none,
        action=action,
    )


@pytest.fixture(scope="module")
def drawn():
    """A short action and a long one, a thousand times each, and one that never happens."""
    rng = np.random.default_rng(0)
    action = np.tile([0, 1], 1000)
    return action, np.exp(rng.normal(np.where(action == 0, 1.5, 3.0), 0.4))


@pytest.mark.parametrize("step_s", [1.0, 0.5])
def test_as_many_survive_as_lasted_longer(drawn, step_s):
    action, lasted = drawn
    durations = Durations.of(segments(action, lasted), 3, step_s=step_s)
    for own in (0, 1):
        survive = np.cumprod(1 - durations.ends[own])
        for seconds in (3, 5, 10, 20, 30):
            longer = (lasted[action == own] > seconds).mean()
            assert survive[round(seconds / step_s) - 1] == pytest.approx(longer, abs=0.04)


def test_an_action_never_seen_lasts_as_all_do(drawn):
    durations = Durations.of(segments(*drawn), 3)
    survive = np.cumprod(1 - durations.ends, axis=1)
    assert survive[0, 9] < survive[2, 9] < survive[1, 9]


def test_chances_are_bounded_and_the_last_is_that_of_all_longer_ones(drawn):
    durations = Durations.of(segments(*drawn), 3)
    assert durations.ends.min() >= LEAST
    assert durations.ends.max() <= MOST
    assert durations.chance(np.array([0, 1]), np.array([10**6, 3])).tolist() == [
        durations.ends[0, -1],
        durations.ends[1, 3],
    ]


def test_segments_without_a_duration_are_passed_over(drawn):
    action, lasted = drawn
    unknown = segments(np.append(action, 0), np.append(lasted, np.nan))
    expected = Durations.of(segments(action, lasted), 3).ends
    np.testing.assert_array_equal(Durations.of(unknown, 3).ends, expected)


def test_nothing_is_learned_from_one_segment():
    with pytest.raises(BadConfig, match="durations can't be learned"):
        Durations.of(segments([0], np.array([2.0])), 1)


def test_an_impossible_step(drawn):
    with pytest.raises(BadConfig, match="step_s"):
        Durations.of(segments(*drawn), 3, step_s=0.0)
