"""Rows of many windows of many videos, copied once from where they lie into one array.

Promise: rows of memory-mapped videos go straight from the map into the output, window by window; of
compressed and remote videos each is visited once, a few chunks at a time. Either way the values are
the same, and beside the output at most `BLOCK_BYTES` of a video are held.
Letters: N windows, T time, D feature.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from antcache.store.features import Features
from antcache.store.mapped import MappedArray


def gather(
    features: Sequence[Features],
    which: NDArray[np.int64],
    rows: NDArray[np.int64],
    out: NDArray[Any],
) -> None:
    """Copy the rows of N windows into `out`.

    Args:
        features: the videos.
        which: (N,) position in `features` of each window's video.
        rows: (N, T) rows of that video.
        out: (N, T, D), contiguous, of the rows' dtype.

    Raises:
        IndexError: a video has no such row.
        DamagedStore: rows can't be read.
    """
    lengths = np.array([f.num_rows for f in features], dtype=np.int64)
    beyond = (rows < 0) | (rows >= lengths[which, None])
    if beyond.any():
        bad = int(beyond.any(axis=1).argmax())
        raise IndexError(f"rows {rows[bad].tolist()} of {lengths[which[bad]]}")
    if all(isinstance(f.rows, MappedArray) for f in features):
        takes = [f.rows.take for f in features]  # type: ignore[attr-defined]
        for window, (video, own) in enumerate(zip(which.tolist(), rows, strict=True)):
            takes[video](own, out[window])
        return
    for video in np.unique(which):
        members = np.flatnonzero(which == video)
        out[members] = features[video].read(rows[members])
