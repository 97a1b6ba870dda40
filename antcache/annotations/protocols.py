"""Anticipation protocols: how long before an action prediction is made, and from what.

Promise: one frozen record per published protocol, and nothing about features or models.
Sources: AVT (facebookresearch/AVT) for the windows; Damen et al. 2018 for the 1 s gap.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from antcache.annotations.parity import Parity, window_frames
from antcache.checks import Range, Words, check_types, numbers_by_word
from antcache.errors import BadConfig

Gap = Annotated[float, Range(0, 3600)]
FrameCount = Annotated[int, Range(1, 10_000)]
FrameRate = Annotated[float, Range(0.001, 30)]
Anchor = Annotated[float, Range(0, 1), Words((("start", 0.0), ("end", 1.0)))]
"""Where in a segment the gap is counted from, as a part of its length: its reference point."""


FEW_GAPS = 3
"""Gaps that are named one by one."""


def anchor_name(anchor: float) -> str:
    """An anchor in a word: `start`, `end`, or the fraction, as `--anchor` takes it."""
    return {value: word for word, value in numbers_by_word(Anchor).items()}.get(anchor, str(anchor))


def before(anchor: float) -> str:
    """What the gap lies before, in a sentence: `the action`, its `end`, or a part of it."""
    where = {0.0: "the action", 1.0: "the end of the action"}
    return where.get(anchor, f"the point at {anchor:g} of the action")


def gaps_name(gaps: Collection[float]) -> str:
    """Gaps in words: `0.25, 1 s`; of many how many there are, and between which."""
    if len(gaps) <= FEW_GAPS:
        return f"{', '.join(f'{gap:g}' for gap in sorted(gaps))} s"
    return f"{len(gaps)} gaps of {min(gaps):g} to {max(gaps):g} s"


def reference_times(
    start_s: ArrayLike, stop_s: ArrayLike | None, anchor: float
) -> NDArray[np.float64]:
    """Time (N,) that the gap is counted back from, in seconds: `start + anchor * (stop - start)`.

    Args:
        start_s: (N,) starts of segments.
        stop_s: (N,) their stops, NaN where there is none, or None; nobody looks at them where the
            anchor is the start.
        anchor: 0 is the start, 1 the end.

    Raises:
        BadConfig: the anchor needs stops that are not there.
    """
    start = np.asarray(start_s, dtype=np.float64)
    if anchor == 0:
        return start
    stop = np.full_like(start, np.nan) if stop_s is None else np.asarray(stop_s, dtype=np.float64)
    unknown = int(np.isnan(stop).sum())
    if unknown:
        raise BadConfig(
            f"the anchor {anchor_name(anchor)!r} needs to know when segments stop",
            expected="a stop of every segment, or the anchor 'start'",
            found=f"{unknown} of {stop.size} segments without one",
        )
    # Not by the length: so both ends are exactly what the annotations say.
    return (1 - anchor) * start + anchor * stop


def _check_parity(parity: str, anchor: float) -> None:
    """Refuse the arithmetic of a published code for windows that this code does not have."""
    if parity != "exact" and anchor != 0:
        raise BadConfig(
            f"parity {parity!r} is that of a code whose windows end before the start of a segment",
            expected="the anchor 'start', or exact arithmetic",
            found=f"the anchor {anchor_name(anchor)!r}",
        )


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """A window of `num_frames` frames at `rate` per second that ends `gap_s` before an action.

    Before its start, unless `anchor` is another point of it: figures of two anchors are those of
    two tasks, however alike they look.
    """

    gap_s: Gap
    """Anticipation gap tau_a in seconds."""
    num_frames: FrameCount
    """Frames in a window, T."""
    rate: FrameRate
    """Frames per second inside the window."""
    parity: Parity = "exact"
    """`exact` arithmetic, or `avt` or `rulstm` for that of the published code; see `parity`."""
    anchor: Anchor = 0.0
    """What the gap is counted back from: 0 is the start of the segment, 1 its end."""

    def __post_init__(self) -> None:
        check_types(self)
        _check_parity(self.parity, self.anchor)

    @property
    def observed_s(self) -> float:
        """Observed time tau_o in seconds."""
        return self.num_frames / self.rate

    @property
    def recognises(self) -> bool:
        """Whether a window ends inside an action: what is asked is which one is under way."""
        return self.gap_s == 0 and 0 < self.anchor < 1

    def at(self, anchor: float) -> Protocol:
        """The same windows before another point of the action, to which no parity belongs."""
        return replace(self, anchor=anchor, parity=self.parity if anchor == 0 else "exact")

    def reference_s(self, start_s: ArrayLike, stop_s: ArrayLike | None) -> NDArray[np.float64]:
        """Time (N,) that the gap of each segment is counted back from; see `reference_times`."""
        return reference_times(start_s, stop_s, self.anchor)


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
    parity: Parity | None = None
    """exact arithmetic, or avt (official times) or rulstm (its CSVs) for that code's own; the
    dataset's own unless given, which is exact."""
    anchor: Anchor | None = None
    """What the gap is counted back from: start or end of the segment, or a fraction of it; the
    dataset's own unless given, which is the start."""

    def __post_init__(self) -> None:
        check_types(self)
        _check_parity(self.parity or "exact", self.anchor or 0.0)

    def protocol(self, dataset: str) -> Protocol:
        """The windows of a published dataset."""
        return self.over(protocol_for(dataset))

    def over(self, usual: Protocol) -> Protocol:
        """The windows of a dataset whose own are `usual`."""
        given: dict[str, Any] = {k: v for k, v in vars(self).items() if v is not None}
        return replace(usual, **given)


@dataclass(frozen=True, kw_only=True)
class WindowFrames:
    """What the windows of N segments look at, T frames each, before any store is asked.

    Attributes:
        frames: (N, T) int64, 1-based at 30 fps; without meaning where `kept` is false.
        padded: (N, T) bool, true where a frame repeats the first one (left padding).
        kept: (N,) bool, false where a segment comes too early to have anything to see.
    """

    frames: NDArray[np.int64]
    padded: NDArray[np.bool_]
    kept: NDArray[np.bool_]


def sample_windows(
    start_s: ArrayLike, protocol: Protocol, stop_s: ArrayLike | None = None
) -> WindowFrames:
    """Frames that may be used to anticipate segments from `start_s` (N,) to `stop_s` (N,) seconds.

    Raises:
        BadConfig: the protocol's anchor needs `stop_s`; see `reference_times`.
    """
    frames, padded = window_frames(
        protocol.reference_s(start_s, stop_s),
        gap_s=protocol.gap_s,
        num_frames=protocol.num_frames,
        rate=protocol.rate,
        parity=protocol.parity,
    )
    return WindowFrames(frames=frames, padded=padded, kept=~np.all(padded, axis=1))
