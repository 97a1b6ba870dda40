"""What frequent and rare actions gain.

Promise: every action that is present is in one group, by how many segments of the training split
have it, and a group's figure is class-mean recall@5 of its own classes, on the draws of all other
figures. Letters: C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from antcache.errors import BadConfig
from antcache.evaluation.comparing.draws import Draws, MetricChange
from antcache.evaluation.comparing.systems import System
from antcache.evaluation.metrics import Metric

FIRST = (0, 1, 5, 20, 100)
"""Fewest training segments of a group's classes; what lies between two groups is the lower's."""
TOP = 5


@dataclass(frozen=True, kw_only=True)
class FrequencyGroup:
    """Actions about equally frequent.

    Attributes:
        fewest: training segments that each of them has at least.
        most: and at most; None: any number.
        classes: how many.
        n: segments that count, whose truth is one of them.
        change: their class-mean recall@5; None where fewer than two resamples have one of them.
    """

    fewest: int
    most: int | None
    classes: int
    n: int
    change: MetricChange | None

    @property
    def words(self) -> str:
        """Its training segments in words."""
        if self.most is None:
            return f"{self.fewest} or more"
        return f"{self.fewest} to {self.most}" if self.most > self.fewest else str(self.fewest)


def by_frequency(
    a: Sequence[System], b: Sequence[System], draws: Draws, counts: NDArray[np.integer]
) -> tuple[FrequencyGroup, ...]:
    """The groups that have a class among the truths, the rarest first.

    Args:
        a: the runs of A.
        b: the runs of B.
        draws: of the same segments.
        counts: (C,) training segments of each action.
    """
    labels = a[0].ranked.labels["action"]
    present = np.unique(labels)
    groups = []
    for fewest, following in zip(FIRST, (*FIRST[1:], None), strict=True):
        inside = counts[present] >= fewest
        if following is not None:
            inside &= counts[present] < following
        ids = tuple(present[inside].tolist())
        if ids:
            metric = Metric(kind="action", k=TOP, class_mean=True, classes=ids)
            groups.append(
                FrequencyGroup(
                    fewest=fewest,
                    most=None if following is None else following - 1,
                    classes=len(ids),
                    n=int(np.isin(labels, ids).sum()),
                    change=_change(draws, metric, a, b),
                )
            )
    return tuple(groups)


def _change(
    draws: Draws, metric: Metric, a: Sequence[System], b: Sequence[System]
) -> MetricChange | None:
    try:
        return draws.change(metric, a, b)
    except BadConfig:  # the few videos that have such a class were hardly drawn
        return None
