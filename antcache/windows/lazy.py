"""Windows whose features stay in the store and are read batch by batch: for what fits no device.

Promise: the same tensors as a `WindowPack`, so that training on a CPU gives the same bits. A thread
reads the next batches while one is trained on; host memory is a few batches, and pages of the store
that the system may take back at any time. Reads are as fast as memory where the store is
uncompressed and local; of other stores each batch decodes the chunks that it touches.
Letters: N windows, B windows of a batch, T time, D feature.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from antcache.store import Features
from antcache.store.gather import Gatherer
from antcache.windows.index import WindowIndex
from antcache.windows.pack import DTYPES, StreamWindows, Windows, label_tensors
from antcache.windows.staging import Staging
from antcache.windows.teacher_targets import Teachers

BUFFERS = 3
"""Batches in host memory: one that is trained on, and those that are read meanwhile."""


@dataclass(frozen=True, kw_only=True)
class WindowStream(Windows):
    """Windows whose features are read from the store when they are needed.

    Attributes:
        gatherer: the videos.
        which: (N,) position of each window's video in it.
        rows: (N, T) rows of that video.
        dim: D.
        dtype: float16 or float32, the stream's.
    """

    gatherer: Gatherer
    which: NDArray[np.int64]
    rows: NDArray[np.int64]
    dim: int
    dtype: str

    @classmethod
    def of(
        cls,
        features: Mapping[str, Features],
        index: WindowIndex,
        *,
        dim: int,
        dtype: str,
        device: torch.device,
        targets: Teachers | None = None,
        target: NDArray[np.int64] | None = None,
    ) -> WindowStream:
        """The windows of `index`; nothing is read yet. See `WindowPack.gather`."""
        videos, which = np.unique(index.video, return_inverse=True)
        return cls(
            gatherer=Gatherer([features[video] for video in videos.tolist()]),
            which=which.astype(np.int64, copy=False),
            rows=index.rows,
            dim=dim,
            dtype=dtype,
            **label_tensors(index, device, targets, target),
        )

    @property
    def shape(self) -> tuple[int, int, int]:
        """(N, T, D)."""
        return len(self), self.rows.shape[1], self.dim

    def read(self, positions: NDArray[np.int64], out: NDArray[np.generic]) -> None:
        """Copy the features of the windows at `positions` (B,) into `out` (B, T, D).

        Raises:
            DamagedStore: they can't be read.
        """
        self.gatherer.into(out, self.which[positions], self.rows[positions])

    def batches(self, order: Tensor, size: int) -> Generator[tuple[Tensor, Tensor]]:
        """See `Windows`. Leaving the iterator, or its failure, ends its thread."""
        host = torch.split(order, size)
        positions = torch.split(order.to(self.device), size)
        longest = min(size, len(order))
        staging = Staging(
            (longest, *self.shape[1:]), DTYPES[self.dtype], self.device, depth=BUFFERS
        )

        def prepare(turn: int) -> None:
            rows = host[turn].numpy()
            self.read(rows, staging.buffer(turn, len(rows)).numpy())

        ahead: deque[Future[None]] = deque()
        with ThreadPoolExecutor(1, thread_name_prefix="windows") as reader:
            try:
                for turn, here in enumerate(positions):
                    # The buffer of the batch before this one is free now, and no earlier.
                    while len(ahead) < BUFFERS and turn + len(ahead) < len(host):
                        ahead.append(reader.submit(prepare, turn + len(ahead)))
                    ahead.popleft().result()
                    yield here, staging.send(turn, len(here))
            finally:
                reader.shutdown(cancel_futures=True)

    def _features_of(self, positions: Sequence[int]) -> Tensor:
        out = torch.empty((len(positions), *self.shape[1:]), dtype=DTYPES[self.dtype])
        self.read(np.asarray(positions, dtype=np.int64), out.numpy())
        return out


@dataclass(frozen=True, kw_only=True)
class JoinedStream(Windows):
    """Windows of several streams that are read batch by batch and come side by side.

    Attributes:
        parts: the same windows in each stream.
    """

    parts: tuple[WindowStream, ...]

    @classmethod
    def of_streams(
        cls,
        streams: Sequence[StreamWindows],
        *,
        device: torch.device,
        targets: Teachers | None = None,
        target: NDArray[np.int64] | None = None,
    ) -> Windows:
        """The same windows of one stream or several; see `WindowPack.gather_streams`."""
        parts = tuple(
            WindowStream.of(s.features, s.index, dim=s.dim, dtype=s.dtype, device=device)
            for s in streams
        )
        labels = label_tensors(streams[0].index, device, targets, target)
        return replace(parts[0], **labels) if len(parts) == 1 else cls(parts=parts, **labels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(N, T, D)."""
        num_windows, time, _ = self.parts[0].shape
        return num_windows, time, sum(part.shape[2] for part in self.parts)

    def batches(self, order: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """See `Windows`. One thread for each stream."""
        with ExitStack() as stack:
            parts = [stack.enter_context(closing(p.batches(order, size))) for p in self.parts]
            for batches in zip(*parts, strict=True):
                yield batches[0][0], torch.cat([features for _, features in batches], dim=2)

    def _features_of(self, positions: Sequence[int]) -> Tensor:
        return torch.cat([part._features_of(positions) for part in self.parts], dim=2)
