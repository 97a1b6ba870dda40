"""A set of predictions reduced to what a comparison needs: ranks, first guesses, probabilities.

Promise: the scores themselves, N x C, are not kept, so that many runs fit into memory together, and
all systems of a comparison are over the same segments in the same order.
Letters: N segments that count, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from antcache.annotations import Segments, Taxonomy
from antcache.evaluation.metrics import Ranked, blocks, rank
from antcache.evaluation.predictions import Predictions
from antcache.evaluation.scoring import rows_in


@dataclass(frozen=True, kw_only=True)
class System:
    """One run, or a teacher, on N segments.

    Attributes:
        name: the path, or `targets/NAME`.
        ranked: ranks of the true action, verb and noun; NEVER without a prediction.
        guess: (N,) int64, the best action; -1 without a prediction.
        log_p: (N,) float64, log of the true action's probability; `-inf` without a prediction.
        confidence: (N,) float64, probability of the best action; 0 without a prediction.
    """

    name: str
    ranked: Ranked
    guess: NDArray[np.int64]
    log_p: NDArray[np.float64]
    confidence: NDArray[np.float64]

    def __getitem__(self, rows: NDArray[np.int64]) -> System:
        """The system on the segments at `rows`."""
        return System(
            name=self.name,
            ranked=self.ranked[rows],
            guess=self.guess[rows],
            log_p=self.log_p[rows],
            confidence=self.confidence[rows],
        )

    @property
    def known(self) -> NDArray[np.bool_]:
        """Segments (N,) with a prediction."""
        return self.guess >= 0

    def right(self, k: int) -> NDArray[np.bool_]:
        """Whether (N,) the true action is among the k best."""
        return self.ranked.ranks["action"] < k


def as_system(
    predictions: Predictions, segments: Segments, taxonomy: Taxonomy, name: str
) -> System:
    """Predictions as a system on all N `segments` of their split.

    Raises:
        FingerprintMismatch: a predicted segment is not among them.
        BadPredictions: there is none.
        BadConfig: a score is not a number.
    """
    rows = rows_in(predictions, segments, name)
    scores, pair = predictions.scores, predictions.verb_noun_scores
    guess, log_p = np.full(len(segments), -1), np.full(len(segments), -np.inf)
    confidence = np.zeros(len(segments))
    guess[rows] = scores.argmax(axis=1)
    log_p[rows], confidence[rows] = _probabilities(scores, segments.action[rows])
    ranked = rank(scores, segments, taxonomy, rows=rows, verb_noun_scores=pair)
    return System(name=name, ranked=ranked, guess=guess, log_p=log_p, confidence=confidence)


def _probabilities(
    scores: NDArray[np.floating], labels: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Log of the true class's softmax probability (n,), and the best class's probability (n,)."""
    from scipy.special import log_softmax

    truth, best = np.empty(len(scores)), np.empty(len(scores))
    for rows in blocks(len(scores)):
        logs = log_softmax(scores[rows].astype(np.float64), axis=1)
        truth[rows] = np.take_along_axis(logs, labels[rows, None], axis=1)[:, 0]
        best[rows] = np.exp(logs.max(axis=1))
    return truth, best
