"""Exporting a stream as an LMDB that code written for RULSTM's or AVT's features reads.

Promise: values are float32, widened exactly from float16; a key never shows a row before it was
seen. The LMDB appears under its name when it is whole, or not at all. What an import brought in
comes out with the same keys and bytes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antcache.errors import AlreadyExists, BadConfig, MissingKey, needs
from antcache.files import atomic_folder
from antcache.files.locks import exclusively, lock_beside
from antcache.interop.lmdb.features import key_of
from antcache.progress import Progress, silent
from antcache.store.features import Features
from antcache.store.store import Store
from antcache.timebase import ANNOTATION_FPS, exact_floor

logger = logging.getLogger(__name__)

BLOCK_BYTES = 8 << 20
"""How many bytes of rows are written in one transaction."""

FIRST_MAP_BYTES = 64 << 20
"""Size of the map at first; it is doubled whenever it is full."""

LAST_FRAME = 10**10 - 1
"""The highest number that a key has digits for."""


@dataclass(frozen=True, kw_only=True)
class LmdbExportReport:
    """What an export wrote.

    Attributes:
        stream: name of the stream.
        output: folder of the LMDB.
        videos: number of videos.
        rows: number of keys.
        moved: rows that were not seen at a frame, and which the next frame shows.
        seconds: how long it took.
    """

    stream: str
    output: str
    videos: int
    rows: int
    moved: int
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


def export_lmdb(
    store: Store,
    stream: str,
    output: Path,
    *,
    key_fps: float = ANNOTATION_FPS,
    progress: Progress = silent,
) -> LmdbExportReport:
    """Write the videos of a stream into the new LMDB folder `output`.

    A row seen at t seconds gets the key of frame t * key_fps, or of the next frame if there is none
    at t; frames are counted from 1. Rows that have seen the future are a `BadConfig`, since a key
    can't say so. `progress` is called with "videos" and "rows".

    Raises:
        AlreadyExists: something is at `output`.
        BadConfig: two rows of a video would have one key, or a row is a grid of tokens.
        MissingKey: there is no such stream, or no video in it.
        MissingExtra: `lmdb` is not installed.
        WriteFailed: the disk refused.
    """
    began = time.monotonic()
    lmdb_package()
    settings = store.stream(stream)
    if settings.grid is not None:
        raise BadConfig(
            "a key of an LMDB holds one vector, and a row of this stream is a grid of tokens",
            where=store.backend.where(f"features/{stream}"),
            hint="export a stream of vectors",
        )
    videos = sorted(store.videos(stream), key=lambda video: key_of(video, 0))
    if not videos:
        raise MissingKey("the stream has no videos", where=f"{store.path}: features/{stream}")
    if output.exists() or output.is_symlink():
        raise AlreadyExists("something is here already", where=output, hint="choose another name")
    if settings.sees_ahead_s > 0:
        raise BadConfig(
            "an LMDB can't say that rows have seen the future",
            where=f"{store.path}: features/{stream}",
            found=f"rows that have seen {settings.sees_ahead_s:.4g} s after their times",
            hint="antcache export arrays does",
        )
    features = {video: store.features(stream, video, settings=settings) for video in videos}
    where = store.backend.where(f"features/{stream}")
    frames = {v: _frames(f, key_fps, f"{where}/{v}") for v, f in features.items()}
    total = sum(map(len, frames.values()))
    shown = {v: exact_floor(f.seconds * key_fps) for v, f in features.items()}
    moved = int(sum((shown[v] < frames[v]).sum() for v in videos))
    if moved:
        logger.warning("%s: %d of %d rows go to the next frame", stream, moved, total)
    ends = [key_of(v, int(n)) for v in videos if len(frames[v]) for n in frames[v][[0, -1]]]
    in_order = all(a <= b for a, b in pairwise(ends))  # unless a video is named like a key
    done = 0
    with _new_lmdb(output) as env:
        for number, video in enumerate(videos):
            progress("videos", number, len(videos))
            for rows, numbers in _blocks(features[video], frames[video]):
                _put(env, video, rows, numbers, in_order)
                done += len(numbers)
                progress("rows", done, total)
    progress("videos", len(videos), len(videos))
    report = LmdbExportReport(
        stream=stream,
        output=str(output),
        videos=len(videos),
        rows=total,
        moved=moved,
        seconds=time.monotonic() - began,
    )
    logger.info("export lmdb: %s", report)
    return report


def lmdb_package() -> Any:
    """The package `lmdb`.

    Raises:
        MissingExtra: it is not installed.
    """
    with needs("lmdb", "import"):
        import lmdb
    return lmdb


def _frames(features: Features, key_fps: float, where: str) -> NDArray[np.int64]:
    """Frame number (R,) of each row of a video."""
    # -floor(-x) is the ceiling, with the same tolerance
    frames = np.maximum(-exact_floor(-features.seconds * key_fps), 1)
    same = np.flatnonzero(np.diff(frames) == 0)
    if len(same):
        raise BadConfig(
            f"rows {same[0]} and {same[0] + 1} would both be frame {frames[same[0]]}",
            where=where,
            expected=f"at most one row per frame of 1/{key_fps:g} s, from frame 1 on",
            hint="export a stream of a lower rate",
        )
    if len(frames) and frames[-1] > LAST_FRAME:
        raise BadConfig("a key has ten digits", where=where, found=f"frame {frames[-1]}")
    return frames


def _blocks(
    features: Features, frames: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]]:
    """A video's rows (n, D) as float32, and their frames (n,), some at a time."""
    step = max(1, BLOCK_BYTES // (4 * features.rows.shape[1]))
    for low in range(0, len(frames), step):
        part = np.arange(low, min(low + step, len(frames)))
        yield features.read(part).astype("<f4"), frames[part]


def _put(
    env: Any, video: str, rows: NDArray[np.float32], frames: NDArray[np.int64], append: bool
) -> None:
    """Write rows in one transaction; a full map is made larger, and the transaction repeated.

    Keys that come in order are appended, which leaves no page half empty.
    """
    lmdb = lmdb_package()
    while True:
        try:
            with env.begin(write=True) as transaction:
                for row, frame in zip(rows, frames.tolist(), strict=True):
                    transaction.put(key_of(video, frame), row.tobytes(), append=append)
            return
        except lmdb.MapFullError:
            env.set_mapsize(2 * env.info()["map_size"])


@contextmanager
def _new_lmdb(output: Path) -> Iterator[Any]:
    """An LMDB to be written, which is at `output` once the context has ended well."""
    lmdb = lmdb_package()
    with (
        exclusively(lock_beside(output), "another process writes it", where=output),
        atomic_folder(output) as folder,
    ):
        try:
            with lmdb.open(
                str(folder), map_size=FIRST_MAP_BYTES, sync=False, lock=False, meminit=False
            ) as env:
                yield env
                env.sync(True)
        except lmdb.Error as error:
            raise OSError(str(error)) from error
