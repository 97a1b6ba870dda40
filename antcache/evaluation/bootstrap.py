"""Bootstrap intervals of the metrics, and paired comparisons of two systems.

Promise: whole groups (videos) are drawn with replacement, every metric is recomputed from each
draw, class means included, and the same seed gives the same draws, so that two systems scored on
one `Resamples` are paired. Vectorised: a draw is a weight per segment, and a metric a ratio of
weighted sums. Letters: N segments, G groups, B resamples.

Segments of one video resemble each other; to draw them one by one makes intervals too narrow. So
groups are videos, unless the caller gives each segment its own.

A class of one segment is missing from a third of all draws, and a mean over the classes that were
drawn then leans towards the frequent ones, which are easier: on EPIC-KITCHENS-55 the draws of such
a figure can all lie above it. That shift is the resampling's and not the figure's, whose classes
are given. So the draws are moved back onto the figure before percentiles are taken (their mean
minus the figure is the bootstrap's estimate of bias: Efron and Tibshirani 1993, "An introduction to
the bootstrap", chapter 10). For top-k accuracies, which hardly shift, that changes nothing.

Intervals of class means stay somewhat too narrow where many classes have one segment and are about
equally hard: what a single segment says of its class can't be resampled.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
from numpy.typing import ArrayLike, NDArray

from antcache.checks import Range, Seed, at_least, check_type
from antcache.errors import BadConfig
from antcache.evaluation.metrics import Metric, Ranks

Level = Annotated[float, Range(0, 1, above=True, below=True)]
"""Share of intervals that are meant to hold the true figure."""
BLOCK = 64  # resamples at a time: B x N weights of all would not stay in the cache


@dataclass(frozen=True, kw_only=True)
class Resamples:
    """B draws of G groups with replacement.

    Attributes:
        counts: (B, G) float32, how often each group was drawn; each row sums to G.
        member: (N,) int64, the group of each segment.
    """

    counts: NDArray[np.float32]
    member: NDArray[np.int64]

    @classmethod
    def of(cls, groups: ArrayLike, count: int = 1000, *, seed: int = 0) -> Resamples:
        """Draw `count` resamples of the groups that the segments (N,) belong to.

        Args:
            groups: (N,) name or number of each segment's group, e.g. its video.
            count: B.
            seed: decides the draws; at least 0.

        Raises:
            BadConfig: fewer than two groups or resamples, or a seed below 0.
        """
        names, member = np.unique(np.asarray(groups), return_inverse=True)
        if len(names) < 2:
            raise BadConfig(
                "impossible number of groups to draw",
                expected=Range(2),
                found=len(names),
                hint="of one video, draw segments (`cluster`), or no resamples (`bootstrap` 0)",
            )
        at_least("number of resamples", count, 2)
        check_type("seed", seed, Seed)
        rng = np.random.default_rng(seed)
        total = len(names)
        counts = np.empty((count, total), dtype=np.float32)
        for row in counts:  # row by row: the first B draws do not depend on how many follow
            row[:] = np.bincount(rng.integers(total, size=total), minlength=total)
        return cls(counts=counts, member=member.astype(np.int64))

    def __len__(self) -> int:
        return len(self.counts)

    def values(
        self, metric: Metric, ranks: Ranks, labels: NDArray[np.integer]
    ) -> NDArray[np.float64]:
        """The metric of every resample, for S systems on the same draws.

        Args:
            metric: which one.
            ranks: (S, N) ranks of the true classes.
            labels: (N,) the true classes.

        Returns:
            (S, B), NaN for a resample without any class to average over.
        """
        if not ranks.shape[1] == len(labels) == len(self.member):
            raise BadConfig(
                "the resamples are of other segments",
                expected=len(self.member),
                found=ranks.shape[1],
            )
        kept = slice(None) if metric.classes is None else np.isin(labels, metric.classes)
        member, hits = self.member[kept], (ranks < metric.k)[:, kept]
        label = labels[kept] if metric.class_mean else np.zeros_like(member)
        # Segments of one group and class are drawn together: one cell, cells in order of class.
        pairs = label.astype(np.int64) * self.counts.shape[1] + member
        cells, cell, sizes = np.unique(pairs, return_inverse=True, return_counts=True)
        hit = [np.bincount(cell, weights=h, minlength=len(cells)).astype(np.float32) for h in hits]
        group, size = cells % self.counts.shape[1], sizes.astype(np.float32)
        firsts = np.flatnonzero(np.diff(cells // self.counts.shape[1], prepend=-1))
        out = np.full((len(ranks), len(self)), np.nan)
        for start in range(0, len(self) if len(cells) else 0, BLOCK):
            block = slice(start, start + BLOCK)
            weights = np.take(self.counts[block], group, axis=1)
            total = np.add.reduceat(weights * size, firsts, axis=1)
            drawn = (total > 0).sum(axis=1) if metric.over is None else np.float64(metric.over)
            for system, own in enumerate(hit):
                share = np.add.reduceat(weights * own, firsts, axis=1) / np.maximum(total, 1)
                with np.errstate(invalid="ignore"):  # 0 / 0 is NaN: no such class was drawn
                    out[system, block] = 100.0 * share.sum(axis=1, dtype=np.float64) / drawn
        return out


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A figure and how far it may be off by chance.

    Attributes:
        value: the figure of the segments themselves.
        low: lower end of the interval.
        high: upper end.
        level: share of intervals that hold the true figure, e.g. 0.95.
        error: standard deviation over the resamples.
        resamples: how many had the figure.
    """

    value: float
    low: float
    high: float
    level: float
    error: float
    resamples: int


@dataclass(frozen=True, kw_only=True)
class Difference(Interval):
    """A difference of two systems on the same segments, with its interval.

    Attributes:
        p_value: two-sided: how often resamples cross zero, doubled.
    """

    p_value: float

    @property
    def p_text(self) -> str:
        """The p-value in print; `<=` where no resample crosses zero, for more might get lower."""
        number = f"{self.p_value:.3f}" if self.p_value >= 0.0005 else f"{self.p_value:.1g}"
        return f"<= {number}" if self.p_value <= 2 / (self.resamples + 1) else number


def bootstrap(
    metric: Metric,
    ranks: Ranks,
    labels: NDArray[np.integer],
    resamples: Resamples,
    *,
    level: float = 0.95,
) -> Interval:
    """A metric with its bootstrap interval.

    Args:
        metric: which one.
        ranks: (N,) ranks of the true classes.
        labels: (N,) the true classes.
        resamples: draws of these N segments.
        level: of the interval, in (0, 1).

    Raises:
        BadConfig: the metric has no value here, the resamples are of other segments, or the level
            is out of range.
    """
    draws = resamples.values(metric, ranks[None], labels)[0]
    interval, _ = _interval(metric.value(ranks, labels), draws, level)
    return replace(interval, low=max(interval.low, 0.0), high=min(interval.high, 100.0))


def difference(value: float, gains: NDArray[np.float64], *, level: float = 0.95) -> Difference:
    """The interval and p-value of a gain from one system to another, scored on the same draws.

    The p-value is two-sided, `2 (min(#(d <= 0), #(d >= 0)) + 1) / (B + 1)` and at most 1, d the
    resamples' gains moved onto the gain itself (Davison and Hinkley 1997, "Bootstrap methods and
    their application", chapter 4): it is never 0, and small where the interval excludes 0.

    Args:
        value: the gain of the segments themselves.
        gains: (B,) of the resamples, see `Resamples.values`.
        level: of the interval, in (0, 1).

    Raises:
        BadConfig: fewer than two resamples have the gain, or the level is out of range.
    """
    interval, gains = _interval(value, gains, level)
    below, above = np.count_nonzero(gains <= 0), np.count_nonzero(gains >= 0)
    p_value = float(min(1.0, 2.0 * (min(below, above) + 1) / (len(gains) + 1)))
    return Difference(**vars(interval), p_value=p_value)


def _interval(
    value: float, draws: NDArray[np.float64], level: float
) -> tuple[Interval, NDArray[np.float64]]:
    """The interval, and the draws that have the figure, moved onto it; see the module."""
    check_type("level", level, Level)
    draws = draws[np.isfinite(draws)]
    if len(draws) < 2:
        raise BadConfig("too few resamples have the metric", expected="2 or more", found=len(draws))
    draws = draws - draws.mean() + value
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    interval = Interval(
        value=value,
        low=float(low),
        high=float(high),
        level=level,
        error=float(draws.std(ddof=1)),
        resamples=len(draws),
    )
    return interval, draws
