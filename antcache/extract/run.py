"""The one-time pass: every video of a folder through a frozen backbone, into a stream of the store.

Promise: a video is in the store completely or not at all, so an interrupted run (Ctrl-C, a crash)
is resumed by running it again, which does just what is missing. Processes that run the same pass at
the same time share the videos. A stream that was made with other settings is refused before
anything is decoded. A video that can't be read goes into the ledger and the pass goes on; any other
error ends it. Decoding runs in a thread of its own and overlaps the backbone; few pictures wait
between them (`rows/clips`), but all rows of a video are held until it is stored.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from antcache.annotations import Segments
from antcache.errors import AlreadyExists, UnreadableVideo, WriteFailed
from antcache.extract.config import ExtractConfig
from antcache.extract.engines.video import PendingRows, RowMaker
from antcache.extract.plan import AnyBackbone, Plan, RowRecipe, WindowTimes, plan_of
from antcache.extract.rows.moments import Times
from antcache.extract.tally import ExtractionTally
from antcache.extract.turns import take_turns
from antcache.extract.videos.decode import source_of
from antcache.extract.videos.finding import refused_of
from antcache.extract.videos.shards import VideoShard
from antcache.extract.videos.source import VideoFacts, VideoSource
from antcache.progress import Progress, silent
from antcache.store import Store
from antcache.store.local.ledger import Failure, Ledger
from antcache.text import listed

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ExtractReport:
    """What a pass did.

    Attributes:
        stream: name of the stream.
        written: videos that are new in the stream.
        skipped: videos that were in it before, or that another process wrote meanwhile.
        failed: videos that could not be read, or be called as they are.
        rows: rows written.
        seconds: how long it took.
        unlabelled: videos without a row, because no window ends in them.
        too_early: times of windows before the first frame of their video, which have no row.
        too_late: such times after the last frame.
        shard: which part of the videos this was, as `2/4`; None: all.
    """

    stream: str
    written: tuple[str, ...]
    skipped: tuple[str, ...]
    failed: tuple[Failure, ...]
    rows: int
    seconds: float
    unlabelled: tuple[str, ...] = ()
    too_early: int = 0
    too_late: int = 0
    shard: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


def extract(
    videos: Mapping[str, Path | VideoSource],
    store: Store,
    backbone: AnyBackbone,
    config: ExtractConfig | None = None,
    progress: Progress = silent,
    *,
    segments: Segments | None = None,
    shard: VideoShard | None = None,
) -> ExtractReport:
    """Write the features of `videos` (files, as of `find_videos`, or other sources) into a stream.

    Row r of a video was seen at `start_s + r / fps`, and shows the last frame at or before that;
    `start_s` is the time of its first frame. Rows at windows were seen at the times listed with
    them, of labelled segments or, in their place, of `segments`, which need no labels. `progress`
    is called with "videos" and "rows". Videos that another process is at are left to it, and
    waited for at the end. A `shard` is the part of the videos that this process does, and ends
    with.

    Raises:
        FingerprintMismatch: the stream was made with other settings; nothing was decoded.
        AlreadyExists: complete videos lack rows that the labels now ask for; nothing was decoded.
        BadConfig: `config` does not suit the backbone, or features don't fit its `dtype`.
        MissingKey: the store has no labels, which rows at windows need.
        UnknownBackbone: a backbone of one's own is none, or stops being one.
    """
    began = time.monotonic()
    config = config or ExtractConfig()
    recipe = RowRecipe.of(backbone, config)
    windows = WindowTimes.of(store, config, segments)
    plan = plan_of(recipe, videos, store, windows, shard)
    _refuse_outdated(plan, store, config.stream)
    stream = store.create_stream(**recipe.stream(None if windows is None else windows.at))
    make = RowMaker(recipe=recipe, stream=stream)
    logger.info("extract: %d videos, %d are in %s", len(videos), len(plan.done), store.path)
    tally = ExtractionTally(
        progress=progress,
        expected={n: plan.rows.get(n, (s or 0.0) * config.fps) for n, s in plan.to_do.items()},
    )
    ledger = Ledger(store.path)
    ledger.succeeded(config.stream, *plan.done)  # a killed process may not have come to say so
    ledger.clear_renamed(config.stream)
    written: list[str] = []
    skipped = list(plan.done)
    failed: list[Failure] = []
    for each in refused_of(videos, shard):
        failed.append(ledger.failed(config.stream, each.name, each.path, each.error))
        logger.error("failed: %s", each.error)
    tally.show()
    turns = take_turns(
        plan.to_do,
        claim=partial(store.claim_features, config.stream),
        is_done=partial(store.has_features, config.stream),
        waiting=tally.show,
    )
    with closing(turns):
        for name, ours in turns:
            before = tally.rows
            try:
                if ours:
                    times = None if windows is None else windows.times[name]
                    source = source_of(videos[name], config.decoder)
                    _extract_one(name, source, store, make, times, tally)
            except UnreadableVideo as error:
                failed.append(
                    ledger.failed(config.stream, name, source_of(videos[name]).path, error)
                )
                logger.error("failed: %s", error)
                tally.rows = before
            except AlreadyExists as error:
                if not store.has_features(config.stream, name):
                    raise WriteFailed(  # at a URL: it may yet be killed, so this is no success
                        "another process is writing this video now",
                        where=f"{store.path}: features/{config.stream}/{name}",
                        hint="run the command again when it is done",
                    ) from error
                skipped.append(name)
                logger.warning("%s: another process wrote it meanwhile; its rows are kept", name)
                tally.rows = before
            else:
                (written if ours else skipped).append(name)
                ledger.succeeded(config.stream, name)
            tally.expected[name] = tally.rows - before
            tally.videos += 1
            tally.show()
    # Also after those whose videos were all done when they were killed.
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


def _extract_one(
    name: str,
    source: VideoSource,
    store: Store,
    make: RowMaker,
    times: Times | None,
    tally: ExtractionTally,
) -> None:
    """Decode, embed and publish one video; its rows are at `times` (R,), or at a uniform rate."""
    expected = round(tally.expected[name])
    rows = PendingRows(name, source, make, times=times, expected=expected)
    facts = VideoFacts()
    with closing(make.recipe.pixels.pixels(source, times)) as items:
        for item in items:
            if isinstance(item, VideoFacts):
                facts = item
                continue
            rows.add(make(item, source.path))
            tally.add(len(item))
    done = rows.publish(store, facts)
    tally.outside(done.too_early, done.too_late)


def _refuse_outdated(plan: Plan, store: Store, stream: str) -> None:
    """Raise `AlreadyExists` if complete videos lack rows that the labels now ask for."""
    if not plan.outdated:
        return
    keys = [f"features/{stream}/{name}" for name in plan.outdated]
    raise AlreadyExists(
        "complete videos lack rows for labels that are new since",
        where=f"{store.path}: features/{stream}",
        found=listed([f"{name} ({count} rows)" for name, count in plan.outdated.items()]),
        hint=f"antcache store remove {store.path} {' '.join(keys[:3])}"
        f"{' ...' if len(keys) > 3 else ''}, and extract again; or ask for other splits",
    )
