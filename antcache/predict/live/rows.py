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
from collections.abc import Iterator, Sequence
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
from antcache.predict.held import HeldRows
from antcache.predict.live.reader import DueRow
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


class LiveRows:
    """Makes rows, and puts them into windows.

    Args:
        make: the backbone, and the stream that rows are as those of.
        protocol: what a window is.

    Attributes:
        recipe: what rows look at, for whoever reads the source.
        made: how many rows were made.
    """

    def __init__(self, make: RowMaker, protocol: Protocol) -> None:
        self._make, self._protocol = make, protocol
        fps = make.stream.fps
        if make.stream.at is not None:  # every frame of a window must have its row
            fps = protocol.rate * math.ceil(AT_WINDOWS_FPS / protocol.rate)
        self._fps = float(exact_rate(fps))
        self.recipe: PixelRecipe = replace(make.recipe.pixels, fps=fps)
        self.made = 0
        # How far back a window looks, in rows; its frames are those of 30 per second.
        self._span = math.ceil((protocol.num_frames / protocol.rate) * self._fps) + 1
        self._held = HeldRows(make.stream, protocol)
        self._numbers: list[int] = []
        self._start_s: float | None = None

    @property
    def interval_s(self) -> float:
        """Seconds from a row to the next."""
        return 1 / self._fps

    def try_out(self) -> None:
        """Make a row of a black picture, for what takes long the first time."""
        black = self.recipe.prepare(torch.zeros(1, *BLACK, 3, dtype=torch.uint8))[0]
        self._make(torch.stack([black] * self.recipe.num_frames)[None], "")

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
                self._place(row)
                self._held.add(row.number, stored)
                self._numbers.append(row.number)
                self.made += 1
                self._let_go(self._stands_for(row.number - self._span))

    def _stored(self, rows: Sequence[DueRow], path: Location) -> Iterator[Stored]:
        """Rows in the stream's type, one by one; made together if their pictures have one shape."""
        clips = [one_clip(row.frames, path) for row in rows]
        alike = len({clip.shape for clip in clips}) == 1
        for batch in [torch.stack(clips)] if alike else [clip[None] for clip in clips]:
            values, scales = self._make(batch, path)
            for i in range(len(values)):
                yield values[i : i + 1], None if scales is None else scales[i : i + 1]

    def window(self) -> LiveWindow | None:
        """The window that ends at the newest row; None where it has none yet."""
        assert self._start_s is not None
        newest = self._numbers[-1]
        time_s, wanted = self._wanted(newest)
        if wanted is None:
            return None
        found = np.asarray([self._stands_for(number) for number in wanted.tolist()])
        features = self._held.features([found])[0]
        return LiveWindow(time_s, features, int((found != wanted).sum()))

    def _place(self, row: DueRow) -> None:
        if row.start_s != self._start_s:
            self._held, self._numbers = HeldRows(self._make.stream, self._protocol), []
            self._start_s = row.start_s

    def _stands_for(self, number: int) -> int:
        """The row that is shown for one: itself, or the last before it that there is."""
        return self._numbers[max(0, bisect_right(self._numbers, number) - 1)]

    def _let_go(self, oldest: int) -> None:
        self._held.let_go(oldest)
        self._numbers = [number for number in self._numbers if number >= oldest]

    def _wanted(self, newest: int) -> tuple[float, NDArray[np.int64] | None]:
        """The end of the window that the newest row belongs to, and the rows (T,) that it reads."""
        assert self._start_s is not None
        time_s = self._start_s + newest / self._fps
        stream, start_s = self._make.stream, self._start_s
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
