"""Threads that decode whole videos, each its own, and hand their clips to one backbone.

Promise: what a video comes to is what one decoder would make of it, whoever decodes it. One that
can't be read fails alone. A decoder takes its next video when it is free; the claim goes to whoever
stores the rows. All threads have ended when the context is left, however it is.

Threads, not processes: FFmpeg and PyTorch let go of Python's lock while they work, so that about
0.1 ms of each frame can't run beside another's; nothing is copied or pickled, no process is left
behind or has to import PyTorch, and a backbone of one's own need not be sent anywhere.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from antcache.errors import UnreadableVideo
from antcache.extract.engines.feed import Closed, Feed
from antcache.extract.rows.moments import Times
from antcache.extract.rows.pixels import PixelRecipe
from antcache.extract.videos.pyav import CODEC_THREADS
from antcache.extract.videos.source import STILL_WANTED, StateOnDisk, VideoFacts, VideoSource

MOST_BYTES = 32 << 20
"""Of pictures that wait for the backbone: six batches of a usual backbone. The more wait, the
more of the system's memory lies idle between them."""

Turns = Generator[tuple[str, ExitStack | None], None, None]


@dataclass(frozen=True)
class Begun:
    """A decoder is at a video; whoever gets this ends the claim.

    `state` is that of its files before a frame was read: they may be replaced meanwhile.
    """

    video: str
    claim: ExitStack
    state: StateOnDisk | None


@dataclass(frozen=True)
class Clip:
    """The T frames of the next row of a video."""

    video: str
    frames: list[Tensor]


@dataclass(frozen=True)
class Decoded:
    """All clips of a video have come; None of facts: another process has done it."""

    video: str
    facts: VideoFacts | None


@dataclass(frozen=True)
class Undecodable:
    """No more clips of a video come."""

    video: str
    error: UnreadableVideo


@dataclass(frozen=True)
class Waiting:
    """Other processes are at all that is left; nobody here decodes, or somebody still does."""

    idle: bool


@dataclass(frozen=True)
class AllDone:
    """The last decoder has ended."""

    error: BaseException | None = None


Message = Begun | Clip | Decoded | Undecodable | Waiting | AllDone


class Decoders:
    """Decoders at work while the context is entered; iterates over what they hand over.

    Args:
        count: how many, at least 1.
        recipe: how a video becomes clips; its `prepare` is called by several threads at once.
        source: a video by its name, and when its rows are seen.
        turns: makes, with what to call while others are waited for, videos and their claims.
        cores: how many cores they share.
        at_once: clips that the backbone takes at once; so many may always wait.
    """

    def __init__(
        self,
        count: int,
        recipe: PixelRecipe,
        source: Callable[[str], tuple[VideoSource, Times | None]],
        turns: Callable[[Callable[[], None]], Turns],
        *,
        cores: int,
        at_once: int = 1,
    ) -> None:
        self._recipe, self._source = recipe, source
        self._turns, self._turn = turns(self._wait), threading.Lock()
        self._feed: Feed[Message] = Feed(MOST_BYTES, at_once)
        each = max(1, cores // count)
        # Each has its share of the cores: else every one of them would use all.
        self._codec_threads = 0 if count == 1 else each
        self._threads_before = torch.get_num_threads()
        self._torch_threads = min(each, self._threads_before)
        self._state = threading.Lock()
        self._alive, self._decoding = count, 0
        self.decoding_s = 0.0
        self.preparing_s = 0.0
        self.blocked_s = 0.0
        self._threads = [
            threading.Thread(target=self._work, name=f"antcache-decoder-{k}", daemon=True)
            for k in range(count)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for message in self._feed.close():
            if isinstance(message, Begun):
                message.claim.close()
        for thread in self._threads:
            thread.join()
        self._turns.close()
        torch.set_num_threads(self._threads_before)

    def __iter__(self) -> Iterator[Message]:
        """Messages until the last decoder has ended; what it ended with is raised."""
        while not isinstance(message := self._feed.get(), AllDone):
            yield message
        if message.error is not None:
            raise message.error

    def _work(self) -> None:
        CODEC_THREADS.set(self._codec_threads)
        STILL_WANTED.set(self._feed.require_open)
        torch.set_num_threads(self._torch_threads)  # of this thread, and of those that come after
        try:
            while (turn := self._next()) is not None:
                self._decode(*turn)
        except Closed:
            pass
        except BaseException as error:
            self._end(error)
        else:
            self._end(None)

    def _end(self, error: BaseException | None) -> None:
        with self._state:
            self._alive -= 1
            last = self._alive == 0 or error is not None
        if last:
            with suppress(Closed):
                self._feed.put(AllDone(error))

    def _next(self) -> tuple[str, ExitStack | None] | None:
        with self._turn:
            self._feed.require_open()
            turn = next(self._turns, None)
            with self._state:
                self._decoding += turn is not None
            return turn

    def _wait(self) -> None:
        with self._state:
            idle = self._decoding == 0
        self._feed.put(Waiting(idle))

    def _decode(self, name: str, claim: ExitStack | None) -> None:
        try:
            if claim is None:
                self._feed.put(Decoded(name, None))
                return
            try:
                self._feed.put(Begun(name, claim, StateOnDisk.of(self._source(name)[0])))
            except Closed:
                claim.close()
                raise
            try:
                self._feed.put(Decoded(name, self._clips(name)))
            except UnreadableVideo as error:
                self._feed.put(Undecodable(name, error))
        finally:
            with self._state:
                self._decoding -= 1

    def _clips(self, name: str) -> VideoFacts:
        """Hand over all clips of a video; what is then known of it."""
        preparing = blocked = 0.0

        def prepare(pictures: Tensor) -> Tensor:
            nonlocal preparing
            began = time.perf_counter()
            prepared = self._recipe.prepare(pictures)
            preparing += time.perf_counter() - began
            return prepared

        source, times = self._source(name)
        reader, clips = replace(self._recipe, prepare=prepare).clips(source, times)
        began = time.perf_counter()
        try:
            with closing(clips):
                for frames in clips:
                    size = sum(frame.nbytes for frame in frames)
                    blocked += self._feed.put(Clip(name, frames), size)
        finally:
            with self._state:
                self.decoding_s += time.perf_counter() - began - preparing - blocked
                self.preparing_s += preparing
                self.blocked_s += blocked
        return reader.facts
