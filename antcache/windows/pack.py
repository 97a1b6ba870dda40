"""The pack: the features of all windows of a split, gathered once on the training device.

Promise: after `PackedFeatures.gather` nothing is read from the store any more, and nothing of it
stays in memory; a batch is an index into one tensor. The pack is filled where it lies; beside it,
the host holds less than 200 MB.
Letters: N windows, B windows of a batch, T time, D feature, of all streams side by side.
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
from antcache.windows.frame_labels import by_video
from antcache.windows.split import StreamRows
from antcache.windows.staging import Staging

DTYPES = {"float16": torch.float16, "float32": torch.float32}

STAGING_BYTES = 16 << 20
"""Host memory of each buffer through which a pack goes to a device that is not the host."""


@dataclass(frozen=True, kw_only=True)
class PackedFeatures:
    """Features of windows that lie on a device.

    Attributes:
        values: (N, T, D) in the stream's dtype; of several streams, in the widest.
    """

    values: Tensor

    @property
    def device(self) -> torch.device:
        """Where they lie."""
        return self.values.device

    @property
    def shape(self) -> tuple[int, int, int]:
        """(N, T, D)."""
        num_windows, time, dim = self.values.shape
        return num_windows, time, dim

    @property
    def num_bytes(self) -> int:
        """Bytes on the device."""
        return self.values.nbytes

    def batches(self, order: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """See `dataset.WindowFeatures`."""
        for positions in torch.split(order.to(self.device), size):
            yield positions, self.values.index_select(0, positions)

    def take(self, positions: Sequence[int]) -> Tensor:
        """See `dataset.WindowFeatures`."""
        return self.values[torch.as_tensor(positions)]

    def pack(self, device: torch.device, progress: Progress = silent) -> PackedFeatures:
        """See `dataset.WindowFeatures`."""
        return PackedFeatures(values=self.values.to(device))

    @classmethod
    def gather(
        cls,
        streams: Sequence[StreamRows],
        device: torch.device,
        *,
        label: str = "windows",
        progress: Progress = silent,
    ) -> PackedFeatures:
        """Read the same windows of one stream or several, which come to lie side by side.

        Args:
            streams: what to read.
            device: where the tensor goes.
            label: what progress is reported under, in videos.
            progress: called after each video.

        Raises:
            BadConfig: the device has too little memory.
            DamagedStore: features can't be read.
        """
        num_windows, time, _ = streams[0].shape
        shape = (num_windows, time, sum(stream.shape[2] for stream in streams))
        dtype = torch.float16
        for stream in streams:
            dtype = torch.promote_types(dtype, DTYPES[stream.dtype.name])
        require_memory(shape, dtype, device)
        values = torch.empty(shape, dtype=dtype, device=device)
        straight = device.type == "cpu" and len(streams) == 1
        total = sum(len(np.unique(stream.video)) for stream in streams)
        done, start = 0, 0
        for stream in streams:
            own = values[..., start : start + stream.shape[2]]
            staging = None if straight else make_staging(own, dtype=DTYPES[stream.dtype.name])
            parts = dict(by_video(stream.video))
            features = {video: stream.features[video] for video in parts}
            gatherer = Gatherer(list(features.values()))
            with proven(features) as wait_for:
                for number, (video, members) in enumerate(parts.items()):
                    wait_for(video)
                    fill(own, gatherer, number, stream.rows[members], members, staging)
                    gatherer.release(number)
                    done += 1
                    progress(label, done, total)
            start += stream.shape[2]
        return cls(values=values)


def make_staging(
    gathered: Tensor, max_bytes: int = STAGING_BYTES, dtype: torch.dtype | None = None
) -> Staging:
    """Buffers through which windows go into `gathered` (N, T, D), of at most `max_bytes` each.

    They have the `dtype` of what is read, that of `gathered` if None.
    """
    window_bytes = max(1, gathered[:1].nbytes)
    num_windows = max(1, min(len(gathered), max_bytes // window_bytes))
    shape = (num_windows, *gathered.shape[1:])
    return Staging(shape, dtype or gathered.dtype, gathered.device, depth=2)


def fill(
    gathered: Tensor,
    gatherer: Gatherer,
    video: int,
    rows: NDArray[np.int64],
    at: NDArray[np.int64],
    staging: Staging | None = None,
) -> None:
    """Copy the rows (n, T) of one video to the places `at` (n,) of `gathered` (N, T, D).

    Args:
        gathered: on the host and in one piece, unless there is `staging`.
        gatherer: of videos, and
        video: the position there of this one.
        rows: rows of the video.
        at: ascending places.
        staging: buffers on the way to the device that `gathered` is on.
    """
    which = np.full(len(rows), video, dtype=np.int64)
    if staging is None:
        gatherer.into(gathered.numpy(), which, rows, at)
        return
    size = staging.num_windows
    for turn, start in enumerate(range(0, len(rows), size)):
        part = slice(start, start + size)
        num_windows = len(rows[part])
        gatherer.into(staging.buffer(turn, num_windows).numpy(), which[part], rows[part])
        places = torch.from_numpy(at[part]).to(gathered.device)
        sent = staging.send(turn, num_windows)
        gathered.index_copy_(0, places, sent.to(gathered.dtype))


def require_memory(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> None:
    """Refuse a pack that does not fit a CUDA device, before anything is allocated."""
    if device.type != "cuda":
        return
    needed = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    free, _ = torch.cuda.mem_get_info(device)
    if needed > free:
        raise BadConfig(
            f"the windows {shape} do not fit the memory of {device}",
            expected=f"at most {free} bytes free",
            found=f"{needed} bytes needed",
            hint="read them in batches: `windows` stream; or take `device` cpu, or fewer streams",
        )
