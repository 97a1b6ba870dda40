"""The one-time pass: every video of a folder through a frozen backbone, into a stream of the store.

Promise: a video is in the store completely or not at all, so an interrupted run (Ctrl-C, a crash)
is resumed by running it again, which does just what is missing, whatever an index of the stream
says; one that leaves many videos in a bucket writes an index (`store/integrity/indexes.py`).
Processes that run the same pass at the same time share the videos. A stream that was made with
other settings is refused before anything is decoded. A video that can't be read goes into the
ledger and the pass goes on; any other error ends it. Several videos are decoded at once, the
longest first (`engines/local`); few pictures wait for the backbone, but all rows of a video are
held until it is stored.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from antcache.annotations import Segments
from antcache.devices import usable_cores
from antcache.errors import AlreadyExists, FingerprintMismatch, UnreadableVideo, WriteFailed
from antcache.extract.config import ExtractConfig
from antcache.extract.engines.local import LocalEngine
from antcache.extract.engines.video import Engine, Published, RowMaker, SourceOf
from antcache.extract.plan import AnyBackbone, Plan, RowRecipe, WindowTimes, plan_of
from antcache.extract.rows.moments import Times
from antcache.extract.shards import VideoShard
from antcache.extract.tally import ExtractionTally
from antcache.extract.videos.decode import source_of
from antcache.extract.videos.finding import Refused, path_of, refused_of
from antcache.extract.videos.source import VideoSource
from antcache.progress import Progress, silent
from antcache.store import Store
from antcache.store.integrity.indexes import index_if_worth
from antcache.store.local.ledger import Failure, Ledger
from antcache.store.location import removing
from antcache.text import listed

logger = logging.getLogger(__name__)

MakeEngine = Callable[[RowMaker, Store, SourceOf, ExtractionTally], Engine]
"""Makes the engine of a pass."""


@dataclass(frozen=True, kw_only=True)
class ExtractReport:
    """What a pass did.

    Attributes:
        stream: name of the stream.
        written: videos that are new in the stream.
        skipped: videos that were in it before, or that another process wrote meanwhile.
        failed: videos that could not be read, or be called as they are, or whose rows came from
            another file.
        rows: rows written.
        seconds: how long it took.
        shares: which part of the time went into decoding, preprocessing, the backbone and the disk:
            the largest is what limits the pass. Empty where nothing was to be done.
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
    shares: dict[str, float] = field(default_factory=dict)
    unlabelled: tuple[str, ...] = ()
    too_early: int = 0
    too_late: int = 0
    shard: str | None = None

    @property
    def limit(self) -> str:
        """What limits the pass: what most of the time went into; empty where nothing did."""
        return max(self.shares, key=lambda part: self.shares[part], default="")

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self) | {"limit": self.limit}


def extract(
    videos: Mapping[str, Path | VideoSource],
    store: Store,
    backbone: AnyBackbone,
    config: ExtractConfig | None = None,
    progress: Progress = silent,
    *,
    segments: Segments | None = None,
    shard: VideoShard | None = None,
    engine: MakeEngine | None = None,
) -> ExtractReport:
    """Write the features of `videos` (files, as of `find_videos`, or other sources) into a stream.

    Row r of a video was seen at `start_s + r / fps`, and shows the last frame at or before that;
    `start_s` is the time of its first frame. Rows at windows were seen at the times listed with
    them, of labelled segments or, in their place, of `segments`, which need no labels. `progress`
    is called with "videos" and "rows". Videos that another process is at are left to it, and
    waited for at the end. A `shard` is the part of the videos that this process does, and ends
    with. An `engine` does the work elsewhere (`engines/on_ray`); None: this process.

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
    plan = plan_of(recipe, videos, store, windows, shard, by_index=False)
    _refuse_outdated(plan, store, config.stream)
    stream = store.create_stream(**recipe.stream(None if windows is None else windows.at))
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
    refused: list[Failure] = []
    failed: list[Failure] = []
    for each in (*refused_of(videos, shard), *_changed(plan, videos)):
        refused.append(ledger.failed(config.stream, each.name, each.path, each.error))
        logger.error("failed: %s", each.error)
    tally.show()
    decoder = config.decoder

    def source(name: str) -> tuple[VideoSource, Times | None]:
        times = None if windows is None else windows.times[name]
        return source_of(videos[name], decoder), times

    started = (engine or _local)(RowMaker(recipe=recipe, stream=stream), store, source, tally)
    with closing(started.run(longest_first(plan.to_do))) as outcomes:
        for name, outcome in outcomes:
            match outcome:
                case UnreadableVideo():
                    path = source_of(videos[name]).path
                    failed.append(ledger.failed(config.stream, name, path, outcome))
                    logger.error("failed: %s", outcome)
                case AlreadyExists():
                    if not store.has_features(config.stream, name):
                        raise WriteFailed(  # at a URL: it may yet be killed, so this is no success
                            "another process is writing this video now",
                            where=f"{store.path}: features/{config.stream}/{name}",
                            hint="run the command again when it is done",
                        ) from outcome
                    skipped.append(name)
                    logger.warning(
                        "%s: another process wrote it meanwhile; its rows are kept", name
                    )
                case None:
                    skipped.append(name)
                    ledger.succeeded(config.stream, name)
                case _:
                    written.append(name)
                    tally.outside(outcome.too_early, outcome.too_late)
                    ledger.succeeded(config.stream, name)
            tally.ended(name, outcome.rows if isinstance(outcome, Published) else 0)
    # Also after those whose videos were all done when they were killed.
    store.backend.remove_leftovers()
    index_if_worth(store, config.stream, len(written) + len(skipped))
    report = ExtractReport(
        stream=config.stream,
        written=tuple(sorted(written)),
        skipped=tuple(sorted(skipped)),
        failed=(*refused, *sorted(failed, key=lambda each: each.video)),
        rows=tally.rows,
        seconds=time.monotonic() - began,
        shares=started.shares if plan.to_do else {},
        unlabelled=plan.unlabelled,
        too_early=tally.too_early,
        too_late=tally.too_late,
        shard=plan.shard,
    )
    logger.info(
        "extract: %d written (%d rows), %d skipped, %d failed, %.1f s",
        *(len(written), report.rows, len(skipped), len(report.failed), report.seconds),
    )
    if report.shares:
        parts = ", ".join(f"{share:.0%} {part}" for part, share in report.shares.items())
        logger.info("extract: limited by %s (%s)", report.limit, parts)
    return report


def _local(make: RowMaker, store: Store, source: SourceOf, tally: ExtractionTally) -> Engine:
    decoders = make.recipe.config.decoders_for(len(tally.expected))
    return LocalEngine(make, store, source, tally, decoders=decoders, cores=usable_cores())


def longest_first(lengths: Mapping[str, float | None]) -> list[str]:
    """Videos in the order in which they are done, so that no long one is begun when all others
    end; those that state no length may be of any, so they come first."""
    return sorted(lengths, key=lambda name: (-(lengths[name] or math.inf), name))


def _changed(plan: Plan, videos: Mapping[str, Path | VideoSource]) -> list[Refused]:
    """The videos whose rows came from another file: another one needs another name."""
    return [
        Refused(name=name, path=path_of(videos[name]), error=FingerprintMismatch(why))
        for name, why in plan.changed.items()
    ]


def _refuse_outdated(plan: Plan, store: Store, stream: str) -> None:
    """Raise `AlreadyExists` if complete videos lack rows that the labels now ask for."""
    if not plan.outdated:
        return
    keys = [f"features/{stream}/{name}" for name in plan.outdated]
    raise AlreadyExists(
        "complete videos lack rows for labels that are new since",
        where=f"{store.path}: features/{stream}",
        found=listed([f"{name} ({count} rows)" for name, count in plan.outdated.items()]),
        hint=f"{removing(store.path, *keys[:3])}"
        f"{' ...' if len(keys) > 3 else ''}, and extract again; or ask for other splits",
    )
