"""The windows of a split as a student sees them, and the pack: all of them on the training device.

Promise: after `WindowPack.gather` nothing is read from the store any more, and nothing of it stays
in memory; a batch is an index into tensors, and no value is invented: windows without a soft target
say so with -1. The pack is filled where it lies; beside it, the host holds less than 200 MB.
Letters: N windows, B windows of a batch, T time, D feature, of all streams side by side.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from antcache.errors import BadConfig
from antcache.progress import Progress, silent
from antcache.store import Features
from antcache.store.gather import gather, proven
from antcache.student.frame_labels import by_video
from antcache.student.staging import Staging
from antcache.student.teachers import Teachers
from antcache.student.windows import WindowIndex

DTYPES = {"float16": torch.float16, "float32": torch.float32}

STAGING_BYTES = 16 << 20
"""Host memory of each buffer through which a pack goes to a device that is not the host."""

Sample = dict[str, Any]
"""One window for a PyTorch `DataLoader`: `features` (T, D), `padded` (T,), `action` (),
`frame_action` (T,), `target` () and `uid`."""


@dataclass(frozen=True, kw_only=True)
class Windows(ABC):
    """N windows of a split, whose features lie on the device or are read batch by batch.

    A map-style dataset of `Sample`s for a PyTorch `DataLoader`, if it is on the CPU; the training
    loop needs no loader and takes `batches`.

    Attributes:
        padded: (N, T) bool, frames that losses pass over.
        action: (N,) int64 label.
        verb: (N,) int64 label.
        noun: (N,) int64 label.
        frame_action: (N, T) int64 label of each frame, -100 where there is none.
        target: (N,) int64 row in `targets`, or -1 without one.
        targets: the soft targets of these windows alone, or None.
        uid: (N,) str, on the host.
    """

    padded: Tensor
    action: Tensor
    verb: Tensor
    noun: Tensor
    frame_action: Tensor
    target: Tensor
    targets: Teachers | None
    uid: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.action)

    @property
    def device(self) -> torch.device:
        """Where the tensors lie, and batches arrive."""
        return self.action.device

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int, int]:
        """(N, T, D)."""

    @property
    def num_bytes(self) -> int:
        """Bytes of all tensors."""
        own = sum(v.nbytes for v in vars(self).values() if isinstance(v, Tensor))
        return own + (0 if self.targets is None else self.targets.num_bytes)

    @abstractmethod
    def batches(self, order: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The windows `order` (n,), given on the host, in batches of `size`.

        Yields:
            Positions (B,) of the windows and their features (B, T, D) in the stream's dtype, both
            on the device. The features are valid until the next batch is asked for.

        Raises:
            DamagedStore: features can't be read.
        """

    @abstractmethod
    def _features_of(self, positions: Sequence[int]) -> Tensor:
        """Features (B, T, D) of some windows, in memory of their own."""

    def __getitem__(self, position: int) -> Sample:
        return self.__getitems__([position])[0]

    def __getitems__(self, positions: Sequence[int]) -> list[Sample]:
        """What a `DataLoader` asks for: a whole batch, read in one go."""
        names = ("padded", "action", "frame_action", "target")
        samples = []
        for i, features in zip(positions, self._features_of(positions), strict=True):
            tensors = {name: getattr(self, name)[i] for name in names}
            samples.append({"features": features, **tensors, "uid": str(self.uid[i])})
        return samples


@dataclass(frozen=True, kw_only=True)
class WindowPack(Windows):
    """Windows whose features are gathered on the device.

    Attributes:
        features: (N, T, D) in the stream's dtype; of several streams, in the widest.
    """

    features: Tensor

    @property
    def shape(self) -> tuple[int, int, int]:
        """(N, T, D)."""
        num_windows, time, dim = self.features.shape
        return num_windows, time, dim

    def batches(self, order: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """See `Windows`."""
        for positions in torch.split(order.to(self.device), size):
            yield positions, self.features.index_select(0, positions)

    def _features_of(self, positions: Sequence[int]) -> Tensor:
        return self.features[torch.as_tensor(positions)]

    @classmethod
    def gather(
        cls,
        features: Mapping[str, Features],
        index: WindowIndex,
        *,
        dim: int,
        dtype: str,
        device: torch.device,
        targets: Teachers | None = None,
        target: NDArray[np.int64] | None = None,
        label: str = "windows",
        progress: Progress = silent,
    ) -> WindowPack:
        """Read the rows of `index` (N windows) of one stream; see `gather_streams`.

        Args:
            features: features by video.
            index: the windows.
            dim: D.
            dtype: float16 or float32, the stream's.
            device, targets, target, label, progress: see `gather_streams`.
        """
        one = StreamWindows(features=features, index=index, dim=dim, dtype=dtype)
        return cls.gather_streams(
            [one], device=device, targets=targets, target=target, label=label, progress=progress
        )

    @classmethod
    def gather_streams(
        cls,
        streams: Sequence[StreamWindows],
        *,
        device: torch.device,
        targets: Teachers | None = None,
        target: NDArray[np.int64] | None = None,
        label: str = "windows",
        progress: Progress = silent,
    ) -> WindowPack:
        """Read the same windows of one stream or several, which come to lie side by side.

        Args:
            streams: what to read, its windows joined (`windows.join`).
            device: where the tensors go.
            targets: soft targets, as `teachers.select` cuts them to these windows.
            target: (N,) rows in `targets`; None without soft targets.
            label: what progress is reported under, in videos.
            progress: called after each video.

        Raises:
            BadConfig: the device has too little memory.
            DamagedStore: features can't be read.
        """
        index = streams[0].index
        shape = (len(index), index.rows.shape[1], sum(stream.dim for stream in streams))
        dtype = torch.float16
        for stream in streams:
            dtype = torch.promote_types(dtype, DTYPES[stream.dtype])
        require_memory(shape, dtype, device)
        gathered = torch.empty(shape, dtype=dtype, device=device)
        straight = device.type == "cpu" and len(streams) == 1
        total = sum(len(np.unique(stream.index.video)) for stream in streams)
        done, start = 0, 0
        for stream in streams:
            own = gathered[..., start : start + stream.dim]
            staging = None if straight else make_staging(own, dtype=DTYPES[stream.dtype])
            parts = dict(by_video(stream.index.video))
            with proven({video: stream.features[video] for video in parts}) as wait_for:
                for video, members in parts.items():
                    wait_for(video)
                    fill(own, stream.features[video], stream.index.rows[members], members, staging)
                    stream.features[video].release()
                    done += 1
                    progress(label, done, total)
            start += stream.dim
        return cls(features=gathered, **label_tensors(index, device, targets, target))


@dataclass(frozen=True, kw_only=True)
class StreamWindows:
    """The windows of a split in one stream.

    Attributes:
        features: features by video.
        index: which rows of which video.
        dim: width of the stream.
        dtype: float16 or float32.
    """

    features: Mapping[str, Features]
    index: WindowIndex
    dim: int
    dtype: str


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
    features: Features,
    rows: NDArray[np.int64],
    at: NDArray[np.int64],
    staging: Staging | None = None,
) -> None:
    """Copy the rows (n, T) of one video to the places `at` (n,) of `gathered` (N, T, D).

    Args:
        gathered: on the host and in one piece, unless there is `staging`.
        features: the video.
        rows: rows of the video.
        at: ascending places.
        staging: buffers on the way to the device that `gathered` is on.
    """
    which = np.zeros(len(rows), dtype=np.int64)
    if staging is None:
        gather([features], which, rows, gathered.numpy(), at)
        return
    size = staging.num_windows
    for turn, start in enumerate(range(0, len(rows), size)):
        part = slice(start, start + size)
        num_windows = len(rows[part])
        gather([features], which[part], rows[part], staging.buffer(turn, num_windows).numpy())
        places = torch.from_numpy(at[part]).to(gathered.device)
        sent = staging.send(turn, num_windows)
        gathered.index_copy_(0, places, sent.to(gathered.dtype))


def label_tensors(
    index: WindowIndex,
    device: torch.device,
    targets: Teachers | None,
    target: NDArray[np.int64] | None,
) -> dict[str, Any]:
    """All attributes of `Windows` on `device`."""
    if target is None:
        target = np.full(len(index), -1)
    return {
        "padded": torch.from_numpy(index.padded & index.masks_padding).to(device),
        "action": torch.from_numpy(index.action).to(device),
        "verb": torch.from_numpy(index.verb).to(device),
        "noun": torch.from_numpy(index.noun).to(device),
        "frame_action": torch.from_numpy(index.frame_action).to(device),
        "target": torch.from_numpy(target).to(device),
        "targets": None if targets is None else targets.to(device),
        "uid": index.uid,
    }


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
