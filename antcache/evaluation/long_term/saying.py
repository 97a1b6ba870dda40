"""From scores to what is said: an action likeliest or drawn, and the frames that it lasts.

Promise: the same for whoever foresees, a teacher or a student. Of what is said nobody knows how
long it will last: it lasts the median of its class in the training split (of all segments, where
the class has none there), and the next action starts when it ends, without a pause. What is under
way has lasted for a while: it goes on as do half of those that lasted longer.
Letters: N pasts, C classes, F frames.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from antcache.annotations import Segments
from antcache.errors import BadConfig
from antcache.evaluation.long_term.tasks import NOTHING, ObservedPast, RestOfVideo
from antcache.timebase import ANNOTATION_FPS, TOLERANCE_S, exact_ceil

SHORTEST_S = 1 / 30
"""Seconds that every action lasts at least: a video ends after so many of them."""


def chosen(
    logits: NDArray[np.floating], drawn: NDArray[np.float64] | None = None
) -> NDArray[np.int64]:
    """The likeliest action (N,) by logits (N, C), or the one that `drawn` (N,) in [0, 1) falls on.

    Of each row one logit at least is finite, and none is NaN or +inf.
    """
    exact = logits.astype(np.float64)
    if drawn is None:
        return np.asarray(exact.argmax(axis=1))
    total = np.exp(exact - exact.max(axis=1, keepdims=True)).cumsum(axis=1)
    return np.asarray((total <= drawn[:, None] * total[:, -1:]).sum(axis=1))


@dataclass(frozen=True)
class ActionDurations:
    """How long each action lasted in some segments; all of them speak for one that is in none.

    Attributes:
        lasted_s: C arrays of seconds, each with one at least.
    """

    lasted_s: tuple[NDArray[np.float64], ...]

    @classmethod
    def of(cls, segments: Segments, num_actions: int) -> ActionDurations:
        """Those of `segments`.

        Raises:
            BadConfig: there are no segments.
        """
        if not len(segments):
            raise BadConfig("durations can't be learned", expected="1 segment or more", found=0)
        lasted = segments.stop_s - segments.start_s
        by_action = [lasted[segments.action == action] for action in range(num_actions)]
        return cls(tuple(own if len(own) else lasted for own in by_action))

    @functools.cached_property
    def median_s(self) -> NDArray[np.float64]:
        """Median (C,) of each action in seconds, `SHORTEST_S` at least."""
        return np.maximum([np.median(own) for own in self.lasted_s], SHORTEST_S)

    def left_s(self, action: int, so_far_s: float) -> float:
        """What is left of an action that goes on after `so_far_s`: the median of those that lasted
        longer; 0 where none did."""
        lasted = self.lasted_s[action]
        longer = lasted[lasted > so_far_s + TOLERANCE_S]
        return float(np.median(longer)) - so_far_s if len(longer) else 0.0


def say_frames(
    task: RestOfVideo,
    durations: ActionDurations,
    go_on: Callable[[ObservedPast], Iterator[int]],
) -> NDArray[np.int64]:
    """Action (F,) that is said at each frame of a video; `NOTHING` where it was observed.

    Args:
        task: what was observed of the video, and of what length it is.
        durations: how long what is under way goes on, and what is said lasts.
        go_on: says the next actions of the past that it is given, in which that action has ended.
            Where it says no more, nothing is said of the frames that are left.
    """
    past, count = task.past, len(task.truth)
    moment, now_s = past.now_s[0], past.now_s.copy()
    said = np.full(count, NOTHING, dtype=np.int64)
    stop_s = past.stop_s.copy()
    if task.under_way is not None:
        action = past.action[0, task.under_way]
        left_s = durations.left_s(action, moment - past.start_s[0, task.under_way])
        now_s[:] = stop_s[0, task.under_way] = moment + left_s
        said[_frames(moment, now_s[0])] = action
    actions = go_on(replace(past, stop_s=stop_s, now_s=now_s))
    begins, last_s = float(now_s[0]), (count - 1) / ANNOTATION_FPS
    while begins <= last_s and (following := next(actions, None)) is not None:
        ends = begins + float(durations.median_s[following])
        said[_frames(begins, ends)] = following
        begins = ends
    return said


def _frames(start_s: float, stop_s: float) -> slice:
    """The frames from a time on and before another."""
    first, end = exact_ceil(np.array([start_s, stop_s]) * ANNOTATION_FPS)
    return slice(int(first), int(end))
