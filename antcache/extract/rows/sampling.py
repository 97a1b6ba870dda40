"""Which pictures a row of features is made of, for models of single frames and of clips.

Promise: row r belongs to the time `start_s + r / fps`. A single-frame model sees the picture of
that time. A clip of T frames *ends* at that time: its frames are `1 / clip_fps` apart, the last is
the picture of the row's time, and where the clip would begin before the video, the first picture is
repeated (left padding, as in the windows of the protocols). No row sees a later picture.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

LARGEST_DENOMINATOR = 1001
"""Rates are taken as fractions with at most this denominator: 30000 / 1001 is exact."""


def exact_rate(rate: float) -> Fraction:
    """A rate per second as the fraction that is meant by it."""
    return Fraction(rate).limit_denominator(LARGEST_DENOMINATOR)


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """Rows and clips on the coarsest regular grid of ticks that holds all their times.

    Attributes:
        rate: ticks per second.
        row_step: ticks from a row to the next.
        clip_step: ticks from a frame of a clip to the next.
        num_frames: frames T per row.
    """

    rate: Fraction
    row_step: int
    clip_step: int
    num_frames: int

    @classmethod
    def of(cls, fps: float, *, num_frames: int = 1, clip_fps: float | None = None) -> Sampling:
        """Sampling of `fps` rows per second, each of `num_frames` frames at `clip_fps`."""
        rows = exact_rate(fps)
        clip = rows if clip_fps is None else exact_rate(clip_fps)
        denominator = rows.denominator * clip.denominator
        rate = Fraction(
            math.lcm(rows.numerator * clip.denominator, clip.numerator * rows.denominator),
            denominator,
        )
        return cls(
            rate=rate,
            row_step=int(rate / rows),
            clip_step=int(rate / clip),
            num_frames=num_frames,
        )

    def wanted(self, tick: int) -> bool:
        """Whether any row looks at this tick."""
        return any((tick + k * self.clip_step) % self.row_step == 0 for k in range(self.num_frames))

    def clip_ending_at(self, tick: int) -> list[int] | None:
        """The T ticks of the row at this tick, ascending; None if no row is there."""
        if tick % self.row_step:
            return None
        return [max(0, tick - k * self.clip_step) for k in reversed(range(self.num_frames))]

    def oldest_needed_after(self, tick: int) -> int:
        """First tick that rows after this one may still look at."""
        return max(0, tick + 1 - (self.num_frames - 1) * self.clip_step)
