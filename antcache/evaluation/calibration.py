"""Calibration: whether predicted probabilities mean what they say, and the temperature that helps.

Promise: everything is computed in float64 from logits, at temperatures that were fitted on other
segments than those they are judged on; the functions take both sets and never mix them. Letters: N
segments, C classes.
Sources: Guo, Pleiss, Sun and Weinberger 2017, "On calibration of modern neural networks" (expected
calibration error, temperature scaling); Brier 1950 (its score, in the form for several classes).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from antcache.errors import BadConfig
from antcache.evaluation.metrics import blocks

BINS = 15
FOLDS = 5
RANGE = (0.01, 100.0)
"""Temperatures that are looked for."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """How well probabilities fit what happened.

    Attributes:
        nll: mean of -log p(truth), nats; `inf` where a truth has probability 0.
        ece: expected calibration error, percent: the mean over segments of
            |share correct - mean confidence| in the segment's bin; 15 bins of equal width of the
            confidence (the probability of the best class), each without its lower edge.
        brier: mean over segments of the sum over classes of (p - [truth])^2, 0 to 2.
        confidence: mean confidence, percent; to be compared with top-1.
        n: segments.
    """

    nll: float
    ece: float
    brier: float
    confidence: float
    n: int


@dataclass(frozen=True, kw_only=True)
class ReliabilityBin:
    """Segments of about one confidence, and how many of them were right.

    Attributes:
        low: lower edge of the bin, percent, itself outside.
        high: upper edge, percent.
        n: segments, at least 1.
        confidence: their mean, percent.
        correct: share whose best class was the true one, percent.
    """

    low: float
    high: float
    n: int
    confidence: float
    correct: float


def calibration(
    logits: NDArray[np.floating],
    labels: NDArray[np.integer],
    temperature: float | NDArray[np.floating] = 1.0,
) -> Calibration:
    """Calibration of softmax(logits / temperature).

    Args:
        logits: (N, C), finite or `-inf` (probability 0).
        labels: (N,) ids of the true classes.
        temperature: one for all segments, or one for each (N,).

    Raises:
        BadConfig: there is no segment, or a temperature is not positive.
    """
    from scipy.special import log_softmax

    warmth = np.broadcast_to(np.asarray(temperature, dtype=np.float64), labels.shape)
    if not len(labels) or not (warmth > 0).all():
        raise BadConfig(
            "calibration needs segments and positive temperatures",
            found=f"{len(labels)} segments, temperature {temperature}",
        )
    nll, brier = np.empty(len(labels)), np.empty(len(labels))
    confidence, correct = np.empty(len(labels)), np.empty(len(labels), dtype=bool)
    for rows in blocks(len(labels)):
        logs = log_softmax(logits[rows] / warmth[rows, None], axis=1)
        probability = np.exp(logs)
        row, truth = np.arange(len(logs)), labels[rows]
        best = logs.argmax(axis=1)
        nll[rows] = -logs[row, truth]
        confidence[rows], correct[rows] = probability[row, best], best == truth
        brier[rows] = (probability**2).sum(axis=1) - 2 * probability[row, truth] + 1
    return Calibration(
        nll=float(nll.mean()),
        ece=expected_calibration_error(confidence, correct),
        brier=float(brier.mean()),
        confidence=100.0 * float(confidence.mean()),
        n=len(labels),
    )


def expected_calibration_error(
    confidence: NDArray[np.floating], correct: NDArray[np.bool_], bins: int = BINS
) -> float:
    """Expected calibration error in percent; see `Calibration.ece`.

    Args:
        confidence: (N,) probability of the best class, in [0, 1].
        correct: (N,) whether it was the true one.
        bins: of equal width; bin m of M holds confidences in ((m - 1) / M, m / M].
    """
    place = _bin_of(confidence, bins)
    gap = np.bincount(place, weights=correct - confidence, minlength=bins)
    return 100.0 * float(np.abs(gap).sum() / len(confidence))


def reliability(
    confidence: NDArray[np.floating], correct: NDArray[np.bool_], bins: int = BINS
) -> tuple[ReliabilityBin, ...]:
    """The bins of `expected_calibration_error` that hold a segment, by rising confidence."""
    place = _bin_of(confidence, bins)
    n = np.bincount(place, minlength=bins)
    sure, right = (np.bincount(place, weights=w, minlength=bins) for w in (confidence, correct))
    return tuple(
        ReliabilityBin(
            low=100.0 * i / bins,
            high=100.0 * (i + 1) / bins,
            n=int(n[i]),
            confidence=100.0 * float(sure[i] / n[i]),
            correct=100.0 * float(right[i] / n[i]),
        )
        for i in np.flatnonzero(n).tolist()
    )


def _bin_of(confidence: NDArray[np.floating], bins: int) -> NDArray[np.int64]:
    place: NDArray[np.int64] = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    return place


def fit_temperature(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> float:
    """Temperature that minimises the mean -log p(truth) of softmax(logits / temperature).

    Newton's method on 1 / temperature, in which the loss is convex, kept inside a shrinking
    bracket, in float64. The result is within `RANGE`, and
    its lower end where every truth is the best class: such a loss has no minimum.

    Args:
        logits: (N, C) of segments that were held out of the training.
        labels: (N,) ids of the true classes.

    Raises:
        BadConfig: there is no segment, or a truth has probability 0 at every temperature.
    """
    truth = np.take_along_axis(logits, labels[:, None].astype(np.int64), axis=1)
    if not len(labels) or not np.isfinite(truth).all():
        raise BadConfig(
            "a temperature can't be fitted",
            expected="segments, each with a finite logit for its true class",
            found=f"{int((~np.isfinite(truth)).sum())} of {len(labels)} without one",
        )
    low, high, inverse = 1 / RANGE[1], 1 / RANGE[0], 1.0
    if _slope(logits, labels, low)[0] >= 0:
        return RANGE[1]
    if _slope(logits, labels, high)[0] <= 0:
        return RANGE[0]
    for _ in range(60):
        slope, curvature = _slope(logits, labels, inverse)
        low, high = (low, inverse) if slope > 0 else (inverse, high)
        step = inverse - slope / curvature if curvature > 0 else low
        following = step if low < step < high else (low * high) ** 0.5
        if abs(following - inverse) <= 1e-7 * inverse:
            break
        inverse = following
    return float(1 / inverse)


def cross_fitted_temperatures(
    logits: NDArray[np.floating],
    labels: NDArray[np.integer],
    groups: NDArray[np.generic],
    *,
    seed: int = 0,
) -> NDArray[np.float64]:
    """A temperature (N,) for each segment, fitted on the segments of other groups only.

    Args:
        logits: (N, C).
        labels: (N,) ids of the true classes.
        groups: (N,) e.g. the video of each; they are dealt to 5 folds, or one each, in random
            order.
        seed: decides which group falls into which fold.

    Raises:
        BadConfig: fewer than two groups, or see `fit_temperature`.
    """
    names, member = np.unique(groups, return_inverse=True)
    folds = min(FOLDS, len(names))
    if folds < 2:
        raise BadConfig("a temperature needs videos to be held out", expected="2 or more", found=1)
    fold = (np.random.default_rng(seed).permutation(len(names)) % folds)[member]
    temperatures = np.empty(len(labels))
    for k in range(folds):
        temperatures[fold == k] = fit_temperature(logits[fold != k], labels[fold != k])
    return temperatures


def _slope(
    logits: NDArray[np.floating], labels: NDArray[np.integer], inverse: float
) -> tuple[float, float]:
    """First and second derivative of the mean -log p(truth) by the inverse temperature."""
    from scipy.special import softmax

    slope, curvature = 0.0, 0.0
    for rows in blocks(len(labels)):
        # Relative to the best class; what has probability 0 counts for nothing, not as 0 * -inf.
        z = logits[rows].astype(np.float64)
        z -= z.max(axis=1, keepdims=True)
        own = z[np.arange(len(z)), labels[rows]]
        weight = softmax(inverse * z, axis=1)
        z[np.isneginf(z)] = 0.0
        mean = np.einsum("nc,nc->n", weight, z)
        slope += float((mean - own).sum())
        curvature += float((np.einsum("nc,nc,nc->n", weight, z, z) - mean**2).sum())
    return slope / len(labels), curvature / len(labels)
