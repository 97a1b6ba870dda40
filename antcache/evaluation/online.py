"""Streaming evaluation: a prediction counts only from the time at which it is ready.

Promise: at `start - gap` (with another anchor: its reference point less the gap), the time of the
classic evaluation, the newest prediction that is finished by then counts, whatever the model has
seen since; a segment for which none is finished yet is wrong.
Source: Furnari and Farinella 2022, "Towards streaming egocentric action anticipation".
Letters: N segments.

Two clocks:

- *stride*: an input arrives every `stride_s` seconds from the start of the video. A model that is
  done takes the newest input there is; what arrives while it is busy is skipped. With runtime r it
  therefore begins anew every `period_s = stride_s * ceil(r / stride_s)` seconds.
- *no stride*: the model always happens to be done at the right time: the window ends at
  `start - gap - r`. That is the best that a model of this runtime can do.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from antcache.annotations import Segments, Taxonomy
from antcache.annotations.protocols import reference_times
from antcache.checks import Positive, Weight, at_least, check_types
from antcache.errors import BadConfig
from antcache.evaluation.metrics import score
from antcache.evaluation.predictions import Predictions
from antcache.evaluation.scoring import rows_in
from antcache.timebase import BOUNDARY, exact_floor

Predict = Callable[[Segments], Predictions]
"""Predicts segments from what is seen up to `start_s - gap`; it may leave some out."""


@dataclass(frozen=True, kw_only=True)
class OnlineClock:
    """How long a model takes, and when inputs arrive."""

    latency_s: Weight
    """Seconds from the last frame of a window to its prediction."""
    stride_s: Positive | None = None
    """Seconds between inputs; None: the model is done when it has to be."""

    def __post_init__(self) -> None:
        check_types(self)

    @property
    def period_s(self) -> float | None:
        """Seconds between two windows that are processed; None without a stride."""
        if self.stride_s is None:
            return None
        inputs = math.ceil(self.latency_s / self.stride_s - BOUNDARY)
        return self.stride_s * max(1, inputs)


def window_ends(times_s: NDArray[np.float64], clock: OnlineClock) -> NDArray[np.float64]:
    """End (N,) of the window whose prediction is the newest that is ready at `times_s` (N,).

    With a stride, inputs arrive at `stride_s`, `2 stride_s`, ...; NaN where nothing is ready yet.
    """
    latest = np.asarray(times_s, dtype=np.float64) - clock.latency_s
    if clock.period_s is None or clock.stride_s is None:
        return np.where(latest > 0, latest, np.nan)
    turns = exact_floor((latest - clock.stride_s) / clock.period_s)
    ends = clock.stride_s + turns * clock.period_s
    return np.where(turns >= 0, ends, np.nan)


@dataclass(frozen=True, kw_only=True)
class OnlineResult:
    """What a model reaches under a clock.

    Attributes:
        clock: the clock.
        metrics: over all N segments, percent; see `metrics.score`.
        n: N.
        not_ready: segments for which no prediction was finished in time.
        unseen: segments whose window has nothing to see, or that were left out by `predict`.
        age_s: mean seconds by which the windows end before they are due; NaN without any.
        predictions: of the other segments.
    """

    clock: OnlineClock
    metrics: dict[str, float]
    n: int
    not_ready: int
    unseen: int
    age_s: float
    predictions: Predictions


def evaluate_online(
    segments: Segments,
    taxonomy: Taxonomy,
    gap_s: float,
    clock: OnlineClock,
    predict: Predict,
    *,
    anchor: float = 0.0,
) -> OnlineResult:
    """Score a model of a certain runtime.

    Args:
        segments: N segments.
        taxonomy: the classes.
        gap_s: anticipation gap, seconds.
        clock: runtime and inputs.
        predict: called once, with the segments moved so that their windows end where the clock
            says; those without a finished prediction are not among them.
        anchor: what the gap is counted back from; see `Protocol.anchor`.

    Raises:
        BadConfig: there is no segment, or none has a prediction.
    """
    due = reference_times(segments.start_s, segments.stop_s, anchor) - gap_s
    ends = window_ends(due, clock)
    ready = np.isfinite(ends)
    if not ready.any():
        raise BadConfig(
            "no prediction is ready in time",
            expected="a runtime shorter than what is seen of a video before its last segment",
            found=f"{clock.latency_s:g} s",
        )
    predictions = predict(moved(segments[ready], ends[ready], gap_s, anchor))
    # They were asked of other moments than the labels': that is what streaming is.
    rows = rows_in(replace(predictions, moment=None), segments, "streaming")
    metrics = score(
        predictions.scores,
        segments,
        taxonomy,
        rows=rows,
        verb_noun_scores=predictions.verb_noun_scores,
    )
    return OnlineResult(
        clock=clock,
        metrics=metrics,
        n=len(segments),
        not_ready=int((~ready).sum()),
        unseen=int(ready.sum()) - len(rows),
        age_s=float((due[rows] - ends[rows]).mean()),
        predictions=predictions,
    )


def moved(
    segments: Segments, ends_s: NDArray[np.float64], gap_s: float, anchor: float = 0.0
) -> Segments:
    """The segments moved in time so that their windows end at `ends_s` (N,) seconds."""
    length_s = segments.stop_s - segments.start_s
    start_s = ends_s + gap_s
    if anchor:  # of the start alone no length has to be known
        start_s = start_s - anchor * length_s
    columns = segments.arrays()
    columns["stop_s"] = start_s + length_s
    return Segments.of(**{**columns, "start_s": start_s})


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Measured runtimes, seconds.

    Attributes:
        median_s: half of the calls are faster.
        p95_s: 95 % are.
        calls: how many were timed.
    """

    median_s: float
    p95_s: float
    calls: int


def measure_latency(
    call: Callable[[], object],
    *,
    warm_up: int = 10,
    calls: int = 100,
    timer: Callable[[], float] = time.perf_counter,
) -> Latency:
    """Time `call`, one call after the other.

    The first calls (compilation, caches, memory) are not counted. `call` has to end only when its
    result is there: on a GPU it must wait for the device.

    Args:
        call: makes one prediction.
        warm_up: calls that are not timed.
        calls: calls that are.
        timer: gives seconds.

    Raises:
        BadConfig: no call would be timed.
    """
    at_least("number of calls", calls, 1)
    at_least("number of calls before", warm_up, 0)
    for _ in range(warm_up):
        call()
    seconds = np.empty(calls)
    for i in range(calls):
        begun = timer()
        call()
        seconds[i] = timer() - begun
    return Latency(
        median_s=float(np.median(seconds)),
        p95_s=float(np.quantile(seconds, 0.95)),
        calls=calls,
    )
