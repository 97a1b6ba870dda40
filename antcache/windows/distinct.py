"""The rows that windows look at, each once, whichever and however many windows share it.

Promise: pure numpy; ordered by video and row, so that a video is read from its start to its end.
Letters: N windows, T frames, U distinct rows, V videos.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class DistinctRows:
    """U rows of V videos.

    Attributes:
        videos: (V,) their names, ascending.
        owner: (U,) position of each row's video among them, ascending.
        rows: (U,) row of that video, ascending within it.
        places: (N, T) which of the U each frame of the windows takes.
    """

    videos: NDArray[np.str_]
    owner: NDArray[np.int64]
    rows: NDArray[np.int64]
    places: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    @classmethod
    def of(cls, video: NDArray[np.str_], rows: NDArray[np.int64]) -> DistinctRows:
        """Those of windows that look at `rows` (N, T) of `video` (N,)."""
        videos, which = np.unique(video, return_inverse=True)
        stride = int(rows.max(initial=0)) + 1
        found, places = np.unique(which[:, None] * stride + rows, return_inverse=True)
        return cls(
            videos=videos,
            owner=found // stride,
            rows=found % stride,
            places=places.reshape(rows.shape).astype(np.int64, copy=False),
        )
