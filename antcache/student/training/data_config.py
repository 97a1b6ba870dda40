"""Which features and splits a student learns from, and which it is scored on.

Promise: what has a default fits every store that has one stream and the usual splits.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product

from antcache.annotations.protocols import Anchor, Gap, Protocol
from antcache.checks import check_types, distinct


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Streams and splits."""

    stream: tuple[str, ...] = ()
    """Feature stream, or several side by side (rgb,flow); none takes the store's only one."""
    train_split: str = "train"
    """Split that is trained on."""
    validation_split: str = "validation"
    """Split that is scored after the epochs, and never selected on."""
    gaps: tuple[Gap, ...] = ()
    """Gaps in seconds, of which each training segment gets one at random in every epoch (0.25,1.0);
    none: that of the window. Scored is by the window's."""
    anchors: tuple[Anchor, ...] = ()
    """Points of a segment that gaps are counted back from, drawn likewise (0.75,end)."""
    allow_missing: bool = False
    """Leave segments out whose features are missing, instead of refusing to train."""
    allow_future: bool = False
    """Train on features that have seen what comes after their rows' times; the result says so."""

    def __post_init__(self) -> None:
        check_types(self)
        distinct("stream", self.stream)
        for name, values in (("gaps", self.gaps), ("anchors", self.anchors)):
            distinct(name, [f"{value:g}" for value in values])

    def drawn(self, protocol: Protocol) -> tuple[Protocol, ...]:
        """The protocols one of which each training segment gets, `protocol` being the window's.

        Empty where that is the only one.
        """
        if not self.gaps and not self.anchors:
            return ()
        pairs = product(self.anchors or (protocol.anchor,), self.gaps or (protocol.gap_s,))
        return tuple(replace(protocol, anchor=anchor, gap_s=gap) for anchor, gap in pairs)
