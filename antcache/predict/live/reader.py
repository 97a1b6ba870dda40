"""A thread that decodes a source and leaves what each row looks at in a mailbox.

Promise: the clips of rows are those that extraction makes of the same frames: the last frame at or
before each time of the stream's grid, none later. The thread waits for nobody but the source and,
with a recording, the time; it ends when it is told to, at the latest with the next frame.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from antcache.extract.rows.pixels import PixelRecipe
from antcache.extract.videos.decode import VideoReader, source_of
from antcache.extract.videos.source import STILL_WANTED, VideoSource
from antcache.predict.held import RowPlace
from antcache.predict.live.mailbox import Mailbox
from antcache.predict.live.opening import open_source
from antcache.predict.live.places import Place
from antcache.predict.live.streams import LiveVideo
from antcache.predict.live.times import Now, Pace

ROOM = 16
"""Rows whose pictures wait, at most."""


@dataclass(frozen=True)
class DueRow:
    """What a row looks at.

    Attributes:
        place: where it stands; a recording never jumps.
        frames: T times pixels (...), of which those of several rows are the same tensors.
        since_s: when it was there to be seen, by the clock here: the newest of its frames arrived
            then, or was due.
    """

    place: RowPlace
    frames: list[Tensor]
    since_s: float


class LiveReader:
    """Reads a source.

    Args:
        place: the source.
        recipe: what rows look at, and how many there are in a second.
        speed: of a recording; see `Pace`.
        now: the clock.

    Attributes:
        mailbox: what is there to be embedded.
    """

    def __init__(
        self, place: Place, recipe: PixelRecipe, *, speed: float = 1.0, now: Now = time.monotonic
    ) -> None:
        self.mailbox: Mailbox[DueRow] = Mailbox(ROOM)
        self._place, self._recipe, self._now = place, recipe, now
        self._stopped = threading.Event()
        self._pace = Pace(speed, self._stopped.wait, now)
        self._reader: VideoReader | None = None
        self._live: LiveVideo | None = None
        self._thread = threading.Thread(target=self._work, name="antcache-watch", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def close(self, patience_s: float = 2.0) -> None:
        """Tell the thread to end, and wait for it a little: a source that says nothing holds it."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join(patience_s)

    @property
    def num_frames(self) -> int:
        """Frames that went by."""
        if self._live is not None:
            return self._live.num_frames
        return 0 if self._reader is None else self._reader.facts.num_frames

    @property
    def skipped_packets(self) -> int:
        """Packets that could not be decoded."""
        if self._live is not None:
            return self._live.skipped_packets
        return 0 if self._reader is None else self._reader.facts.skipped_packets

    @property
    def slowed_s(self) -> float:
        """How much longer a recording took than its speed asked for."""
        return self._pace.slowed_s

    def _work(self) -> None:
        STILL_WANTED.set(self._check)
        try:
            self._read()
        except _Ended:
            self.mailbox.end()
        except BaseException as error:
            self.mailbox.end(error)
        else:
            self.mailbox.end()

    def _check(self) -> None:
        if self._stopped.is_set():
            raise _Ended

    def _read(self) -> None:
        if isinstance(self._place, Path):
            for row in self._rows(source_of(self._place)):
                self.mailbox.put(row)
            return
        self._live = LiveVideo(self._place, open_source(self._place), self._now)
        with closing(self._live):
            more = True
            while more:
                for row in self._rows(self._live):
                    self.mailbox.put(row)
                more = self._live.more

    def _rows(self, source: VideoSource) -> Iterator[DueRow]:
        self._reader, clips = self._recipe.clips(source, None)
        with closing(clips):
            for number, frames in enumerate(clips):
                self._check()
                start_s = self._reader.facts.start_s
                if isinstance(source, LiveVideo) and source.opened.live:
                    since_s, jumps = source.shown_s, source.shown_breaks
                else:
                    jumps = 0
                    since_s = self._pace(start_s + number / self._recipe.fps)
                    self._check()
                yield DueRow(RowPlace(number, start_s, jumps), frames, since_s)


class _Ended(Exception):
    """Nobody wants to see more."""
