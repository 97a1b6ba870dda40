"""The engine for many machines: videos as the work of a Ray cluster's workers.

Promise: what is stored is what the local engine stores, each video once, whole, wherever a node is
lost. Each worker (one per GPU, or on CPUs) loads the backbone once and embeds several videos in
turns; decoding is a task of its own on any machine with a CPU free, and waits when its pixels are
not taken. The driver plans, watches and keeps the list of failures. Store, videos and models lie
where every machine finds them under the same names.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from antcache.cluster import connected, resource, spread
from antcache.errors import AlreadyExists, UnreadableVideo
from antcache.extract.backbone import Backbone, load_backbone
from antcache.extract.config import ExtractConfig
from antcache.extract.engines.video import Outcome, PendingRows, Published, RowMaker, SourceOf
from antcache.extract.own import FACTORY
from antcache.extract.plan import Loaded, RowRecipe
from antcache.extract.rows.moments import Times
from antcache.extract.rows.pixels import PixelRecipe
from antcache.extract.run import MakeEngine
from antcache.extract.tally import ExtractionTally
from antcache.extract.turns import take_turns
from antcache.extract.videos.source import StateOnDisk, VideoFacts, VideoSource
from antcache.store import Store

logger = logging.getLogger(__name__)

WORKER_CPUS, DECODER_CPUS = 0.01, 0.9
"""What Ray counts for each: beside a decoder, a CPU has room for ten workers, so that they never
take what decoders need, and none lies where there are no CPUs."""

AHEAD = 2
"""Batches of pixels that a decoder may be ahead."""

MOST_AT_ONCE = 16
"""Videos of one worker, unless told otherwise; the rows of each are held until it is stored."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """What all workers of a pass are told.

    Attributes:
        folder: the driver's working folder, in which relative names mean what they do there.
        store: where rows go.
        backbone: by name as of `load_backbone`, or the object itself.
        device: where a named one is loaded to.
        config: settings of the pass.
        at: anchors and gaps of rows at windows.
    """

    folder: Path
    store: Store
    backbone: str | Loaded
    device: str
    config: ExtractConfig
    at: Mapping[str, list[float]] | None


class VideoWorker:
    """Has the backbone, and makes videos' rows, of several in threads; see `cluster.spread`."""

    def __init__(self, work: Work) -> None:
        self._work, self._folder, self._store = work, work.folder, work.store

    def ready(self) -> None:
        """Load the backbone, which may be refused."""
        _go_to(self._folder)
        work = self._work
        backbone = work.backbone
        if isinstance(backbone, str):
            backbone = load_backbone(backbone, device=work.device)
        recipe = RowRecipe.of(backbone, work.config)
        # Refused, if this machine's model is another one.
        stream = work.store.create_stream(**recipe.stream(work.at))
        self._make = RowMaker(recipe=recipe, stream=stream)
        self._one = threading.Lock()

    def do(self, name: str, source: VideoSource, times: Times | None, expected: int) -> Outcome:
        """Make one video's rows, unless another process has, or is at it until it has."""
        stream = self._make.stream.name
        turns = take_turns(
            [name],
            claim=partial(self._store.claim_features, stream),
            is_done=partial(self._store.has_features, stream),
        )
        with closing(turns):
            _, ours = next(turns)
            if not ours:
                return None
            try:
                return self._write(name, source, times, expected)
            except (UnreadableVideo, AlreadyExists) as error:
                return error

    def _write(
        self, name: str, source: VideoSource, times: Times | None, expected: int
    ) -> Published:
        state = StateOnDisk.of(source)
        rows = PendingRows(name, source, self._make, state=state, times=times, expected=expected)
        # A model is asked by one thread at a time.
        facts = rows.take(self._pixels(source, times), self._one)
        return rows.publish(self._store, facts)

    def _pixels(
        self, source: VideoSource, times: Times | None
    ) -> Generator[Tensor | VideoFacts, None, None]:
        """As `PixelRecipe.pixels`, from a decoder elsewhere. One's own backbone prepares its
        pictures itself, and a GPU decodes for the worker that has it: both here."""
        recipe = self._make.recipe.pixels
        own = not isinstance(self._make.recipe.backbone, Backbone)
        if own or self._work.config.decoder != "cpu":
            yield from recipe.pixels(source, times)
            return
        import ray

        decoder = ray.remote(decode).options(
            num_cpus=DECODER_CPUS,
            num_returns="streaming",
            _generator_backpressure_num_objects=AHEAD,
        )
        for reference in decoder.remote(self._folder, recipe, source, times):
            try:
                yield ray.get(reference)
            except ray.exceptions.RayTaskError as error:
                raise error.cause from None


def decode(
    folder: Path, recipe: PixelRecipe, source: VideoSource, times: Times | None
) -> Iterator[Tensor | VideoFacts]:
    """The pixels of a video, on whichever machine."""
    _go_to(folder)
    torch.set_num_threads(1)  # it has one CPU
    yield from recipe.pixels(source, times)


def _go_to(folder: Path) -> None:
    if folder.is_dir():  # else only whole paths mean the same here
        os.chdir(folder)


def on_ray(
    *, device: str = "auto", address: str | None = None, actors: int | None = None
) -> MakeEngine:
    """What `extract` takes to work on a Ray cluster.

    Args:
        device: where workers load the backbone to: `auto` asks for a GPU each, if there are any.
        address: of the cluster; see `cluster.connected`.
        actors: workers; None: one per GPU, or one if there are none.
    """
    return partial(RayEngine, device=device, address=address, actors=actors)


class RayEngine:
    """Does videos of one store with the machines of a cluster.

    Args:
        make: the backbone, and the stream; workers load a backbone of a name by it.
        store: on a disk that all machines share, or at a URL.
        source: a video by its name, and when its rows are seen.
        tally: how many rows are expected; is shown now and then.
        device: see `on_ray`, as the others.
    """

    def __init__(
        self,
        make: RowMaker,
        store: Store,
        source: SourceOf,
        tally: ExtractionTally,
        *,
        device: str,
        address: str | None,
        actors: int | None,
    ) -> None:
        self.shares: dict[str, float] = {}
        self._source, self._tally, self._address, self._actors = source, tally, address, actors
        self._work = Work(
            folder=Path.cwd(),
            store=store,
            backbone=_for_workers(make.recipe.backbone),
            device=device,
            config=make.recipe.config,
            at=make.stream.at,
        )

    def run(self, names: list[str]) -> Generator[tuple[str, Outcome], None, None]:
        """Each of these videos once, when it is done, in whatever order.

        Raises:
            MissingExtra: Ray is not installed.
            BadConfig: there is no such cluster.
            WriteFailed: workers were lost at the same video again and again.
        """
        items = {name: (*self._source(name), self._expected(name)) for name in names}
        with connected(self._address) as ray:
            on_cpu = self._work.device.startswith("cpu")
            gpus = 0 if on_cpu else int(resource(ray, "GPU"))
            count = self._actors or max(1, gpus)
            at_once = min(MOST_AT_ONCE, int(resource(ray, "CPU")) // count)
            at_once = self._work.config.decoders or max(1, at_once)
            options: dict[str, Any] = {"num_cpus": WORKER_CPUS}
            if gpus:
                options["num_gpus"] = min(1.0, gpus / count)
            logger.info("extract: %d workers on Ray, %d videos at once each", count, at_once)
            done = spread(
                ray,
                VideoWorker,
                [self._work],
                items,
                workers=count,
                options=options,
                at_once=at_once,
                waiting=self._tally.show,
            )
            with closing(done):
                for name, outcome in done:
                    if isinstance(outcome, Published):
                        self._tally.add(outcome.rows)
                    yield name, outcome

    def _expected(self, name: str) -> int:
        return round(self._tally.expected[name])


def _for_workers(backbone: Loaded) -> str | Loaded:
    """What is sent to workers: the name where it is loaded by one, which is small."""
    by_name = isinstance(backbone, Backbone) or FACTORY.fullmatch(backbone.name)
    return str(backbone.name) if by_name else backbone
