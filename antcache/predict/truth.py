"""What was really done, beside what was expected: labels of a video at the times of answers.

Promise: an answer about an action a gap later is held against the action under way then, of several
the one begun last; where nothing is labelled then, it is neither right nor wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from antcache.annotations import Segments, Taxonomy
from antcache.errors import FingerprintMismatch
from antcache.predict.answers import Anticipation
from antcache.store import Store

BEST = 5
"""Of how many likeliest actions one may be the truth for an answer to be nearly right."""

WORDS = {
    "right": "right",
    "near": f"wrong, but the truth is among the {BEST} best",
    "wrong": "wrong",
    "none": "no label",
}
"""How an answer fares, in words."""


@dataclass(frozen=True, kw_only=True)
class Truth:
    """The labelled segments of one video.

    Attributes:
        start_s: (N,) seconds, ascending.
        stop_s: (N,) seconds.
        action: (N,) ids.
    """

    start_s: NDArray[np.float64]
    stop_s: NDArray[np.float64]
    action: NDArray[np.int64]

    @classmethod
    def of(cls, segments: Segments, video: str) -> Truth | None:
        """Those of a video; None if it has none."""
        own = segments[segments.video == video]
        if not len(own):
            return None
        order = np.argsort(own.start_s, kind="stable")
        return cls(start_s=own.start_s[order], stop_s=own.stop_s[order], action=own.action[order])

    def at(self, time_s: float) -> int:
        """The action under way, of several the one begun last; -1 if there is none."""
        under_way = np.flatnonzero((self.start_s <= time_s) & (time_s < self.stop_s))
        return int(self.action[under_way[-1]]) if len(under_way) else -1

    def judged(self, answer: Anticipation) -> str:
        """How an answer fares: a key of `WORDS`."""
        action = self.at(answer.time_s + answer.gap_s)
        ids = [each.action for each in answer.top[:BEST]]
        if action < 0 or not ids:
            return "none"
        return "right" if ids[0] == action else "near" if action in ids else "wrong"


def truths(store: Store, taxonomy: Taxonomy, videos: list[str]) -> dict[str, Truth]:
    """The labels of videos, of whichever split has them.

    Raises:
        FingerprintMismatch: the labels are of other classes.
        MissingKey: the store has no labels.
    """
    if store.taxonomy.fingerprint != taxonomy.fingerprint:
        raise FingerprintMismatch(
            "labels of other classes than the student's",
            where=store.path,
            expected=f"{len(taxonomy.actions)} actions of {taxonomy.dataset}",
            found=f"{len(store.taxonomy.actions)} actions of {store.taxonomy.dataset}",
        )
    found: dict[str, Truth] = {}
    for split in store.splits():
        segments = store.labels(split)
        for video in set(segments.videos).intersection(videos):
            own = Truth.of(segments, video)
            if own is not None and video not in found:
                found[video] = own
    return found
