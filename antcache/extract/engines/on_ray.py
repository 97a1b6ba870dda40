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
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from antcache.annotations import Segments
from antcache.cluster import connected, resource, spread
from antcache.errors import AlreadyExists, UnreadableVideo, WriteFailed
from antcache.extract.backbone import Backbone, load_backbone
from antcache.extract.config import ExtractConfig
from antcache.extract.engines.video import PendingRows, Published, RowMaker
from antcache.extract.own import FACTORY
from antcache.extract.plan import Loaded, RowRecipe, WindowTimes, plan_of
from antcache.extract.rows.moments import Times
from antcache.extract.rows.pixels import PixelRecipe
from antcache.extract.run import ExtractReport, refuse_outdated
from antcache.extract.tally import ExtractionTally
from antcache.extract.turns import take_turns
from antcache.extract.videos.decode import source_of
from antcache.extract.videos.finding import refused_of
from antcache.extract.videos.shards import VideoShard
from antcache.extract.videos.source import VideoFacts, VideoSource
from antcache.progress import Progress, silent
from antcache.store import Store
from antcache.store.local.ledger import Failure, Ledger

logger = logging.getLogger(__name__)

WORKER_CPUS, DECODER_CPUS = 0.01, 0.9
"""What Ray counts for each: beside a decoder, a CPU has room for ten workers, so that they never
take what decoders need, and none lies where there are no CPUs."""

AHEAD = 2
"""Batches of pixels that a decoder may be ahead."""

MOST_AT_ONCE = 16
"""Videos of one worker; the rows of each are held until it is stored."""


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
    at: dict[str, list[float]] | None


@dataclass(frozen=True, kw_only=True)
class Made:
    """What became of a video: `published`, or an `error`, or neither: it was there already."""

    published: Published | None = None
    error: UnreadableVideo | None = None


class VideoWorker:
    """Has the backbone, and makes videos' rows, of several in threads; see `cluster.spread`."""

    def __init__(self, work: Work) -> None:
        _go_to(work.folder)
        self._folder, self._store = work.folder, work.store
        backbone = work.backbone
        if isinstance(backbone, str):
            backbone = load_backbone(backbone, device=work.device)
        recipe = RowRecipe.of(backbone, work.config)
        # Refused, if this machine's model is another one.
        stream = work.store.create_stream(**recipe.stream(work.at))
        self._make = RowMaker(recipe=recipe, stream=stream)
        self._one = threading.Lock()

    def ready(self) -> None:
        """Returns once the backbone is loaded."""

    def do(self, name: str, source: VideoSource, times: Times | None, expected: int) -> Made:
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
                return Made()
            try:
                return Made(published=self._write(name, source, times, expected))
            except UnreadableVideo as error:
                return Made(error=error)
            except AlreadyExists as error:
                if self._store.has_features(stream, name):
                    return Made()
                raise WriteFailed(
                    "another process is writing this video now",
                    where=f"{self._store.path}: features/{stream}/{name}",
                    hint="run the command again when it is done",
                ) from error

    def _write(
        self, name: str, source: VideoSource, times: Times | None, expected: int
    ) -> Published:
        make = self._make
        rows = PendingRows(name, source, make, times=times, expected=expected)
        facts = VideoFacts()
        with closing(self._pixels(source, times)) as items:
            for item in items:
                if isinstance(item, VideoFacts):
                    facts = item
                    continue
                with self._one:  # a model is asked by one thread at a time
                    stored = make(item, source.path)
                rows.add(stored)
        return rows.publish(self._store, facts)

    def _pixels(
        self, source: VideoSource, times: Times | None
    ) -> Generator[Tensor | VideoFacts, None, None]:
        """As `PixelRecipe.pixels`, from a decoder elsewhere; one's own backbone prepares its
        pictures itself, so what it is shown is decoded here."""
        recipe = self._make.recipe.pixels
        if not isinstance(self._make.recipe.backbone, Backbone):
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


def extract_on_ray(
    videos: Mapping[str, Path | VideoSource],
    store: Store,
    backbone: Loaded,
    config: ExtractConfig | None = None,
    progress: Progress = silent,
    *,
    segments: Segments | None = None,
    shard: VideoShard | None = None,
    device: str = "auto",
    address: str | None = None,
    actors: int | None = None,
) -> ExtractReport:
    """As `extract`, by the workers of a Ray cluster.

    Args:
        videos: as for `extract`, where every machine finds them.
        store: on a disk that all machines share, or at a URL.
        backbone: loaded; one that has a name is loaded by it on each worker.
        config: settings of the pass.
        progress: is called with "videos" and "rows".
        segments: as for `extract`.
        shard: as for `extract`.
        device: where workers load the backbone to: `auto` asks for a GPU each, if there are any.
        address: of the cluster; see `cluster.connected`.
        actors: workers; None: one per GPU, or one if there are none.

    Raises:
        MissingExtra: Ray is not installed.
        BadConfig: there is no such cluster, and as `extract`.
        WriteFailed: workers were lost at the same video again and again.
    """
    began = time.monotonic()
    config = config or ExtractConfig()
    recipe = RowRecipe.of(backbone, config)
    windows = WindowTimes.of(store, config, segments)
    plan = plan_of(recipe, videos, store, windows, shard)
    refuse_outdated(plan, store, config.stream)
    at = None if windows is None else windows.at
    store.create_stream(**recipe.stream(at))
    logger.info("extract: %d videos, %d are in %s", len(videos), len(plan.done), store.path)
    tally = ExtractionTally(
        progress=progress,
        expected={n: plan.rows.get(n, (s or 0.0) * config.fps) for n, s in plan.to_do.items()},
    )
    ledger = Ledger(store.path)
    ledger.succeeded(config.stream, *plan.done)
    ledger.clear_renamed(config.stream)
    written: list[str] = []
    skipped = list(plan.done)
    failed: list[Failure] = []
    for each in refused_of(videos, shard):
        failed.append(ledger.failed(config.stream, each.name, each.path, each.error))
        logger.error("failed: %s", each.error)
    tally.show()
    work = Work(
        folder=Path.cwd(),
        store=store,
        backbone=_for_workers(backbone),
        device=device,
        config=config,
        at=at,
    )
    items = {
        name: (
            source_of(videos[name], config.decoder),
            None if windows is None else windows.times[name],
            round(tally.expected[name]),
        )
        for name in _longest_first(plan.to_do)
    }
    with connected(address) as ray, closing(_spread(ray, work, items, actors, tally)) as made:
        for name, one in made:
            if one.error is not None:
                path = source_of(videos[name]).path
                failed.append(ledger.failed(config.stream, name, path, one.error))
                logger.error("failed: %s", one.error)
            else:
                (skipped if one.published is None else written).append(name)
                ledger.succeeded(config.stream, name)
            done = one.published or Published(rows=0)
            tally.expected[name] = done.rows
            tally.add(done.rows)
            tally.outside(done.too_early, done.too_late)
            tally.videos += 1
            tally.show()
            logger.info("%s: %d rows", name, done.rows)
    store.backend.remove_leftovers()
    report = ExtractReport(
        stream=config.stream,
        written=tuple(written),
        skipped=tuple(skipped),
        failed=tuple(failed),
        rows=tally.rows,
        seconds=time.monotonic() - began,
        unlabelled=plan.unlabelled,
        too_early=tally.too_early,
        too_late=tally.too_late,
        shard=plan.shard,
    )
    logger.info(
        "extract: %d written (%d rows), %d skipped, %d failed, %.1f s",
        *(len(written), report.rows, len(skipped), len(failed), report.seconds),
    )
    return report


def _spread(
    ray: Any, work: Work, items: Mapping[str, Any], actors: int | None, tally: ExtractionTally
) -> Generator[tuple[str, Made], None, None]:
    """What became of each video, as it comes."""
    gpus = 0 if work.device.startswith("cpu") else int(resource(ray, "GPU"))
    count = actors or max(1, gpus)
    at_once = max(1, min(MOST_AT_ONCE, int(resource(ray, "CPU")) // count))
    options: dict[str, Any] = {"num_cpus": WORKER_CPUS}
    if gpus:
        options["num_gpus"] = min(1.0, gpus / count)
    logger.info("extract: %d workers on Ray, %d videos at once each", count, at_once)
    return spread(
        ray,
        VideoWorker,
        [work],
        items,
        workers=count,
        options=options,
        at_once=at_once,
        waiting=tally.show,
    )


def _longest_first(lengths: Mapping[str, float | None]) -> list[str]:
    """So that no long video is left to one worker at the end."""
    return sorted(lengths, key=lambda name: -(lengths[name] or 0.0))


def _for_workers(backbone: Loaded) -> str | Loaded:
    """What is sent to workers: the name where it is loaded by one, which is small."""
    by_name = isinstance(backbone, Backbone) or FACTORY.fullmatch(backbone.name)
    return str(backbone.name) if by_name else backbone
