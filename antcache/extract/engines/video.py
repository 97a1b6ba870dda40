"""One video's rows: out of batches of pixels, by the backbone, into the store.

Promise: a video is published once all its rows are there, in one piece, or not at all. The three
steps are apart, so that each may run where its means are: `PixelRecipe` decodes, `RowMaker` has
the model, `PendingRows` holds rows until they are stored.
Letters: B rows that come at once, K tokens of a row.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from antcache.errors import AlreadyExists, BadConfig, UnreadableVideo
from antcache.extract.plan import LAST_S, RowRecipe
from antcache.extract.rows.collected import Collected
from antcache.extract.rows.moments import Times, within
from antcache.extract.videos.source import StateOnDisk, VideoFacts, VideoSource, file_name
from antcache.store import Store
from antcache.store.features import Stream
from antcache.store.integrity.same_file import FILE_BYTES
from antcache.store.location import Location
from antcache.store.quantise import quantise
from antcache.text import utf8

logger = logging.getLogger(__name__)

Stored = tuple[NDArray[Any], NDArray[np.float16] | None]
"""Rows (B, ...) as the stream has them, and the scales (B, K) of int8 tokens."""


@dataclass(frozen=True, kw_only=True)
class RowMaker:
    """A backbone, and the stream that its rows go into.

    Attributes:
        recipe: the backbone and its settings.
        stream: which type rows have.
    """

    recipe: RowRecipe
    stream: Stream

    @property
    def precision(self) -> str:
        """What the backbone computes in."""
        return self.recipe.backbone.precision

    def __call__(self, pixels: Tensor, path: Location) -> Stored:
        """Rows of a batch as `PixelRecipe.pixels` gives them.

        Args:
            pixels: (B, T, ...).
            path: of the video, for messages.

        Raises:
            BadConfig: they don't fit the stream's type.
        """
        return self.stored(self.made(pixels), path)

    def as_they_come(self, pixels: Tensor, path: Location) -> Stored:
        """The same of a batch that is never filled up, for whoever waits for the newest row.

        A row is then not as late as a full batch, and the same but for rounding.
        """
        return self.stored(self.recipe.make(pixels), path)

    def made(self, pixels: Tensor) -> Tensor:
        """Rows (B, ...) of a batch, which may be of several videos, in float32.

        On the CPU a matrix product of few rows takes another way than one of many, which can be
        seen in the last bits. So that a row is the same whatever shares its batch, one that is not
        full is filled up there, with copies of its last row.
        """
        count, unit = len(pixels), self.recipe.pixels.unit
        if self.recipe.backbone.device.type == "cpu" and count % unit:
            more = unit - count % unit
            pixels = torch.cat([pixels, pixels[-1:].expand(more, *pixels.shape[1:])])
        return self.recipe.make(pixels)[:count]

    def stored(self, made: Tensor, path: Location) -> Stored:
        """Rows of one video (B, ...) in the stream's type.

        Raises:
            BadConfig: they don't fit it.
        """
        stream = self.stream
        kind = torch.float32 if stream.dtype == "int8" else getattr(torch, stream.dtype)
        values = made.to(kind).cpu()
        if not values.isfinite().all():
            raise BadConfig(
                f"features that {stream.dtype} can't hold (infinite or not a number)",
                where=path,
                hint="--dtype float32" if stream.dtype == "float16" else "another backbone",
            )
        if stream.dtype != "int8":
            return values.numpy(), None
        try:
            return quantise(values.numpy())
        except BadConfig as error:  # which knows of no video
            raise BadConfig(str(error), where=path, hint="--dtype float32") from error


@dataclass(frozen=True, kw_only=True)
class Published:
    """What was stored of a video.

    Attributes:
        rows: how many.
        too_early: times before its first frame, which have no row.
        too_late: times after its last.
    """

    rows: int
    too_early: int = 0
    too_late: int = 0


Outcome = Published | UnreadableVideo | AlreadyExists | None
"""Of a video; None: another process has done it."""
SourceOf = Callable[[str], tuple[VideoSource, Times | None]]
"""A video by its name, and when its rows are seen."""


class Engine(Protocol):
    """What makes the rows of videos, somewhere.

    Attributes:
        shares: which part of the time went into what, as far as that is known, once all is done.
    """

    shares: dict[str, float]

    def run(self, names: list[str]) -> Generator[tuple[str, Outcome], None, None]:
        """Each of these videos once, when it is done, in whatever order; rows are counted."""


class PendingRows:
    """The rows of one video while they come, and what publishes them.

    Args:
        name: what the store calls the video.
        source: where it comes from.
        make: what makes its rows, and for which stream.
        state: of its files, before a frame was read.
        times: when rows are wanted, in seconds; None at a uniform rate.
        expected: how many rows are expected; there may be more.
    """

    def __init__(
        self,
        name: str,
        source: VideoSource,
        make: RowMaker,
        *,
        state: StateOnDisk | None,
        times: Times | None = None,
        expected: int = 0,
    ) -> None:
        self.name, self.source, self.make, self.times = name, source, make, times
        self._state = state
        self._rows, self._scales = Collected(expected + 1), Collected(expected + 1)

    def add(self, stored: Stored) -> None:
        """Append rows as `RowMaker` gives them."""
        rows, scale = stored
        self._rows.add(rows)
        if scale is not None:
            self._scales.add(scale)

    def take(
        self,
        items: Generator[Tensor | VideoFacts, None, None],
        alone: AbstractContextManager[object] | None = None,
    ) -> VideoFacts:
        """Make all rows; what is then known of the video.

        Args:
            items: as `PixelRecipe.pixels` gives them; closed at the end.
            alone: is entered while the backbone is asked.
        """
        facts = VideoFacts()
        with closing(items):
            for item in items:
                if isinstance(item, VideoFacts):
                    facts = item
                    continue
                with alone or nullcontext():
                    stored = self.make(item, self.source.path)
                self.add(stored)
        return facts

    def publish(self, store: Store, facts: VideoFacts) -> Published:
        """Write them.

        Raises:
            AlreadyExists: another process has written the video, or is at it.
        """
        stream, times = self.make.stream, self.times
        about: dict[str, Any] = {} if self._state is None else {FILE_BYTES: self._state.num_bytes}
        early = late = 0
        if times is not None:
            times, early, late = within(times, facts.start_s, facts.last_s)
            about |= {LAST_S: facts.last_s, "times_too_early": early, "times_too_late": late}
        kept = self._rows.all(stream.row_shape, stream.dtype)
        scale = self._scales.all((stream.num_tokens,), "float16")
        store.write_features(
            stream.name,
            self.name,
            kept,
            scale=scale if stream.dtype == "int8" else None,
            start_s=facts.start_s,
            times=times,
            attributes={
                "file": utf8(file_name(self.source.path)),
                "frames": facts.num_frames,
                "frames_not_needed": facts.unneeded_frames,
                "skipped_packets": facts.skipped_packets,
                "skipped_frames": facts.skipped_frames,
                "ended_early": facts.ended_early,
                "pixel_aspect": float(facts.pixel_aspect),
                "precision": self.make.precision,
                **facts.about,
                **about,
            },
        )
        logger.info(
            "%s: %d rows from %d frames, %d packets and %d frames skipped%s%s",
            *(self.name, len(kept), facts.num_frames, facts.skipped_packets, facts.skipped_frames),
            ", ended early" if facts.ended_early else "",
            f", {early} times before the first frame, {late} after the last"
            if early or late
            else "",
        )
        return Published(rows=len(kept), too_early=early, too_late=late)
