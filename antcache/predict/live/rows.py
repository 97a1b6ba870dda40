"""The rows that the next window looks at, of which some may be missing.

Promise: as long as every row is made, a window is the one that a store of the same frames has at
that time. For a row that there was no time to make the last one before it stands in, and for those
before the first one that was made, that one; how many do is said with every window. Behind a gap
nothing is left of what was seen before it. Only rows that a later window looks at are held.
Letters: T frames of a window, D feature.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from antcache.annotations import Protocol
from antcache.extract.engines.video import RowMaker, Stored
from antcache.extract.rows.clips import one_clip
from antcache.extract.rows.pixels import PixelRecipe
from antcache.extract.rows.sampling import exact_rate
from antcache.extract.videos.decode import TOLERANCE_S
from antcache.predict.asking import row_times, windows_at
from antcache.predict.held import HeldRows, RowPlace
from antcache.predict.live.reader import DueRow
from antcache.store import Stream
from antcache.store.location import Location
from antcache.timebase import ANNOTATION_FPS, exact_ceil

AT_WINDOWS_FPS = 2.0
"""Rows per second, at least, where a stream has none at a uniform rate."""


BLACK = (240, 320)
"""Height and width of a picture to try a backbone with."""


@dataclass(frozen=True)
class LiveWindow:
    """A window that ends at the newest row.

    Attributes:
        time_s: when it ends, in seconds of the source.
        features: (T, D), or (T, k, D) of tokens.
        stand_ins: in how many of its T frames another row stands in for the one that is missing.
    """

    time_s: float
    features: Tensor
    stand_ins: int


def rows_a_second(stream: Stream, protocol: Protocol) -> float:
    """How many rows a live source has in a second."""
    fps = stream.fps
    if stream.at is not None:  # every frame of a window must have its row
        fps = protocol.rate * math.ceil(AT_WINDOWS_FPS / protocol.rate)
    return float(exact_rate(fps))


def _nobody(row: RowPlace, stored: Stored) -> None:
    """Who takes no rows."""


class ShownRows:
    """Rows of a part of a source that windows of one kind look at.

    Args:
        stream: what they are of.
        protocol: what a window is.
        fps: how many there are in a second.

    Attributes:
        start_s: time of row 0 of the part.
        numbers: of the rows that are held, ascending.
        span: how far back a window looks, in rows.
    """

    def __init__(self, stream: Stream, protocol: Protocol, fps: float) -> None:
        self._stream, self._protocol = stream, protocol
        # Frames of a window are those of 30 per second.
        self.span = math.ceil((protocol.num_frames / protocol.rate) * fps) + 1
        self.begin(math.nan)

    def __len__(self) -> int:
        return len(self._held)

    def begin(self, start_s: float) -> None:
        """Forget all, and begin a part whose row 0 is at a time."""
        self.start_s = start_s
        self.numbers: list[int] = []
        self._held = HeldRows(self._stream, self._protocol)

    def add(self, number: int, stored: Stored) -> None:
        """Take a row, which is newer than those before; what no later window looks at is let go."""
        self._held.add(number, stored)
        self.numbers.append(number)
        oldest = self.stands_for(number - self.span)
        self._held.let_go(oldest)
        self.numbers = [number for number in self.numbers if number >= oldest]

    def stands_for(self, number: int) -> int:
        """The row that is shown for one: itself, or the last before it that there is."""
        return self.numbers[max(0, bisect_right(self.numbers, number) - 1)]

    def features(self, wanted: NDArray[np.int64]) -> tuple[Tensor, int]:
        """Features (T, D), or (T, k, D) of tokens, of a window of rows (T,), and in how many of
        its frames another row stands in."""
        found = np.asarray([self.stands_for(number) for number in wanted.tolist()])
        return self._held.features([found])[0], int((found != wanted).sum())


class LiveRows:
    """Makes rows, and puts them into windows.

    Args:
        make: the backbone, and the stream that rows are as those of.
        protocol: what a window is.
        taker: who is given each row, too, when it is made.

    Attributes:
        recipe: what rows look at, for whoever reads the source.
        shown: the rows that the next window looks at.
        made: how many rows were made.
    """

    def __init__(
        self,
        make: RowMaker,
        protocol: Protocol,
        taker: Callable[[RowPlace, Stored], None] = _nobody,
    ) -> None:
        self._make, self._protocol, self._taker = make, protocol, taker
        self._fps = rows_a_second(make.stream, protocol)
        self.recipe: PixelRecipe = replace(make.recipe.pixels, fps=self._fps)
        self.shown = ShownRows(make.stream, protocol, self._fps)
        self.made = 0

    @property
    def interval_s(self) -> float:
        """Seconds from a row to the next."""
        return 1 / self._fps

    def try_out(self) -> None:
        """Make a row of a black picture, for what takes long the first time."""
        black = self.recipe.prepare(torch.zeros(1, *BLACK, 3, dtype=torch.uint8))[0]
        self._make.as_they_come(torch.stack([black] * self.recipe.num_frames)[None], "")

    def add(self, rows: Sequence[DueRow], path: Location) -> None:
        """Make rows, which are newer than those before.

        Args:
            rows: what they look at.
            path: the source, for messages.

        Raises:
            BadConfig: they don't fit the stream's type.
            UnreadableVideo: pictures change their shape within a clip, and the backbone sees it.
        """
        for first in range(0, len(rows), self.recipe.batch_size):
            part = rows[first : first + self.recipe.batch_size]
            for row, stored in zip(part, self._stored(part, path), strict=True):
                if row.place.start_s != self.shown.start_s:
                    self.shown.begin(row.place.start_s)
                self.shown.add(row.place.number, stored)
                self._taker(row.place, stored)
                self.made += 1

    def _stored(self, rows: Sequence[DueRow], path: Location) -> Iterator[Stored]:
        """Rows in the stream's type, one by one; made together if their pictures have one shape."""
        clips = [one_clip(row.frames, path) for row in rows]
        alike = len({clip.shape for clip in clips}) == 1
        for batch in [torch.stack(clips)] if alike else [clip[None] for clip in clips]:
            values, scales = self._make.as_they_come(batch, path)
            for i in range(len(values)):
                yield values[i : i + 1], None if scales is None else scales[i : i + 1]

    def window(self) -> LiveWindow | None:
        """The window that ends at the newest row; None where it has none yet."""
        time_s, wanted = self._wanted(self.shown.numbers[-1])
        return None if wanted is None else LiveWindow(time_s, *self.shown.features(wanted))

    def _wanted(self, newest: int) -> tuple[float, NDArray[np.int64] | None]:
        """The end of the window that the newest row belongs to, and the rows (T,) that it reads."""
        stream, start_s = self._make.stream, self.shown.start_s
        time_s = start_s + newest / self._fps
        if stream.at is not None:
            times = row_times(np.array([time_s]), self._protocol)
            times = times[times >= start_s - TOLERANCE_S]
            (asked,) = windows_at(
                np.array([time_s]), stream, self._protocol, start_s=start_s, listed=times
            )
            numbers = np.rint((times - start_s) * self._fps).astype(np.int64)
            return time_s, None if asked.rows is None else numbers[asked.rows]
        # Windows end with a frame of 30 per second: the first one that shows the row.
        time_s = float(exact_ceil(time_s * ANNOTATION_FPS)) / ANNOTATION_FPS
        (asked,) = windows_at(np.array([time_s]), stream, self._protocol, start_s=start_s)
        return time_s, asked.rows
