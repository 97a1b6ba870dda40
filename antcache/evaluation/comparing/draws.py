"""Draws of videos and of pairs of runs, on which every difference of a comparison is judged.

Promise: one set of draws for all metrics of a comparison, so that they go together. Letters: N
segments, S pairs of runs, B resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from antcache.annotations import Segments, Taxonomy
from antcache.evaluation.bootstrap import Difference, Resamples, difference
from antcache.evaluation.comparing.systems import System
from antcache.evaluation.metrics import Metric
from antcache.evaluation.sheet import BootstrapConfig


@dataclass(frozen=True, kw_only=True)
class MetricChange:
    """One metric of A and B, in percent.

    Attributes:
        a: of each seed (S).
        b: of each seed (S).
        difference: mean of B minus mean of A, with interval and p-value.
        deviation: standard deviation over the seeds of B minus A (n - 1); None with one seed.
    """

    a: tuple[float, ...]
    b: tuple[float, ...]
    difference: Difference
    deviation: float | None

    @property
    def mean_a(self) -> float:
        """Mean over the seeds of A."""
        return float(np.mean(self.a))

    @property
    def mean_b(self) -> float:
        """Mean over the seeds of B."""
        return float(np.mean(self.b))


@dataclass(frozen=True, kw_only=True)
class Draws:
    """B draws of the segments' videos and of S pairs of runs.

    Attributes:
        taxonomy: the actions.
        resamples: of the N segments.
        weight: (S, B) of each pair of runs in each resample.
        level: of the intervals.
    """

    taxonomy: Taxonomy
    resamples: Resamples
    weight: NDArray[np.float64]
    level: float

    @classmethod
    def of(
        cls, segments: Segments, taxonomy: Taxonomy, sampling: BootstrapConfig, *, pairs: int
    ) -> Draws:
        """Those of some segments and of `pairs` pairs of runs; errors as `Resamples.of`."""
        resamples = sampling.draws(segments)
        rng = np.random.default_rng([sampling.seed, 1])  # not the stream that draws the videos
        even = np.full(pairs, 1 / pairs)
        weight = rng.multinomial(pairs, even, size=sampling.resamples).T / pairs
        return cls(taxonomy=taxonomy, resamples=resamples, weight=weight, level=sampling.level)

    def change(self, metric: Metric, a: Sequence[System], b: Sequence[System]) -> MetricChange:
        """What a metric says of the runs of A and of B.

        Raises:
            BadConfig: fewer than two resamples have the metric.
        """
        labels = a[0].ranked.labels[metric.kind]
        ranks = np.stack([s.ranked.ranks[metric.ranked] for s in (*a, *b)])
        values = [metric.value(own, labels) for own in ranks]
        draws = self.resamples.values(metric, ranks, labels)
        gains = np.subtract(values[len(a) :], values[: len(a)])
        drawn = (self.weight * (draws[len(a) :] - draws[: len(a)])).sum(axis=0)
        return MetricChange(
            a=tuple(values[: len(a)]),
            b=tuple(values[len(a) :]),
            difference=difference(float(gains.mean()), drawn, level=self.level),
            deviation=None if len(a) == 1 else float(gains.std(ddof=1)),
        )
