"""The pack: the rows that the windows of a split look at, gathered once on the training device.

Promise: after `PackedFeatures.gather` nothing is read from the store any more, and nothing of it
stays in memory; a row is there once, however many windows share it, and a batch is an index into
one tensor of each stream. Rows lie as they are stored, int8 tokens with their scales. The pack is
filled where it lies; beside it, the host holds less than 200 MB.
Letters: N windows, B windows of a batch, T time, U distinct rows, K tokens of a row, D feature.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from antcache.errors import BadConfig
from antcache.progress import Progress, silent
from antcache.store.reading.gather import Gatherer, proven
from antcache.windows.reading.staging import Staging
from antcache.windows.reading.stored_rows import DTYPES, RowReader, shape_of, side_by_side
from antcache.windows.reading.stream_rows import StreamRows

STAGING_BYTES = 16 << 20
"""Host memory of each buffer through which a pack goes to a device that is not the host."""


@dataclass(frozen=True, kw_only=True)
class PackedStream:
    """The rows of one stream that N windows look at, on a device.

    Attributes:
        values: (U, D) or (U, K, D) distinct rows as they are stored.
        places: (N, T) int64, which of them each frame takes.
        scale: (U, K) float16 of int8 tokens, else None.
        reader: makes features of them.
    """

    values: Tensor
    places: Tensor
    scale: Tensor | None = None
    reader: RowReader = field(default_factory=RowReader)

    @property
    def num_bytes(self) -> int:
        """Bytes on the device."""
        scales = 0 if self.scale is None else self.scale.nbytes
        return self.values.nbytes + scales + self.places.nbytes

    def read(self, positions: Tensor) -> Tensor:
        """Features (B, T, D) or (B, T, K, D) of the windows at `positions` (B,)."""
        places = self.places[positions]

        def taken(rows: Tensor) -> Tensor:
            return rows.index_select(0, places.flatten()).view(*places.shape, *rows.shape[1:])

        scale = None if self.scale is None else taken(self.scale)
        return self.reader(positions, taken(self.values), scale)

    def to(self, device: torch.device) -> PackedStream:
        """The same on another device."""
        return PackedStream(
            values=self.values.to(device),
            places=self.places.to(device),
            scale=None if self.scale is None else self.scale.to(device),
            reader=self.reader.to(device),
        )

    @classmethod
    def gather(
        cls, stream: StreamRows, device: torch.device, done: Callable[[], None]
    ) -> PackedStream:
        """Read the rows of a stream; `done` is called after each video.

        Raises:
            DamagedStore: they can't be read.
        """
        rows, kind = stream.distinct, DTYPES[stream.dtype.name]
        features = {video: stream.features[video] for video in rows.videos.tolist()}
        values = torch.empty((len(rows), *stream.row_shape), dtype=kind, device=device)
        parts = [(values, Gatherer(list(features.values())))]
        scale = None
        if stream.has_scales:
            shape = (len(rows), stream.row_shape[0])
            scale = torch.empty(shape, dtype=torch.float16, device=device)
            parts.append((scale, Gatherer([f.scales() for f in features.values()])))
        staging = [None if device.type == "cpu" else make_staging(part) for part, _ in parts]
        with proven(features) as wait_for:
            for number, video in enumerate(features):
                wait_for(video)
                own = slice(*np.searchsorted(rows.owner, [number, number + 1]))
                for (part, gatherer), buffers in zip(parts, staging, strict=True):
                    fill(part[own], gatherer, number, rows.rows[own], buffers)
                    gatherer.release(number)
                done()
        places = torch.from_numpy(rows.places).to(device)
        reader = RowReader.of(stream.futures, device)
        return cls(values=values, places=places, scale=scale, reader=reader)


@dataclass(frozen=True, kw_only=True)
class PackedFeatures:
    """Features of windows that lie on a device, of several streams side by side.

    Attributes:
        streams: the same windows in each stream.
        shape: (N, T, D), or (N, T, K, D) of the tokens that windows read.
    """

    streams: tuple[PackedStream, ...]
    shape: tuple[int, ...]

    @property
    def device(self) -> torch.device:
        """Where they lie."""
        return self.streams[0].values.device

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
        moved = tuple(stream.to(device) for stream in self.streams)
        return PackedFeatures(streams=moved, shape=self.shape)

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
        done = 0

        def read_one() -> None:
            nonlocal done
            done += 1
            progress(label, done, total)

        return cls(
            streams=tuple(PackedStream.gather(stream, device, read_one) for stream in streams),
            shape=shape_of([stream.shape for stream in streams]),
        )


def make_staging(gathered: Tensor, max_bytes: int = STAGING_BYTES) -> Staging:
    """Buffers through which rows go into `gathered` (U, ...), of at most `max_bytes` each."""
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
    """Copy the rows `rows` (u,) of one video into `gathered` (u, ...), as they are stored.

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
