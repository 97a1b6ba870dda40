"""The metrics of action anticipation, from scores in plain numpy: one definition for everything.

Promise: every metric follows from the rank of the true class, computed once; each name says which
classes and which denominator it means (docs/protocol.md). Letters: N segments, C classes.
Sources: Furnari and Farinella, RULSTM (class-mean recall@5); Damen et al. 2018 and 2022 (many-shot
classes, verb and noun marginals); AVT (its denominators).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from antcache.annotations import Segments, Taxonomy
from antcache.errors import BadConfig

Ranks = NDArray[np.int64]
VerbNoun = tuple[NDArray[np.floating], NDArray[np.floating]]
BY_ACTION = "_by_action"
NEVER = np.iinfo(np.int64).max  # rank of a true class that no k reaches
BLOCK_ROWS = 1024


def blocks(count: int, size: int = BLOCK_ROWS) -> Iterator[slice]:
    """The rows of N x C a few at a time, so that work on them takes little memory beyond them."""
    return (slice(at, min(at + size, count)) for at in range(0, count, size))


def true_class_ranks(scores: NDArray[np.floating], labels: NDArray[np.integer]) -> Ranks:
    """Rank (N,) of the true class of each segment, 0 for the best.

    The rank is the number of classes with a strictly higher score, plus those with an equal score
    and a lower id: ties are broken by id, so that the k best are always k. A class with the score
    `-inf` was not ranked by the model: if it is the true one, the rank is NEVER, beyond every k.

    Args:
        scores: (N, C), higher is better; finite or `-inf`.
        labels: (N,) ids in [0, C).
    """
    labels = np.asarray(labels, dtype=np.int64)
    if scores.ndim != 2 or labels.shape != scores.shape[:1]:
        raise BadConfig(
            "scores and labels do not fit each other",
            expected="(N, C) and (N,)",
            found=f"{scores.shape} and {labels.shape}",
        )
    ids = np.arange(scores.shape[1])
    ranks = np.empty(len(labels), dtype=np.int64)
    for rows in blocks(len(labels)):
        chunk, truth = scores[rows], labels[rows, None]
        own = np.take_along_axis(chunk, truth, axis=1)
        better = np.count_nonzero(chunk > own, axis=1)
        ties = np.count_nonzero((chunk == own) & (ids < truth), axis=1)
        ranks[rows] = np.where(np.isneginf(own[:, 0]), NEVER, better + ties)
    return ranks


def ranks_by_action(
    scores: NDArray[np.floating], labels: NDArray[np.integer], ids: NDArray[np.int64]
) -> Ranks:
    """Rank (N,) of the best action that has the true verb or noun, as `true_class_ranks` ranks.

    The distillation paper takes a model's verbs and nouns from its k best actions so.

    Args:
        scores: (N, C) action scores, finite or `-inf`.
        labels: (N,) true verbs (or nouns), each of which some action has.
        ids: (C,) verb (or noun) of each action.
    """
    best = np.empty(len(labels), dtype=np.int64)
    for rows in blocks(len(labels)):
        has = ids == np.asarray(labels)[rows, None]
        # Where none was ranked, the first of them stands for all: its score is `-inf` as well.
        own = np.where(has, scores[rows], -np.inf)
        best[rows] = np.where(own.max(axis=1) > -np.inf, own.argmax(axis=1), has.argmax(axis=1))
    return true_class_ranks(scores, best)


def top_k_accuracy(ranks: Ranks, k: int) -> float:
    """Share of segments, in percent, whose true class is among the k best.

    Args:
        ranks: (N,) from `true_class_ranks`.
        k: from 1.

    Raises:
        BadConfig: there is no segment.
    """
    if not len(ranks):
        raise BadConfig("there is no segment to score")
    return 100.0 * float(np.mean(ranks < k))


def class_mean_recall(
    ranks: Ranks, labels: NDArray[np.integer], k: int, classes: ArrayLike | None = None
) -> float:
    """Mean over classes, in percent, of the share of a class's segments with it among the k best.

    The mean is over the classes that are present in `labels` and, if given, in `classes`. With
    k = 1 this is the class-mean accuracy of the distillation paper.

    Args:
        ranks: (N,) from `true_class_ranks`.
        labels: (N,) ids.
        k: from 1.
        classes: ids to average over, e.g. the many-shot ones.

    Raises:
        BadConfig: none of these classes is present.
    """
    present, position, counts = np.unique(labels, return_inverse=True, return_counts=True)
    recall = np.bincount(position, weights=ranks < k, minlength=len(present)) / counts
    if classes is not None:
        recall = recall[np.isin(present, classes)]
    if not len(recall):
        raise BadConfig("none of the classes to average over is present")
    return 100.0 * float(recall.mean())


def verb_noun_marginals(
    scores: NDArray[np.floating], taxonomy: Taxonomy
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Verb (N, V) and noun (N, O) scores: the summed probabilities of the actions with each.

    The probabilities are the softmax of the action scores. A verb or noun without any action
    scores 0. (RULSTM gives it the score of action 0, by mistake.)

    Args:
        scores: (N, C) action scores, as logits or log-probabilities; `-inf` is probability 0.
        taxonomy: which verb and noun each action has.
    """
    from scipy.special import softmax

    kinds = []
    for names, of_action in (
        (taxonomy.verbs, taxonomy.verb_of),
        (taxonomy.nouns, taxonomy.noun_of),
    ):
        order = np.argsort(of_action, kind="stable")  # brings the actions of each together
        present, firsts = np.unique(of_action[order], return_index=True)
        kinds.append((np.zeros((len(scores), len(names))), order, present, firsts))
    for rows in blocks(len(scores)):
        chunk = softmax(scores[rows].astype(np.float64), axis=1)
        for out, order, present, firsts in kinds:
            out[rows, present] = np.add.reduceat(chunk[:, order], firsts, axis=1)
    return kinds[0][0], kinds[1][0]


@dataclass(frozen=True, kw_only=True)
class Metric:
    """One metric, in percent: how many segments have their true class among the k best.

    Attributes:
        kind: `action`, `verb` or `noun`.
        k: from 1.
        class_mean: mean over the classes that are present, in place of the mean over segments.
        classes: ids to average over; None is all.
        over: number of classes to divide by, absent ones counting as 0 (AVT); None is those
            present.
        by_action: of a verb or noun, whether one of the k best *actions* has it (the distillation
            paper), in place of its own rank.
    """

    kind: str
    k: int
    class_mean: bool = False
    classes: tuple[int, ...] | None = None
    over: int | None = None
    by_action: bool = False

    @property
    def ranked(self) -> str:
        """Which ranks it counts: a key of `Ranked.ranks`."""
        return f"{self.kind}{BY_ACTION}" if self.by_action else self.kind

    def defined(self, labels: NDArray[np.integer]) -> bool:
        """Whether any class that it averages over is among `labels` (N,)."""
        return self.classes is None or bool(np.isin(labels, self.classes).any())

    def value(self, ranks: Ranks, labels: NDArray[np.integer]) -> float:
        """The metric of segments with true classes `labels` (N,) of `ranks` (N,).

        Raises:
            BadConfig: there is no segment, or none of the classes is present.
        """
        if not self.class_mean:
            return top_k_accuracy(ranks, self.k)
        if self.over is not None:
            return class_mean_recall(ranks, labels, self.k) * len(np.unique(labels)) / self.over
        return class_mean_recall(ranks, labels, self.k, self.classes)


def metrics_of(taxonomy: Taxonomy) -> dict[str, Metric]:
    """Every metric of the protocol by name; see `score`. One without its list is left out, and so
    are those of verbs and nouns where actions are single labels."""
    metrics: dict[str, Metric] = {}
    for kind in taxonomy.kinds:
        metrics[f"{kind}/top1"] = Metric(kind=kind, k=1)
        metrics[f"{kind}/top5"] = Metric(kind=kind, k=5)
        metrics[f"{kind}/recall@5"] = Metric(kind=kind, k=5, class_mean=True)
        for name in ("many_shot", "any_shot", "tail"):
            listed = getattr(taxonomy, f"{name}_{kind}s", None)  # any_shot is of actions alone
            if listed is not None:
                metrics[f"{kind}/{name}_recall@5"] = Metric(
                    kind=kind, k=5, class_mean=True, classes=tuple(listed)
                )
        metrics[f"{kind}/class_mean_top1"] = Metric(kind=kind, k=1, class_mean=True)
        metrics[f"{kind}/class_mean_top1_all_classes"] = Metric(
            kind=kind, k=1, class_mean=True, over=len(getattr(taxonomy, f"{kind}s"))
        )
        if kind != "action":
            for k in (1, 5):
                metrics[f"{kind}/top{k}{BY_ACTION}"] = Metric(kind=kind, k=k, by_action=True)
    return metrics


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """N segments by the rank of their true action, verb and noun: all that a metric needs.

    Attributes:
        ranks: by kind, (N,); see `true_class_ranks`. `verb_by_action` and `noun_by_action` are
            those of `ranks_by_action`.
        labels: by kind, (N,) ids.
    """

    ranks: dict[str, Ranks]
    labels: dict[str, NDArray[np.int64]]

    def __len__(self) -> int:
        return len(self.labels["action"])

    def __getitem__(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Ranked:
        """The segments at `rows` (indices or a mask)."""
        return Ranked(
            ranks={k: v[rows] for k, v in self.ranks.items()},
            labels={k: v[rows] for k, v in self.labels.items()},
        )

    def figures(self, taxonomy: Taxonomy) -> dict[str, float]:
        """Every metric by name, and `n`; see `score`."""
        values = {
            name: metric.value(self.ranks[metric.ranked], self.labels[metric.kind])
            for name, metric in metrics_of(taxonomy).items()
            if metric.defined(self.labels[metric.kind])
        }
        return {**values, "n": len(self)}


def rank(
    scores: NDArray[np.floating],
    segments: Segments,
    taxonomy: Taxonomy,
    *,
    rows: NDArray[np.int64] | None = None,
    verb_noun_scores: VerbNoun | None = None,
) -> Ranked:
    """Ranks of all N true actions, verbs and nouns; arguments and errors as those of `score`."""
    predicted = segments if rows is None else segments[rows]
    _check(scores, predicted, "action", len(taxonomy.actions))
    check_kinds(verb_noun_scores, taxonomy)
    pair: VerbNoun | tuple[()] = verb_noun_scores or ()
    if taxonomy.paired and not pair:
        pair = verb_noun_marginals(scores, taxonomy)
    elif pair:
        _check(pair[0], predicted, "verb", len(taxonomy.verbs))
        _check(pair[1], predicted, "noun", len(taxonomy.nouns))
    ranks = {
        kind: true_class_ranks(values, getattr(predicted, kind))
        for kind, values in zip(taxonomy.kinds, (scores, *pair), strict=True)
    }
    for kind in taxonomy.kinds[1:]:
        ids = getattr(taxonomy, f"{kind}_of")
        ranks[f"{kind}{BY_ACTION}"] = ranks_by_action(scores, getattr(predicted, kind), ids)
    if rows is not None:
        for name, own in ranks.items():
            ranks[name] = np.full(len(segments), NEVER)
            ranks[name][rows] = own
    return Ranked(ranks=ranks, labels={k: getattr(segments, k) for k in taxonomy.kinds})


def check_kinds(verb_noun_scores: VerbNoun | None, taxonomy: Taxonomy) -> None:
    """Refuse scores of verbs and nouns for actions that have none.

    Raises:
        BadConfig: the actions of `taxonomy` are single labels.
    """
    if verb_noun_scores is not None and not taxonomy.paired:
        raise BadConfig(
            "verb and noun scores for actions without verb and noun",
            where=taxonomy.dataset,
            expected="scores of actions alone",
        )


def score(
    scores: NDArray[np.floating],
    segments: Segments,
    taxonomy: Taxonomy,
    *,
    rows: NDArray[np.int64] | None = None,
    verb_noun_scores: VerbNoun | None = None,
) -> dict[str, float]:
    """Every metric of the protocol, in percent, flat and JSON-ready.

    Keys, for KIND `action`, `verb` and `noun` (each mean over classes is over present ones):

    - `KIND/top1`, `KIND/top5`: top-k accuracy.
    - `KIND/recall@5`: class-mean recall@5 over all classes.
    - `KIND/many_shot_recall@5`: over the official many-shot list (an action: verb *and* noun).
    - `action/any_shot_recall@5`: over actions whose verb *or* noun is many-shot (RULSTM, AVT).
    - `KIND/tail_recall@5`: over rare classes (EPIC-KITCHENS-100; an action: verb *or* noun).
    - `KIND/class_mean_top1`: class-mean accuracy (the distillation paper).
    - `KIND/class_mean_top1_all_classes`: the same, divided by all classes (AVT).
    - `verb/top1_by_action`, `verb/top5_by_action`, and of the noun: share of segments with the true
      verb in one of the k best actions (the distillation paper's verb and noun figures).
    - `n`: number of segments, the denominator of all top-k accuracies.

    A list that the dataset does not have, or of which no class is present, has no key, nor have
    verbs and nouns where actions are single labels.

    Args:
        scores: (n, C) action scores (logits or log-probabilities), higher is better; `-inf` for a
            class that the model does not rank.
        segments: N segments.
        taxonomy: the C actions.
        rows: (n,) which of the segments the scores are of; the others count as wrong everywhere.
            None: all, in their order.
        verb_noun_scores: (n, V) and (n, O), of a model that has classifiers of its own for verbs
            and nouns; None takes `verb_noun_marginals`.

    Raises:
        BadConfig: no segment, another number of segments or classes, or a segment with NaN, `+inf`
            or no finite score (named by its uid).
    """
    ranked = rank(scores, segments, taxonomy, rows=rows, verb_noun_scores=verb_noun_scores)
    return ranked.figures(taxonomy)


def _check(scores: NDArray[np.floating], segments: Segments, kind: str, classes: int) -> None:
    shape = (len(segments), classes)
    if scores.shape != shape or not len(segments):
        raise BadConfig(
            "scores of a wrong shape",
            expected=f"{shape[0]} segments (at least one), {shape[1]} {kind}s",
            found=scores.shape,
        )
    # The maximum is NaN or +inf if any score is, and -inf if no class was ranked.
    bad = ~np.isfinite(scores.max(axis=1))
    if bad.any():
        row = int(np.argmax(bad))
        raise BadConfig(
            "the scores of a segment are not finite",
            where=f"segment {segments.uid[row]}",
            expected="numbers, or -inf for classes that are not ranked",
            found=f"{scores[row].max()} among its scores; {int(bad.sum())} such segments",
        )


def mean_and_error(values: Sequence[float] | NDArray[np.floating]) -> tuple[float, float, float]:
    """Mean, standard deviation (n - 1) and standard error of independent values.

    Args:
        values: (n,) of n >= 2 runs; for a paired comparison, the n differences.

    Raises:
        BadConfig: fewer than two values, which have no deviation.
    """
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim != 1 or len(numbers) < 2:
        raise BadConfig("a standard error needs at least two values", found=numbers.shape)
    deviation = float(numbers.std(ddof=1))
    return float(numbers.mean()), deviation, deviation / math.sqrt(len(numbers))
