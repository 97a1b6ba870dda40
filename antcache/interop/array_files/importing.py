"""Importing files of arrays: each becomes the rows of a video, at times that were said of them.

Promise: values are stored as they are, or rounded to the type that was asked for; times follow from
settings alone. A file that can't be taken goes into the ledger beside the store, and the import
goes on. A video is in the store completely or not at all, so that the same command does what is
missing. Memory holds the rows of one video.
"""

from __future__ import annotations

import logging
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from antcache.errors import AlreadyExists, UnreadableArray
from antcache.interop.array_files.config import ArraysImportConfig
from antcache.interop.array_files.finding import ArrayFiles, find_arrays
from antcache.interop.array_files.reading import FileRows, read_file
from antcache.progress import Progress, silent
from antcache.store.features import Stream
from antcache.store.integrity.same_file import FILE_BYTES, require_same_file
from antcache.store.local.ledger import Failure, Ledger
from antcache.store.store import Store
from antcache.text import utf8

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ArraysPlan:
    """What an import will do.

    Attributes:
        stream: the stream as it will be.
        config: settings.
        files: the files of the folder.
        done: videos that are complete in the stream.
        failed_before: of the others, those that failed in an earlier import, with the reason.
    """

    stream: Stream
    config: ArraysImportConfig
    files: ArrayFiles
    done: frozenset[str]
    failed_before: dict[str, str]

    @property
    def to_do(self) -> list[str]:
        """Videos that are not complete yet."""
        return [video for video in self.files.videos if video not in self.done]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        stream = self.stream
        return {
            "stream": stream.name,
            **{k: getattr(stream, k) for k in ("source", "dim", "dtype", "fps", "sees_ahead_s")},
            "start_s": None if self.config.time == "listed" else self.config.start_s,
            "note": self.files.note,
            "passed_over": self.files.passed_over,
            "done": sorted(self.done),
            "to_do": self.to_do,
            "failed_before": self.failed_before,
            "refused": {str(path): str(error) for path, (_, error) in self.files.refused.items()},
        }


@dataclass(frozen=True, kw_only=True)
class ArraysReport:
    """What an import did.

    Attributes:
        plan: what was to be done.
        written: videos that are new in the stream.
        elsewhere: videos that another process is writing, or wrote meanwhile.
        failed: files that could not be taken.
        rows: rows written.
        seconds: how long it took.
    """

    plan: ArraysPlan
    written: tuple[str, ...]
    elsewhere: tuple[str, ...]
    failed: tuple[Failure, ...]
    rows: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; the plan's fields, and what was done."""
        gone = ("done", "to_do", "failed_before", "refused")
        return {
            **{k: v for k, v in self.plan.to_dict().items() if k not in gone},
            "written": list(self.written),
            "skipped": sorted(self.plan.done),
            "elsewhere": list(self.elsewhere),
            "failed": [asdict(failure) for failure in self.failed],
            "rows_written": self.rows,
            "seconds": self.seconds,
        }


def plan_arrays(folder: Path, store: Store | None, config: ArraysImportConfig) -> ArraysPlan:
    """What `import_arrays` would do; names and sizes of files are looked at, nothing is written.

    Args:
        folder: with one `.npy`, `.npz`, `.pt` or `.mat` for each video.
        store: where they go; None where no store is yet.
        config: what the rows are.

    Raises:
        NotFound: there is no folder, or no such file in it.
        FingerprintMismatch: the stream was made in another way, or its videos from other files.
    """
    there = store is not None and config.stream in store.streams()
    stored: set[str] = set()
    if store is not None and there:
        stored = set(store.videos(config.stream, listed=True))
    files = find_arrays(folder, stored)
    stream = Stream(
        name=config.stream,
        dim=config.dim,
        dtype=config.dtype,
        fps=config.rows_per_second,
        source=f"arrays {files.name}: {config.described}",
        config=config.settings(files.name),
    )
    done = frozenset(files.videos.keys() & stored)
    reasons: dict[str, str] = {}
    if store is not None:
        if there:
            _create(store, stream)  # compares only: it exists
            for video in sorted(done):
                path = files.videos[video]
                require_same_file(store, stream.name, video, path, path.stat().st_size)
        reasons = {f.video: f.error for f in Ledger(store.path).read() if f.stream == stream.name}
    failed = {v: reasons[v] for v in files.videos if v in reasons and v not in done}
    return ArraysPlan(stream=stream, config=config, files=files, done=done, failed_before=failed)


def import_arrays(plan: ArraysPlan, store: Store, progress: Progress = silent) -> ArraysReport:
    """Write what `plan_arrays` planned; `progress` is called with "videos".

    Raises:
        FingerprintMismatch: the stream was made with other settings meanwhile.
        WriteFailed: the disk refused; the videos before are complete.
    """
    began = time.monotonic()
    name, files = plan.stream.name, plan.files
    logger.info("import arrays: %s from %s, %d videos to do", name, files.folder, len(plan.to_do))
    ledger = Ledger(store.path)
    ledger.succeeded(name, *plan.done)  # a killed process may not have come to say so
    ledger.clear_renamed(name)
    failed: list[Failure] = []
    for path, (video, error) in files.refused.items():
        failed.append(ledger.failed(name, video, path, error))
        logger.error("failed: %s", error)
    written: list[str] = []
    elsewhere: list[str] = []
    rows = 0
    for number, video in enumerate(plan.to_do):
        progress("videos", number, len(plan.to_do))
        path = files.videos[video]
        with store.claim_features(name, video) as ours:
            try:
                count = _write(plan, store, video, path) if ours else 0
            except UnreadableArray as error:
                failed.append(ledger.failed(name, video, path, error))
                logger.error("failed: %s", error)
                continue
        rows += count
        (written if count else elsewhere).append(video)
        ledger.succeeded(name, video)
        if not count:
            logger.warning("%s/%s: another process writes it", name, video)
    progress("videos", len(plan.to_do), len(plan.to_do))
    report = ArraysReport(
        plan=plan,
        written=tuple(written),
        elsewhere=tuple(elsewhere),
        failed=tuple(failed),
        rows=rows,
        seconds=time.monotonic() - began,
    )
    logger.info(
        "import arrays: %s, %d videos (%d rows), %d failed, %.1f s",
        *(name, len(written), rows, len(failed), report.seconds),
    )
    return report


def _write(plan: ArraysPlan, store: Store, video: str, path: Path) -> int:
    """Publish one video; the number of its rows, 0 if another process was faster."""
    stream = plan.stream
    if store.has_features(stream.name, video):
        return 0
    size = path.stat().st_size
    found = read_file(path, plan.config)
    _create(store, stream)  # where no file is as was said, another try may say something else
    try:
        store.write_features(
            stream.name,
            video,
            found.rows,
            **_when(found, plan),
            attributes={
                "file": utf8(path.name),
                FILE_BYTES: size,
                "layout": found.layout,
                "dtype_of_file": found.dtype,
            },
        )
    except AlreadyExists:
        return 0
    return len(found.rows)


def _when(found: FileRows, plan: ArraysPlan) -> dict[str, Any]:
    """Times of rows, as `write_features` takes them; listed ones that are regular are a start."""
    if found.times is None:
        return {"start_s": plan.config.start_s}
    start_s = float(found.times[0])
    regular = start_s + np.arange(len(found.times)) / plan.stream.fps
    times = None if np.array_equal(regular, found.times) else found.times
    return {"start_s": start_s, "times": times}


def _create(store: Store, stream: Stream) -> None:
    """Create the stream, or compare it with the one that is there."""
    fields = ("dim", "dtype", "fps", "source", "config")
    store.create_stream(stream.name, **{k: getattr(stream, k) for k in fields})
