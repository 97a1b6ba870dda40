"""When live frames were taken, and when frames of a recording are due.

Promise: the times of a live source ascend and start at 0, whatever its timestamps do; between two
frames they go by the timestamps, and where these jump by the time that passed here. A recording is
never played faster than asked for; where it can't be decoded as fast as that, it is played more
slowly, and by how much is counted.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from fractions import Fraction

Now = Callable[[], float]
"""Seconds that only grow."""

JUMP_S = 5.0
"""How much further than the clock here the timestamps of a live source may go from one frame to the
next: a server may send at once what it kept."""

LATE_S = 0.5
"""How late a recording may be before it is played more slowly instead."""

BREAK_S = 1.0
"""How far timestamps go back where a source shows something else from then on: it begins again, or
a server has another one in its place. A clock that is put right goes back less."""

UNIT = 1_000_000
"""Times by the clock here are multiples of a microsecond."""


class LiveTimes:
    """Times of the frames of a live source, in seconds from its first one.

    Attributes:
        jumps: how often its timestamps went backwards, or further on than time did.
        breaks: how many of these went so far that it hardly shows the same as before.
    """

    def __init__(self) -> None:
        self._offset = Fraction(0)
        self._last: tuple[Fraction, float] | None = None
        self.jumps = self.breaks = 0

    def __call__(self, stamp: Fraction | None, arrived_s: float) -> Fraction:
        """When a frame was taken.

        Args:
            stamp: its timestamp in seconds; None: it has none.
            arrived_s: when it came, by the clock here.
        """
        if self._last is None:
            self._offset = -(stamp or Fraction(0))
            self._last = Fraction(0), arrived_s
            return Fraction(0)
        before, arrived_before_s = self._last
        passed_s = max(0.0, arrived_s - arrived_before_s)
        by_clock = before + max(Fraction(round(passed_s * UNIT), UNIT), Fraction(1, UNIT))
        found = by_clock if stamp is None else stamp + self._offset
        if stamp is not None and not before <= found <= by_clock + Fraction(JUMP_S):
            self.jumps += 1
            self.breaks += found > before or before - found > Fraction(BREAK_S)
            found = by_clock
            self._offset = found - stamp
        self._last = found, arrived_s
        return found


class Pace:
    """When what is seen at a time of a recording is due.

    Args:
        speed: seconds of the recording in a second; 1 is its own speed.
        wait: waits so many seconds, or shorter if it is woken.
        now: the clock.

    Attributes:
        slowed_s: by how much later than it was asked for the recording is by now.
    """

    def __init__(
        self, speed: float, wait: Callable[[float], object], now: Now = time.monotonic
    ) -> None:
        assert speed > 0
        self._speed, self._wait, self._now = speed, wait, now
        self._zero_s: float | None = None
        self.slowed_s = 0.0

    def __call__(self, time_s: float) -> float:
        """Wait until a time of the recording is due; when that is, by the clock here."""
        now_s = self._now()
        if self._zero_s is None:
            self._zero_s = now_s - time_s / self._speed
        due_s = self._zero_s + time_s / self._speed
        late_s = now_s - due_s
        if late_s > LATE_S:
            self._zero_s += late_s
            self.slowed_s += late_s
            return now_s
        if late_s < 0:
            self._wait(-late_s)
        return due_s
