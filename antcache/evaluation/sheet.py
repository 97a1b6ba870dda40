"""A score sheet: every metric over every denominator, with intervals, calibration and coverage.

Promise: one call from predictions to all figures of the protocol, the same for a student and a
teacher. Segments without a prediction are wrong in every metric, and left out of calibration and
coverage. Letters: N segments of a split, n of them predicted, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from antcache.annotations import Segments, Taxonomy
from antcache.annotations.protocols import Protocol
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


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What was predicted for some of N segments.

    Attributes:
        known: (N,) bool, the n segments that have a prediction.
        scores: (n, C) that rank the actions; `-inf` for one that is not ranked.
        logits: (n, C) that stand for a probability of every action: those of `scores`, unless the
            predictions only keep the best.
        depth: how many actions are ranked.
    """

    known: NDArray[np.bool_]
    scores: NDArray[np.floating]
    logits: NDArray[np.floating]
    depth: int
    verb_noun_scores: VerbNoun | None = None
    """(n, V) and (n, O), of a model that has classifiers of its own for verbs and nouns."""


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
    segments: Segments,
    taxonomy: Taxonomy,
    protocol: Protocol,
    *,
    sampling: BootstrapConfig | None = None,
    ks: Sequence[int] = (1, 5),
    unseen: Sequence[str] | None = None,
) -> Sheet:
    """All figures of predictions for a split.

    Args:
        scored: what was predicted.
        segments: the N segments of the split.
        taxonomy: the C actions.
        protocol: whose gap decides the denominator `avt`.
        sampling: of the intervals.
        ks: of the coverage curve; those beyond `scored.depth` become it.
        unseen: participants; see `lists.unseen_participants`.

    Raises:
        BadConfig: see `metrics.score`, `bootstrap` and `coverage`.
    """
    sampling = sampling or BootstrapConfig()
    known = scored.known
    ranked = rank(
        scored.scores,
        segments[known],
        taxonomy,
        unpredicted=segments[~known],
        verb_noun_scores=scored.verb_noun_scores,
    )
    order = np.concatenate([np.flatnonzero(known), np.flatnonzero(~known)])
    ordered, unpredicted = segments[order], ~known[order]
    parts = {}
    masks = {name: counted(ordered, name, protocol) for name in DENOMINATORS}
    if unseen is not None:
        masks[UNSEEN] = of_participants(ordered, unseen)
    for name, kept in masks.items():
        if kept.any():
            parts[name] = Counted(
                n=int(kept.sum()),
                unpredicted=int((kept & unpredicted).sum()),
                metrics=ranked[kept].figures(taxonomy),
                intervals=_intervals(ranked[kept], ordered[kept], taxonomy, sampling),
            )
    labels = segments.action[known]
    return Sheet(
        counted=parts,
        calibration=calibration(scored.logits, labels),
        coverage=coverage(
            ranked.ranks["action"][: len(labels)],
            labels,
            scored.logits,
            sorted({min(k, scored.depth) for k in ks}),
            many_shot=taxonomy.many_shot_actions,
        ),
        same=same_metrics(taxonomy, segments),
    )


def _intervals(
    ranked: Ranked, segments: Segments, taxonomy: Taxonomy, sampling: BootstrapConfig
) -> dict[str, Interval]:
    if not sampling.resamples:
        return {}
    groups = segments.video if sampling.cluster == "video" else segments.uid
    draws = Resamples.of(groups, sampling.resamples, seed=sampling.seed)
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
