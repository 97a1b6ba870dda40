"""What a listening teacher has heard of a live source, while rows of it may be missing.

Promise: as long as every row is made, what it expects is what it expects of a file of the same
frames (`Anticipator.predict`). A tick is a tick whether or not there was time for its rows, so that
how long actions last stays in seconds: one at which nothing new was seen, because all rows since
the tick before were dropped, tells nothing of what is under way, and the search goes on without it.
The history begins anew behind a gap, where the source jumps, and after `MOST_SILENT` such ticks in
a row; what was seen before is forgotten. Memory does not grow with the length of the source.
Letters: R ticks, T frames of a window, D feature, C actions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from antcache.extract.engines.video import Stored
from antcache.extract.videos.decode import TOLERANCE_S
from antcache.predict.answers import seconds
from antcache.predict.asking import AT_ONCE, AskedTime, in_parts, windows_at
from antcache.predict.held import RowPlace
from antcache.predict.listening.hearing import Floats
from antcache.predict.live.rows import ShownRows, rows_a_second
from antcache.student.scoring import scoring_batch

if TYPE_CHECKING:
    from antcache.predict.anticipator import Anticipator
    from antcache.predict.listening.listener import Listener

MOST_SILENT = 60
"""Ticks in a row at which nothing new was seen, and the past is still thought to go on behind them:
a minute of ticks of a second."""

GAP, JUMP, SILENCE = "behind a gap", "where the source jumped", "after a time without rows"


@dataclass(frozen=True, kw_only=True)
class HeardPast:
    """How much of the past a teacher was told.

    Attributes:
        since_s: when its history begins, in seconds of the source; NaN before the first row.
        ticks: how many were heard in it.
        silent: at how many of them nothing new was seen.
        begun_anew: how often the history has begun anew so far.
        why: the last time; empty if it has not.
    """

    since_s: float
    ticks: int
    silent: int
    begun_anew: int
    why: str

    def __str__(self) -> str:
        text = f"history since {seconds(round(self.since_s, 2))}"
        text += f", {self.silent} of {self.ticks} ticks silent" if self.silent else ""
        return text + (f", begun anew {self.why}" if self.why else "")

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


class LiveHistory:
    """A teacher listens while rows are made.

    Args:
        anticipator: which has one that listens.
        listener: it.
        where: the source, for messages.
    """

    _in_a_row: int
    _oldest: int | None

    def __init__(self, anticipator: Anticipator, listener: Listener, where: str) -> None:
        self._anticipator, self._listener, self._where = anticipator, listener, where
        self._stream, self._protocol = anticipator.make.stream, listener.ticks.protocol
        self._every_s = listener.ticks.every_s
        self._fps = rows_a_second(self._stream, self._protocol)
        self._shown = ShownRows(self._stream, self._protocol, self._fps)
        self._since_s, self._begun_anew, self._why = math.nan, -1, ""
        self._row: RowPlace | None = None
        self._forget()

    @property
    def heard(self) -> HeardPast:
        """What was heard so far."""
        return HeardPast(
            since_s=self._since_s,
            ticks=self._ticks,
            silent=self._silent,
            begun_anew=max(0, self._begun_anew),
            why=self._why,
        )

    def take(self, row: RowPlace, stored: Stored) -> None:
        """Take a row that was made, newer than those before; the ticks before it are over.

        Raises:
            NotFinite: features, or the recogniser's scores.
        """
        time_s = row.start_s + row.number / self._fps
        before = self._row
        if before is None or row.start_s != before.start_s:
            self._begin(row.start_s, 0, time_s, "" if before is None else GAP)
        elif row.jumps != before.jumps:
            self._begin(time_s, row.number, time_s, JUMP)
        else:
            self._look_up(math.ceil((time_s - TOLERANCE_S) / self._every_s) - 1)
            if self._in_a_row > MOST_SILENT:
                self._begin(time_s, row.number, time_s, SILENCE)
        self._row = row
        number = row.number - self._first
        self._oldest = number if self._oldest is None else self._oldest
        self._shown.add(number, stored)

    def expected(self, time_s: float) -> Floats:
        """Log-probabilities (C,) of what begins a gap after the time of the newest window.

        Raises:
            NotFinite: features, or the recogniser's scores.
        """
        self._look_up(math.floor((time_s + TOLERANCE_S) / self._every_s))
        self._hear()
        return self._hearing.expected(time_s)

    def warm_up(self) -> None:
        """Let recogniser and teacher do once what takes long the first time."""
        recogniser = self._listener.recogniser
        recogniser.predictor.one_window(recogniser.shape)()
        self._listener.hear().expected(0.0)

    def _begin(self, start_s: float, first: int, since_s: float, why: str) -> None:
        """Begin a history.

        Args:
            start_s: from when on windows see something.
            first: row that is seen then.
            since_s: time of the row that is made first.
            why: it begins anew.
        """
        self._forget()
        self._first, self._since_s, self._why = first, since_s, why
        self._begun_anew += 1
        self._next = max(1, math.floor(start_s / self._every_s))
        self._shown.begin(start_s)

    def _forget(self) -> None:
        self._hearing = self._listener.hear()
        self._waiting: list[tuple[float, Tensor | None]] = []
        self._oldest = None
        self._newest_asked = -1
        self._ticks = self._silent = self._in_a_row = 0
        self._first, self._next = 0, 1

    def _look_up(self, last: int) -> None:
        """Look up the windows of the ticks up to one, in the rows that are held."""
        for asked in self._windows(last):
            if asked.rows is None:
                continue
            newest = int(asked.rows.max())
            if self._oldest is None or newest < self._oldest:
                continue  # nothing had been seen then
            new = self._shown.stands_for(newest)
            silent = new != newest and new <= self._newest_asked
            features = None if silent else self._shown.features(asked.rows)[0]
            self._newest_asked = newest
            self._ticks += 1
            self._silent += silent
            self._in_a_row = self._in_a_row + 1 if silent else 0
            if self._in_a_row > MOST_SILENT:
                return  # the history ends here
            self._waiting.append((asked.time_s, features))
            if len(self._waiting) >= scoring_batch((1, len(asked.rows), *self._stream.row_shape)):
                self._hear()

    def _windows(self, last: int) -> Iterator[AskedTime]:
        """Windows of the ticks up to one that were not looked up yet."""
        while self._next <= last:
            stop = min(self._next + AT_ONCE, last + 1)
            times = np.arange(self._next, stop, dtype=np.float64) * self._every_s
            self._next = stop
            for part in in_parts(times):
                yield from windows_at(
                    part, self._stream, self._protocol, start_s=self._shown.start_s
                )

    def _hear(self) -> None:
        """Tell the teacher of the ticks that were looked up."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        said = np.zeros((len(waiting), len(self._anticipator.names)))
        seen = [features for _, features in waiting if features is not None]
        if seen:
            places = [i for i, (_, features) in enumerate(waiting) if features is not None]
            said[places] = self._anticipator.recognise(torch.stack(seen), self._where)
        times = [time_s for time_s, _ in waiting]
        self._hearing.recognised(times, said)
        self._hearing.hear_until(times[-1])
