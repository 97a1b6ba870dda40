"""Times of live sources ascend; recordings keep to their speed."""

from __future__ import annotations

from fractions import Fraction

import pytest

from antcache.predict.live.times import LATE_S, LiveTimes, Pace


def test_times_go_by_the_timestamps_from_the_first_frame_on() -> None:
    times = LiveTimes()
    stamps = [Fraction(9000 + 3 * i, 90) for i in range(5)]
    arrivals = [10.0, 10.9, 10.9, 10.9, 11.0]  # a network has hiccups
    found = [times(*each) for each in zip(stamps, arrivals, strict=True)]
    assert found == [Fraction(i, 30) for i in range(5)]
    assert times.jumps == 0


@pytest.mark.parametrize("jump", [-100, -1, 1000, 10**12])
def test_where_timestamps_jump_time_goes_on_as_it_did_here(jump: int) -> None:
    times = LiveTimes()
    assert times(Fraction(50), 1.0) == 0
    assert times(Fraction(51), 2.0) == 1
    assert times(Fraction(51 + jump), 2.5) == Fraction(3, 2)
    assert times(Fraction(52 + jump), 3.5) == Fraction(5, 2)
    assert times.jumps == 1
    assert times.breaks == (jump != -1)  # back to the second before: a clock was put right


def test_what_has_no_timestamps_is_dated_by_its_arrival() -> None:
    times = LiveTimes()
    found = [times(None, arrived) for arrived in (5.0, 5.25, 5.25, 6.0)]
    assert found[:2] == [0, Fraction(1, 4)]
    assert found[1] < found[2] < found[3]
    assert times.jumps == 0


class Clock:
    """Time that passes where somebody waits."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s

    def wait(self, seconds: float) -> None:
        assert seconds > 0
        self.now_s += seconds


@pytest.mark.parametrize("speed", [0.5, 1.0, 4.0])
def test_a_recording_is_played_at_the_speed_asked_for(speed: float) -> None:
    clock = Clock()
    pace = Pace(speed, clock.wait, clock)
    for second in range(5):
        assert pace(3.0 + second) == pytest.approx(100 + second / speed)
        assert clock.now_s == pytest.approx(100 + second / speed)
    assert pace.slowed_s == 0


def test_what_is_a_little_late_catches_up_and_what_is_too_late_is_played_more_slowly() -> None:
    clock = Clock()
    pace = Pace(1.0, clock.wait, clock)
    pace(0.0)
    clock.now_s += 1.25
    assert pace(1.0) == 101.0
    assert pace(2.0) == clock.now_s == 102.0
    clock.now_s += 3.0
    assert pace(3.0) == clock.now_s == 105.0
    assert pace.slowed_s == 2.0 > LATE_S
    assert pace(4.0) == clock.now_s == 106.0
