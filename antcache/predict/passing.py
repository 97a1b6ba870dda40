"""One pass over a video: the windows of the times that are asked about, while it is decoded.

Promise: a time is answered as soon as the rows of its window are there; of the rows only those are
held that a later window looks at, so memory does not grow with the video. Rows are those that
`extract` would store, made once for all who look at them; those that no window looks at are not
made, and what comes after the last time is not decoded.
Letters: N windows, T frames of a window, D feature.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
from torch import Tensor

from antcache.annotations import Protocol
from antcache.errors import BadConfig
from antcache.extract.backbone import Backbone
from antcache.extract.engines.call import BATCHES_AHEAD
from antcache.extract.engines.video import RowMaker
from antcache.extract.prefetch import prefetch
from antcache.extract.rows.clips import batches
from antcache.extract.rows.moments import Times
from antcache.extract.videos.decode import TOLERANCE_S, VideoReader
from antcache.extract.videos.source import VideoSource
from antcache.predict.asking import AT_ONCE, AskedTime, in_parts, multiples, row_times, windows_at
from antcache.predict.held import HeldRows
from antcache.store import Stream
from antcache.student.scoring import scoring_batch
from antcache.windows.index import SHORT_FEATURES

LONGEST_S = 86_400.0
"""How long a video may be whose times are not listed, in seconds: a day."""

MOST_LISTED = 1 << 17
"""Times that a stream of rows at windows is asked about: rows are looked for at all of them at
once."""

SPARE = 2.0
"""How much longer a video may be than it states, as a factor, where its times must be known before
it is opened."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a pass has come to.

    Attributes:
        times_s: N times that have a window.
        features: (N, T, D), or (N, T, k, D) of tokens; None where N is 0.
        without: times of a list that have none, and the reason, as `antcache.windows.index` has it.
        ticks: whether these are windows of the ticks, see `VideoPass`.
    """

    times_s: list[float]
    features: Tensor | None
    without: list[AskedTime]
    ticks: bool = False


@dataclass(frozen=True, kw_only=True)
class Ticks:
    """Further windows of a video, at a step that has nothing to do with the times asked about.

    Attributes:
        protocol: what a window is.
        every_s: seconds; they end at its multiples.
    """

    protocol: Protocol
    every_s: float


class VideoPass:
    """Windows of one video.

    Args:
        make: the backbone, and the stream that rows are as those of.
        protocol: what a window is.
        source: the video.
        times: those that are asked about, in seconds, ascending; or a step, whose multiples are, as
            far as the video goes.
        ticks: windows that are given besides: those up to a time come before that of the time.

    Attributes:
        last_s: time of the last frame; NaN if the video was not looked at to its end.
    """

    def __init__(
        self,
        make: RowMaker,
        protocol: Protocol,
        source: VideoSource,
        times: Times | float,
        ticks: Ticks | None = None,
    ) -> None:
        self.make, self.source = make, source
        self._beyond_s = LONGEST_S
        self._stepped = isinstance(times, float)
        if isinstance(times, float) and make.stream.at is not None:
            times = self._foreseen(times)
        self._asked = _AskedWindows(make.stream, protocol, times, stepped=self._stepped)
        self._all = [self._asked]
        if ticks is not None:  # before the times, which need what was seen by then
            self._all.insert(
                0,
                _AskedWindows(make.stream, ticks.protocol, ticks.every_s, stepped=True, ticks=True),
            )
        self.last_s = math.nan

    def __iter__(self) -> Generator[Found, None, None]:
        """Decode the video.

        Raises:
            UnreadableVideo: possibly after some windows.
            BadConfig: features that can't be held, or a video longer than its times.
        """
        recipe = self.make.recipe.pixels
        reader, clips = recipe.clips(self.source, self._asked.listed)
        made = batches(clips, recipe.batch_size, self.source.path)
        if isinstance(self.make.recipe.backbone, Backbone):  # one's own is called by this thread
            made = prefetch(made, BATCHES_AHEAD)
        count = 0
        with closing(made):
            for pixels in made:
                if not count:
                    self._begin(reader)
                self._take(count, pixels)
                count += len(pixels)
                until = self._asked.time_of(count - 1, reader.facts.start_s)
                yield from self._found(until + TOLERANCE_S, count)
                if self._asked.over and not self._stepped:
                    return  # what follows was not asked about
                for asked in self._all:
                    asked.let_go(count)
        if not count:  # none of the rows of listed times lies in it
            self._begin(reader)
        yield from self._rest(reader, count)

    def _begin(self, reader: VideoReader) -> None:
        """The first frame is known."""
        for asked in self._all:
            asked.begin(reader.facts.start_s)

    def _take(self, count: int, pixels: Tensor) -> None:
        """Make rows of pixels, the first of which is row `count`, if anybody looks at them."""
        oldest = [asked.oldest(count) for asked in self._all]
        if min(oldest) < count + len(pixels):
            stored = self.make(pixels, self.source.path)
            for asked, own in zip(self._all, oldest, strict=True):
                asked.held.add(count, stored, own)

    def _found(self, until_s: float, count: int) -> Iterator[Found]:
        """What can be answered with `count` rows: times up to that of the last of them."""
        for asked in self._all:
            yield from asked.found(until_s, count)

    def _rest(self, reader: VideoReader, count: int) -> Iterator[Found]:
        """What is left when the video has ended."""
        self.last_s = last_s = reader.facts.last_s
        if self._stepped and last_s > self._beyond_s:
            raise BadConfig(
                "a video longer than it states, or than a day",
                where=self.source.path,
                expected=f"at most {self._beyond_s:g} s",
                found=f"{last_s:.1f} s",
                hint="list the times: `at`",
            )
        for asked in self._all:
            until = math.inf if asked is self._asked and not self._stepped else last_s + TOLERANCE_S
            yield from asked.found(until, count)

    def _foreseen(self, step: float) -> Times:
        """The multiples of a step that may lie in the video."""
        stated = self.source.duration_s()
        until = LONGEST_S if stated is None else min(LONGEST_S, SPARE * stated + 60.0)
        parts = islice(multiples(step, until), MOST_LISTED // AT_ONCE)
        times = np.concatenate([np.empty(0), *parts])
        if not len(times):
            raise BadConfig(
                "no multiple of this step lies in the video",
                where=self.source.path,
                expected=f"at most {until:g} s",
                found=f"{step:g} s",
            )
        self._beyond_s = float(times[-1]) + step
        return times


class _AskedWindows:
    """Times that windows of one kind end at, and the rows that these look at.

    Args:
        stream: what rows are of.
        protocol: what a window is.
        times: a list, or a step; `stepped` if a step was asked for.
        ticks: see `Found`.
    """

    def __init__(
        self,
        stream: Stream,
        protocol: Protocol,
        times: Times | float,
        *,
        stepped: bool,
        ticks: bool = False,
    ) -> None:
        self.held = HeldRows(stream, protocol)
        self.listed: Times | None = None
        if stream.at is not None:
            assert not isinstance(times, float)
            self.listed = row_times(times, protocol)
        self._stream, self._protocol, self._times = stream, protocol, times
        self._stepped, self._ticks = stepped, ticks
        self._next: AskedTime | None = None
        self._later: Iterator[AskedTime] = iter(())

    @property
    def over(self) -> bool:
        """Whether all times were found."""
        return self._next is None

    def begin(self, start_s: float) -> None:
        """The first frame is known."""
        if self.listed is not None:
            self.listed = self.listed[self.listed >= start_s - TOLERANCE_S]
        self._later = self._windows(start_s)
        self._next = next(self._later, None)

    def oldest(self, count: int) -> int:
        """First row that is still looked at, of `count` rows and those to come."""
        return count if self._next is None else self._next.oldest

    def let_go(self, count: int) -> None:
        """Forget what no later window looks at."""
        self.held.let_go(self.oldest(count))

    def time_of(self, row: int, start_s: float) -> float:
        """When a row was seen."""
        return start_s + row / self._stream.fps if self.listed is None else float(self.listed[row])

    def found(self, until_s: float, count: int) -> Iterator[Found]:
        """The windows of times up to one, of `count` rows."""
        answered: list[AskedTime] = []
        without: list[AskedTime] = []
        while self._next is not None and self._next.time_s <= until_s:
            asked, self._next = self._next, next(self._later, None)
            if asked.rows is None:
                without.append(asked)
            elif asked.rows.max() >= count:
                without.append(replace(asked, rows=None, reason=SHORT_FEATURES))
            else:
                answered.append(asked)
            if len(answered) == self._most(asked):
                yield self._of(answered, without)
                answered, without = [], []
        if answered or without:
            yield self._of(answered, without)

    def _windows(self, start_s: float) -> Iterator[AskedTime]:
        if isinstance(self._times, float):
            parts = multiples(self._times, LONGEST_S)
        else:
            parts = in_parts(self._times)
        for part in parts:
            yield from windows_at(
                part, self._stream, self._protocol, start_s=start_s, listed=self.listed
            )

    def _most(self, asked: AskedTime) -> int:
        """Windows that are scored at a time."""
        frames = 0 if asked.rows is None else len(asked.rows)
        return scoring_batch((1, frames or 1, *self._stream.row_shape))

    def _of(self, answered: list[AskedTime], without: list[AskedTime]) -> Found:
        rows = [asked.rows for asked in answered if asked.rows is not None]
        return Found(
            times_s=[asked.time_s for asked in answered],
            features=self.held.features(rows) if rows else None,
            without=[] if self._stepped else without,
            ticks=self._ticks,
        )
