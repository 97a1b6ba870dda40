"""The rows of a video that a window may still look at, as the store would have them.

Promise: rows lie in the type of their stream, and what a window reads of them is made by what reads
windows of a store; rows that no later window looks at are let go.
Letters: B rows that come at once, N windows, T frames of a window, K tokens of a row, D feature.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from antcache.annotations import Protocol
from antcache.extract.engines.video import Stored
from antcache.store import Stream
from antcache.windows.reading.stored_rows import RowReader
from antcache.windows.reading.stream_rows import Futures


class RowPlace(NamedTuple):
    """Where a row of a live source stands.

    Attributes:
        number: of the row, from 0.
        start_s: time of row 0, which is that of the first frame, or of the first behind a gap.
        jumps: how often what the source shows has become something else, up to its newest frame.
    """

    number: int
    start_s: float
    jumps: int = 0


class HeldRows:
    """Rows of one video by their number.

    Args:
        stream: what they are of.
        protocol: what a window is.

    Raises:
        BadConfig: the stream has predicted futures, and none for the protocol's gap.
    """

    def __init__(self, stream: Stream, protocol: Protocol) -> None:
        self._rows: dict[int, tuple[NDArray[Any], NDArray[np.float16] | None]] = {}
        self._stream, self._gap_s = stream, protocol.gap_s
        Futures.of(stream, [protocol.gap_s], np.zeros(0, np.int64))

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, first: int, stored: Stored, oldest: int = 0) -> None:
        """Take rows (B, ...) as `RowMaker` gives them, numbered from `first` on, but for those
        before `oldest`."""
        values, scales = stored
        for i in range(max(0, oldest - first), len(values)):
            scale = None if scales is None else scales[i].copy()
            self._rows[first + i] = values[i].copy(), scale  # not the whole batch behind a row

    def let_go(self, oldest: int) -> None:
        """Forget rows before `oldest`."""
        for number in [number for number in self._rows if number < oldest]:
            del self._rows[number]

    def features(self, windows: Sequence[NDArray[np.int64]]) -> Tensor:
        """Features (N, T, D), or (N, T, k, D) of the k > 1 tokens that windows read.

        Args:
            windows: N times the rows (T,) of a window, all of which are held.
        """
        held = [[self._rows[row] for row in window.tolist()] for window in windows]
        values = np.stack([np.stack([row for row, _ in window]) for window in held])
        scale = None
        if self._stream.dtype == "int8":
            scale = torch.from_numpy(np.stack([np.stack([s for _, s in w]) for w in held]))  # type: ignore[misc]
        which = np.zeros(len(windows), np.int64)
        futures = Futures.of(self._stream, [self._gap_s], which)
        read = RowReader.of(futures, torch.device("cpu"))
        return read(torch.arange(len(windows)), torch.from_numpy(values), scale)
