"""Learns a mixture of teachers fold by fold, so that its scores are those of videos not seen.

Promise: each fold of videos is mixed by a mixture that was learned without it, balance included;
the final mixture is learned on all rows. What stays: the teachers that scored one fold were trained
on the others, so that a few numbers (weights, temperatures, a small network) are learned from
teachers who know the fold. Letters: M teachers, N segments, n rows, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from antcache.evaluation.metrics import class_mean_recall, top_k_accuracy, true_class_ranks
from antcache.progress import Progress, silent
from antcache.teacher.histories import deal_folds
from antcache.teacher.mixing.fit import Ints, MixConfig, attention, gather_evidence, stack
from antcache.teacher.mixing.mixture import LEARNED, Logits, Mixture, check_shapes, mean_mix

BALANCES = tuple(round(0.1 * i, 1) for i in range(11))
"""What a tuned balance is chosen from."""
SCORED_ROWS = 2048  # of n x C at a time


@dataclass(frozen=True, kw_only=True)
class Learned:
    """A mixture, and how it does on videos that it was not learned on.

    Attributes:
        mixture: learned on all n rows.
        of_fold: the mixtures learned without each fold; none where nothing is learned.
        held_out: (n, C) float32 log-probabilities, each row by the mixture without its fold.
        scores: metrics by name: each member, `mean`, `geometric` if that is asked for, the mix on
            held-out folds, and `in-sample` (the final mixture on the rows that it was learned on);
            see `score_rows`.
    """

    mixture: Mixture
    of_fold: tuple[Mixture, ...]
    held_out: NDArray[np.float32]
    scores: dict[str, dict[str, float]]


def learn(
    logits: Logits,
    labels: Ints,
    group: Ints,
    members: Sequence[str],
    config: MixConfig,
    *,
    rows: Ints | None = None,
    classes: Sequence[int] | None = None,
    progress: Progress = silent,
) -> Learned:
    """Learn a mixture on rows that no teacher was trained on.

    Args:
        logits: M arrays (N, C), finite at `rows`.
        labels: (N,) true classes.
        group: (N,) equal for the rows of one video.
        members: M names.
        config: see `MixConfig`.
        rows: (n,) held-out rows; None takes all.
        classes: those over which class-mean recall@5 is taken, e.g. many-shot ones; None: all.
        progress: called with rows and folds done.

    Raises:
        BadConfig: shapes that do not fit each other, or fewer videos than folds.
    """
    rows = np.arange(len(labels)) if rows is None else rows
    check_shapes(logits, len(members))
    if classes is not None and not np.isin(labels[rows], classes).any():
        classes = None

    def scored(mixed: NDArray[np.float32]) -> dict[str, float]:
        return score_rows(mixed, labels[rows], classes)

    names = dict(zip(members, logits, strict=True))
    scores = {name: scored(mean_mix([name]).mix([a], rows)) for name, a in names.items()}
    scores["mean"] = scored(plain := mean_mix(members).mix(logits, rows))
    equal = mean_mix(members, "mean" if config.mix in LEARNED else config.mix)
    if equal.kind != "mean":
        scores[equal.kind] = scored(plain := equal.mix(logits, rows))
    if not config.learns:
        return Learned(mixture=equal, of_fold=(), held_out=plain, scores=scores)
    del plain
    evidence = gather_evidence(
        logits, labels, group, rows, summary=config.mix == "attention", progress=progress
    )
    fold = deal_folds(evidence.group, config.folds, config.seed)

    def fit(part: NDArray[np.bool_]) -> Mixture:
        mixture = equal
        if config.mix in LEARNED:
            mixture = stack(evidence[part], members)
        if config.mix == "attention":
            mixture = attention(evidence[part], mixture, config)
        return _balanced(mixture, logits, labels, group, rows[part], config.balance, classes)

    held_out = np.empty((len(rows), logits[0].shape[1]), dtype=np.float32)
    of_fold = []
    for k in range(config.folds):
        of_fold.append(fit(fold != k))
        held_out[fold == k] = of_fold[-1].mix(logits, rows[fold == k])
        progress("folds mixed", k + 1, config.folds + 1)
    mixture = fit(np.ones(len(rows), dtype=bool))
    scores[f"{config.mix}, held out"] = scored(held_out)
    scores[f"{config.mix}, in-sample"] = scored(mixture.mix(logits, rows))
    progress("folds mixed", config.folds + 1, config.folds + 1)
    return Learned(mixture=mixture, of_fold=tuple(of_fold), held_out=held_out, scores=scores)


def score_rows(
    log_p: NDArray[np.float32], labels: Ints, classes: Sequence[int] | None = None
) -> dict[str, float]:
    """`nll` in nats per row; `top1`, `top5` and class-mean `recall@5` in percent.

    Args:
        log_p: (n, C) log-probabilities.
        labels: (n,) true classes.
        classes: those that recall@5 is the mean over; None: all that are present.
    """
    ranks = true_class_ranks(log_p, labels)
    own = np.take_along_axis(log_p, labels[:, None], axis=1)
    return {
        "nll": -float(own.mean(dtype=np.float64)),
        "top1": top_k_accuracy(ranks, 1),
        "top5": top_k_accuracy(ranks, 5),
        "recall@5": class_mean_recall(ranks, labels, 5, classes),
    }


def _balanced(
    mixture: Mixture,
    logits: Logits,
    labels: Ints,
    group: Ints,
    rows: Ints,
    balance: float | None,
    classes: Sequence[int] | None,
) -> Mixture:
    """The mixture with a balance (None: the best one), and the prior of the classes in `rows`.

    One is added to the count of every class, so that one without any has a prior, too.
    """
    if balance == 0:
        return mixture
    num_classes, truth = logits[0].shape[1], labels[rows]
    counts = np.bincount(truth, minlength=num_classes) + 1.0
    if balance is None:
        # Where a row's own class is counted, rare classes are held down by their own segments, as
        # no other video's are: each video is tried with the prior of the others.
        videos, video = np.unique(group[rows], return_inverse=True)
        own = np.bincount(video * num_classes + truth, minlength=len(videos) * num_classes)
        others = np.log(counts - own.reshape(len(videos), num_classes))
        parts = [np.empty((0, len(BALANCES)), dtype=np.int64)]
        for part in np.array_split(np.arange(len(rows)), 1 + len(rows) // SCORED_ROWS):
            mixed, prior = mixture.mix(logits, rows[part]), others[video[part]]
            ranks = [true_class_ranks(mixed - b * prior, truth[part]) for b in BALANCES]
            parts.append(np.stack(ranks, axis=1))
        recall = [class_mean_recall(r, truth, 5, classes) for r in np.concatenate(parts).T]
        balance = BALANCES[int(np.argmax(recall))]  # of equal ones, the least
        if balance == 0:
            return mixture
    return replace(mixture, balance=balance, log_prior=np.log(counts / counts.sum()))
