"""Answers about what is seen now, as many as there is time for.

Promise: each answer is about the newest row there was when it was begun. Rows that waited are made
too if that delays the newest by less than the time between two rows, so that a hiccup leaves no
hole in the window; others are dropped and counted. Nothing grows with the length of the source.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Generator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from antcache.predict.answers import Anticipation, likeliest
from antcache.predict.live.history import HeardPast, LiveHistory
from antcache.predict.live.places import Place
from antcache.predict.live.reader import ROOM, LiveReader
from antcache.predict.live.rows import LiveRows
from antcache.predict.live.times import Now

if TYPE_CHECKING:
    from antcache.predict.anticipator import Anticipator

WAIT_S = 0.25
"""How long is waited for a row before it is looked whether somebody wants to stop."""

REMEMBERED = 10_000
"""Delays that the figures at the end are of."""

INERTIA = 0.8
"""How much of what a row is thought to cost stays as it was with each that is made."""


@dataclass(frozen=True, kw_only=True)
class LiveAnswer:
    """What is expected, and how it came about.

    Attributes:
        anticipation: what, at which time of the source.
        delay_s: seconds from the newest frame that the answer looks at, as it came, to the answer.
        stand_ins: frames of the window in which an older row stands in for a dropped one.
        dropped: rows dropped so far.
        frames: frames that went by so far.
        history: what a teacher that listens has heard; None: there is none.
    """

    anticipation: Anticipation
    delay_s: float
    stand_ins: int
    dropped: int
    frames: int
    history: HeardPast | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        own = {name: getattr(self, name) for name in ("stand_ins", "dropped", "frames")}
        own |= {} if self.history is None else {"history": self.history.to_dict()}
        return self.anticipation.to_dict() | {"delay_s": round(self.delay_s, 6)} | own


@dataclass(frozen=True, kw_only=True)
class WatchReport:
    """What was seen.

    Attributes:
        answers: how many there were.
        frames: frames that went by.
        rows: rows that were due.
        dropped: rows there was no time for.
        seen_s: time of the newest answer, in seconds of the source; None: there was none.
        seconds: how long it was watched.
        delay_s: median of the delays, of the last 10,000; None: there was no answer.
        delay_p95_s: 95 % are shorter.
        slowed_s: by how much a recording was played more slowly than asked for.
        undecodable: packets that could not be decoded.
        begun_anew: how often a history began anew; None: no teacher listens.
    """

    answers: int
    frames: int
    rows: int
    dropped: int
    seen_s: float | None
    seconds: float
    delay_s: float | None
    delay_p95_s: float | None
    slowed_s: float
    undecodable: int
    begun_anew: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


class Watch:
    """Watches a source with a student, once.

    Args:
        anticipator: the student and its backbone, and the teacher that listens, if any.
        place: the source, as `place_of` understands it.
        speed: seconds of a recording in a second; a live source has its own.
        top: how many actions an answer has.
        now: the clock.
    """

    def __init__(
        self,
        anticipator: Anticipator,
        place: Place,
        *,
        speed: float = 1.0,
        top: int = 5,
        now: Now = time.monotonic,
    ) -> None:
        self.anticipator, self.place = anticipator, place
        self._top, self._now = top, now
        self._history: LiveHistory | None = None
        if anticipator.listener is None:
            self._rows = LiveRows(anticipator.make, anticipator.protocol)
        else:
            self._history = LiveHistory(anticipator, anticipator.listener, str(place))
            self._rows = LiveRows(anticipator.make, anticipator.protocol, self._history.take)
        self._reader = LiveReader(place, self._rows.recipe, speed=speed, now=now)
        self._pause_s = self._rows.interval_s / speed
        self._cost_s = math.nan
        self._delays: deque[float] = deque(maxlen=REMEMBERED)
        self._answers = 0
        self._seen_s: float | None = None
        self._began_s = self._ended_s = now()

    def answers(self) -> Generator[LiveAnswer, None, None]:
        """Answers as they come, until the source ends; closing it ends the reading.

        Raises:
            NotFound: no such camera, or it is busy.
            Unreachable: nobody answers at the URL.
            UnreadableVideo: it is no video, or breaks off, possibly after some answers.
            BadConfig: cameras can't be read here, or features that can't be held.
            NotFinite: features, or the scores of student or recogniser.
        """
        self._warm_up()
        self._began_s = self._now()
        self._reader.start()
        try:
            while (due := self._reader.mailbox.take(self._most(), WAIT_S)) is not None:
                if not due:
                    continue
                begun_s = self._now()
                path = self.place if isinstance(self.place, Path) else str(self.place)
                self._rows.add(due, path)
                answer = self._answer(due[-1].since_s)
                self._learn((self._now() - begun_s) / len(due))
                if answer is not None:
                    yield answer
        finally:
            self._ended_s = self._now()
            self._reader.close()

    def report(self) -> WatchReport:
        """What was seen so far."""
        delays = np.asarray(self._delays) if self._delays else None
        box = self._reader.mailbox
        return WatchReport(
            answers=self._answers,
            frames=self._reader.num_frames,
            rows=box.put_in,
            dropped=box.dropped,
            seen_s=self._seen_s,
            seconds=self._ended_s - self._began_s,
            delay_s=None if delays is None else float(np.median(delays)),
            delay_p95_s=None if delays is None else float(np.quantile(delays, 0.95)),
            slowed_s=self._reader.slowed_s,
            undecodable=self._reader.skipped_packets,
            begun_anew=None if self._history is None else self._history.heard.begun_anew,
        )

    def _answer(self, since_s: float) -> LiveAnswer | None:
        window = self._rows.window()
        if window is None:
            return None
        student = self.anticipator
        scores = student.score(window.features[None], str(self.place)).action
        if student.listener is not None and self._history is not None:
            expected = self._history.expected(window.time_s)
            scores = student.listener.mixed(scores, expected[None])
        found = Anticipation(
            time_s=window.time_s,
            gap_s=student.gap_s,
            top=likeliest(scores[0], student.names, self._top),
            anchor=student.protocol.anchor,
        )
        delay_s = self._now() - since_s
        self._delays.append(delay_s)
        self._answers += 1
        self._seen_s = window.time_s
        return LiveAnswer(
            anticipation=found,
            delay_s=delay_s,
            stand_ins=window.stand_ins,
            dropped=self._reader.mailbox.dropped,
            frames=self._reader.num_frames,
            history=None if self._history is None else self._history.heard,
        )

    def _warm_up(self) -> None:
        """Let the models do once what takes long the first time, before anything is due."""
        student = self.anticipator.student
        student.predictor.one_window(student.shape)()
        self._rows.try_out()
        if self._history is not None:
            self._history.warm_up()

    def _most(self) -> int:
        """How many rows may be made for the next answer."""
        if not self._cost_s > 0:
            return 1
        return max(1, min(ROOM, math.floor(self._pause_s / self._cost_s)))

    def _learn(self, cost_s: float) -> None:
        known = not math.isnan(self._cost_s)
        self._cost_s = INERTIA * self._cost_s + (1 - INERTIA) * cost_s if known else cost_s
