"""Importing LMDBs of features: each becomes a stream, each key a row at its true time.

Promise: frame n is stored as seen at n / key_fps seconds and its values as they are; gaps stay gaps
and are reported. A video is in the store completely or not at all, so that the same command resumes
what was interrupted; nothing is written before every LMDB has been looked through. Memory holds the
rows of one video, and the frame numbers.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antcache.checks import at_least, one_of
from antcache.errors import AlreadyExists, BadConfig, FingerprintMismatch
from antcache.interop.lmdb.features import KEY, LmdbKeys, read_rows, scan
from antcache.interop.lmdb.pages import LmdbPages, open_lmdb
from antcache.progress import Progress, silent
from antcache.store.features import Stream
from antcache.store.format import check_name, difference
from antcache.store.store import Store
from antcache.timebase import ANNOTATION_FPS, BOUNDARY

logger = logging.getLogger(__name__)

NON_FINITE = "nonfinite_rows"
"""Attribute of a video: how many of its rows hold a value that is not finite."""

_FILL = re.compile(r"previous:(\d+(?:\.\d+)?)s")


@dataclass(frozen=True, kw_only=True)
class LmdbImportConfig:
    """Settings of an import.

    Attributes:
        key_fps: frames per second of the numbers in keys.
        dtype: how rows are stored, float32 (as they are) or float16.
        fill: `previous:0.3s`: where no row is at hand, the one before stands in until it is 0.3 s
            old; `none`: none stands in; None: as the stream has it, at first `none`.
    """

    key_fps: float = ANNOTATION_FPS
    dtype: str = "float32"
    fill: str | None = None

    def __post_init__(self) -> None:
        at_least("key_fps", self.key_fps, 0.01, 1000)
        one_of("dtype", self.dtype, ("float16", "float32"))
        self.max_age_s(None)

    def max_age_s(self, known: float | None) -> float | None:
        """How old a row may be that stands in, in seconds; `known` is what the stream has."""
        if self.fill is None or self.fill == "none":
            return known if self.fill is None else None
        match = _FILL.fullmatch(self.fill)
        if match is None or not float(match[1]) > 0:
            raise BadConfig("impossible fill", expected="none or previous:0.3s", found=self.fill)
        return float(match[1])


@dataclass(frozen=True, kw_only=True)
class VideoRows:
    """The rows of one video, and its gaps.

    Attributes:
        video: its name.
        rows: number of keys.
        gaps: number of spacings wider than the stream's regular step.
        longest_gap_s: the widest of them, in seconds; 0 without one.
        first_gap_s: time of the row before the first of them, in seconds.
    """

    video: str
    rows: int
    gaps: int
    longest_gap_s: float
    first_gap_s: float | None


@dataclass(frozen=True, kw_only=True)
class StreamPlan:
    """What an import will do for one stream.

    Attributes:
        stream: the stream as it will be: name, width, type, rate, source, rule for gaps.
        keys: what the LMDB holds.
        videos: its videos and their gaps, in the order of keys.
        done: those that are complete in the stream.
    """

    stream: Stream
    keys: LmdbKeys
    videos: tuple[VideoRows, ...]
    done: frozenset[str]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        s = self.stream
        return {
            "stream": s.name,
            **{k: getattr(s, k) for k in ("source", "dim", "dtype", "fps", "step_s", "max_age_s")},
            "note": self.keys.note,
            "rows": self.keys.num_rows,
            "done": [v.video for v in self.videos if v.video in self.done],
            "to_do": [v.video for v in self.videos if v.video not in self.done],
            "gaps": sum(v.gaps for v in self.videos),
            "longest_gap_s": max(v.longest_gap_s for v in self.videos),
            "videos": [asdict(v) for v in self.videos],
        }


@dataclass(frozen=True, kw_only=True)
class StreamImport:
    """What an import did for one stream.

    Attributes:
        plan: what was to be done.
        written: videos that are new in the stream.
        elsewhere: videos that another process is writing, or wrote meanwhile.
        rows: rows written.
        nonfinite: number of rows with a value that is not finite, by video; all videos of the LMDB
            that are in the stream, where there are any.
        seconds: how long it took.
    """

    plan: StreamPlan
    written: tuple[str, ...]
    elsewhere: tuple[str, ...]
    rows: int
    nonfinite: dict[str, int]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; the plan's fields, and what was done."""
        done = {k: v for k, v in self.plan.to_dict().items() if k not in ("done", "to_do", "rows")}
        return {
            **done,
            "written": list(self.written),
            "skipped": sorted(self.plan.done),
            "elsewhere": list(self.elsewhere),
            "rows_written": self.rows,
            "nonfinite_rows": self.nonfinite,
            "seconds": self.seconds,
        }


def plan_lmdb(
    sources: Mapping[str, Path],
    store: Store | None,
    config: LmdbImportConfig | None = None,
    progress: Progress = silent,
) -> list[StreamPlan]:
    """What `import_lmdb` would do; keys are read, nothing is written.

    Args:
        sources: LMDB by name of its stream.
        store: where they go; None where no store is yet.
        config: settings.
        progress: called with "<stream>: keys".

    Raises:
        NotFound: a source is missing or empty.
        BadConfig: one is no LMDB of features.
        FingerprintMismatch: a stream was made in another way, or its videos from other keys.
    """
    config = config or LmdbImportConfig()
    for name in sources:
        check_name(name, "stream")
    plans = []
    for name, path in sources.items():
        known = store.stream(name) if store is not None and name in store.streams() else None
        there = store is not None and known is not None
        stored = set(store.videos(name, listed=True)) if store is not None and there else set()
        keys = scan(path, progress, f"{name}: keys", stored)
        stream = _stream(name, keys, config, known)
        done: frozenset[str] = frozenset()
        if store is not None and known is not None:
            _create(store, stream)  # compares only: it exists
            done = frozenset(keys.frames.keys() & stored)
            for video in sorted(done):
                _check_same(store, stream, keys, video)
        step = keys.step
        gaps = (_gaps(video, each, step, config.key_fps) for video, each in keys.frames.items())
        plans.append(StreamPlan(stream=stream, keys=keys, videos=tuple(gaps), done=done))
    return plans


def import_lmdb(
    plans: list[StreamPlan], store: Store, progress: Progress = silent
) -> list[StreamImport]:
    """Write what `plan_lmdb` planned; `progress` is called with "<stream>: videos" and ": rows".

    Raises:
        BadConfig: a value has another width, or does not fit the stream's type.
        FingerprintMismatch: a stream was made with other settings meanwhile.
        WriteFailed: the disk refused. In every case the videos before are complete.
    """
    for plan in plans:
        _create(store, plan.stream)
        rule = {"step_s": plan.stream.step_s, "max_age_s": plan.stream.max_age_s}
        store.set_gap_rule(plan.stream.name, **rule)
    return [_import_one(plan, store, progress) for plan in plans]


def _import_one(plan: StreamPlan, store: Store, progress: Progress) -> StreamImport:
    began = time.monotonic()
    name, keys = plan.stream.name, plan.keys
    to_do = [v for v in plan.videos if v.video not in plan.done]
    total = sum(v.rows for v in to_do)
    logger.info("import lmdb: %s from %s, %d videos to do", name, keys.path, len(to_do))
    written: list[str] = []
    elsewhere: list[str] = []
    rows = 0
    with open_lmdb(keys.path) as lmdb:
        for number, each in enumerate(to_do):
            progress(f"{name}: videos", number, len(to_do))
            with store.claim_features(name, each.video) as ours:
                if ours and _write(plan, store, lmdb, each.video):
                    written.append(each.video)
                else:
                    elsewhere.append(each.video)
                    logger.warning("%s/%s: another process writes it", name, each.video)
            rows += each.rows
            progress(f"{name}: rows", rows, total)
    progress(f"{name}: videos", len(to_do), len(to_do))
    report = StreamImport(
        plan=plan,
        written=tuple(written),
        elsewhere=tuple(elsewhere),
        rows=sum(len(keys.frames[video]) for video in written),
        nonfinite=_nonfinite(store, name, [*plan.done, *written]),
        seconds=time.monotonic() - began,
    )
    for v in plan.videos:
        if v.gaps:
            logger.info(
                "%s/%s: %d gaps, the longest %.2f s, the first after %.2f s",
                *(name, v.video, v.gaps, v.longest_gap_s, v.first_gap_s),
            )
    logger.info("import lmdb: %s, %d videos in %.1f s", name, len(written), report.seconds)
    return report


def _write(plan: StreamPlan, store: Store, lmdb: LmdbPages, video: str) -> bool:
    """Publish one video; false if another process was faster."""
    stream = plan.stream
    if store.has_features(stream.name, video):
        return False
    rows, wild = read_rows(lmdb, plan.keys, video, stream.dtype)
    seconds = plan.keys.frames[video] / stream.config["key_fps"]
    try:
        store.write_features(
            stream.name,
            video,
            rows,
            start_s=float(seconds[0]),
            times=None if _is_regular(seconds, stream.fps) else seconds,
            attributes={NON_FINITE: int(wild.sum())},
        )
    except AlreadyExists:
        return False
    return True


def _nonfinite(store: Store, stream: str, videos: list[str]) -> dict[str, int]:
    """Rows that are not finite, by video that has any."""
    units = {video: store.backend.open(f"features/{stream}/{video}")[1] for video in sorted(videos)}
    return {video: int(count) for video, own in units.items() if (count := own.get(NON_FINITE))}


def _stream(name: str, keys: LmdbKeys, config: LmdbImportConfig, known: Stream | None) -> Stream:
    """The stream that an LMDB becomes, or goes on with."""
    settings = {
        "importer": "lmdb",
        "keys": KEY,
        "key_fps": float(config.key_fps),
        "source": keys.name,
    }
    fps = config.key_fps / keys.nominal
    if known is not None and known.config == settings:
        fps = known.fps  # more videos may shift what is commonest; the rows have their own times
    return Stream(
        name=name,
        dim=keys.dim,
        dtype=config.dtype,
        fps=fps,
        source=f"LMDB {keys.name}",
        config=settings,
        step_s=keys.step / config.key_fps,
        max_age_s=config.max_age_s(None if known is None else known.max_age_s),
    )


def _create(store: Store, stream: Stream) -> None:
    """Create the stream, or compare it with the one that is there."""
    fields = ("dim", "dtype", "fps", "source", "config")
    try:
        store.create_stream(stream.name, **{k: getattr(stream, k) for k in fields})
    except FingerprintMismatch as error:
        known = store.stream(stream.name)
        options = _options_of(known, stream)
        if not options:
            raise
        raise FingerprintMismatch(
            f"stream {stream.name!r} was made with other settings",
            where=store.path,
            found=difference(known.settings, stream.settings),
            hint=f"{' '.join(options)} goes on with it; or use another stream name",
        ) from error


def _options_of(known: Stream, new: Stream) -> list[str]:
    """Options that would make the import of `new` one into the stream that is known."""
    if known.config.get("importer") != new.config["importer"]:
        return []
    options = []
    if known.dtype != new.dtype:
        options.append(f"--dtype {known.dtype}")
    if known.config["key_fps"] != new.config["key_fps"]:
        options.append(f"--fps-of-keys {known.config['key_fps']:g}")
    return options


def _is_regular(seconds: NDArray[np.float64], fps: float) -> bool:
    """Whether rows seen at `seconds` (R,) lie at `seconds[0] + r / fps`."""
    expected = seconds[0] + np.arange(len(seconds)) / fps
    return bool((np.abs(seconds - expected) < BOUNDARY / ANNOTATION_FPS).all())


def _gaps(video: str, frames: NDArray[np.int64], step: int, key_fps: float) -> VideoRows:
    spacing = np.diff(frames)
    wide = np.flatnonzero(spacing > step)
    return VideoRows(
        video=video,
        rows=len(frames),
        gaps=len(wide),
        longest_gap_s=float(spacing[wide].max() / key_fps) if len(wide) else 0.0,
        first_gap_s=float(frames[wide[0]] / key_fps) if len(wide) else None,
    )


def _check_same(store: Store, stream: Stream, keys: LmdbKeys, video: str) -> None:
    """Raise `FingerprintMismatch` if a finished video has other row times than the LMDB's keys."""
    ours = store.features(stream.name, video, settings=stream).seconds
    theirs = keys.frames[video] / stream.config["key_fps"]
    if len(ours) == len(theirs) and np.abs(ours - theirs).max() < BOUNDARY / ANNOTATION_FPS:
        return
    raise FingerprintMismatch(
        f"{stream.name}/{video} in the store has other rows than the LMDB",
        where=keys.path,
        expected=f"{len(ours)} rows from {ours[0]:.3f} s to {ours[-1]:.3f} s" if len(ours) else "",
        found=f"{len(theirs)} from {theirs[0]:.3f} s to {theirs[-1]:.3f} s",
        hint="use another stream name",
    )
