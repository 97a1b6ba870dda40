"""The local engine: several decoders, one backbone, rows of several videos at a time.

Promise: a video is stored as soon as its last row is there, and its claim ends with it. One that
can't be read fails alone, even where its rows shared a batch. What is stored is the same, to the
bit on the CPU, however many decoders there are. When the context of the decoders is left, by Ctrl-C
say, all threads have ended and all claims with them.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from torch import Tensor

from antcache.errors import AlreadyExists, UnreadableVideo
from antcache.extract.engines.batches import Made, SharedBatches
from antcache.extract.engines.decoders import Begun, Clip, Decoded, Decoders, Undecodable, Waiting
from antcache.extract.engines.spent import BACKBONE, DISK, PREPROCESSING, TimeSpent
from antcache.extract.engines.video import Outcome, PendingRows, RowMaker, SourceOf
from antcache.extract.own import TriedBackbone
from antcache.extract.rows.clips import one_clip
from antcache.extract.tally import ExtractionTally
from antcache.extract.turns import take_turns
from antcache.extract.videos.source import StateOnDisk, VideoFacts, VideoSource
from antcache.store import Store


class LocalEngine:
    """Does videos of one store with the cores of one machine.

    Args:
        make: the backbone, and the stream.
        store: where rows go.
        source: a video by its name, and when its rows are seen.
        tally: counts rows.
        decoders: how many videos are decoded at once.
        cores: how many cores they share.
    """

    def __init__(
        self,
        make: RowMaker,
        store: Store,
        source: SourceOf,
        tally: ExtractionTally,
        *,
        decoders: int,
        cores: int,
    ) -> None:
        self._make, self._store, self._source, self._tally = make, store, source, tally
        self._decoders, self._cores = decoders, cores
        recipe = make.recipe.pixels
        self._own = isinstance(make.recipe.backbone, TriedBackbone)
        # A method of one's own is called by one thread, as whoever wrote it expects.
        self._recipe = replace(recipe, prepare=_as_it_is) if self._own else recipe
        self._batches = SharedBatches(self._made, recipe.batch_size)
        self._open: dict[str, _Open] = {}
        self.spent = TimeSpent()
        self.shares: dict[str, float] = {}

    def run(self, names: list[str]) -> Generator[tuple[str, Outcome], None, None]:
        """Each of these videos once, when it is done, in whatever order; see `take_turns`."""
        stream = self._make.stream.name

        def turns(waiting: Callable[[], None]) -> Any:
            return take_turns(
                names,
                claim=lambda name: self._store.claim_features(stream, name),
                is_done=lambda name: self._store.has_features(stream, name),
                waiting=waiting,
            )

        decoders = Decoders(
            self._decoders,
            self._recipe,
            self._source,
            turns,
            cores=self._cores,
            # Whole pictures, for a backbone of one's own, are made small one by one.
            at_once=1 if self._own else self._recipe.batch_size,
        )
        with ExitStack() as stack:
            stack.callback(self._let_go)
            stack.enter_context(decoders)
            for message in decoders:
                match message:
                    case Begun(name, claim, state):
                        self._open[name] = self._begin(name, claim, state)
                    case Clip(name, frames):
                        yield from self._add(name, frames)
                    case Decoded(name, None):
                        yield name, None
                    case Decoded(name, facts):
                        if name in self._open:
                            self._open[name].facts = facts
                            yield from self._publish(name)
                    case Undecodable(name, error):
                        if name in self._open:
                            yield self._fail(name, error)
                    case Waiting(idle):
                        self._tally.show()
                        if idle:
                            yield from self._give(self._batches.flush())
            yield from self._give(self._batches.flush())
            self.shares = self.spent.shares(
                decoding_s=decoders.decoding_s, preparing_s=decoders.preparing_s
            )

    def _let_go(self) -> None:
        for video in self._open.values():
            video.claim.close()

    def _begin(self, name: str, claim: ExitStack, state: StateOnDisk | None) -> _Open:
        source, times = self._source(name)
        rows = PendingRows(
            name,
            source,
            self._make,
            state=state,
            times=times,
            expected=round(self._tally.expected[name]),
        )
        return _Open(rows, source, claim)

    def _add(self, name: str, frames: list[Tensor]) -> Generator[tuple[str, Outcome], None, None]:
        """Put a clip into a batch, and away what comes of it."""
        video = self._open.get(name)
        if video is None:  # it has failed
            return
        if self._own:
            with self.spent.at(PREPROCESSING):
                frames = video.prepared(frames, self._make.recipe.pixels.prepare)
        try:
            clip = one_clip(frames, video.source.path)
        except UnreadableVideo as error:
            yield self._fail(name, error)
            return
        video.in_batch += 1
        yield from self._give(self._batches.add(name, clip))

    def _made(self, clips: Tensor) -> Tensor:
        with self.spent.at(BACKBONE):
            return self._make.made(clips).cpu()

    def _give(self, made: Made) -> Generator[tuple[str, Outcome], None, None]:
        """Give rows to their videos, and publish those that have all."""
        for name, rows in made:
            video = self._open[name]
            video.rows.add(self._make.stored(rows, video.source.path))
            video.in_batch -= len(rows)
            video.count += len(rows)
            self._tally.add(len(rows))
            yield from self._publish(name)

    def _publish(self, name: str) -> Generator[tuple[str, Outcome], None, None]:
        """Store a video if all its rows are there."""
        video = self._open[name]
        if video.facts is None or video.in_batch:
            return
        try:
            with self.spent.at(DISK):
                done = video.rows.publish(self._store, video.facts)
        except AlreadyExists as error:
            yield self._fail(name, error)
            return
        del self._open[name]
        video.claim.close()
        yield name, done

    def _fail(
        self, name: str, error: UnreadableVideo | AlreadyExists
    ) -> tuple[str, UnreadableVideo | AlreadyExists]:
        video = self._open.pop(name)
        self._batches.drop(name)
        self._tally.rows -= video.count
        video.claim.close()
        return name, error


class _Open:
    """A video that somebody decodes, or of which rows are still to be made."""

    def __init__(self, rows: PendingRows, source: VideoSource, claim: ExitStack) -> None:
        self.rows, self.source, self.claim = rows, source, claim
        self.facts: VideoFacts | None = None
        self.in_batch = 0
        self.count = 0
        self._seen: dict[int, tuple[Tensor, Tensor]] = {}

    def prepared(self, pictures: list[Tensor], prepare: Callable[[Tensor], Tensor]) -> list[Tensor]:
        """What `prepare` makes of pictures, of each once while clips follow that show it."""
        self._seen = {
            id(each): self._seen.get(id(each)) or (each, prepare(each[None])[0])
            for each in pictures
        }
        return [self._seen[id(each)][1] for each in pictures]


def _as_it_is(pictures: Tensor) -> Tensor:
    return pictures
