"""Coverage: what the k best classes of soft targets hold, which bounds what they can pass on.

Promise: for each k, how often the truth is among the k best, and how much of the probability is;
what is left is the tail. Letters: N segments, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from antcache.checks import at_least
from antcache.errors import BadConfig
from antcache.evaluation.metrics import Ranks, blocks, class_mean_recall, top_k_accuracy


@dataclass(frozen=True, kw_only=True)
class Coverage:
    """What k classes hold, all in percent.

    Attributes:
        k: how many of the best classes.
        recall: segments whose truth is among them.
        class_mean_recall: the same as a mean over the classes present.
        many_shot_recall: the same over the official many-shot list; None without one.
        mass: mean probability of the k best together.
        tail: mean probability of all others.
    """

    k: int
    recall: float
    class_mean_recall: float
    many_shot_recall: float | None
    mass: float
    tail: float


def coverage(
    ranks: Ranks,
    labels: NDArray[np.integer],
    logits: NDArray[np.floating],
    ks: Sequence[int],
    *,
    many_shot: Sequence[int] | None = None,
) -> list[Coverage]:
    """What the k best classes hold, for each k; a k beyond C is C.

    Args:
        ranks: (N,) ranks of the true classes; see `metrics.true_class_ranks`.
        labels: (N,) the true classes.
        logits: (N, C), finite or `-inf`.
        ks: each from 1.
        many_shot: the official list of classes.

    Raises:
        BadConfig: a k below 1, or there is no segment.
    """
    if not ks:
        raise BadConfig("no k of a coverage curve", expected="one or more")
    for k in ks:
        at_least("k", k, 1)
    kept = sorted({min(k, logits.shape[1]) for k in ks})
    if many_shot is not None and not np.isin(labels, many_shot).any():
        many_shot = None
    points = []
    for k, mass in zip(kept, _masses(logits, kept), strict=True):
        points.append(
            Coverage(
                k=k,
                recall=top_k_accuracy(ranks, k),
                class_mean_recall=class_mean_recall(ranks, labels, k),
                many_shot_recall=None
                if many_shot is None
                else class_mean_recall(ranks, labels, k, many_shot),
                mass=100.0 * mass,
                tail=100.0 * (1.0 - mass),
            )
        )
    return points


def _masses(logits: NDArray[np.floating], ks: Sequence[int]) -> NDArray[np.float64]:
    """Mean probability (K,) of the k best classes, for each k, ascending."""
    from scipy.special import softmax

    total, index = np.zeros(len(ks)), np.asarray(ks) - 1
    for rows in blocks(len(logits)):
        mass = softmax(logits[rows].astype(np.float64), axis=1)
        best = -np.sort(np.partition(-mass, ks[-1] - 1, axis=1)[:, : ks[-1]], axis=1)
        total += best.cumsum(axis=1)[:, index].sum(axis=0)
    return np.asarray(total / max(len(logits), 1))
