"""A trained teacher asked about one split, with histories that are true or imperfect.

Promise: only the videos of that split are looked at, and what is asked about keeps its true label
whatever its past is labelled.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from antcache.evaluation.sheet import Scored
from antcache.store import Store
from antcache.teacher.base import Teacher
from antcache.teacher.histories import HistoryConfig, Timeline
from antcache.teacher.noise import ABSENT, relabeled


@dataclass(frozen=True, kw_only=True)
class ImperfectScore:
    """What is left under histories whose labels are not the true ones.

    Attributes:
        history: its kind.
        labels: `true`, `uniform`, `confused` or `recognized`.
        rate: share of wrong labels that was asked for; None for recognised ones.
        wrong: share of the labels of past segments that are wrong, percent.
        absent: share of the past segments that have no label, percent.
        metrics: over all segments of the split; see `metrics.score`.
    """

    history: str
    labels: str
    rate: float | None
    wrong: float
    absent: float
    metrics: dict[str, float]


class SplitScorer:
    """A trained teacher, and the videos in which a split has segments.

    Attributes:
        teacher: the teacher.
        timeline: all segments of these videos, of any split, M of them.
        in_split: (M,) bool, the N segments of the split.
        usual: the windows of the store.
    """

    def __init__(self, store: Store, split: str, teacher: Teacher) -> None:
        every = Timeline.of_store(store)
        near = np.isin(every.segments.video, store.labels(split).video)
        self.teacher = teacher
        self.timeline = Timeline(
            taxonomy=every.taxonomy, segments=every.segments[near], split=every.split[near]
        )
        self.in_split = self.timeline.split == split
        self.usual = store.protocol

    def predict(self, history: HistoryConfig, actions: NDArray[np.int64] | None = None) -> Scored:
        """What the teacher expects if the past segments are labelled `actions` (M,), or truly."""
        segments, teacher = self.timeline.segments, self.teacher
        examples = relabeled(
            self.timeline,
            segments.action if actions is None else actions,
            history,
            teacher.config.length,
            times=teacher.needs_times,
        )
        logits = teacher.predict(examples[self.in_split]).logits
        rows = np.flatnonzero(np.isfinite(logits).all(axis=1))
        return Scored(
            segments=segments[self.in_split],
            taxonomy=self.timeline.taxonomy,
            rows=rows,
            scores=logits[rows],
            logits=logits[rows],
            depth=logits.shape[1],
            anchor=history.anchor,
            usual=self.usual,
        )

    def score_imperfect(
        self,
        labels: str,
        rate: float | None,
        actions: NDArray[np.int64],
        history: HistoryConfig,
    ) -> ImperfectScore:
        """A row of the table of imperfect histories."""
        known = actions != ABSENT
        past = np.unique(
            self.timeline.history_rows(history, self.teacher.config.length)[self.in_split]
        )
        past = past[past >= 0]
        wrong = (actions != self.timeline.segments.action)[past] & known[past]
        return ImperfectScore(
            history=history.mode,
            labels=labels,
            rate=rate,
            wrong=_percent(wrong[known[past]]),
            absent=_percent(~known[past]),
            metrics=self.predict(history, actions).ranked.figures(self.timeline.taxonomy),
        )


def _percent(values: NDArray[np.bool_]) -> float:
    return 100.0 * float(values.mean()) if len(values) else 0.0
