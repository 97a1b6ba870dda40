"""A score sheet: every metric over every denominator, with intervals, calibration and coverage.

Promise: one call from predictions to all figures of the protocol, the same for a student and a
teacher. Segments without a prediction are wrong in every metric, and left out of calibration and
coverage. Letters: N segments of a split, n of them predicted, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from antcache.annotations import Segments, Taxonomy
from antcache.annotations.protocols import Protocol, protocol_for
from antcache.checks import Amount, Seed, check_types, one_of
from antcache.errors import BadConfig
from antcache.evaluation.bootstrap import Interval, Level, Resamples, bootstrap
from antcache.evaluation.calibration import Calibration, calibration
from antcache.evaluation.caveats import same_metrics
from antcache.evaluation.coverage import Coverage, coverage
from antcache.evaluation.denominators import DENOMINATORS, counted
from antcache.evaluation.lists import of_participants
from antcache.evaluation.metrics import Ranked, VerbNoun, metrics_of, rank

CLUSTERS = ("video", "segment")
UNSEEN = "unseen"
"""Name of the figures over the videos of participants that are not trained on."""


@dataclass(frozen=True, kw_only=True)
class BootstrapConfig:
    """How intervals are made."""

    resamples: Amount = 1000
    """Draws of the bootstrap; 0: no intervals."""
    cluster: str = "video"
    """One of `CLUSTERS`: what is drawn."""
    level: Level = 0.95
    """Share of intervals that are meant to hold the true figure."""
    seed: Seed = 0
    """Decides the draws."""

    def __post_init__(self) -> None:
        check_types(self)
        one_of("cluster", self.cluster, CLUSTERS)
        if self.resamples == 1:
            raise BadConfig("impossible resamples", expected="0, or 2 and more", found=1)

    def draws(self, segments: Segments) -> Resamples:
        """Draws of the segments (N), by what is drawn as a whole."""
        groups = segments.video if self.cluster == "video" else segments.uid
        return Resamples.of(groups, self.resamples, seed=self.seed)


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What was predicted for some of the N segments of a split.

    Attributes:
        segments: all N.
        taxonomy: the C actions.
        rows: (n,) which of the segments have a prediction.
        scores: (n, C) that rank the actions; `-inf` for one that is not ranked.
        logits: (n, C) that stand for a probability of every action: those of `scores`, unless the
            predictions only keep the best.
        depth: how many actions are ranked.
        verb_noun_scores: (n, V) and (n, O), of a model that has classifiers of its own for verbs
            and nouns.
        anchor: what the gap was counted back from; see `Protocol.anchor`.
        usual: the windows of the store, whose gap the denominators mean; None: the dataset's.
    """

    segments: Segments
    taxonomy: Taxonomy
    rows: NDArray[np.int64]
    scores: NDArray[np.floating]
    logits: NDArray[np.floating]
    depth: int
    verb_noun_scores: VerbNoun | None = None
    anchor: float = 0.0
    usual: Protocol | None = None

    @cached_property
    def predicted(self) -> Segments:
        """The n segments that have a prediction, in the order of the scores."""
        return self.segments[self.rows]

    @cached_property
    def ranked(self) -> Ranked:
        """Ranks of all N segments; raises BadConfig where `metrics.score` does."""
        return rank(
            self.scores,
            self.segments,
            self.taxonomy,
            rows=self.rows,
            verb_noun_scores=self.verb_noun_scores,
        )


@dataclass(frozen=True, kw_only=True)
class Counted:
    """The metrics over one denominator.

    Attributes:
        n: segments that count.
        unpredicted: of these, the ones without a prediction, which are wrong.
        metrics: by name; see `metrics.score`.
        intervals: the same, with how far they may be off; empty without a bootstrap.
    """

    n: int
    unpredicted: int
    metrics: dict[str, float]
    intervals: dict[str, Interval]


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """All figures of one set of predictions.

    Attributes:
        counted: metrics by denominator, and of `UNSEEN` participants where there are any; one
            without any segment is left out.
        calibration: at temperature 1.
        coverage: the coverage curve.
        same: metrics that equal another by construction; see `caveats.same_metrics`.
    """

    counted: dict[str, Counted]
    calibration: Calibration
    coverage: list[Coverage]
    same: dict[str, str]


def fill_sheet(
    scored: Scored,
    *,
    sampling: BootstrapConfig | None = None,
    ks: Sequence[int] = (1, 5),
    unseen: Sequence[str] | None = None,
) -> Sheet:
    """All figures of predictions for a split.

    The denominator `avt` is that of the dataset's gap, before what was anticipated.

    Args:
        scored: what was predicted.
        sampling: of the intervals.
        ks: of the coverage curve; those beyond `scored.depth` become it.
        unseen: participants; see `lists.unseen_participants`.

    Raises:
        BadConfig: see `metrics.score`, `bootstrap` and `coverage`.
    """
    sampling = sampling or BootstrapConfig()
    segments, taxonomy, ranked = scored.segments, scored.taxonomy, scored.ranked
    protocol = (scored.usual or protocol_for(taxonomy.dataset)).at(scored.anchor)
    masks = {name: counted(segments, name, protocol) for name in DENOMINATORS}
    if unseen is not None:
        masks[UNSEEN] = of_participants(segments, unseen)
    return Sheet(
        counted={
            name: Counted(
                n=int(kept.sum()),
                unpredicted=int(kept.sum() - kept[scored.rows].sum()),
                metrics=ranked[kept].figures(taxonomy),
                intervals=_intervals(ranked[kept], segments[kept], taxonomy, sampling),
            )
            for name, kept in masks.items()
            if kept.any()
        },
        calibration=calibration(scored.logits, scored.predicted.action),
        coverage=coverage(
            ranked.ranks["action"][scored.rows],
            scored.predicted.action,
            scored.logits,
            [min(k, scored.depth) for k in ks],
            many_shot=taxonomy.many_shot_actions,
        ),
        same=same_metrics(taxonomy, segments),
    )


def _intervals(
    ranked: Ranked, segments: Segments, taxonomy: Taxonomy, sampling: BootstrapConfig
) -> dict[str, Interval]:
    if not sampling.resamples:
        return {}
    draws = sampling.draws(segments)
    return {
        name: bootstrap(
            metric,
            ranked.ranks[metric.ranked],
            ranked.labels[metric.kind],
            draws,
            level=sampling.level,
        )
        for name, metric in metrics_of(taxonomy).items()
        if metric.defined(ranked.labels[metric.kind])
    }
