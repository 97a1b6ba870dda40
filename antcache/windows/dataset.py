"""Windows as whoever learns from them or scores them sees them: labels, features, soft targets.

Promise: a PyTorch dataset of single windows on the CPU, and batches without a loader; which, and in
which order, is the caller's. Features that are packed and those that are read lazily give the same
values. Nothing is made up: windows without soft targets have none.
Letters: N windows, B windows of a batch, T time, K tokens of a row, D feature.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from antcache.progress import Progress, silent
from antcache.windows.choices import Choices
from antcache.windows.labels import WindowLabels
from antcache.windows.teacher_targets import TeacherTargets


class Sample(NamedTuple):
    """One window, as a PyTorch `DataLoader` collates it: B of them are a `Sample` of tensors with
    B in front, and a tuple of uids.

    Attributes:
        features: (T, D) in the stream's dtype, or (T, K, D) of K > 1 tokens, float32 if they are
            stored in int8.
        action: () int64.
        verb: () int64.
        noun: () int64.
        target_rows: () int64 row of the soft targets, -1 without one.
        uid: the segment.
        padded: (T,) bool, frames that losses pass over.
        frame_action: (T,) int64, -100 where there is none.
    """

    features: Tensor
    action: Tensor
    verb: Tensor
    noun: Tensor
    target_rows: Tensor
    uid: str
    padded: Tensor
    frame_action: Tensor


class WindowFeatures(Protocol):
    """The features of N windows, wherever they are."""

    @property
    def device(self) -> torch.device:
        """Where batches arrive."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(N, T, D), or (N, T, K, D) of K > 1 tokens."""

    @property
    def num_bytes(self) -> int:
        """Bytes that lie on the device all the time."""

    def batches(self, order: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The windows `order` (n,), given on the host, in batches of `size`.

        Yields:
            Positions (B,) of the windows and their features (B, T, D) in the stream's dtype, both
            on the device; of K > 1 tokens (B, T, K, D), float32 if they are stored in int8. The
            features are valid until the next batch is asked for.

        Raises:
            DamagedStore: features can't be read.
        """

    def take(self, positions: Sequence[int]) -> Tensor:
        """Features of some windows, as in `batches`, in memory of their own."""

    def pack(self, device: torch.device, progress: Progress = silent) -> WindowFeatures:
        """The same features, all of them on a device."""


@dataclass(frozen=True, kw_only=True)
class LabelTensors:
    """Labels of some windows on a device: what of `WindowLabels` losses look at.

    Attributes:
        padded: (N, T) bool, frames that losses pass over.
        action: (N,) int64.
        verb: (N,) int64.
        noun: (N,) int64.
        frame_action: (N, T) int64, -100 where there is none.
    """

    padded: Tensor
    action: Tensor
    verb: Tensor
    noun: Tensor
    frame_action: Tensor

    @classmethod
    def of(cls, labels: WindowLabels, device: torch.device) -> LabelTensors:
        """The labels on a device."""
        return cls(**{n: torch.from_numpy(getattr(labels, n)).to(device) for n in COLUMNS})

    def columns(self) -> dict[str, Tensor]:
        """The labels by name."""
        return {name: getattr(self, name) for name in COLUMNS}


COLUMNS = tuple(field.name for field in fields(LabelTensors))


@dataclass(frozen=True, kw_only=True)
class Batch(LabelTensors):
    """B windows with their features.

    Attributes:
        features: (B, T, D) float32, or (B, T, K, D) of K > 1 tokens.
        target_rows: (B,) int64 rows of the soft targets, -1 without one; None without soft targets.
        later_action: (B, L) int64 actions after the one anticipated, -100 where there is none; None
            where nobody asked for them.
    """

    features: Tensor
    target_rows: Tensor | None = None
    later_action: Tensor | None = None


class Windows:
    """N windows of a split, of as many segments or of fewer.

    A map-style dataset of `Sample`s for a PyTorch `DataLoader`, if it is on the CPU; the training
    loop needs no loader and takes `batches`.

    Args:
        labels: what is known of them.
        features: their features, packed or read lazily.
        targets: soft targets for these windows, if there are any.
        choices: which windows are of one segment; None: each is its segment's only one.
        later: (N, L) int64, see `later.later_actions`; None if they are not asked for.

    Attributes:
        tensors: the labels that losses look at, on the device.
    """

    def __init__(
        self,
        labels: WindowLabels,
        features: WindowFeatures,
        targets: TeacherTargets | None = None,
        choices: Choices | None = None,
        later: Tensor | None = None,
    ) -> None:
        self.labels = labels
        self.features = features
        self.tensors = LabelTensors.of(labels, features.device)
        self.targets = None if targets is None else targets.to(features.device)
        self.later = None if later is None else later.to(features.device)
        self.choices = Choices.only(len(labels)) if choices is None else choices

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def device(self) -> torch.device:
        """Where the tensors lie, and batches arrive."""
        return self.features.device

    @property
    def num_bytes(self) -> int:
        """Bytes of all tensors."""
        labels = sum(column.nbytes for column in self.tensors.columns().values())
        targets = 0 if self.targets is None else self.targets.num_bytes
        later = 0 if self.later is None else self.later.nbytes
        return self.features.num_bytes + labels + targets + later

    def batches(self, order: Tensor, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Positions and features of the windows `order` (n,); see `WindowFeatures.batches`."""
        return self.features.batches(order, size)

    def batch(self, positions: Tensor, features: Tensor) -> Batch:
        """The windows at `positions` (B,), whose features are given in any float type."""
        chosen = {k: v.index_select(0, positions) for k, v in self.tensors.columns().items()}
        rows = None if self.targets is None else self.targets.row.index_select(0, positions)
        later = None if self.later is None else self.later.index_select(0, positions)
        return Batch(features=features.float(), target_rows=rows, later_action=later, **chosen)

    def __getitem__(self, position: int) -> Sample:
        return self.__getitems__([position])[0]

    def __getitems__(self, positions: Sequence[int]) -> list[Sample]:
        """What a `DataLoader` asks for: a whole batch, read in one go."""
        columns = self.tensors.columns()
        rows = torch.full((len(self),), -1) if self.targets is None else self.targets.row
        return [
            Sample(
                features=features,
                target_rows=rows[i],
                uid=str(self.labels.uid[i]),
                **{name: column[i] for name, column in columns.items()},
            )
            for i, features in zip(positions, self.features.take(positions), strict=True)
        ]

    def pack(self, device: str | torch.device = "cpu", progress: Progress = silent) -> Windows:
        """The same windows with all features on a device: nothing is read from the store any more.

        Args:
            device: where everything goes.
            progress: called after each video.

        Raises:
            BadConfig: the device has too little memory.
            DamagedStore: features can't be read.
        """
        packed = self.features.pack(torch.device(device), progress)
        return Windows(self.labels, packed, self.targets, self.choices, self.later)
