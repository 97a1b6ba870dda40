"""Windows whose features stay in the store and are read batch by batch: for what fits no device.

Promise: the same tensors as a `WindowPack`, so that training on a CPU gives the same bits. A thread
reads the next batches while one is trained on; host memory is a few batches, and pages of the store
that the system may take back at any time. Reads are as fast as memory where the store is
uncompressed and local; of other stores each batch decodes the chunks that it touches.
Letters: N windows, B windows of a batch, T time, D feature.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from antcache.kernels import Targets
from antcache.store import Features
from antcache.store.gather import Gatherer
from antcache.student.pack import DTYPES, Windows, label_tensors
from antcache.student.staging import Staging
from antcache.student.windows import WindowIndex

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
        targets: Targets | None = None,
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

    def batches(self, order: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
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
