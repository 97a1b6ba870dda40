"""What a teacher expects while a recogniser says what is under way.

Promise: what is expected at a time depends on what was recognised up to that time and on nothing
later. Where a video has no features nothing is heard, and every action is as likely as before;
before the first tick the teacher says what a video begins with. Letters: R ticks, C actions.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from antcache.annotations import Segments
from antcache.checks import Count, Positive, check_types, one_of
from antcache.evaluation.fusion import MIXTURES
from antcache.extract.videos.decode import TOLERANCE_S
from antcache.predict.asking import Every
from antcache.student.runs.predicting import TrainedStudent
from antcache.teacher.recognizing.beam import BeamConfig, GuessedHistory

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class ListenConfig:
    """How a teacher hears a recogniser."""

    every_s: Every = 1.0
    """Seconds between two ticks, the times at which the recogniser is asked: its multiples."""
    guesses: Count = 50
    """Guesses of the past that are kept, the best ones."""
    trust: Positive = 0.7
    """Power of what the recogniser says; 1 takes ticks for independent witnesses."""
    mixture: str = "probabilities"
    """What of student and teacher is mixed: one of `fusion.MIXTURES`."""

    def __post_init__(self) -> None:
        check_types(self)
        one_of("mixture", self.mixture, MIXTURES)

    def beam(self, gap_s: float) -> BeamConfig:
        """How histories are guessed for actions that begin `gap_s` after the last tick."""
        ahead = round(gap_s / self.every_s)
        return BeamConfig(width=self.guesses, trust=self.trust, ahead=ahead)


def log_prior(actions: NDArray[np.int64], classes: int) -> Floats:
    """Log-probabilities (C,) of a recogniser's actions before it has seen anything: how often they
    are among the segments that it was trained on, and once more."""
    counts = np.bincount(actions, minlength=classes) + 1.0
    return np.asarray(np.log(counts / counts.sum()))


@dataclass(frozen=True, kw_only=True)
class FrameEvidence:
    """How what a recogniser says is weighed.

    Attributes:
        prior: (C,) float64; see `log_prior`.
        temperature: of its scores, by which they are probabilities. One that has learned little is
            too unsure, and dividing by the prior would say that rare actions are likely.
    """

    prior: Floats
    temperature: float

    def likelihood(self, scores: NDArray[np.floating]) -> Floats:
        """Log-likelihoods (R, C) of what was seen, up to a number of each row, of a recogniser's
        scores (R, C): what it says is likely anyway tells nothing (Bayes' rule)."""
        sure = scores.astype(np.float64) / self.temperature
        return np.asarray(log_softmax(sure, axis=1) - self.prior)


class Hearing:
    """One video.

    Args:
        guessed: who listens.
    """

    def __init__(self, guessed: GuessedHistory) -> None:
        self._listening = guessed.listen()
        self._waiting: deque[tuple[float, Floats]] = deque()

    def recognised(self, times_s: Iterable[float], likelihood: Floats) -> None:
        """Take the next ticks (R,), ascending, and how likely (R, C) what was seen then is."""
        self._waiting.extend(zip(times_s, likelihood, strict=True))

    def expected(self, time_s: float) -> Floats:
        """Log-probabilities (C,) of what begins a gap after a time, which is not before one that
        was asked about earlier; all ticks up to it were taken."""
        self.hear_until(time_s)
        return self._listening.expected()

    def hear_until(self, time_s: float) -> None:
        """Let the teacher hear the ticks up to a time, which then don't wait any more."""
        while self._waiting and self._waiting[0][0] <= time_s + TOLERANCE_S:
            self._listening.hear(self._waiting.popleft()[1])


def ticks_of(
    student: TrainedStudent, video: str, until_s: float, every_s: float, evidence: FrameEvidence
) -> tuple[Floats, Floats]:
    """Ticks (R,) of a store's video from the first that has a window to a time, and how likely
    (R, C) what was seen at each is; all zeros where features are missing.

    Raises:
        BadConfig: the recogniser's stream has nothing of the video up to that time.
        NotFinite: features, or the recogniser's scores.
    """
    count = int(np.floor((until_s + TOLERANCE_S) / every_s))
    times = np.arange(1, count + 1, dtype=np.float64) * every_s
    classes = len(evidence.prior)
    if not count:
        return times, np.zeros((0, classes))
    found = student.predict(moments(video, times, student.protocol.anchor), split=video)
    places = np.array([int(uid) for uid in found.uid.tolist()])
    out = np.zeros((count, classes))
    out[places] = evidence.likelihood(found.scores)
    return times[places[0] :], out[places[0] :]


def moments(video: str, times_s: Floats, anchor: float) -> Segments:
    """Segments (N,) without labels, of a second each, whose point `anchor` is at the times (N,)."""
    none = np.full(len(times_s), -1)
    return Segments.of(
        uid=np.arange(len(times_s)).astype(np.str_),
        video=np.full(len(times_s), video),
        start_s=times_s - anchor,
        stop_s=times_s - anchor + 1.0,
        verb=none,
        noun=none,
        action=none,
    )
