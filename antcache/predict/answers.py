"""What a student says at a time: the likeliest actions and how likely, in words and as data.

Promise: probabilities are those of the student, over all classes; of several that are equal, the
one with the smaller id comes first. Names are those of the classes as they are: whoever shows them
makes them harmless.
Letters: M times, C classes, V verbs, O nouns.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antcache.annotations.protocols import anchor_name

SMALLEST = 0.01
"""Probabilities below that are not told apart in words."""

KEPT = 20
"""Likeliest actions of each time that a page looks at."""

COLUMNS = ("video", "time_s", "gap_s", "rank", "action", "name", "probability")
"""Of a table of answers."""


@dataclass(frozen=True, kw_only=True)
class Likely:
    """An action, and how likely it is to come next.

    Attributes:
        action: its id.
        name: what it is called.
        probability: between 0 and 1.
    """

    action: int
    name: str
    probability: float

    def __str__(self) -> str:
        return f"{self.name} {percent(self.probability)}"


@dataclass(frozen=True, kw_only=True)
class Anticipation:
    """What is expected at one time of a video.

    Attributes:
        time_s: when, in seconds: nothing later was seen.
        gap_s: how much later the action is.
        top: the likeliest actions, the first most.
        anchor: which point of the action is then: 0 its start, 1 its end.
        video: which video.
    """

    time_s: float
    gap_s: float
    top: tuple[Likely, ...]
    anchor: float = 0.0
    video: str = ""

    def __str__(self) -> str:
        return f"{seconds(self.time_s)}: {when(self.gap_s, self.anchor)}, " + ", ".join(
            map(str, self.top)
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, without what all answers share."""
        return {"time_s": self.time_s, "top": [vars(each) for each in self.top]}

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """A row of `COLUMNS` for each action."""
        for rank, each in enumerate(self.top, 1):
            yield (
                *(self.video, self.time_s, self.gap_s),
                *(rank, each.action, each.name, each.probability),
            )


@dataclass(frozen=True, kw_only=True)
class Unanswered:
    """A time of a video at which nothing can be said.

    Attributes:
        time_s: when, in seconds.
        reason: why.
        video: which video.
    """

    time_s: float
    reason: str
    video: str = ""

    def __str__(self) -> str:
        return f"{seconds(self.time_s)}: {self.reason}"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, without the video."""
        return {"time_s": self.time_s, "reason": self.reason}


@dataclass(frozen=True, kw_only=True)
class Anticipations:
    """What is expected at M times of a video.

    Attributes:
        video: what it is called.
        gap_s: seconds from each time to the action.
        names: of the C actions.
        times_s: (M,) float64 seconds, ascending.
        scores: (M, C) float32 log-probabilities of the next action.
        verb_scores: (M, V) likewise, of a student with a classifier of its own, or None.
        noun_scores: (M, O), or None.
        anchor: which point of the action is `gap_s` later: 0 its start, 1 its end.
        unanswered: times that were asked for and have no answer, with the reason.
        last_s: time of the video's last frame; NaN where its end was not looked at.
    """

    video: str
    gap_s: float
    names: tuple[str, ...]
    times_s: NDArray[np.float64]
    scores: NDArray[np.float32]
    verb_scores: NDArray[np.float32] | None = None
    noun_scores: NDArray[np.float32] | None = None
    anchor: float = 0.0
    unanswered: tuple[Unanswered, ...] = ()
    last_s: float = math.nan

    def __len__(self) -> int:
        return len(self.times_s)

    def top(self, k: int = 5) -> list[Anticipation]:
        """The k likeliest actions at each time."""
        return [
            Anticipation(
                time_s=float(time_s),
                gap_s=self.gap_s,
                top=likeliest(scores, self.names, k),
                anchor=self.anchor,
                video=self.video,
            )
            for time_s, scores in zip(self.times_s, self.scores, strict=True)
        ]

    def __iter__(self) -> Iterator[Anticipation]:
        return iter(self.top())

    def to_dict(self, k: int = 5) -> dict[str, Any]:
        """JSON-ready, with the k likeliest actions at each time."""
        return as_dict(self.video, self.gap_s, self.anchor, [*self.top(k), *self.unanswered])


def as_dict(
    video: str, gap_s: float, anchor: float, found: Iterable[Anticipation | Unanswered]
) -> dict[str, Any]:
    """JSON-ready account of one video."""
    kept = list(found)
    return {
        "video": video,
        "gap_s": gap_s,
        "anchor": anchor_name(anchor),
        "answers": [each.to_dict() for each in kept if isinstance(each, Anticipation)],
        "unanswered": [each.to_dict() for each in kept if isinstance(each, Unanswered)],
    }


def likeliest(scores: NDArray[np.float32], names: Sequence[str], k: int) -> tuple[Likely, ...]:
    """The k likeliest of C actions with these log-probabilities (C,)."""
    order = np.argsort(-scores, kind="stable")[:k].tolist()
    return tuple(
        Likely(action=i, name=names[i], probability=float(np.exp(scores[i]))) for i in order
    )


def seconds(value: float) -> str:
    """A time in words: `12.5 s`; to the millisecond."""
    return f"{round(value, 3):.10g} s"


def percent(probability: float) -> str:
    """A probability in words: `34 %`."""
    return f"{probability:.0%}".replace("%", " %") if probability >= SMALLEST else "<1 %"


def when(gap_s: float, anchor: float) -> str:
    """When an action is, in words, seen from the time of the answer."""
    if anchor == 0:
        return f"in {gap_s:g} s" if gap_s else "now"
    if anchor == 1:
        return f"its end in {gap_s:g} s" if gap_s else "its end now"
    # Inside an action without a gap: a recogniser's, whose answer is what is under way.
    return f"the point at {anchor:g} of it in {gap_s:g} s" if gap_s else "now"
