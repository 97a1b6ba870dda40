"""How long actions last: the chance that one which has lasted so long ends in the next step.

Promise: learned from segments that are given, and from nothing else. The logarithm of an action's
duration is normal; mean and variance of an action lean on those of all actions together, as if
`LEAN` of its segments had lasted as all do, so that a rare action is no surprise.

Letters: N segments, C actions, D steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from antcache.annotations import Segments
from antcache.checks import Positive, check_type
from antcache.errors import BadConfig

LEAN = 5.0
LEAST, MOST = 1e-3, 0.9
"""Bounds of a chance: nothing is certain of what was seen a few times."""

CHANCES = 1 << 24
"""Chances that are held, 128 MiB: of EPIC-KITCHENS-100's actions an hour in seconds. What lasts
longer than they reach ends as the last one says."""


@dataclass(frozen=True, kw_only=True)
class Durations:
    """Chances of ending.

    Attributes:
        ends: (C, D) float64, the chance that an action which has lasted n steps ends before it has
            lasted n + 1; the last one is that of all longer ones.
        step_s: seconds of a step.
    """

    ends: NDArray[np.float64]
    step_s: float

    @classmethod
    def of(cls, segments: Segments, num_actions: int, *, step_s: float = 1.0) -> Durations:
        """Learn from segments (N,) of known stops.

        Args:
            segments: N of training videos.
            num_actions: C.
            step_s: seconds between two frames that are scored.

        Raises:
            BadConfig: fewer than two segments last longer than 0 s, or an impossible step.
        """
        check_type("step_s", step_s, Positive)
        lasted = segments.stop_s - segments.start_s
        timed = lasted > 0  # NaN is not
        if timed.sum() < 2:
            raise BadConfig(
                "durations can't be learned", expected="2 segments or more", found=int(timed.sum())
            )
        log, action = np.log(lasted[timed]), segments.action[timed]
        count = np.bincount(action, minlength=num_actions)
        total = np.bincount(action, weights=log, minlength=num_actions)
        mean = (total + LEAN * log.mean()) / (count + LEAN)
        squares = np.bincount(action, weights=(log - mean[action]) ** 2, minlength=num_actions)
        deviation = np.sqrt((squares + LEAN * log.var() + 1e-6) / (count + LEAN))
        steps = int(np.ceil(1.5 * lasted[timed].max() / step_s)) + 1
        steps = min(steps, max(1, CHANCES // num_actions))
        return cls(ends=_hazard(mean, deviation, step_s, steps), step_s=step_s)

    def chance(self, action: NDArray[np.int64], steps: NDArray[np.int64]) -> NDArray[np.float64]:
        """Chance of ending within a step of actions that have lasted `steps`, in their shape."""
        last = self.ends.shape[1] - 1
        chosen: NDArray[np.float64] = self.ends[np.asarray(action), np.minimum(steps, last)]
        return chosen


def _hazard(
    mean: NDArray[np.float64], deviation: NDArray[np.float64], step_s: float, steps: int
) -> NDArray[np.float64]:
    """(C, D) of log-normal durations with these means and deviations (C,) of the logarithm."""
    from scipy.special import log_ndtr

    edges = np.log(np.maximum(np.arange(steps + 1) * step_s, 1e-9))
    # log of the share that lasts longer; differences of logs hold out where shares underflow.
    longer = log_ndtr((mean[:, None] - edges) / deviation[:, None])
    return np.asarray(np.clip(-np.expm1(np.diff(longer, axis=1)), LEAST, MOST))
