"""Rows of many windows of many videos, copied once from where they lie into one array.

Promise: rows of memory-mapped videos go straight from the map into the output; of compressed and
remote videos each is visited once per call, a few chunks at a time. Either way the values are the
same, and beside the output at most `BLOCK_BYTES` of a video are held.
Letters: N windows, T time, D feature, or K tokens of D features, as they lie: of int8 tokens the
scales are gathered by a second `Gatherer`, of `Features.scales`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antcache.store.features import Features
from antcache.store.reading.mapped import Bytes, MappedArray, as_bytes, copy_runs

MAX_WORKERS = 8
"""Most threads that compare videos with their hashes."""


class Gatherer:
    """Copies windows of a list of videos, again and again: video after video, batch after batch.

    It may be pickled and forked; it keeps the maps of what was read, and no file open. `mapped`
    says whether all videos are read from memory maps.

    Args:
        features: the videos, all of one width and dtype.

    Raises:
        ValueError: they are not.
    """

    def __init__(self, features: Sequence[Features]) -> None:
        self._features = tuple(features)
        kinds = {(f.rows.shape[1:], f.rows.dtype) for f in features}
        if len(kinds) > 1:
            raise ValueError(f"rows of several kinds: {sorted(map(str, kinds))}")
        self._row_shape: tuple[int, ...] = features[0].rows.shape[1:] if features else ()
        self.dtype: np.dtype[Any] = features[0].rows.dtype if features else np.dtype(np.float16)
        self._lengths = np.array([f.num_rows for f in features], dtype=np.int64)
        # Pieces, that is files, are numbered through all videos, so that one look at the windows
        # of a batch says which files their rows are in.
        arrays = [f.rows for f in features if isinstance(f.rows, MappedArray)]
        self.mapped = len(arrays) == len(self._features)
        counts = np.array([a.num_files for a in arrays], dtype=np.int64)
        self._rows_per_file = np.array([a.rows_per_file for a in arrays], dtype=np.int64)
        self._first = np.cumsum(counts) - counts
        self._owner = np.repeat(np.arange(len(arrays)), counts)
        self._pieces: list[Bytes | None] = [None] * len(self._owner)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_pieces": [None] * len(self._pieces)}

    def into(
        self,
        out: NDArray[Any],
        which: NDArray[np.int64],
        rows: NDArray[np.int64],
        at: NDArray[np.int64] | None = None,
    ) -> None:
        """Copy the rows of N windows into `out`.

        Args:
            out: (M, T, D), of tokens (M, T, K, D), contiguous, of the rows' dtype.
            which: (N,) position of each window's video in the list.
            rows: (N, T) rows of that video.
            at: (N,) where in `out` each window goes; in order from 0 if None.

        Raises:
            IndexError: a video has no such row, or `out` no such place.
            ValueError: `out` has another shape or dtype, or is not contiguous.
            DamagedStore: rows can't be read.
        """
        self._check(out, which, rows, at)
        flat = as_bytes(out, int(np.prod(self._row_shape)) * self.dtype.itemsize)
        time = rows.shape[1]
        places = None if at is None else (at[:, None] * time + np.arange(time)).ravel()
        if self.mapped:
            size = self._rows_per_file[which, None]
            number = rows // size
            within = rows - number * size
            number += self._first[which, None]
            copy_runs(self._piece, number.ravel(), within.ravel(), flat, places)
            return
        if places is None:
            places = np.arange(rows.size)
        places = places.reshape(rows.shape)
        for video in np.unique(which):
            members = np.flatnonzero(which == video)
            self._features[video].place(rows[members].ravel(), flat, places[members].ravel())

    def release(self, video: int) -> None:
        """Let go of the memory that reading the video at this position of the list has mapped."""
        if self.mapped:
            own = slice(*np.searchsorted(self._owner, [video, video + 1]))
            self._pieces[own] = [None] * (own.stop - own.start)
        self._features[video].release()

    def _piece(self, number: int) -> Bytes:
        """Piece `number` of all videos' pieces."""
        piece = self._pieces[number]
        if piece is None:
            owner = int(self._owner[number])
            array = self._features[owner].rows
            assert isinstance(array, MappedArray)
            piece = self._pieces[number] = array.piece(number - int(self._first[owner]))
        return piece

    def _check(
        self,
        out: NDArray[Any],
        which: NDArray[np.int64],
        rows: NDArray[np.int64],
        at: NDArray[np.int64] | None,
    ) -> None:
        wanted = (len(which), rows.shape[1], *self._row_shape)
        short = len(out) < len(which) if at is None else bool(len(at)) and at.max() >= len(out)
        if short or (at is not None and len(at) and at.min() < 0):
            raise IndexError(f"windows go past the {len(out)} of the output")
        if out.shape[1:] != wanted[1:] or out.dtype != self.dtype or not out.flags.c_contiguous:
            raise ValueError(
                f"the output is {out.dtype} {out.shape}, not {self.dtype} {wanted} in one piece"
            )
        if len(rows) != len(which) or (at is not None and len(at) != len(which)):
            raise ValueError(f"{len(which)} videos for {len(rows)} windows")
        beyond = (rows < 0) | (rows >= self._lengths[which, None])
        if beyond.any():
            bad = int(beyond.any(axis=1).argmax())
            raise IndexError(f"rows {rows[bad].tolist()} of {self._lengths[which[bad]]}")


@contextmanager
def proven(features: Mapping[str, Features]) -> Iterator[Callable[[str], None]]:
    """Compare memory-mapped videos with their hashes in threads, in this order, ahead of their use.

    What is yielded waits for a video; without it a video is compared when its rows are first read,
    by whoever reads them. Costs next to nothing where all was compared before (see `proof`).

    Raises:
        DamagedStore: from what is yielded: the video is not as it was written.
    """
    pool = ThreadPoolExecutor(min(MAX_WORKERS, os.cpu_count() or 1), "proving")
    try:
        arrays = [(video, a) for video, f in features.items() for a in (f.rows, f.scale)]
        waiting: dict[str, list[Future[None]]] = {video: [] for video in features}
        for video, array in arrays:
            if isinstance(array, MappedArray):
                waiting[video].append(pool.submit(array.prove))

        def wait(video: str) -> None:
            for each in waiting.get(video, ()):
                each.result()

        yield wait
    finally:
        pool.shutdown(cancel_futures=True)
