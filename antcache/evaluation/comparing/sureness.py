"""Whether the runs of one side are as often right as they are sure.

Promise: a probability is the softmax of a run's own scores, nothing fitted; segments without a
prediction are left out. The curve is of the segments of all runs together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from antcache.evaluation.calibration import (
    ReliabilityBin,
    expected_calibration_error,
    reliability,
)
from antcache.evaluation.comparing.systems import System


@dataclass(frozen=True, kw_only=True)
class SideCalibration:
    """Calibration of the runs of A, or of B; figures are means over the runs.

    Attributes:
        n: segments with a prediction, over all runs.
        ece: expected calibration error, percent; see `calibration.Calibration`.
        nll: mean of -log p(truth), nats; None where a truth has probability 0.
        confidence: mean probability of the best class, percent.
        top1: share of these segments whose best class is the true one, percent.
        bins: of all runs together, by rising confidence.
    """

    n: int
    ece: float
    nll: float | None
    confidence: float
    top1: float
    bins: tuple[ReliabilityBin, ...]


def calibration_of(side: Sequence[System]) -> SideCalibration | None:
    """That of one side's runs that predict any of the segments; None if no run does."""
    runs = [(s.confidence[s.known], s.right(1)[s.known], s) for s in side if s.known.any()]
    if not runs:
        return None
    sure, right = (np.concatenate(own) for own in zip(*(r[:2] for r in runs), strict=True))
    nll = float(np.mean([-s.log_p[s.known].mean() for *_, s in runs]))
    return SideCalibration(
        n=len(sure),
        ece=float(np.mean([expected_calibration_error(own, hits) for own, hits, _ in runs])),
        nll=nll if np.isfinite(nll) else None,
        confidence=100.0 * float(np.mean([own.mean() for own, *_ in runs])),
        top1=100.0 * float(np.mean([hits.mean() for _, hits, _ in runs])),
        bins=reliability(sure, right),
    )
