"""Anticipation protocols: how long before an action prediction is made, and from what.

Promise: one frozen record per published protocol, and nothing about features or models.
Sources: AVT (facebookresearch/AVT) for the windows; Damen et al. 2018 for the 1 s gap.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from antcache.annotations.parity import Parity, window_frames
from antcache.checks import Range, check_types

Gap = Annotated[float, Range(0, 3600)]
FrameCount = Annotated[int, Range(1, 10_000)]
FrameRate = Annotated[float, Range(0.001, 30)]


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """A window of `num_frames` frames at `rate` per second that ends `gap_s` before the action."""

    gap_s: Gap
    """Anticipation gap tau_a in seconds."""
    num_frames: FrameCount
    """Frames in a window, T."""
    rate: FrameRate
    """Frames per second inside the window."""
    parity: Parity = "exact"
    """`exact` arithmetic, or `avt` or `rulstm` for that of the published code; see `parity`."""

    def __post_init__(self) -> None:
        check_types(self)

    @property
    def observed_s(self) -> float:
        """Observed time tau_o in seconds."""
        return self.num_frames / self.rate


PROTOCOLS = {
    "epic-kitchens-55": Protocol(gap_s=1.0, num_frames=10, rate=2.0),
    "epic-kitchens-100": Protocol(gap_s=1.0, num_frames=10, rate=1.0),
    "egtea": Protocol(gap_s=0.5, num_frames=10, rate=1.0),
}
"""Protocol of each published dataset; `protocol_for` answers for all others."""

DEFAULT = Protocol(gap_s=1.0, num_frames=10, rate=2.0)


def protocol_for(dataset: str) -> Protocol:
    """The dataset's own protocol, or that of EPIC-KITCHENS-55 for anybody's own videos."""
    return PROTOCOLS.get(dataset, DEFAULT)


@dataclass(frozen=True, kw_only=True)
class WindowConfig:
    """What is to differ from a dataset's own protocol."""

    gap_s: Gap | None = None
    """Seconds between what is seen and the action."""
    num_frames: FrameCount | None = None
    """Frames in a window; the dataset's own unless given, as the gap and the rate."""
    rate: FrameRate | None = None
    """Frames per second in a window."""
    parity: Parity = "exact"
    """exact arithmetic, or avt (official times) or rulstm (its CSVs) for that code's own."""

    def __post_init__(self) -> None:
        check_types(self)

    def protocol(self, dataset: str) -> Protocol:
        """The windows of a dataset."""
        given: dict[str, Any] = {k: v for k, v in vars(self).items() if v is not None}
        return replace(protocol_for(dataset), **given)


@dataclass(frozen=True, kw_only=True)
class WindowFrames:
    """What the windows of N segments look at, T frames each, before any store is asked.

    Attributes:
        frames: (N, T) int64, 1-based at 30 fps; without meaning where `kept` is false.
        padded: (N, T) bool, true where a frame repeats the first one (left padding).
        kept: (N,) bool, false where a segment starts too early to have anything to see.
    """

    frames: NDArray[np.int64]
    padded: NDArray[np.bool_]
    kept: NDArray[np.bool_]


def sample_windows(start_s: ArrayLike, protocol: Protocol) -> WindowFrames:
    """Frames that may be used to anticipate segments that start at `start_s` (N,) seconds."""
    frames, padded = window_frames(
        start_s,
        gap_s=protocol.gap_s,
        num_frames=protocol.num_frames,
        rate=protocol.rate,
        parity=protocol.parity,
    )
    return WindowFrames(frames=frames, padded=padded, kept=~np.all(padded, axis=1))
