"""Windows whose features stay in the store and are read batch by batch: for what fits no device.

Promise: the same values as `PackedFeatures`, so that training on a CPU gives the same bits. A
thread reads the next batches while one is trained on; host memory is a few batches, and pages of
the store that the system may take back at any time. Reads are as fast as memory where the store is
uncompressed and local; of other stores each batch decodes the chunks that it touches.
What crosses to the device are rows as they are stored: int8 tokens and their scales.
Letters: N windows, B windows of a batch, T time, K tokens of a row, D feature.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from antcache.progress import Progress, silent
from antcache.store.reading.gather import Gatherer
from antcache.windows.reading.pack import PackedFeatures
from antcache.windows.reading.staging import Staging
from antcache.windows.reading.stored_rows import DTYPES, RowReader, shape_of, side_by_side
from antcache.windows.reading.stream_rows import StreamRows

BUFFERS = 3
"""Batches in host memory: one that is trained on, and those that are read meanwhile."""


@dataclass(frozen=True, kw_only=True)
class LazyStream:
    """The features of windows in one stream, read from the store when they are needed.

    Attributes:
        stream: the rows that they look at.
        gatherer: their videos.
        scales: the same of the scales of int8 tokens, else None.
        which: (N,) position of each window's video in them.
        reader: makes features of stored rows, on the device.
        device: where batches arrive.
    """

    stream: StreamRows
    gatherer: Gatherer
    scales: Gatherer | None
    which: NDArray[np.int64]
    reader: RowReader
    device: torch.device

    @classmethod
    def of(cls, stream: StreamRows, device: torch.device) -> LazyStream:
        """Nothing is read yet."""
        videos, which = np.unique(stream.video, return_inverse=True)
        features = [stream.features[video] for video in videos.tolist()]
        return cls(
            stream=stream,
            gatherer=Gatherer(features),
            scales=Gatherer([f.scales() for f in features]) if stream.has_scales else None,
            which=which.astype(np.int64, copy=False),
            reader=RowReader.of(stream.futures, device),
            device=device,
        )

    @property
    def _parts(self) -> list[tuple[Gatherer, tuple[int, ...]]]:
        """What is read of a window: rows, perhaps scales, and the shape of each."""
        time, row = self.stream.rows.shape[1], self.stream.row_shape
        parts = [(self.gatherer, (time, *row))]
        return parts if self.scales is None else [*parts, (self.scales, (time, row[0]))]

    def read(self, positions: NDArray[np.int64], *out: NDArray[np.generic]) -> None:
        """Copy the rows of the windows at `positions` (B,) as they are stored into `out`: (B, T, D)
        or (B, T, K, D), and of int8 tokens (B, T, K) of their scales.

        Raises:
            DamagedStore: they can't be read.
        """
        for (gatherer, _), part in zip(self._parts, out, strict=True):
            gatherer.into(part, self.which[positions], self.stream.rows[positions])

    def batches(self, order: Tensor, size: int) -> Generator[tuple[Tensor, Tensor]]:
        """As `dataset.WindowFeatures` has them. Leaving the iterator, or its failure, ends its
        thread."""
        host = torch.split(order, size)
        positions = torch.split(order.to(self.device), size)
        largest = min(size, len(order))
        staging = [
            Staging((largest, *shape), DTYPES[part.dtype.name], self.device, depth=BUFFERS)
            for part, shape in self._parts
        ]

        def prepare(turn: int) -> None:
            rows = host[turn].numpy()
            self.read(rows, *(own.buffer(turn, len(rows)).numpy() for own in staging))

        ahead: deque[Future[None]] = deque()
        with ThreadPoolExecutor(1, thread_name_prefix="windows") as pool:
            try:
                for turn, here in enumerate(positions):
                    # The buffer of the batch before this one is free now, and no earlier.
                    while len(ahead) < BUFFERS and turn + len(ahead) < len(host):
                        ahead.append(pool.submit(prepare, turn + len(ahead)))
                    ahead.popleft().result()
                    yield here, self.reader(here, *(own.send(turn, len(here)) for own in staging))
            finally:
                pool.shutdown(cancel_futures=True)

    def take(self, positions: Sequence[int]) -> Tensor:
        """Features of some windows on the host, in memory of their own."""
        which = np.asarray(positions, dtype=np.int64)
        stored = [
            torch.empty((len(which), *shape), dtype=DTYPES[part.dtype.name])
            for part, shape in self._parts
        ]
        self.read(which, *(part.numpy() for part in stored))
        reader = self.reader.to(torch.device("cpu"))
        return reader(torch.from_numpy(which), *stored)


@dataclass(frozen=True, kw_only=True)
class LazyFeatures:
    """Features of windows that are read when they are needed, of several streams side by side.

    Attributes:
        streams: the same windows in each stream.
    """

    streams: tuple[LazyStream, ...]

    @classmethod
    def of(cls, streams: Sequence[StreamRows], device: torch.device) -> LazyFeatures:
        """The windows of one stream or several, whose batches arrive on `device`."""
        return cls(streams=tuple(LazyStream.of(stream, device) for stream in streams))

    @property
    def device(self) -> torch.device:
        """Where batches arrive."""
        return self.streams[0].device

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, T, D)."""
        return shape_of([part.stream.shape for part in self.streams])

    @property
    def num_bytes(self) -> int:
        """Nothing lies on the device."""
        return 0

    def batches(self, order: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """See `dataset.WindowFeatures`. One thread for each stream."""
        with ExitStack() as stack:
            parts = [stack.enter_context(closing(s.batches(order, size))) for s in self.streams]
            for batches in zip(*parts, strict=True):
                yield batches[0][0], side_by_side([features for _, features in batches])

    def take(self, positions: Sequence[int]) -> Tensor:
        """See `dataset.WindowFeatures`."""
        return side_by_side([stream.take(positions) for stream in self.streams])

    def pack(self, device: torch.device, progress: Progress = silent) -> PackedFeatures:
        """See `dataset.WindowFeatures`."""
        rows = [part.stream for part in self.streams]
        return PackedFeatures.gather(rows, device, progress=progress)
