"""The pack: the rows that the windows of a split look at, gathered once on the training device.

Promise: after `PackedFeatures.gather` nothing is read from the store any more, and nothing of it
stays in memory; a row is there once, however many windows share it, and a batch is an index into
one tensor of each stream. The pack is filled where it lies; beside it, the host holds less than
200 MB.
Letters: N windows, B windows of a batch, T time, U distinct rows, D feature.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from antcache.errors import BadConfig
from antcache.progress import Progress, silent
from antcache.store.reading.gather import Gatherer, proven
from antcache.windows.side_by_side import shape_of, side_by_side
from antcache.windows.split import StreamRows
from antcache.windows.staging import Staging

DTYPES = {"float16": torch.float16, "float32": torch.float32}

STAGING_BYTES = 16 << 20
"""Host memory of each buffer through which a pack goes to a device that is not the host."""


@dataclass(frozen=True, kw_only=True)
class PackedStream:
    """The rows of one stream that N windows look at, on a device.

    Attributes:
        values: (U, D) distinct rows in the stream's dtype.
        places: (N, T) int64, which of them each frame takes.
    """

    values: Tensor
    places: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, T, D)."""
        return (*self.places.shape, *self.values.shape[1:])

    @property
    def num_bytes(self) -> int:
        """Bytes on the device."""
        return self.values.nbytes + self.places.nbytes

    def read(self, positions: Tensor) -> Tensor:
        """Features (B, T, D) of the windows at `positions` (B,)."""
        places = self.places[positions]
        return self.values.index_select(0, places.flatten()).unflatten(0, places.shape)

    def to(self, device: torch.device) -> PackedStream:
        """The same on another device."""
        return PackedStream(values=self.values.to(device), places=self.places.to(device))


@dataclass(frozen=True, kw_only=True)
class PackedFeatures:
    """Features of windows that lie on a device, of several streams side by side.

    Attributes:
        streams: the same windows in each stream.
    """

    streams: tuple[PackedStream, ...]

    @property
    def device(self) -> torch.device:
        """Where they lie."""
        return self.streams[0].values.device

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, T, D)."""
        return shape_of([stream.shape for stream in self.streams])

    @property
    def num_bytes(self) -> int:
        """Bytes on the device."""
        return sum(stream.num_bytes for stream in self.streams)

    def batches(self, order: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """See `dataset.WindowFeatures`."""
        for positions in torch.split(order.to(self.device), size):
            yield positions, side_by_side([stream.read(positions) for stream in self.streams])

    def take(self, positions: Sequence[int]) -> Tensor:
        """See `dataset.WindowFeatures`."""
        which = torch.as_tensor(positions, device=self.device)
        return side_by_side([stream.read(which) for stream in self.streams])

    def pack(self, device: torch.device, progress: Progress = silent) -> PackedFeatures:
        """See `dataset.WindowFeatures`."""
        return PackedFeatures(streams=tuple(stream.to(device) for stream in self.streams))

    @classmethod
    def gather(
        cls,
        streams: Sequence[StreamRows],
        device: torch.device,
        *,
        label: str = "windows",
        progress: Progress = silent,
    ) -> PackedFeatures:
        """Read the same windows of one stream or several.

        Args:
            streams: what to read.
            device: where the rows go.
            label: what progress is reported under, in videos.
            progress: called after each video.

        Raises:
            BadConfig: the device has too little memory.
            DamagedStore: features can't be read.
        """
        require_memory(streams, device)
        total = sum(len(stream.distinct.videos) for stream in streams)
        packed: list[PackedStream] = []
        done = 0
        for stream in streams:
            rows = stream.distinct
            values = torch.empty(
                (len(rows), *stream.row_shape), dtype=DTYPES[stream.dtype.name], device=device
            )
            staging = None if device.type == "cpu" else make_staging(values)
            features = {video: stream.features[video] for video in rows.videos.tolist()}
            gatherer = Gatherer(list(features.values()))
            with proven(features) as wait_for:
                for number, video in enumerate(features):
                    wait_for(video)
                    own = slice(*np.searchsorted(rows.owner, [number, number + 1]))
                    fill(values[own], gatherer, number, rows.rows[own], staging)
                    gatherer.release(number)
                    done += 1
                    progress(label, done, total)
            packed.append(
                PackedStream(values=values, places=torch.from_numpy(rows.places).to(device))
            )
        return cls(streams=tuple(packed))


def make_staging(gathered: Tensor, max_bytes: int = STAGING_BYTES) -> Staging:
    """Buffers through which rows go into `gathered` (U, D), of at most `max_bytes` each."""
    row_bytes = max(1, gathered[:1].nbytes)
    num_rows = max(1, min(len(gathered), max_bytes // row_bytes))
    return Staging((num_rows, *gathered.shape[1:]), gathered.dtype, gathered.device, depth=2)


def fill(
    gathered: Tensor,
    gatherer: Gatherer,
    video: int,
    rows: NDArray[np.int64],
    staging: Staging | None = None,
) -> None:
    """Copy the rows `rows` (u,) of one video into `gathered` (u, D).

    Args:
        gathered: on the host and in one piece, unless there is `staging`.
        gatherer: of videos, and
        video: the position there of this one.
        rows: rows of the video.
        staging: buffers on the way to the device that `gathered` is on.
    """
    which = np.full(len(rows), video, dtype=np.int64)
    if staging is None:
        gatherer.into(gathered.numpy()[:, None], which, rows[:, None])
        return
    size = staging.num_windows
    for turn, start in enumerate(range(0, len(rows), size)):
        part = slice(start, start + size)
        count = len(rows[part])
        held = staging.buffer(turn, count).numpy()
        gatherer.into(held[:, None], which[part], rows[part, None])
        gathered[part].copy_(staging.send(turn, count))


def require_memory(streams: Sequence[StreamRows], device: torch.device) -> None:
    """Refuse a pack that does not fit a CUDA device, before anything is allocated."""
    if device.type != "cuda":
        return
    needed = sum(stream.num_bytes for stream in streams)
    free, _ = torch.cuda.mem_get_info(device)
    if needed > free:
        raise BadConfig(
            f"the windows do not fit the memory of {device}",
            expected=f"at most {free} bytes free",
            found=f"{needed} bytes needed",
            hint="read them in batches: `windows` stream; or take `device` cpu, or fewer streams",
        )
