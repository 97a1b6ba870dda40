"""The window that ends now, while pictures come: of a camera, or of frames one by one.

Promise: a row shows what a store's row of its time would show; pictures and rows that no later
window looks at are let go, so memory does not grow. Where no picture comes for too long, what was
seen before is forgotten and the next picture is a first one: nothing stands in for what nobody saw.
A teacher that listens hears what a file of the same pictures would tell it.
Letters: T frames of a window, D feature, C actions.
"""

from __future__ import annotations

import logging
import math
from bisect import bisect_right
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from antcache.annotations import Protocol
from antcache.errors import BadConfig
from antcache.extract.engines.video import RowMaker, Stored
from antcache.extract.rows.clips import ListedClips, one_clip
from antcache.extract.rows.sampling import exact_rate
from antcache.extract.videos.decode import TOLERANCE_S
from antcache.extract.videos.pictures import Picture
from antcache.predict.asking import LONGEST_S, AskedTime, row_times, windows_at
from antcache.predict.held import HeldRows, RowPlace
from antcache.predict.listening.hearing import Floats

if TYPE_CHECKING:
    from antcache.predict.live.history import LiveHistory

log = logging.getLogger(__name__)

LIVE = "frames"
"""Where rows come from that are of no file, for messages."""


class RollingRows:
    """Embeds pictures as they come, and gives the window at a time.

    Rows are made one by one, or as many as a picture completes: on a CPU they may differ from those
    of a store in the last bit of float32.

    Args:
        make: the backbone, and the stream that rows are as those of.
        protocol: what a window is.
        history: what a teacher that listens has heard; None: there is none.

    Attributes:
        start_s: time of the first picture; None before it.
        last_s: time of the newest.
    """

    def __init__(
        self, make: RowMaker, protocol: Protocol, history: LiveHistory | None = None
    ) -> None:
        self.make, self.protocol, self.history = make, protocol, history
        # Rows that the teacher was not told of yet, each with its time.
        self._untold: deque[tuple[float, RowPlace, Stored]] = deque()
        self.start_s: float | None = None
        self.last_s = -math.inf
        self._recipe = make.recipe.pixels
        self._sampling = self._recipe.sampling
        self._restart()

    @property
    def listed(self) -> bool:
        """Whether rows are of exactly the times that are asked about, as those of a stream of rows
        at windows."""
        return self.make.stream.at is not None

    def see(self, seconds: float, picture: Picture) -> None:
        """Take the next picture (H, W, 3) uint8 RGB, seen from `seconds` on.

        Raises:
            BadConfig: times do not ascend, or it is no picture; or its features can't be held.
            UnreadableVideo: pictures change their shape within a clip, and the backbone sees it.
        """
        self._check(seconds, picture)
        self._tell(self.last_s)  # no earlier time is asked about any more
        if seconds - self.last_s > self._recipe.max_gap_s and self.start_s is not None:
            log.warning("no picture from %.3f to %.3f s: seen anew", self.last_s, seconds)
            self._restart()
        if self.start_s is None:
            self.start_s = seconds
        pixels = self._prepared(picture)
        if self.listed:
            self._seen.append((seconds, pixels))
            self._drop_pictures(seconds)
        else:
            self._tick(seconds, pixels)
        self.last_s = seconds

    def window(self, seconds: float | None = None) -> Tensor | None:
        """Features (T, D), or (T, k, D) of tokens, of the window that ends at a time.

        Args:
            seconds: not after the newest picture, and no earlier than it was asked before; None:
                the time of the newest picture.

        Returns:
            None where nothing has been seen yet that a window could be of.

        Raises:
            BadConfig: a time after the newest picture.
        """
        time = self.last_s if seconds is None else seconds
        if self.start_s is None:
            return None
        if time > self.last_s + TOLERANCE_S:
            raise BadConfig(
                "a time that nothing was seen at yet",
                expected=f"at most {self.last_s:g} s",
                found=f"{time:g} s",
            )
        return self._listed_window(time) if self.listed else self._uniform_window(time)

    def expected(self, seconds: float) -> Floats:
        """Log-probabilities (C,) of what the teacher that listens expects at a time, to which the
        same applies as to that of `window`.

        Raises:
            BadConfig: none was told of these pictures.
            NotFinite: features, or the recogniser's scores.
        """
        if self.history is None:
            raise BadConfig(
                "no teacher was told of these pictures", hint="use `rolling()` of the Anticipator"
            )
        self._tell(seconds)
        return self.history.expected(seconds)

    def _tell(self, seconds: float) -> None:
        """Tell the teacher of the rows up to a time: later ones were not seen then."""
        while self._untold and self._untold[0][0] <= seconds + TOLERANCE_S:
            _, place, stored = self._untold.popleft()
            assert self.history is not None
            self.history.take(place, stored)

    def _restart(self) -> None:
        self.start_s = None
        self._held = HeldRows(self.make.stream, self.protocol)
        self._ticked = 0  # ticks before this one are done
        self._pixels: dict[int, Tensor] = {}
        self._shown: Tensor | None = None  # what is seen until the next picture
        self._rows = 0
        self._seen: list[tuple[float, Tensor]] = []

    def _check(self, seconds: float, picture: Picture) -> None:
        if not 0 <= seconds <= LONGEST_S or seconds <= self.last_s:
            raise BadConfig(
                "times of pictures ascend",
                expected=f"seconds from 0 to {LONGEST_S}, above {self.last_s:g}",
                found=seconds,
            )
        if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
            raise BadConfig(
                "no picture", expected="(H, W, 3) uint8", found=f"{picture.dtype} {picture.shape}"
            )

    def _prepared(self, picture: Picture) -> Tensor:
        return self._recipe.prepare(torch.from_numpy(np.ascontiguousarray(picture))[None])[0]

    def _tick(self, seconds: float, pixels: Tensor) -> None:
        """Make the rows of the ticks up to the time of a picture, as `uniform_clips` does."""
        assert self.start_s is not None
        rate, clips = float(self._sampling.rate), list[list[Tensor]]()
        before = math.ceil((seconds - TOLERANCE_S - self.start_s) * rate)
        stop = max(before, math.floor((seconds + TOLERANCE_S - self.start_s) * rate) + 1)
        for tick in range(self._ticked, stop):
            if not self._sampling.wanted(tick):
                continue
            shown = self._shown if tick < before else pixels
            assert shown is not None
            self._pixels[tick] = shown
            ticks = self._sampling.clip_ending_at(tick)
            if ticks is not None:
                clips.append([self._pixels[each] for each in ticks])
            oldest = self._sampling.oldest_needed_after(tick)
            self._pixels = {t: p for t, p in self._pixels.items() if t >= oldest}
        self._ticked, self._shown = stop, pixels
        for stored in self._made(clips):
            self._held.add(self._rows, stored)
            if self.history is not None:
                self._untold.extend(self._placed(stored))
            self._rows += len(stored[0])
        if clips:
            self._drop_rows()

    def _placed(self, rows: Stored) -> Iterator[tuple[float, RowPlace, Stored]]:
        """Rows one by one, as a teacher is told of them."""
        assert self.start_s is not None
        values, scales = rows
        for i in range(len(values)):
            place = RowPlace(self._rows + i, self.start_s)
            time = self.start_s + place.number / float(exact_rate(self.make.stream.fps))
            one = values[i : i + 1], None if scales is None else scales[i : i + 1]
            yield time, place, one

    def _made(self, clips: list[list[Tensor]]) -> Iterable[Stored]:
        size = self._recipe.batch_size
        for first in range(0, len(clips), size):
            for alike in _runs([one_clip(clip, LIVE) for clip in clips[first : first + size]]):
                yield self.make.as_they_come(torch.stack(alike), LIVE)

    def _asked(self, time: float) -> AskedTime:
        assert self.start_s is not None
        stream, times = self.make.stream, np.array([time])
        return windows_at(times, stream, self.protocol, start_s=self.start_s)[0]

    def _uniform_window(self, time: float) -> Tensor | None:
        asked = self._asked(time)
        return None if asked.rows is None else self._held.features([asked.rows])[0]

    def _drop_rows(self) -> None:
        """Let go of what no time from that of the picture before on looks at."""
        assert self.start_s is not None
        self._held.let_go(self._asked(max(self.start_s, self.last_s)).oldest)

    def _listed_window(self, time: float) -> Tensor | None:
        """The window of one time, whose rows are made now."""
        times = row_times(np.array([time]), self.protocol)
        times = times[times >= (self.start_s or 0.0) - TOLERANCE_S]
        stream, start_s = self.make.stream, self.start_s or 0.0
        asked = windows_at(np.array([time]), stream, self.protocol, start_s=start_s, listed=times)[
            0
        ]
        if asked.rows is None:
            return None
        held, since = HeldRows(stream, self.protocol), [since for since, _ in self._seen]
        clips = [
            [self._seen[max(0, bisect_right(since, look + TOLERANCE_S) - 1)][1] for look in looks]
            for looks in self._looks(times)
        ]
        first = 0
        for stored in self._made(clips):
            held.add(first, stored)
            first += len(stored[0])
        return held.features([asked.rows])[0]

    def _looks(self, times: np.ndarray) -> list[list[float]]:
        listed = ListedClips(
            times=times, num_frames=self._recipe.num_frames, clip_fps=self._recipe.clip_fps
        )
        found: list[list[float]] = listed.looks.tolist()
        return found

    def _drop_pictures(self, seconds: float) -> None:
        """Keep what the windows of this time and of those since the picture before look at."""
        since = [since for since, _ in self._seen]
        now = since[-2] if len(since) > 1 else seconds
        oldest = self._looks(row_times(np.array([now]), self.protocol))[0][0]
        self._seen = self._seen[max(0, bisect_right(since, oldest + TOLERANCE_S) - 1) :]


def _runs(clips: list[Tensor]) -> list[list[Tensor]]:
    """Clips in order, those of one shape together."""
    found: list[list[Tensor]] = []
    for clip in clips:
        if found and found[-1][0].shape == clip.shape:
            found[-1].append(clip)
        else:
            found.append([clip])
    return found
